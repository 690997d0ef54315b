//! What a pull request needs of a repository: its refs, and the commit that would come of it.

use jiff::Timestamp;

use super::read::run;
use super::{GitError, Repository};
use crate::names::is_plain_ref;

/// Who makes the hub's own commits.
const NAME: &str = "Sekisho";
const EMAIL: &str = "noreply@sekisho.local";
/// An object id, in bytes, with room for what is around it.
const ID_BYTES: usize = 128;

impl Repository {
    /// Has `name` stand for a branch (short) of another repository, or of this one; gives its commit.
    /// `None` if there is no such branch.
    pub(crate) fn take(
        &self,
        from: &Self,
        branch: &str,
        name: &str,
    ) -> Result<Option<String>, GitError> {
        let full = format!("refs/heads/{branch}");
        let Some(sha) = from.resolve(&full)?.filter(|_| is_plain_ref(branch)) else {
            return Ok(None);
        };
        if from.dir() == self.dir() {
            self.set_ref(name, &sha)?;
            return Ok(Some(sha));
        }
        let from = from.dir().to_string_lossy().into_owned();
        let spec = format!("+{full}:{name}");
        self.read("fetch", &["--quiet", "--no-tags", "--no-write-fetch-head", &from, &spec], 0)?;
        // The branch may have moved since it was looked at.
        self.resolve(name)
    }

    /// Has a ref name a commit.
    pub(crate) fn set_ref(&self, name: &str, sha: &str) -> Result<(), GitError> {
        self.read("update-ref", &[name, sha], 0).map(drop)
    }

    /// Has a branch go from one commit to another; false if it is not at the first.
    pub(crate) fn move_ref(&self, name: &str, from: &str, to: &str) -> Result<bool, GitError> {
        match self.read("update-ref", &[name, to, from], 0) {
            Ok(_) => Ok(true),
            Err(GitError::Failed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a ref; that there is none is as good.
    pub(crate) fn remove_ref(&self, name: &str) -> Result<(), GitError> {
        self.read("update-ref", &["-d", name], 0).map(drop)
    }

    /// The newest commit that both have in their history.
    pub(crate) fn merge_base(&self, a: &str, b: &str) -> Result<Option<String>, GitError> {
        match self.read("merge-base", &[a, b], ID_BYTES) {
            Ok(sha) => Ok(Some(String::from_utf8_lossy(&sha).trim().to_owned())),
            Err(GitError::Failed { message, .. }) if message.is_empty() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A commit with both as its parents; `None` if they do not go together.
    pub(crate) fn merge(
        &self,
        base: &str,
        head: &str,
        message: &str,
        now: Timestamp,
    ) -> Result<Option<String>, GitError> {
        let tree =
            match self.read("merge-tree", &["--write-tree", "--no-messages", base, head], ID_BYTES)
            {
                Ok(tree) => String::from_utf8_lossy(&tree).trim().to_owned(),
                // Files that are in conflict are listed behind the tree; complaints are another matter.
                Err(GitError::TooLarge { .. }) => return Ok(None),
                Err(GitError::Failed { message, .. }) if message.is_empty() => return Ok(None),
                Err(error) => return Err(error),
            };
        let mut command = self.command();
        let date = format!("{} +0000", now.as_second());
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), NAME);
            command.env(format!("GIT_{role}_EMAIL"), EMAIL);
            command.env(format!("GIT_{role}_DATE"), &date);
        }
        command.args(["commit-tree", &tree, "-p", base, "-p", head, "-m", message]);
        let sha = run(command, "commit-tree", ID_BYTES)?;
        Ok(Some(String::from_utf8_lossy(&sha).trim().to_owned()))
    }
}
