//! A folder as a git commit, without touching the folder.
//!
//! A clean git repository is pushed at its own commit. Anything else, a plain folder, a folder
//! inside a repository, a repository with changes, a shallow clone, becomes a commit of what is there now, made in a
//! temporary object store: equal files give an equal commit, so a second run finds its cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// The time of a commit that nobody made: the first that every archive format can express.
const SNAPSHOT_TIME: &str = "1980-01-01T00:00:00Z";

/// The branch of a snapshot that has none.
const DEFAULT_BRANCH: &str = "main";

/// A commit, and the object store that has it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    git_dir: TempDir,
    /// 40 hex digits.
    pub(crate) sha: String,
    /// Where it is pushed to, as `refs/heads/main`.
    pub(crate) git_ref: String,
    /// What was taken, for people.
    pub(crate) described: &'static str,
}

/// Makes a commit of what is in `folder`. Blocks.
pub(crate) fn take(folder: &Path) -> anyhow::Result<Snapshot> {
    let git_dir = tempfile::tempdir().context("making a temporary folder")?;
    let git =
        Git { git_dir: git_dir.path().join("snapshot.git"), work_tree: Some(folder.to_owned()) };
    git.run(&["init", "--quiet", "--bare", "--initial-branch", DEFAULT_BRANCH])?;

    let own = OwnRepository::of(folder)?;
    if let Some(own) = &own {
        let alternates = git.git_dir.join("objects/info/alternates");
        fs_err::write(alternates, format!("{}\n", own.objects.display()))
            .context("borrowing the repository's objects")?;
    }
    git.run(&["add", "--all", "--", "."]).context("reading the folder's files")?;
    let tree = git.run(&["write-tree"])?;
    let (sha, described) = match &own {
        Some(OwnRepository { head: Some((sha, head_tree)), .. }) if *head_tree == tree => {
            (sha.clone(), "commit")
        }
        Some(OwnRepository { head: Some((sha, _)), .. }) => {
            let commit =
                git.run(&["commit-tree", &tree, "-p", sha, "-m", "Uncommitted changes"])?;
            (commit, "commit with uncommitted changes")
        }
        _ => {
            let commit = git.run(&["commit-tree", &tree, "-m", "Snapshot of a folder"])?;
            (commit, "snapshot of the folder")
        }
    };
    let branch = own.and_then(|own| own.branch).unwrap_or_else(|| DEFAULT_BRANCH.to_owned());
    Ok(Snapshot { git_dir, sha, git_ref: format!("refs/heads/{branch}"), described })
}

impl Snapshot {
    /// Sends the commit to `url` under `git_ref`, a ref that nothing else writes. Blocks.
    pub(crate) fn push(&self, url: &str, git_ref: &str) -> anyhow::Result<()> {
        let git = Git { git_dir: self.git_dir.path().join("snapshot.git"), work_tree: None };
        let refspec = format!("{}:{git_ref}", self.sha);
        git.run(&["push", "--quiet", url, &refspec]).context("pushing to the hub")?;
        Ok(())
    }
}

/// The repository whose top folder is the folder that is taken.
struct OwnRepository {
    objects: PathBuf,
    branch: Option<String>,
    /// The commit checked out and its tree; `None` before the first commit, and in a shallow clone.
    head: Option<(String, String)>,
}

impl OwnRepository {
    fn of(folder: &Path) -> anyhow::Result<Option<Self>> {
        let ask = |arguments: &[&str]| -> anyhow::Result<Option<String>> {
            let mut command = git_command();
            command.arg("-C").arg(folder).args(arguments);
            let output = output_of(command)?;
            Ok(output.status.success().then(|| text(&output.stdout)))
        };
        let top = ask(&["rev-parse", "--show-toplevel"])?.map(PathBuf::from);
        let here = fs_err::canonicalize(folder).context("finding the folder")?;
        if top.and_then(|top| fs_err::canonicalize(top).ok()) != Some(here) {
            return Ok(None);
        }
        let objects = ask(&["rev-parse", "--path-format=absolute", "--git-path", "objects"])?
            .context("git does not say where the repository's objects are")?;
        let head = ask(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])?;
        let tree = ask(&["rev-parse", "--verify", "--quiet", "HEAD^{tree}"])?;
        // The parents of a shallow clone's commit are not there, so nobody can be given it.
        let shallow = ask(&["rev-parse", "--is-shallow-repository"])?.as_deref() == Some("true");
        Ok(Some(Self {
            objects: objects.into(),
            branch: ask(&["symbolic-ref", "--quiet", "--short", "HEAD"])?,
            head: head.zip(tree).filter(|_| !shallow),
        }))
    }
}

/// git on one bare repository, and a work tree where one is read.
struct Git {
    git_dir: PathBuf,
    work_tree: Option<PathBuf>,
}

impl Git {
    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = git_command();
        command.arg("--git-dir").arg(&self.git_dir);
        if let Some(folder) = &self.work_tree {
            command.current_dir(folder);
            // `init --bare` refuses a work tree; every other command needs it.
            if arguments.first() != Some(&"init") {
                command.env("GIT_WORK_TREE", folder);
            }
        }
        command.args(arguments);
        let output = output_of(command)?;
        if !output.status.success() {
            let verb = arguments.first().copied().unwrap_or_default();
            bail!("`git {verb}` failed: {}", text(&output.stderr));
        }
        Ok(text(&output.stdout))
    }
}

