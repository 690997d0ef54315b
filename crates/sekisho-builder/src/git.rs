//! Checkouts of git repositories, made by the machine's `git`.
//!
//! The program gets an environment of its own: no configuration of the machine or the user, no hooks,
//! no prompt, only the protocols that reach other machines. A token goes in by the environment, never
//! by an argument.

mod kept;
mod refs;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use fs_err as fs;
use secrecy::ExposeSecret as _;
use sekisho_dockerfile::git::{GitRef, is_commit};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use crate::fetch;
use crate::options::{BuildOptions, Secret};
use crate::store::Session;

pub(crate) use self::kept::Commits;

/// For one call of git: a large repository over a slow link.
const DEADLINE: Duration = Duration::from_mins(20);

/// Most of what git says that is kept, in bytes.
const MAX_SAID_BYTES: u64 = 64 << 10;

/// The secrets that BuildKit takes tokens from; the second with `.HOST` after it wins.
const TOKEN_SECRET: &str = "GIT_AUTH_TOKEN";

/// What names proxies, as curl reads it, in small letters or capitals.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];

/// Where distributions keep the certificates that they trust: Debian, Fedora, Alpine.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The commit that a name means at this moment, without fetching it; `None` where only fetching tells.
async fn commit_now(
    git: &GitRef,
    session: &Session,
    options: &BuildOptions,
) -> anyhow::Result<Option<String>> {
    Ok(match git.reference.as_deref().filter(|_| git.is_pinned()) {
        Some(commit) => Some(commit.to_ascii_lowercase()),
        None => {
            let wanted = git.reference.as_deref().unwrap_or("HEAD");
            let peeled = format!("{wanted}^{{}}");
            let (host, root, trusted) = prepare(git, session, options).await?;
            let (trusted, remote) = (trusted.as_deref(), &git.remote);
            let caller = Caller { root: &root, options, host: &host, remote, trusted };
            let said =
                caller.call(&["ls-remote", "--quiet", "--", remote, wanted, &peeled]).await?;
            refs::commit(&said, wanted).filter(|commit| is_commit(commit)).map(str::to_owned)
        }
    })
}

/// Whether a commit is the one that `--checksum` names.
fn is_asked_for(commit: &str, git: &GitRef) -> bool {
    git.checksum.as_ref().is_none_or(|sum| commit.starts_with(&sum.to_ascii_lowercase()))
}

/// Host, a folder for git to work in, and certificates, for a remote that may be asked.
async fn prepare(
    git: &GitRef,
    session: &Session,
    options: &BuildOptions,
) -> anyhow::Result<(String, PathBuf, Option<PathBuf>)> {
    let host = host(&git.remote).context("the repository names no host")?;
    fetch::Link::new(options)?.permit(&git.remote, &host).await?;
    let root = session.folder("git").context("cannot make a folder")?;
    Ok((host, root, trusted(session, options)?))
}

/// Fetches one commit and its submodules to a folder of the session; gives the folder, and the commit in full.
/// Cancel-safe: what is half done stays there.
async fn checkout(
    git: &GitRef,
    keep_git_dir: bool,
    session: &Session,
    options: &BuildOptions,
) -> anyhow::Result<(PathBuf, String)> {
    let (host, root, trusted) = prepare(git, session, options).await?;
    let (trusted, remote) = (trusted.as_deref(), &git.remote);
    let caller = Caller { root: &root, options, host: &host, remote, trusted };
    caller.call(&["init", "--quiet", "--initial-branch=sekisho"]).await?;
    caller.call(&["remote", "add", "origin", "--", &git.remote]).await?;
    caller.get(git).await?;
    caller.call(&["checkout", "--quiet", "--detach", "--force", "FETCH_HEAD"]).await?;
    let commit = caller.call(&["rev-parse", "HEAD"]).await?;
    let commit = commit.trim().to_owned();
    ensure!(is_commit(&commit), "git names no commit");
    if let Some(sum) = &git.checksum {
        ensure!(is_asked_for(&commit, git), "it is the commit {commit}, not {sum}");
    }
    if git.submodules != Some(false) && root.join(".gitmodules").exists() {
        let update = ["submodule", "update", "--quiet", "--init", "--recursive", "--depth=1"];
        caller.call(&update).await.context("cannot fetch the submodules")?;
    }
    if !keep_git_dir {
        remove_git(&root)?;
    }
    Ok((root, commit))
}

/// A folder of a checkout, or all of it.
fn folder_in(root: &Path, subdir: Option<&str>) -> anyhow::Result<PathBuf> {
    let Some(subdir) = subdir else { return Ok(root.to_owned()) };
    let real = fs::canonicalize(root.join(subdir))
        .with_context(|| format!("there is no folder `{subdir}` in it"))?;
    let inside = real.starts_with(fs::canonicalize(root)?);
    ensure!(inside && real.is_dir(), "`{subdir}` is no folder in it");
    Ok(real)
}

