//! Reading a repository. Everything here blocks: call it where that is allowed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Git, GitError};
use crate::names::{is_plain_path, is_plain_ref, is_sha};

/// The most output any reading command may give, in bytes, files apart.
const MAX_OUTPUT: usize = 16 * 1024 * 1024;
/// How much of standard error goes into an error, in bytes.
const MAX_STDERR: usize = 2048;
/// The largest archive of a commit, in bytes, compressed: it is held in memory.
const MAX_ARCHIVE: usize = 256 * 1024 * 1024;
/// Commits whose data goes into a push event, as many as GitHub lists.
const MAX_COMMITS: usize = 20;

/// One bare repository.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    git: Git,
    dir: PathBuf,
}

/// A file in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TreeFile {
    /// From the root of the repository.
    pub(crate) path: String,
    /// Of the blob.
    pub(crate) sha: String,
    /// In bytes.
    pub(crate) size: usize,
}

/// What an event tells about a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) sha: String,
    pub(crate) tree: String,
    pub(crate) author_name: String,
    pub(crate) author_email: String,
    pub(crate) committer_name: String,
    pub(crate) committer_email: String,
    /// RFC 3339, with the committer's offset.
    pub(crate) timestamp: String,
    pub(crate) message: String,
}

impl Repository {
    pub(super) fn new(git: Git, dir: PathBuf) -> Self {
        Self { git, dir }
    }

    pub(super) fn command(&self) -> Command {
        let mut command = self.git.command();
        command.env("GIT_DIR", &self.dir);
        command
    }

    pub(super) fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    pub(super) fn read(
        &self,
        verb: &'static str,
        args: &[&str],
        max: usize,
    ) -> Result<Vec<u8>, GitError> {
        let mut command = self.command();
        command.arg(verb).args(args);
        run(command, verb, max)
    }

    /// Every branch and tag, with the object it names.
    pub(crate) fn refs(&self) -> Result<BTreeMap<String, String>, GitError> {
        let verb = "for-each-ref";
        let args = ["--format=%(objectname) %(refname)", "refs/heads", "refs/tags"];
        let text = self.read(verb, &args, MAX_OUTPUT)?;
        let text = String::from_utf8(text).map_err(|_| GitError::Output { verb })?;
        text.lines()
            .map(|line| line.split_once(' ').map(|(sha, name)| (name.to_owned(), sha.to_owned())))
            .collect::<Option<_>>()
            .ok_or(GitError::Output { verb })
    }

    /// The commit that `name` stands for: a tag, a branch, a full ref or a full sha.
    pub(crate) fn resolve(&self, name: &str) -> Result<Option<String>, GitError> {
        Ok(self.resolve_named(name)?.map(|(_, sha)| sha))
    }

