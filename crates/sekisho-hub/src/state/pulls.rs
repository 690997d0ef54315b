//! Pull requests: what is asked to go where, and what has become of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RepositoryIds;

/// Pull requests that are kept, of all repositories.
pub(crate) const MAX_PULLS: usize = 1_000;
/// Titles and descriptions of all that are kept, in bytes: they are in one file, which is written anew
/// at every change.
pub(crate) const MAX_TEXT: usize = 16 * 1024 * 1024;

/// All pull requests, by the repository that they are to go to. This is also the form on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pulls {
    of: BTreeMap<u64, OfRepository>,
    /// The last id that was given.
    last_id: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct OfRepository {
    /// The last number that was given: none is given twice, whatever has become of its pull request.
    last_number: u64,
    /// Shared with a copy that is being written down.
    pulls: BTreeMap<u64, Arc<PullRequest>>,
}

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PullRequest {
    /// Unique in the hub.
    pub(crate) id: u64,
    /// Unique in its repository.
    pub(crate) number: u64,
    pub(crate) title: String,
    pub(crate) body: Option<String>,
    pub(crate) draft: bool,
    pub(crate) state: PullState,
    /// Who opened it.
    pub(crate) actor: String,
    /// What it brings.
    pub(crate) head: Side,
    /// Where it is to go.
    pub(crate) base: Side,
    /// The commit that would come of it, or did; `None`: the two do not go together.
    pub(crate) merge_sha: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// Where a pull request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PullState {
    /// It may still go in.
    Open,
    /// It will not.
    Closed {
        /// When.
        at: Timestamp,
    },
    /// It is in.
    Merged {
        /// When.
        at: Timestamp,
    },
}

/// One end of a pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Side {
    pub(crate) repository: RepositoryIds,
    /// Without `refs/heads/`.
    pub(crate) branch: String,
    /// When it was opened, or looked at last.
    pub(crate) sha: String,
}

/// Why there is no new pull request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullError {
    /// One of these two branches is open.
    Exists,
    /// There is no room: see [`Pulls::has_room`].
    Full,
}

impl PullRequest {
    /// Whether it may still go in.
    pub(crate) fn is_open(&self) -> bool {
        self.state == PullState::Open
    }

    /// Whether it is open, and a branch is its head or its base.
    pub(crate) fn is_about(&self, repository: u64, branch: &str) -> bool {
        let sides = [&self.head, &self.base];
        self.is_open() && sides.iter().any(|side| side.is_branch(repository, branch))
    }

    /// Whether it comes from another repository: nobody has to be allowed to write to open one.
    pub(crate) fn is_of_fork(&self) -> bool {
        self.head.repository.id != self.base.repository.id
    }

    /// Title and description, in bytes.
    pub(crate) fn text(&self) -> usize {
        self.title.len() + self.body.as_ref().map_or(0, String::len)
    }

    /// The ref of what it brings, in the repository that it is to go to.
    pub(crate) fn head_ref(number: u64) -> String {
        format!("refs/pull/{number}/head")
    }

    /// The ref of what would come of it.
    pub(crate) fn merge_ref(number: u64) -> String {
        format!("refs/pull/{number}/merge")
    }
}

impl Side {
    /// `owner:branch`
    pub(crate) fn label(&self) -> String {
        format!("{}:{}", self.repository.name.owner(), self.branch)
    }

    /// Whether it is this branch.
    pub(crate) fn is_branch(&self, repository: u64, branch: &str) -> bool {
        self.repository.id == repository && self.branch == branch
    }
}

fn fits<'a>(all: impl Iterator<Item = &'a PullRequest>, more: usize, text: usize) -> bool {
    let add = |(count, used), pull: &PullRequest| (count + 1, used + pull.text());
    let (count, used) = all.fold((more, text), add);
    count <= MAX_PULLS && used <= MAX_TEXT
}