/// The machine's certificates and those that were named, in one file: git takes no second one.
fn trusted(session: &Session, options: &BuildOptions) -> anyhow::Result<Option<PathBuf>> {
    let named = &options.registries.ca_files;
    if named.is_empty() {
        return Ok(None);
    }
    let machine = BUNDLES.iter().map(Path::new).find(|path| path.is_file());
    let mut all = Vec::new();
    for path in machine.into_iter().chain(named.iter().map(PathBuf::as_path)) {
        all.extend(fs::read(path).context("cannot read certificates")?);
        all.push(b'\n');
    }
    let path = session.path("certificates");
    fs::write(&path, all).context("cannot write a file")?;
    Ok(Some(path))
}

/// Removes `.git`, also that of submodules.
fn remove_git(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if entry.file_name() == ".git" {
            match kind.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        } else if kind.is_dir() {
            remove_git(&entry.path())?;
        }
    }
    Ok(())
}

struct Caller<'a> {
    root: &'a Path,
    options: &'a BuildOptions,
    host: &'a str,
    remote: &'a str,
    /// Certificates to trust, when they are not the machine's alone.
    trusted: Option<&'a Path>,
}

impl Caller<'_> {
    /// Fetches what was asked for; the whole history only when the remote gives no single commit.
    async fn get(&self, git: &GitRef) -> anyhow::Result<()> {
        let wanted = git.reference.as_deref().unwrap_or("HEAD");
        let shallow =
            ["fetch", "--quiet", "--no-tags", "--depth=1", "origin", "--end-of-options", wanted];
        if self.call(&shallow).await.is_ok() {
            return Ok(());
        }
        // A server that is only files gives no single commit.
        let whole = ["fetch", "--quiet", "--no-tags", "origin", "--end-of-options", wanted];
        let first = match self.call(&whole).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let digits = wanted.len() >= 7 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !digits {
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

    /// Runs git in the checkout; gives what it wrote.
    async fn call(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("git");
        command
            .args(["-c", "core.hooksPath=/dev/null", "-c", "http.followRedirects=false"])
            .args(["-c", "core.autocrlf=false", "-c", "core.symlinks=true", "-c", "gc.auto=0"])
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
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("the program `git` is not installed on this machine")
            }
            Err(error) => return Err(error).context("cannot start git"),
        };
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let read = async |pipe: Option<_>| -> std::io::Result<String> {
            let mut bytes = Vec::new();
            if let Some(pipe) = pipe {
                let mut pipe: std::pin::Pin<Box<dyn tokio::io::AsyncRead + Send>> = pipe;
                (&mut pipe).take(MAX_SAID_BYTES).read_to_end(&mut bytes).await?;
                tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
            }
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let (out, err) = (out.map(|pipe| Box::pin(pipe) as _), err.map(|pipe| Box::pin(pipe) as _));
        let all = async { tokio::try_join!(read(out), read(err), child.wait()) };
        let Ok(ended) = timeout(DEADLINE, all).await else {
            bail!("git took more than {} minutes", DEADLINE.as_secs() / 60)
        };
        let (said, complaint, status) = ended.context("cannot wait for git")?;
        if !status.success() {
            let lines: Vec<&str> = complaint.trim().lines().rev().take(4).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            bail!("git says: {}", lines.join("; "));
        }
        Ok(said)
    }

    /// `https://host` of the remote.
    fn origin(&self) -> String {
        let scheme = if self.remote.starts_with("http://") { "http" } else { "https" };
        format!("{scheme}://{}", self.host)
    }

    /// The header that a token secret makes, for http only.
    fn token(&self) -> anyhow::Result<Option<String>> {
        if !self.remote.starts_with("https://") && !self.remote.starts_with("http://") {
            return Ok(None);
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
        let pair = format!("x-access-token:{}", token.trim());
        let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
        Ok(Some(format!("Authorization: basic {encoded}")))
    }
}

/// Host and port of a remote.
pub(crate) fn host(remote: &str) -> Option<String> {
    let rest = match remote.split_once("://") {
        Some((_, rest)) => rest.split('/').next()?,
        None => remote.split_once(':')?.0,
    };
    let host = rest.rsplit('@').next()?;
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_remotes() {
        for (remote, want) in [
            ("https://example.org/a.git", Some("example.org")),
            ("http://127.0.0.1:80/a.git", Some("127.0.0.1:80")),
            ("ssh://git@h:22/b", Some("h:22")),
            ("git@h:a/b.git", Some("h")),
            ("https:///x.git", None),
        ] {
            assert_eq!(host(remote).as_deref(), want, "{remote}");
        }
    }
}
