//! Calls of the machine's `git`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use fs_err as fs;
use percent_encoding::percent_decode_str;
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::ExposeSecret as _;
use sekisho_dockerfile::git::GitRef;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

use super::bounds::{self, BOUNDS};
use crate::options::{BuildOptions, Secret};

/// For one call of git: a large repository over a slow link.
const DEADLINE: Duration = Duration::from_mins(20);

/// Most of what git says that is kept, in bytes.
const MAX_SAID_BYTES: u64 = 64 << 10;

/// The secrets that BuildKit takes tokens from; the second with `.HOST` after it wins.
const TOKEN_SECRET: &str = "GIT_AUTH_TOKEN";

/// What names proxies, as curl reads it, in small letters or capitals.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];

/// Calls git in a checkout.
pub(super) struct Caller<'a> {
    pub(super) root: &'a Path,
    pub(super) options: &'a BuildOptions,
    pub(super) host: &'a str,
    /// Without a name and password.
    pub(super) remote: &'a str,
    /// Those, as they were written.
    pub(super) user: Option<&'a str>,
    /// Certificates to trust, when they are not the machine's alone.
    pub(super) trusted: Option<&'a Path>,
}

impl Caller<'_> {
    /// Fetches what was asked for; the whole history only when the remote gives no single commit.
    pub(super) async fn get(&self, git: &GitRef) -> anyhow::Result<()> {
        let wanted = git.reference.as_deref().unwrap_or("HEAD");
        let shallow =
            ["fetch", "--quiet", "--no-tags", "--depth=1", "origin", "--end-of-options", wanted];
        match self.call(&shallow).await {
            Ok(_) => return Ok(()),
            Err(error) if bounds::is_final(&error) => return Err(error),
            Err(_) => {}
        }
        // A server that is only files gives no single commit.
        let whole = ["fetch", "--quiet", "--no-tags", "origin", "--end-of-options", wanted];
        let first = match self.call(&whole).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let digits = wanted.len() >= 7 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digits || bounds::is_final(&first) {
            return Err(first);
        }
        // A commit by its digits: not every server gives those by themselves.
        let all = ["fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"];
        self.call(&all).await?;
        let commit = format!("{wanted}^{{commit}}");
        let found = self.call(&["rev-parse", "--verify", "--quiet", &commit]).await;
        let found = found.with_context(|| format!("it has no commit `{wanted}`"))?;
        fs::write(self.root.join(".git/FETCH_HEAD"), found)?;
        Ok(())
    }

    /// Errors out when a commit has more in it than a context may.
    pub(super) async fn list(&self, commit: &str) -> anyhow::Result<()> {
        let list = ["ls-tree", "-r", "-t", "-l", "-z", "--full-tree", commit];
        self.read(&list, async |pipe| bounds::listed(pipe, BOUNDS).await).await
    }

    /// Runs git in the checkout; gives what it wrote.
    pub(super) async fn call(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.read(arguments, said).await
    }

    /// Runs git in the checkout, while that is no larger than it may be; gives what somebody makes of what it writes.
    async fn read<T>(
        &self,
        arguments: &[&str],
        understand: impl AsyncFnOnce(ChildStdout) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut child = match self.command(arguments)?.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("the program `git` is not installed on this machine")
            }
            Err(error) => return Err(error).context("cannot start git"),
        };
        // It starts others, that go on without it.
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        group.goes_first();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err) = (out.context("git has no stdout")?, err.context("git has no stderr")?);
        let all = async {
            let (understood, complaint) = tokio::try_join!(understand(out), said(err))?;
            anyhow::Ok((understood, complaint, child.wait().await.context("cannot wait for git")?))
        };
        let (understood, complaint, status) = tokio::select! {
            all = timeout(DEADLINE, all) => match all {
                Ok(all) => all?,
                Err(_) => bail!("git took more than {} minutes", DEADLINE.as_secs() / 60),
            },
            outgrown = bounds::outgrown(self.root.to_owned(), BOUNDS) => return Err(outgrown),
        };
        group.0 = None;
        if !status.success() {
            let lines: Vec<&str> = complaint.trim().lines().rev().take(4).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            bail!("git says: {}", lines.join("; "));
        }
        Ok(understood)
    }

    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new("git");
        command
            .args(["-c", "core.hooksPath=/dev/null", "-c", "http.followRedirects=false"])
            .args(["-c", "core.autocrlf=false", "-c", "core.symlinks=true", "-c", "gc.auto=0"])
            .args(["-c", "maintenance.auto=false"])
            .args(["-c", "advice.detachedHead=false", "-c", "core.fsmonitor=false"])
            .args(arguments)
            .current_dir(self.root)
            .env_clear()
            .env("PATH", crate::decide::DEFAULT_PATH)
            .env("HOME", self.root)
            // Nor the configuration of a repository that the cache folder may lie in.
            .envs(self.root.parent().map(|above| ("GIT_CEILING_DIRECTORIES", above)))
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "https:http:git:ssh")
            .env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for name in PROXIES {
            for name in [name.to_owned(), name.to_ascii_uppercase()] {
                command.envs(std::env::var_os(&name).map(|value| (name, value)));
            }
        }
        if let Some(trusted) = self.trusted {
            command.env("GIT_SSL_CAINFO", trusted);
        }
        if let Some(socket) = self.options.ssh.get("default") {
            command.env("SSH_AUTH_SOCK", socket);
        }
        if let Some(header) = self.token()? {
            command
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", format!("http.{}/.extraHeader", self.origin()))
                .env("GIT_CONFIG_VALUE_0", header);
        }
        Ok(command)
    }

    /// `https://host` of the remote.
    fn origin(&self) -> String {
        let scheme = if self.remote.starts_with("http://") { "http" } else { "https" };
        format!("{scheme}://{}", self.host)
    }

    /// The header that a name and password make, or else a token secret; for http only.
    fn token(&self) -> anyhow::Result<Option<String>> {
        if !self.remote.starts_with("https://") && !self.remote.starts_with("http://") {
            return Ok(None);
        }
        if let Some(user) = self.user {
            let pair = pair(user).context("the name in the URL is badly encoded")?;
            return Ok(Some(basic(&pair)));
        }
        let of_host = format!("{TOKEN_SECRET}.{}", self.host);
        let secrets = &self.options.secrets;
        let Some(secret) = secrets.get(&of_host).or_else(|| secrets.get(TOKEN_SECRET)) else {
            return Ok(None);
        };
        let token = match secret {
            Secret::Value(value) => value.expose_secret().to_owned(),
            Secret::File(path) => fs::read_to_string(path)?,
        };
        Ok(Some(basic(&format!("x-access-token:{}", token.trim()))))
    }
}

/// What a URL has before its host, as a header takes it.
pub(super) fn pair(user: &str) -> Option<String> {
    let pair = percent_decode_str(user).decode_utf8().ok()?;
    Some(if pair.contains(':') { pair.into_owned() } else { format!("{pair}:") })
}

fn basic(pair: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Authorization: basic {encoded}")
}

/// What a pipe brings, as far as it is kept.
async fn said(mut pipe: impl AsyncRead + Unpin) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    (&mut pipe).take(MAX_SAID_BYTES).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A program and what it started: ends with this.
struct Group(Option<Pid>);

impl Group {
    /// Where memory runs out, a repository goes before anything else does.
    fn goes_first(&self) {
        if let Some(pid) = self.0 {
            // One that is over needs none.
            let _ = fs::write(format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero()), "1000");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}