/// git, whatever the user's configuration says.
fn git_command() -> Command {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
        command.env_remove(name);
    }
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Sekisho")
        .env("GIT_AUTHOR_EMAIL", "snapshot@sekisho.invalid")
        .env("GIT_AUTHOR_DATE", SNAPSHOT_TIME)
        .env("GIT_COMMITTER_NAME", "Sekisho")
        .env("GIT_COMMITTER_EMAIL", "snapshot@sekisho.invalid")
        .env("GIT_COMMITTER_DATE", SNAPSHOT_TIME)
        // A proxy is for the outside; the hub is on this machine.
        .env("no_proxy", "127.0.0.1")
        // Read only: whose folder it is does not matter.
        .args(["-c", "safe.directory=*", "-c", "core.autocrlf=false"])
        .stdin(Stdio::null());
    command
}

fn output_of(mut command: Command) -> anyhow::Result<Output> {
    command.output().context("starting `git`; install it with your package manager")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(folder: &Path, arguments: &[&str]) -> String {
        let mut command = git_command();
        command.arg("-C").arg(folder).args(arguments);
        let output = output_of(command).unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    fn files(snapshot: &Snapshot) -> String {
        let git_dir = snapshot.git_dir.path().join("snapshot.git");
        git(&git_dir, &["ls-tree", "-r", "--name-only", &snapshot.sha])
    }

    #[test]
    fn a_folder_gives_the_same_commit_twice_and_honours_gitignore() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        fs_err::write(folder.path().join(".gitignore"), "*.tmp\n").unwrap();
        fs_err::write(folder.path().join("x.tmp"), "").unwrap();
        let first = take(folder.path()).unwrap();
        assert_eq!(files(&first), ".gitignore\nDockerfile");
        assert_eq!(
            (first.git_ref.as_str(), first.described),
            ("refs/heads/main", "snapshot of the folder")
        );
        assert_eq!(take(folder.path()).unwrap().sha, first.sha);
        fs_err::write(folder.path().join("Dockerfile"), "FROM scratch\nUSER 1\n").unwrap();
        assert_ne!(take(folder.path()).unwrap().sha, first.sha);
    }

    #[test]
    fn a_clean_repository_is_its_own_commit_and_a_changed_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        git(folder.path(), &["init", "--quiet", "--initial-branch", "topic"]);
        fs_err::write(folder.path().join("a"), "1").unwrap();
        assert_eq!(take(folder.path()).unwrap().described, "snapshot of the folder");
        git(folder.path(), &["add", "a"]);
        git(folder.path(), &["commit", "--quiet", "-m", "one"]);
        let head = git(folder.path(), &["rev-parse", "HEAD"]);

        let clean = take(folder.path()).unwrap();
        assert_eq!((clean.sha.as_str(), clean.git_ref.as_str()), (&*head, "refs/heads/topic"));
        fs_err::write(folder.path().join("a"), "2").unwrap();
        let changed = take(folder.path()).unwrap();
        assert_eq!(changed.described, "commit with uncommitted changes");
        assert_ne!(changed.sha, head);
        // The repository is as it was: nothing staged, no object added.
        assert_eq!(git(folder.path(), &["status", "--porcelain"]), " M a");
        let inner = folder.path().join("inner");
        fs_err::create_dir(&inner).unwrap();
        fs_err::write(inner.join("b"), "").unwrap();
        assert_eq!(files(&take(&inner).unwrap()), "b");
    }

    #[test]
    fn a_shallow_clone_is_pushed_as_what_is_in_it() {
        let origin = tempfile::tempdir().unwrap();
        git(origin.path(), &["init", "--quiet", "--initial-branch", "topic"]);
        for text in ["1", "2"] {
            fs_err::write(origin.path().join("a"), text).unwrap();
            git(origin.path(), &["add", "a"]);
            git(origin.path(), &["commit", "--quiet", "-m", text]);
        }
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", origin.path().display());
        git(folder.path(), &["clone", "--quiet", "--depth", "1", &url, "clone"]);
        let snapshot = take(&folder.path().join("clone")).unwrap();
        assert_eq!(snapshot.described, "snapshot of the folder");
        assert_eq!(snapshot.git_ref, "refs/heads/topic");
        let target = tempfile::tempdir().unwrap();
        git(target.path(), &["init", "--quiet", "--bare"]);
        let url = format!("file://{}", target.path().display());
        snapshot.push(&url, "refs/sekisho/1").unwrap();
        assert_eq!(git(target.path(), &["rev-parse", "refs/sekisho/1"]), snapshot.sha);
    }

    #[test]
    fn what_is_pushed_arrives() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("a"), "1").unwrap();
        let target = tempfile::tempdir().unwrap();
        git(target.path(), &["init", "--quiet", "--bare"]);
        let snapshot = take(folder.path()).unwrap();
        let url = format!("file://{}", target.path().display());
        snapshot.push(&url, "refs/sekisho/1").unwrap();
        assert_eq!(git(target.path(), &["rev-parse", "refs/sekisho/1"]), snapshot.sha);
        let error = snapshot.push("file:///nowhere", "refs/sekisho/1").unwrap_err();
        assert!(format!("{error:#}").starts_with("pushing to the hub: `git push` failed: "));
    }
}