    /// As [`Self::resolve`], with the full name of what was found.
    pub(crate) fn resolve_named(&self, name: &str) -> Result<Option<(String, String)>, GitError> {
        let verb = "rev-parse";
        if !is_plain_ref(name) {
            return Ok(None);
        }
        let mut candidates = Vec::new();
        let full = ["refs/heads/", "refs/tags/", "refs/pull/"];
        if is_sha(name) || full.iter().any(|kind| name.starts_with(kind)) {
            candidates.push(name.to_owned());
        }
        candidates.extend([format!("refs/tags/{name}"), format!("refs/heads/{name}")]);
        for candidate in candidates {
            let commit = format!("{candidate}^{{commit}}");
            match self.read(verb, &["--verify", "--quiet", &commit], 128) {
                Ok(sha) => {
                    let sha = String::from_utf8_lossy(&sha).trim().to_owned();
                    let sha =
                        if is_sha(&sha) { sha } else { return Err(GitError::Output { verb }) };
                    return Ok(Some((candidate, sha)));
                }
                Err(GitError::Failed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The files of a folder, not of the folders in it, in the order of their names.
    pub(crate) fn list(&self, sha: &str, folder: &str) -> Result<Vec<TreeFile>, GitError> {
        self.ls_tree(sha, &format!("{folder}/"))
    }

    /// A file, if the tree has it.
    pub(crate) fn find(&self, sha: &str, path: &str) -> Result<Option<TreeFile>, GitError> {
        if !is_plain_path(path) {
            return Ok(None);
        }
        Ok(self.ls_tree(sha, path)?.into_iter().find(|file| file.path == path))
    }

    fn ls_tree(&self, sha: &str, path: &str) -> Result<Vec<TreeFile>, GitError> {
        let verb = "ls-tree";
        let output = self.read(verb, &["-z", "-l", "--full-tree", sha, "--", path], MAX_OUTPUT)?;
        let entries = output.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
        let mut files = Vec::new();
        for entry in entries {
            // A path that is no text cannot be the name of a workflow.
            let Ok(entry) = std::str::from_utf8(entry) else { continue };
            let (meta, path) = entry.split_once('\t').ok_or(GitError::Output { verb })?;
            let meta: Vec<&str> = meta.split_ascii_whitespace().collect();
            let [mode, kind, sha, size] = meta[..] else { return Err(GitError::Output { verb }) };
            // A symbolic link is a blob too (mode 120000), and not what was meant.
            if kind == "blob" && mode.starts_with("100") {
                let size = size.parse().map_err(|_| GitError::Output { verb })?;
                files.push(TreeFile { path: path.to_owned(), sha: sha.to_owned(), size });
            }
        }
        Ok(files)
    }

    /// The content of a file of at most `max` bytes.
    pub(crate) fn content(&self, file: &TreeFile, max: usize) -> Result<Vec<u8>, GitError> {
        if file.size > max {
            return Err(GitError::TooLarge { what: format!("`{}`", file.path), max });
        }
        self.read("cat-file", &["blob", &file.sha], max)
    }

    /// A commit's files as a gzipped tar, in one folder `top`.
    pub(crate) fn archive(&self, sha: &str, top: &str) -> Result<Vec<u8>, GitError> {
        let prefix = format!("--prefix={top}/");
        self.read("archive", &["--format=tar.gz", &prefix, sha], MAX_ARCHIVE)
    }

    /// Whether everything in `old` is in `new` too. False if `old` is not there at all.
    pub(crate) fn is_ancestor(&self, old: &str, new: &str) -> Result<bool, GitError> {
        match self.read("merge-base", &["--is-ancestor", old, new], 0) {
            Ok(_) => Ok(true),
            Err(GitError::Failed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The newest commits that `after` has and `before` has not, newest first; `after` always.
    pub(crate) fn commits(
        &self,
        before: Option<&str>,
        after: &str,
    ) -> Result<Vec<Commit>, GitError> {
        let verb = "log";
        let format = "--format=%H%x00%T%x00%an%x00%ae%x00%cn%x00%ce%x00%cI%x00%B%x00";
        let count = format!("--max-count={}", if before.is_some() { MAX_COMMITS } else { 1 });
        let exclude = before.map(|before| format!("^{before}"));
        let mut args = vec![format, count.as_str(), after];
        args.extend(exclude.as_deref());
        args.push("--");
        let mut output = self.read(verb, &args, MAX_OUTPUT)?;
        if output.is_empty() {
            output = self.read(verb, &[format, "--max-count=1", after, "--"], MAX_OUTPUT)?;
        }
        read_commits(&String::from_utf8_lossy(&output))
    }

    /// Paths that differ between two commits; `None` if there are more than `max`.
    pub(crate) fn changed_paths(
        &self,
        before: Option<&str>,
        after: &str,
        max: usize,
    ) -> Result<Option<Vec<String>>, GitError> {
        let fixed = ["-r", "-z", "--name-only", "--no-renames", "--no-commit-id"];
        let mut args = fixed.to_vec();
        match before {
            Some(before) => args.extend([before, after]),
            None => args.extend(["--root", after]),
        }
        args.push("--");
        let output = match self.read("diff-tree", &args, MAX_OUTPUT) {
            Err(GitError::TooLarge { .. }) => return Ok(None),
            other => other?,
        };
        let paths: Vec<String> = output
            .split(|byte| *byte == 0)
            .filter(|path| !path.is_empty())
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .take(max + 1)
            .collect();
        Ok((paths.len() <= max).then_some(paths))
    }

    /// Names the default branch, if there is one: the branch that `HEAD` names.
    pub(crate) fn default_branch(&self) -> Result<Option<String>, GitError> {
        let head = fs_err::read_to_string(self.dir.join("HEAD"))?;
        Ok(head.trim().strip_prefix("ref: refs/heads/").map(str::to_owned))
    }

    /// The default branch as others are told of it: `main` before there is one.
    pub(crate) fn default_branch_name(&self) -> Result<String, GitError> {
        Ok(self.default_branch()?.unwrap_or_else(|| "main".to_owned()))
    }

    /// Makes `branch` (short) the default branch.
    pub(crate) fn set_default_branch(&self, branch: &str) -> Result<(), GitError> {
        let target = format!("refs/heads/{branch}");
        self.read("symbolic-ref", &["HEAD", &target], 0).map(drop)
    }

    /// Feeds `stream` to `git fast-import`.
    pub(super) fn fast_import(&self, stream: &[u8]) -> Result<(), GitError> {
        let verb = "fast-import";
        let mut command = self.command();
        command.args([verb, "--quiet", "--force", "--date-format=raw"]).stdin(Stdio::piped());
        let failed = |source| GitError::Run { verb: verb.to_owned(), source };
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A broken pipe means that git gave up: its own message is the better one.
            let _ = stdin.write_all(stream);
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        Err(GitError::Failed { verb: verb.to_owned(), message: shorten(&output.stderr) })
    }
}

/// Commits as `git log` writes them here: eight fields, each with a NUL behind it, and a line end after
/// the last. Nothing in a commit can hold a NUL, so that nothing in one can look like the end of it.
pub(crate) fn read_commits(text: &str) -> Result<Vec<Commit>, GitError> {
    const BAD: GitError = GitError::Output { verb: "log" };
    let Some((all, end)) = text.rsplit_once('\0') else { return Err(BAD) };
    let fields: Vec<&str> = all.split('\0').collect();
    let (commits, rest) = fields.as_chunks::<8>();
    if !rest.is_empty() || !end.trim().is_empty() {
        return Err(BAD);
    }
    let commit = |[sha, tree, author, email, committer, from, at, message]: &[&str; 8]| Commit {
        sha: sha.trim_start().to_owned(),
        tree: (*tree).to_owned(),
        author_name: (*author).to_owned(),
        author_email: (*email).to_owned(),
        committer_name: (*committer).to_owned(),
        committer_email: (*from).to_owned(),
        timestamp: (*at).to_owned(),
        message: message.trim_end().to_owned(),
    };
    Ok(commits.iter().map(commit).collect())
}

/// Runs a command to its end and gives its standard output of at most `max` bytes.
pub(super) fn run(mut command: Command, verb: &str, max: usize) -> Result<Vec<u8>, GitError> {
    let failed = |source| GitError::Run { verb: verb.to_owned(), source };
    command.stdout(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(max as u64 + 1).read_to_end(&mut output).map_err(failed)?;
    }
    if output.len() > max {
        // Nobody reads the rest: without this git might wait for us for ever.
        let _ = child.kill();
        let _ = child.wait();
        return Err(GitError::TooLarge { what: format!("the output of `git {verb}`"), max });
    }
    // Read after standard output: git's complaints fit the pipe's buffer.
    let rest = child.wait_with_output().map_err(failed)?;
    if rest.status.success() {
        return Ok(output);
    }
    Err(GitError::Failed { verb: verb.to_owned(), message: shorten(&rest.stderr) })
}

fn shorten(stderr: &[u8]) -> String {
    let cut = &stderr[..stderr.len().min(MAX_STDERR)];
    String::from_utf8_lossy(cut).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `git log` writes it.
    fn written(commits: &[[String; 8]]) -> String {
        let one = |fields: &[String; 8]| fields.join("\0") + "\0\n";
        commits.iter().map(one).collect()
    }

    proptest! {
        #[test]
        fn nothing_in_a_commit_is_the_end_of_it(
            commits in proptest::collection::vec(
                proptest::array::uniform8("[^\0\\pZ\\pC]{1,4}[\u{1}\n]{0,2}[a-z]"),
                1..5,
            ),
        ) {
            let read = read_commits(&written(&commits)).unwrap();
            let names: Vec<&String> = read.iter().map(|commit| &commit.author_name).collect();
            prop_assert_eq!(names, commits.iter().map(|commit| &commit[2]).collect::<Vec<_>>());
            let last: Vec<&String> = read.iter().map(|commit| &commit.message).collect();
            prop_assert_eq!(last, commits.iter().map(|commit| &commit[7]).collect::<Vec<_>>());
        }

        #[test]
        fn any_text_is_commits_or_refused(text in "[\0\u{1}a\n]{0,40}") {
            let whole = text.split('\0').count() % 8 == 1 && text.contains('\0');
            if let Ok(commits) = read_commits(&text) {
                prop_assert!(whole);
                prop_assert_eq!(commits.len(), text.matches('\0').count() / 8);
            }
        }
    }

    #[test]
    fn a_name_that_looks_like_a_mark_is_a_name() {
        let fields = ["s", "t", "\u{1}eve", "e", "c", "f", "2026-01-01T00:00:00Z", "m\n\n"];
        let read = read_commits(&written(&[fields.map(str::to_owned)])).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].author_name.as_str(), read[0].message.as_str()), ("\u{1}eve", "m"));
        assert!(read_commits("s\0t\0").is_err());
    }
}
