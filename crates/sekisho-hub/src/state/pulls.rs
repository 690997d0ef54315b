//! Pull requests: what is asked to go where, and what has become of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::RepositoryIds;

/// Pull requests that are kept, of all repositories.
const MAX_PULLS: usize = 1_000;

/// All pull requests, by the repository that they are to go to. This is also the form on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pulls {
    of: BTreeMap<u64, OfRepository>,
    /// The last id that was given.
    last_id: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct OfRepository {
    last_number: u64,
    pulls: BTreeMap<u64, PullRequest>,
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
    /// The commit that would come of it; `None`: the two do not go together.
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
    /// [`MAX_PULLS`].
    TooMany,
}

impl PullRequest {
    /// Whether it may still go in.
    pub(crate) fn is_open(&self) -> bool {
        self.state == PullState::Open
    }

    /// Whether it comes from another repository: nobody has to be allowed to write to open one.
    pub(crate) fn is_of_fork(&self) -> bool {
        self.head.repository.id != self.base.repository.id
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

    fn is_branch(&self, repository: u64, branch: &str) -> bool {
        self.repository.id == repository && self.branch == branch
    }
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
        if self.of.values().map(|of| of.pulls.len()).sum::<usize>() >= MAX_PULLS {
            return Err(PullError::TooMany);
        }
        if self.is_taken(&new) {
            return Err(PullError::Exists);
        }
        self.last_id += 1;
        new.id = self.last_id;
        self.put(new.clone());
        Ok(new)
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
        self.of.get(&repository)?.pulls.get(&number)
    }

    /// All of a repository, the newest first.
    pub(crate) fn of(&self, repository: u64) -> impl Iterator<Item = &PullRequest> {
        self.of.get(&repository).into_iter().flat_map(|of| of.pulls.values().rev())
    }

    /// Open ones that a branch is the head or the base of.
    pub(crate) fn about(&self, repository: u64, branch: &str) -> Vec<PullRequest> {
        let all = self.of.values().flat_map(|of| of.pulls.values());
        let about = |pull: &&PullRequest| {
            let sides = [&pull.head, &pull.base];
            pull.is_open() && sides.iter().any(|side| side.is_branch(repository, branch))
        };
        all.filter(about).cloned().collect()
    }

    /// Replaces one.
    pub(crate) fn put(&mut self, pull: PullRequest) {
        let of = self.of.entry(pull.base.repository.id).or_default();
        of.pulls.insert(pull.number, pull);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(repository: u64, branch: &str) -> Side {
        let name = format!("owner{repository}/app").parse().unwrap();
        let repository = RepositoryIds { name, id: repository, owner_id: repository + 100 };
        Side { repository, branch: branch.to_owned(), sha: "0".repeat(40) }
    }

    fn pull(number: u64, head: Side, base: Side) -> PullRequest {
        PullRequest {
            id: 0,
            number,
            title: "t".to_owned(),
            body: None,
            draft: false,
            state: PullState::Open,
            actor: "a".to_owned(),
            head,
            base,
            merge_sha: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn one_open_pull_request_of_two_branches() {
        let mut pulls = Pulls::default();
        assert_eq!([pulls.reserve(1), pulls.reserve(1), pulls.reserve(2)], [1, 2, 1]);
        let first = pulls.open(pull(1, side(1, "topic"), side(1, "main"))).unwrap();
        let again = pull(2, side(1, "topic"), side(1, "main"));
        assert_eq!(pulls.open(again.clone()), Err(PullError::Exists));
        // Of a fork, to another branch, to another repository: others.
        let fork = pulls.open(pull(3, side(2, "topic"), side(1, "main"))).unwrap();
        assert!(fork.is_of_fork() && !first.is_of_fork());
        pulls.open(pull(4, side(1, "topic"), side(1, "release"))).unwrap();
        let there = pulls.open(pull(1, side(1, "topic"), side(2, "main"))).unwrap();
        assert_eq!((first.id, there.id), (1, 4));
        let numbers = |all: Vec<PullRequest>| all.iter().map(|p| p.id).collect::<Vec<_>>();
        assert_eq!(numbers(pulls.about(1, "topic")), [1, 3, 4]);
        assert_eq!(numbers(pulls.about(1, "main")), [1, 2]);
        assert_eq!(numbers(pulls.about(2, "topic")), [2]);
        pulls.put(PullRequest { state: PullState::Closed { at: first.created_at }, ..first });
        assert_eq!(numbers(pulls.about(1, "topic")), [3, 4]);
        assert!(pulls.open(again).is_ok());
        assert_eq!(pulls.of(1).map(|pull| pull.number).collect::<Vec<_>>(), [4, 3, 2, 1]);
        let written = serde_json::to_string(&pulls).unwrap();
        assert_eq!(serde_json::from_str::<Pulls>(&written).unwrap(), pulls);
    }
}
