//! The hub's repositories: bare git repositories on disk, worked on by the `git` program.
//!
//! Every `git` runs with an empty environment plus a few variables, so no configuration of the
//! user or the system, and no hook of a repository, has a say. The hub's own hook looks at what jobs push.

mod builtin;
mod frames;
mod http;
mod merge;
pub(crate) mod peer;
mod pre_receive;
mod read;
mod serve;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) use frames::HoldLastFlush;
pub(crate) use http::{PUSH_WAIT, info_refs, receive_pack, upload_pack};
pub(crate) use read::{Commit, Repository, TreeFile, read_commits};

use crate::names::RepoName;

/// The largest push, in bytes: what `git` itself can be told, and enough for any sources.
pub(crate) const MAX_PUSH_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Configuration of every `git` we run; the last word over any file.
const SETTINGS: [(&str, &str); 11] = [
    // The folder may belong to another user than the plane (root in a container).
    ("safe.directory", "*"),
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("receive.autogc", "false"),
    ("receive.maxInputSize", "2147483648"),
    ("receive.denyDeleteCurrent", "ignore"),
    // The hub's own, of pull requests.
    ("receive.hideRefs", "refs/pull"),
    // A checkout asks for a commit, which may have left its branch since.
    ("uploadpack.allowAnySHA1InWant", "true"),
    ("uploadpack.allowFilter", "true"),
];

/// Why a repository could not be read or made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// The program is not there, or a file operation failed.
    #[error("cannot run `git {verb}`")]
    Run {
        /// The subcommand.
        verb: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// `git` said no.
    #[error("`git {verb}` failed: {message}")]
    Failed {
        /// The subcommand.
        verb: String,
        /// Its standard error, shortened.
        message: String,
    },
    /// A limit of ours.
    #[error("{what} is larger than {max} bytes")]
    TooLarge {
        /// What is.
        what: String,
        /// The limit.
        max: usize,
    },
    /// It said something we do not understand.
    #[error("unexpected output of `git {verb}`")]
    Output {
        /// The subcommand.
        verb: &'static str,
    },
    /// A file of the hub.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// How to run `git`, and where the repositories are.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    program: PathBuf,
    root: PathBuf,
    home: PathBuf,
    search_path: String,
    /// Where the hook is that looks at what a job pushes; `None`: it cannot be run.
    hooks: Option<PathBuf>,
}

impl Git {
    /// `dir` is the hub's folder.
    pub(crate) fn open(dir: &Path, search_path: &str) -> io::Result<Self> {
        let mut git = Self {
            program: program(search_path),
            root: dir.join("repos"),
            home: dir.join("home"),
            search_path: search_path.to_owned(),
            hooks: None,
        };
        fs_err::create_dir_all(&git.root)?;
        fs_err::create_dir_all(&git.home)?;
        git.hooks = git.install_hook(dir)?;
        Ok(git)
    }

    /// The repository, if it exists.
    pub(crate) fn repository(&self, name: &RepoName) -> Option<Repository> {
        let dir = self.dir(name);
        // `HEAD` is written last by `git init`.
        dir.join("HEAD").is_file().then(|| Repository::new(self.clone(), dir))
    }

    /// The repository, made if it does not exist. Blocking.
    pub(crate) fn create(&self, name: &RepoName) -> Result<Repository, GitError> {
        if let Some(repository) = self.repository(name) {
            return Ok(repository);
        }
        let dir = self.dir(name);
        if let Some(owner) = dir.parent() {
            fs_err::create_dir_all(owner)?;
        }
        let mut command = self.command();
        command
            .args(["init", "--quiet", "--bare", "--initial-branch=main", "--template="])
            .arg(&dir);
        read::run(command, "init", 0)?;
        Ok(Repository::new(self.clone(), dir))
    }

    fn dir(&self, name: &RepoName) -> PathBuf {
        self.root.join(name.owner()).join(format!("{}.git", name.name()))
    }

    /// A `git` without any configuration but ours, standard streams closed.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", &self.search_path)
            .env("HOME", &self.home)
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_COUNT", SETTINGS.len().to_string())
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        for (index, (key, value)) in SETTINGS.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{index}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        command
    }
}

/// Where `git` is. With a path, and not a name that is looked for in the new environment's `PATH`, the
/// standard library need not fork: a copy of the page tables of a hub with many jobs takes
/// milliseconds, in which all its other threads wait for memory.
fn program(search_path: &str) -> PathBuf {
    let folders = search_path.split(':').filter(|folder| folder.starts_with('/'));
    let mut found = folders.map(|folder| Path::new(folder).join("git"));
    // Where there is none, running it tells.
    found.find(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("git"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_is_called_by_its_path() {
        let temp = tempfile::tempdir().unwrap();
        let there = temp.path().join("bin");
        fs_err::create_dir_all(&there).unwrap();
        fs_err::write(there.join("git"), "").unwrap();
        let search = format!("relative:{}:{}", temp.path().display(), there.display());
        assert_eq!(program(&search), there.join("git"));
        assert_eq!(program("/none"), PathBuf::from("git"));
        let git = Git::open(&temp.path().join("hub"), &search).unwrap();
        assert_eq!(git.command().get_program(), there.join("git").as_os_str());
    }
}
