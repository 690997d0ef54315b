//! Jobs through the hub to the listeners of scale sets: how many at once, and how soon.
//!
//! The hub is a process of its own, this program started again; its clients are the crate's own.
//! What was delivered is compared with what was queued before a time is told: each job to the
//! listener of its set, once. The answer is one line of JSON. `--quick` measures a tenth.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "the answer")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use sekisho_github::http::ClientOptions;
use sekisho_github::rest::{Address, Clock, Credential, GithubClient};
use sekisho_github::scale_set::wanted::Wanted;
use sekisho_github::scale_set::{Event, Listener, ListenerOptions, Tenant, TenantOptions};
use sekisho_github::wire::scale_set::JobMessageKind;
use sekisho_hub::{Config, DEFAULT_SEARCH_PATH, Hub};
use serde_json::{Value, json};
use tokio::task::JoinSet;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ADMIN: &str = "admin-token-of-the-benchmark";
/// Jobs of one workflow of the many.
const JOBS_PER_FILE: usize = 250;
/// Jobs of the workflow that is started again and again.
const JOBS_PER_BEAT: usize = 10;
/// How often it is started: a hundred jobs a second.
const BEAT: Duration = Duration::from_millis(100);
/// How long anything may take in all.
const DEADLINE: Duration = Duration::from_secs(300);

/// How much is measured.
struct Scale {
    /// Listeners, each of a set of its own.
    listeners: usize,
    /// Jobs that wait while the beat goes.
    jobs: usize,
    beats: usize,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Some(at) = arguments.iter().position(|argument| argument == "serve") {
        let dir = arguments.get(at + 1).ok_or("serve where?")?;
        return runtime.block_on(serve(Path::new(dir)));
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let scale = if quick {
        Scale { listeners: 100, jobs: 1_000, beats: 30 }
    } else {
        Scale { listeners: 1_000, jobs: 10_000, beats: 300 }
    };
    let measured = async { tokio::time::timeout(DEADLINE, measure(&scale)).await };
    let answer = runtime.block_on(measured).map_err(|_| "it took too long")??;
    println!("{answer}");
    Ok(())
}

/// The hub, until standard input ends.
async fn serve(dir: &Path) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let hub = Hub::open(Config::new(dir.join("hub"), &url, ADMIN.to_owned().into()))?;
    let router = hub.router().into_make_service_with_connect_info::<SocketAddr>();
    println!("{url}");
    let gone = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        served = axum::serve(listener, router) => served?,
        // Its parent is gone, or done.
        _ = gone => {}
    }
    Ok(())
}

struct Process {
    child: Child,
    url: String,
}

