//! Servers that others wrote, on loopback, for tests and benchmarks; a relay before them, and a wall. Never shipped.
//!
//! Each ends when its value is dropped. One that is not installed is `None`, and that is said on one line: a
//! test then returns, a benchmark refuses to go on.

mod daemon;
mod git;
mod relay;
mod wall;

use std::io::{self, BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

pub use self::daemon::Daemon;
pub use self::git::serve_git;
pub use self::relay::{Relay, Speech};
pub use self::wall::{Front, PROXY_CREDENTIALS, Proxy, WALLED};

/// How often, and how many times, it is looked whether a server answers: 20 seconds in all.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOKS_MAX: usize = 1000;

/// A child that is ended when it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// `None` when the program is not installed.
    fn start(command: &mut Command, name: &str) -> anyhow::Result<Option<Self>> {
        match command.stdin(Stdio::null()).stdout(Stdio::null()).spawn() {
            Ok(child) => Ok(Some(Self(child))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                skipped(name);
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("starting {name}")),
        }
    }

    /// The address that its log names behind some words; the rest of the log is read too, for a program
    /// stops when nobody reads what it says.
    fn address_behind(&mut self, words: &str) -> anyhow::Result<String> {
        let mut log = BufReader::new(self.0.stderr.take().context("the log is read already")?);
        let mut line = String::new();
        while log.read_line(&mut line)? > 0 {
            if let Some((_, rest)) = line.split_once(words) {
                let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
                let address = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default().to_owned();
                std::thread::spawn(move || io::copy(&mut log, &mut io::sink()));
                return Ok(address);
            }
            line.clear();
        }
        bail!("it ended before it said {words:?}")
    }
}

/// Whether a program can be started; one that cannot is named on one line. `version` makes it tell its own.
#[must_use]
pub fn is_installed(program: &str, version: &str) -> bool {
    let here = Command::new(program).arg(version).output().is_ok();
    if !here {
        skipped(program);
    }
    here
}

#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn skipped(name: &str) {
    eprintln!("skipped: needs {name}");
}

/// Whether `docker-registry` says what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// It says so, and chooses its port: for tests.
    Told,
    /// It says nothing, which takes it no time; its port is one that was free just before: for benchmarks.
    Off,
}

/// Debian's docker-registry (Distribution 2.8), with deletes, and files in a folder.
pub struct DockerRegistry {
    server: Server,
    host: String,
    data: PathBuf,
}

impl DockerRegistry {
    /// Starts it with its configuration and its files in `folder`, and returns when it answers.
    ///
    /// # Errors
    /// The configuration cannot be written, or it does not come up.
    pub fn start(folder: &Path, log: Log) -> anyhow::Result<Option<Self>> {
        let (config, data) = (folder.join("registry.yml"), folder.join("registry"));
        let (level, port) = match log {
            Log::Told => ("info", 0),
            // Taken and given back: nobody would hear which one it chose.
            Log::Off => ("error", TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()),
        };
        let text = format!(
            "version: 0.1\nlog:\n  level: {level}\n  accesslog:\n    disabled: true\nstorage:\n  \
             filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: \
             127.0.0.1:{port}\n",
            data.display()
        );
        fs_err::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        // Its settings can come from the environment too.
        command.arg("serve").arg(&config).env_clear();
        command.stderr(if log == Log::Told { Stdio::piped() } else { Stdio::null() });
        let Some(mut server) = Server::start(&mut command, "docker-registry")? else {
            return Ok(None);
        };
        let host = match log {
            Log::Told => server.address_behind("listening on ")?,
            Log::Off => format!("127.0.0.1:{port}"),
        };
        for _ in 0..LOOKS_MAX {
            if TcpStream::connect(&host).is_ok() {
                return Ok(Some(Self { server, host, data }));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!("docker-registry is not up")
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where its files are.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.0.id()
    }
}

/// moto's server, an S3-compatible store in memory that takes every key.
pub struct Moto {
    _server: Server,
    host: String,
}

impl Moto {
    /// Starts it without a bucket, and returns when it answers.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start() -> anyhow::Result<Option<Self>> {
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", "0"]).stderr(Stdio::piped());
        let Some(mut server) = Server::start(&mut command, "moto_server")? else { return Ok(None) };
        let host = server.address_behind("Running on http://")?;
        Ok(Some(Self { _server: server, host }))
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}