impl Pulls {
    /// A number for one that is about to be opened.
    pub(crate) fn reserve(&mut self, repository: u64) -> u64 {
        let of = self.of.entry(repository).or_default();
        of.last_number += 1;
        of.last_number
    }

    /// Opens one, with a number from [`Self::reserve`]. Gives it back with its id.
    pub(crate) fn open(&mut self, mut new: PullRequest) -> Result<PullRequest, PullError> {
        if self.is_taken(&new) {
            return Err(PullError::Exists);
        }
        if !self.has_room(1, new.text()) {
            return Err(PullError::Full);
        }
        self.last_id += 1;
        new.id = self.last_id;
        let of = self.of.entry(new.base.repository.id).or_default();
        of.pulls.insert(new.number, Arc::new(new.clone()));
        Ok(new)
    }

    /// Whether there is room for so many more, and for so many bytes of title and description.
    pub(crate) fn has_room(&self, more: usize, text: usize) -> bool {
        fits(self.all(), more, text)
    }

    /// Whether there would be if all that are closed went, but for one, by repository and number.
    pub(crate) fn can_have_room(&self, but: (u64, u64), more: usize, text: usize) -> bool {
        let stays =
            |pull: &&PullRequest| pull.is_open() || (pull.base.repository.id, pull.number) == but;
        fits(self.all().filter(stays), more, text)
    }

    /// Repository and number of those that are closed, the first that was comes first: in this order they
    /// go when there is no room.
    pub(crate) fn closed(&self) -> Vec<(u64, u64)> {
        let closed_at = |pull: &PullRequest| match pull.state {
            PullState::Open => None,
            PullState::Closed { at } | PullState::Merged { at } => Some((at, pull.id)),
        };
        let key = |pull: &PullRequest| (pull.base.repository.id, pull.number);
        let closed = self.all().filter_map(|pull| Some((closed_at(pull)?, key(pull))));
        let mut closed: Vec<_> = closed.collect();
        closed.sort_unstable();
        closed.into_iter().map(|(_, key)| key).collect()
    }

    /// Forgets one that is closed. False if it is not, or not there.
    pub(crate) fn forget(&mut self, repository: u64, number: u64) -> bool {
        if self.get(repository, number).is_none_or(PullRequest::is_open) {
            return false;
        }
        let of = self.of.get_mut(&repository);
        of.is_some_and(|of| of.pulls.remove(&number).is_some())
    }

    fn all(&self) -> impl Iterator<Item = &PullRequest> {
        self.of.values().flat_map(|of| of.pulls.values()).map(Arc::as_ref)
    }

    /// Whether one of these two branches is open.
    pub(crate) fn is_taken(&self, pull: &PullRequest) -> bool {
        let same = |known: &PullRequest| {
            known.is_open()
                && known.base.branch == pull.base.branch
                && known.head.is_branch(pull.head.repository.id, &pull.head.branch)
        };
        self.of(pull.base.repository.id).any(same)
    }

    /// One of a repository.
    pub(crate) fn get(&self, repository: u64, number: u64) -> Option<&PullRequest> {
        self.of.get(&repository)?.pulls.get(&number).map(Arc::as_ref)
    }

    /// All of a repository, the newest first.
    pub(crate) fn of(&self, repository: u64) -> impl Iterator<Item = &PullRequest> {
        let of = self.of.get(&repository).into_iter();
        of.flat_map(|of| of.pulls.values().rev()).map(Arc::as_ref)
    }

    /// Open ones that a branch is the head or the base of.
    pub(crate) fn about(&self, repository: u64, branch: &str) -> Vec<PullRequest> {
        self.all().filter(|pull| pull.is_about(repository, branch)).cloned().collect()
    }

    /// Replaces one. False if it is not there any more.
    pub(crate) fn put(&mut self, pull: PullRequest) -> bool {
        let of = self.of.get_mut(&pull.base.repository.id);
        let Some(place) = of.and_then(|of| of.pulls.get_mut(&pull.number)) else { return false };
        *place = Arc::new(pull);
        true
    }
}

#[cfg(test)]
mod tests;