impl Process {
    fn start(dir: &Path) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut url = String::new();
        let stdout = child.stdout.take().ok_or("no standard output")?;
        BufReader::new(stdout).read_line(&mut url)?;
        let url = url.trim().to_owned();
        if url.is_empty() { Err("the hub did not start".into()) } else { Ok(Self { child, url }) }
    }

    /// The most memory that was ever resident, in bytes.
    fn peak(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kibibytes.ok_or("no VmHWM")? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What listeners heard: how often of each job, and how late.
#[derive(Default)]
struct Heard {
    jobs: HashMap<i64, u32>,
    late: Vec<u64>,
    strays: usize,
}

async fn measure(scale: &Scale) -> Result<Value, Failure> {
    let dir = tempfile::tempdir()?;
    let hub = Process::start(dir.path())?;
    let many = pushed(dir.path(), &hub.url, "acme/many", &many(scale))?;
    let few = pushed(dir.path(), &hub.url, "acme/few", &[(String::from("few.yml"), few())])?;

    let address = Address::parse(&format!("{}/acme", hub.url), false)?;
    let options = ClientOptions::default();
    let http = options.client(&[address.web()])?;
    let token = Credential::Token(ADMIN.to_owned().into());
    let github = GithubClient::new(address, token, &options, Clock::default())?;
    let tenant = Arc::new(Tenant::new(Arc::new(github), TenantOptions::default())?);

    let heard = Arc::new(Mutex::new(Heard::default()));
    let (opened, mut open) = tokio::sync::mpsc::channel(scale.listeners);
    let mut listeners = JoinSet::new();
    for number in 0..scale.listeners {
        let (tenant, heard, opened) = (Arc::clone(&tenant), Arc::clone(&heard), opened.clone());
        listeners.spawn(async move { listen(tenant, number, heard, opened).await });
        // So many at a time are enough to make.
        if number % 50 == 49 {
            for _ in 0..50 {
                open.recv().await.ok_or("a listener ended")?;
            }
        }
    }
    let files = scale.jobs.min(scale.listeners).div_ceil(JOBS_PER_FILE);
    let per_start = scale.jobs.min(scale.listeners).max(files);
    let starts = scale.jobs / per_start;
    for _ in 0..starts {
        start(&http, &hub.url, "acme/many", &many).await?;
    }
    settle(&heard, &mut listeners, scale.jobs).await?;
    let flood: Vec<u64> = std::mem::take(&mut lock(&heard).late);

    let mut beats = tokio::time::interval(BEAT);
    let mut started = JoinSet::new();
    for _ in 0..scale.beats {
        beats.tick().await;
        let (http, url, sha) = (http.clone(), hub.url.clone(), few.clone());
        started.spawn(async move { start(&http, &url, "acme/few", &sha).await });
    }
    while let Some(done) = started.join_next().await {
        done??;
    }
    settle(&heard, &mut listeners, scale.jobs + scale.beats * JOBS_PER_BEAT).await?;
    let late = std::mem::take(&mut lock(&heard).late);
    Ok(json!({
        "listeners": scale.listeners,
        "jobs_waiting": scale.jobs,
        "jobs_of_beat": scale.beats * JOBS_PER_BEAT,
        "flood_us": flood,
        "late_us": late,
        "peak_resident_bytes": hub.peak()?,
    }))
}

/// Waits until every job was heard, and checks that each was heard once and by whom it concerns.
async fn settle(
    heard: &Mutex<Heard>,
    listeners: &mut JoinSet<Result<(), Failure>>,
    jobs: usize,
) -> Result<(), Failure> {
    while lock(heard).jobs.len() < jobs {
        if let Some(ended) = listeners.try_join_next() {
            ended??;
            return Err("a listener ended".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let heard = lock(heard);
    let twice = heard.jobs.values().filter(|count| **count != 1).count();
    if heard.jobs.len() != jobs || twice > 0 || heard.strays > 0 {
        return Err(format!(
            "{} jobs were heard of {jobs}, {twice} more than once, {} by the wrong listener",
            heard.jobs.len(),
            heard.strays
        )
        .into());
    }
    Ok(())
}

/// One set and its listener: records what comes, and deletes it.
async fn listen(
    tenant: Arc<Tenant>,
    number: usize,
    heard: Arc<Mutex<Heard>>,
    opened: tokio::sync::mpsc::Sender<()>,
) -> Result<(), Failure> {
    let name = format!("s{number}");
    let wanted = Wanted { name: name.clone(), group: 1, labels: Vec::new(), disable_update: true };
    let set = tenant.ensure_set(&wanted, None).await?.set.id;
    let options = ListenerOptions { owner: name.clone(), previous: None };
    let mut listener = Listener::new(tenant, set, options);
    loop {
        match listener.next(100_000).await? {
            Event::Opened { .. } => opened.send(()).await?,
            Event::Idle => {}
            Event::Trouble { error, .. } => return Err(format!("{error:?}").into()),
            Event::Message(delivery) => {
                let now = Timestamp::now();
                for job in delivery.jobs()?.messages {
                    let mut heard = lock(&heard);
                    let own = job.request_labels == [name.as_str()];
                    heard.strays += usize::from(!own || job.kind != JobMessageKind::Assigned);
                    *heard.jobs.entry(job.runner_request_id).or_default() += 1;
                    let queued = job.queue_time.ok_or("a job without a time")?;
                    let late = now.duration_since(queued).as_micros();
                    heard.late.push(u64::try_from(late).unwrap_or(0));
                }
                let recorded = delivery.record(async { Ok::<(), Failure>(()) }).await?;
                listener.delete(recorded).await?;
            }
        }
    }
}

fn lock(heard: &Mutex<Heard>) -> std::sync::MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the runs of a commit.
async fn start(
    http: &reqwest::Client,
    url: &str,
    repository: &str,
    sha: &str,
) -> Result<(), Failure> {
    let path = format!("{url}/_hub/v1/repositories/{repository}/dispatch");
    let body = json!({"ref": "refs/heads/main", "sha": sha});
    let answer = http.post(path).bearer_auth(ADMIN).json(&body).send().await?;
    let (status, answer) = (answer.status(), answer.json::<Value>().await?);
    let fine = answer["errors"] == json!([]);
    if status.as_u16() == 201 && fine { Ok(()) } else { Err(format!("{status} {answer}").into()) }
}

/// Workflows that have a job for each listener, up to the number of jobs.
fn many(scale: &Scale) -> Vec<(String, String)> {
    let all: Vec<usize> = (0..scale.jobs.min(scale.listeners)).collect();
    let files = all.chunks(JOBS_PER_FILE).enumerate();
    files.map(|(number, jobs)| (format!("many{number}.yml"), workflow(jobs))).collect()
}

fn few() -> String {
    workflow(&(0..JOBS_PER_BEAT).collect::<Vec<_>>())
}

fn workflow(jobs: &[usize]) -> String {
    let mut text = String::from("on: push\njobs:\n");
    for job in jobs {
        text.push_str(&format!("  j{job}: {{ runs-on: s{job}, steps: [{{ run: 'true' }}] }}\n"));
    }
    text
}

/// A repository with these workflows, pushed without starting a run. Gives the commit.
fn pushed(
    dir: &Path,
    url: &str,
    repository: &str,
    files: &[(String, String)],
) -> Result<String, Failure> {
    let folder = dir.join(repository.replace('/', "-"));
    let workflows = folder.join(".github/workflows");
    std::fs::create_dir_all(&workflows)?;
    for (name, text) in files {
        std::fs::write(workflows.join(name), text)?;
    }
    let git = |arguments: &[&str]| -> Result<String, Failure> {
        let output = Command::new("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@example.com"])
            .args(arguments)
            .current_dir(&folder)
            .env_clear()
            .env("PATH", DEFAULT_SEARCH_PATH)
            .env("HOME", dir)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    git(&["init", "--quiet", "--initial-branch=main"])?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message=workflows"])?;
    let sha = git(&["rev-parse", "HEAD"])?;
    // What a branch of another name has starts runs too; a note in the message keeps it quiet.
    git(&["commit", "--quiet", "--allow-empty", "--message=quiet [skip ci]"])?;
    git(&["push", "--quiet", &format!("{url}/{repository}"), "main"])?;
    Ok(sha)
}
