//! Checkouts of git repositories, made by the machine's `git`.
//!
//! The program gets an environment of its own: no configuration of the machine or the user, no hooks,
//! no prompt, only the protocols that reach other machines. A token goes in by the environment, never
//! by an argument.

mod bounds;
mod caller;
mod kept;
mod refs;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use fs_err as fs;
use sekisho_dockerfile::git::{GitRef, is_commit};

use self::bounds::BOUNDS;
use self::caller::Caller;
pub(crate) use self::kept::Commits;
use crate::fetch;
use crate::options::BuildOptions;
use crate::store::Session;

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
            let (trusted, (remote, user)) = (trusted.as_deref(), user_apart(&git.remote));
            let remote = &remote;
            let caller = Caller { root: &root, options, host: &host, remote, user, trusted };
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
    let (trusted, (remote, user)) = (trusted.as_deref(), user_apart(&git.remote));
    let remote = &remote;
    let caller = Caller { root: &root, options, host: &host, remote, user, trusted };
    caller.call(&["init", "--quiet", "--initial-branch=sekisho"]).await?;
    caller.call(&["remote", "add", "origin", "--", remote]).await?;
    caller.get(git).await?;
    caller.list("FETCH_HEAD").await?;
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
        bounds::count(&root, BOUNDS).await.context("with its submodules")?;
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

/// A remote that is spoken to by http, and the name and password in it, which others would see in git's arguments and
/// in its files.
pub(crate) fn user_apart(remote: &str) -> (String, Option<&str>) {
    let by_web = |scheme: &&str| remote.starts_with(*scheme);
    let scheme = ["https://", "http://"].into_iter().find(by_web);
    let Some((scheme, rest)) =
        scheme.and_then(|scheme| Some((scheme, remote.strip_prefix(scheme)?)))
    else {
        return (remote.to_owned(), None);
    };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((user, _)) => (format!("{scheme}{}", &rest[user.len() + 1..]), Some(user)),
        None => (remote.to_owned(), None),
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
    fn a_user_is_told_apart_from_a_remote() {
        for (remote, want, user) in [
            ("https://h/a/b.git", "https://h/a/b.git", None),
            ("https://me:pa@ss@h:1/a@b.git", "https://h:1/a@b.git", Some("me:pa@ss")),
            ("http://token@h", "http://h", Some("token")),
            ("ssh://git@h/b", "ssh://git@h/b", None),
            ("git@h:a.git", "git@h:a.git", None),
        ] {
            assert_eq!(user_apart(remote), (want.to_owned(), user), "{remote}");
        }
        assert_eq!(caller::pair("me:p%40ss").as_deref(), Some("me:p@ss"));
        assert_eq!(caller::pair("token").as_deref(), Some("token:"));
        assert_eq!(caller::pair("a%ff"), None);
    }

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
