//! The processes: each is this program, started again, and ends with its standard input.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use kube::{Client, Config};
use sekisho_hub::Hub;
use sekisho_operator::{Operator, Settings};
use serde_json::{Value, json};
use testkit::{ApiServer, Call};

use crate::played::Failure;

/// The token that the hub and the connection have.
pub(crate) const ADMIN: &str = "admin-token-of-the-benchmark";
/// Who asks the double; the benchmark's own clients are the first two.
pub(crate) const CLIENTS: [&str; 4] = ["bench", "cluster", "one", "two"];

/// The hub. Says where it is.
pub(crate) async fn hub(dir: &Path) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let mut config = sekisho_hub::Config::new(dir.join("hub"), &url, ADMIN.to_owned().into());
    // The hub is not what is measured.
    config.one_runner_key = true;
    let router = Hub::open(config)?.router().into_make_service_with_connect_info::<SocketAddr>();
    println!("{}", json!(url));
    tokio::select! {
        served = axum::serve(listener, router) => served?,
        () = ended() => {}
    }
    Ok(())
}

/// The double of an API server. Says where each client finds it; for each line, what was asked since.
pub(crate) async fn api() -> Result<(), Failure> {
    let server = ApiServer::new();
    let (mut served, mut urls) = (Vec::new(), BTreeMap::new());
    for client in CLIENTS {
        let at = server.serve(client).await?;
        urls.insert(client, at.url());
        served.push(at);
    }
    println!("{}", json!(urls));
    let asked = tokio::task::spawn_blocking(move || -> Result<(), Failure> {
        for line in std::io::stdin().lock().lines() {
            drop(line?);
            let calls = server.calls();
            let (writes, reads) =
                (count(&calls, Call::is_write), count(&calls, |it| !it.is_write()));
            println!("{}", json!({ "writes": writes, "reads": reads }));
            server.forget_calls();
        }
        Ok(())
    });
    asked.await?
}

/// Calls of the operators that were answered with what they wanted: by resource.
fn count(calls: &[Call], which: impl Fn(&Call) -> bool) -> BTreeMap<String, u64> {
    let mut count: BTreeMap<String, u64> = BTreeMap::new();
    let ours = |call: &&Call| matches!(call.client.as_str(), "one" | "two");
    let answered = |call: &&Call| call.status < 300 || (call.status == 404 && !call.is_write());
    for call in calls.iter().filter(ours).filter(answered).filter(|call| which(call)) {
        let what = format!("{:?} {}/{}", call.verb, call.resource, call.subresource);
        *count.entry(what).or_default() += 1;
    }
    count
}

/// An operator. Says where its admin port is.
pub(crate) async fn operator(identity: &str, url: &str, token: &str) -> Result<(), Failure> {
    let mut settings = Settings::new(identity);
    settings.admin = Some(([127, 0, 0, 1], 0).into());
    let operator = Operator::start(client(url, token)?, settings).await?;
    println!("{}", json!(operator.admin()));
    ended().await;
    operator.shutdown().await;
    Ok(())
}

/// A client of an API server; its certificate is one that it made for itself.
pub(crate) fn client(url: &str, token: &str) -> Result<Client, Failure> {
    // Whoever was first did it.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut config = Config::new(url.parse()?);
    "default".clone_into(&mut config.default_namespace);
    config.accept_invalid_certs = true;
    if !token.is_empty() {
        config.auth_info.token = Some(token.to_owned().into());
    }
    Ok(Client::try_from(config)?)
}

/// Until the parent is done, or gone.
async fn ended() {
    let gone = tokio::task::spawn_blocking(|| {
        std::io::stdin().lock().lines().for_each(drop);
    });
    drop(gone.await);
}

/// One that was started; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// What it said first.
    pub(crate) said: Value,
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut process = Self { child, stdin, stdout, said: Value::Null };
        process.said = process.line()?;
        Ok(process)
    }

    fn line(&mut self) -> Result<Value, Failure> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.is_empty() {
            return Err("a process ended".into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    pub(crate) fn ask(&mut self) -> Result<Value, Failure> {
        writeln!(self.stdin)?;
        self.line()
    }

    /// The most memory that was ever resident, in bytes.
    pub(crate) fn peak(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kibibytes.ok_or("no VmHWM")? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
