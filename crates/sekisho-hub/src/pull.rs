//! Pull requests: opened, brought up to date by pushes, closed; and the runs that come of it.
//!
//! | event | ref of its runs | workflow and commit | token |
//! |---|---|---|---|
//! | `pull_request` | `refs/pull/N/merge` | of the test merge | reads, and has no identity, if it is of a fork |
//! | `pull_request_target` | the base branch | of the base branch | as the workflow says |
//!
//! One that does not go together with its base starts no `pull_request`. Source: protocol reference
//! 6.3, 6.4.

mod pushes;
mod runs;

use jiff::Timestamp;

pub(crate) use self::pushes::pushed;
use self::runs::happened;
use crate::event::{Activity, Actor, Changes};
use crate::git::{GitError, Repository};
use crate::names::{RepoName, is_plain_ref};
use crate::push::RefUpdate;
use crate::shared::Shared;
use crate::state::{PullError, PullRequest, PullState, RepositoryIds, Side};

/// What is asked for when one is opened.
#[derive(Clone, Debug)]
pub(crate) struct NewPull {
    pub(crate) title: String,
    pub(crate) body: Option<String>,
    pub(crate) draft: bool,
    /// `branch` or `owner:branch`.
    pub(crate) head: String,
    /// The name of the head's repository, if it is not that of the base.
    pub(crate) head_repository: Option<String>,
    /// A branch.
    pub(crate) base: String,
}

/// Why something is not done with a pull request.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is none, or no repository.
    NotFound,
    /// GitHub's words for what is wrong with the request.
    Invalid(String),
    /// It cannot be merged now.
    NotMergeable(&'static str),
    /// A repository cannot be read.
    Git(GitError),
}

impl From<GitError> for Refused {
    fn from(error: GitError) -> Self {
        Self::Git(error)
    }
}

/// Opens one, and starts its runs. Blocking.
pub(crate) fn open(
    shared: &Shared,
    ids: &RepositoryIds,
    new: NewPull,
    actor: &Actor,
) -> Result<PullRequest, Refused> {
    let _turn = shared.pulls_turn();
    let (head_ids, branch) = head_of(shared, ids, &new)?;
    let found = |ids: &RepositoryIds| shared.git.repository(&ids.name).ok_or(Refused::NotFound);
    let (repository, from) = (found(ids)?, found(&head_ids)?);
    let base_sha = base_of(&repository, &new.base)?;
    let number = shared.change(|state, _| state.pulls.reserve(ids.id));
    let head_ref = PullRequest::head_ref(number);
    let head_sha = repository.take(&from, &branch, &head_ref)?;
    let head_sha = head_sha.ok_or_else(|| invalid("head is invalid"))?;
    let refuse = |why: String| {
        repository.remove_ref(&head_ref)?;
        Err(Refused::Invalid(why))
    };
    if let Some(why) = why_not(&repository, (&new.base, &base_sha), (&branch, &head_sha))? {
        return refuse(why);
    }
    let now = shared.clock.now();
    let side = |repository: &RepositoryIds, branch: String, sha| Side {
        repository: repository.clone(),
        branch,
        sha,
    };
    let mut pull = PullRequest {
        id: 0,
        number,
        title: new.title,
        body: new.body,
        draft: new.draft,
        state: PullState::Open,
        actor: actor.name.clone(),
        head: side(&head_ids, branch, head_sha),
        base: side(ids, new.base, base_sha),
        merge_sha: None,
        created_at: now,
        updated_at: now,
    };
    pull.merge_sha = test_merge(&repository, &pull, now)?;
    let exists = exists(&pull);
    let opened = shared.change(|state, _| state.pulls.open(pull));
    let pull = match opened {
        Ok(pull) => pull,
        Err(error) => {
            repository.remove_ref(&PullRequest::merge_ref(number))?;
            return refuse(match error {
                PullError::Exists => exists,
                PullError::TooMany => "The hub holds too many pull requests".to_owned(),
            });
        }
    };
    shared.save_pulls();
    happened(shared, &repository, &pull, &Activity::Opened, actor)?;
    Ok(pull)
}

fn invalid(why: &str) -> Refused {
    Refused::Invalid(format!("Validation Failed: {why}"))
}

/// The commit of the branch that one is to go to.
fn base_of(repository: &Repository, branch: &str) -> Result<String, Refused> {
    let missing = || invalid("base is invalid");
    if !is_plain_ref(branch) {
        return Err(missing());
    }
    repository.resolve(&format!("refs/heads/{branch}"))?.ok_or_else(missing)
}

/// Why one branch cannot be asked to go to another.
fn why_not(
    repository: &Repository,
    (base, base_sha): (&str, &str),
    (head, head_sha): (&str, &str),
) -> Result<Option<String>, GitError> {
    if repository.merge_base(base_sha, head_sha)?.is_none() {
        return Ok(Some(format!("The {head} branch has no history in common with {base}")));
    }
    let is_in = repository.is_ancestor(head_sha, base_sha)?;
    Ok(is_in.then(|| format!("No commits between {base} and {head}")))
}

/// Why there cannot be two of the same branches.
fn exists(pull: &PullRequest) -> String {
    format!("A pull request already exists for {}.", pull.head.label())
}

/// Repository and branch of `branch` or `owner:branch`.
fn head_of(
    shared: &Shared,
    base: &RepositoryIds,
    new: &NewPull,
) -> Result<(RepositoryIds, String), Refused> {
    let (owner, branch) = match new.head.split_once(':') {
        Some((owner, branch)) => (owner, branch),
        None => (base.name.owner(), new.head.as_str()),
    };
    let name = new.head_repository.as_deref().unwrap_or(base.name.name());
    let name = RepoName::new(owner, name.rsplit('/').next().unwrap_or(name));
    let known = name.ok().and_then(|name| shared.look(|state| state.repositories.get(&name)));
    Ok((known.ok_or_else(|| invalid("head is invalid"))?, branch.to_owned()))
}

/// Makes the commit that would come of it, and has its ref name that; `None`, and no ref, if the two
/// do not go together.
fn test_merge(
    repository: &Repository,
    pull: &PullRequest,
    now: Timestamp,
) -> Result<Option<String>, GitError> {
    let (base, head) = (&pull.base.sha, &pull.head.sha);
    let name = PullRequest::merge_ref(pull.number);
    let merged = repository.merge(base, head, &format!("Merge {head} into {base}"), now)?;
    match &merged {
        Some(sha) => repository.set_ref(&name, sha)?,
        None => repository.remove_ref(&name)?,
    }
    Ok(merged)
}

/// One, and the repository that it is to go to.
fn find(
    shared: &Shared,
    ids: &RepositoryIds,
    number: u64,
) -> Result<(Repository, PullRequest), Refused> {
    let repository = shared.git.repository(&ids.name).ok_or(Refused::NotFound)?;
    let pull = shared.look(|state| state.pulls.get(ids.id, number).cloned());
    Ok((repository, pull.ok_or(Refused::NotFound)?))
}

/// Closes or opens one again, or changes its words or where it is to go. Blocking.
pub(crate) fn update(
    shared: &Shared,
    ids: &RepositoryIds,
    number: u64,
    change: Change,
    actor: &Actor,
) -> Result<PullRequest, Refused> {
    let _turn = shared.pulls_turn();
    let (repository, mut pull) = find(shared, ids, number)?;
    let (now, was) = (shared.clock.now(), pull.clone());
    pull.title = change.title.unwrap_or(pull.title);
    pull.body = change.body.or(pull.body);
    if let Some(base) = change.base.filter(|base| *base != pull.base.branch) {
        retarget(shared, &repository, &mut pull, base, now)?;
    }
    let activity = match (pull.state, change.open) {
        (PullState::Open, Some(false)) => {
            pull.state = PullState::Closed { at: now };
            Some(Activity::Closed)
        }
        (PullState::Closed { .. }, Some(true)) => {
            if shared.look(|state| state.pulls.is_taken(&pull)) {
                return Err(Refused::Invalid(exists(&pull)));
            }
            pull.state = PullState::Open;
            refresh(shared, &repository, &mut pull, now)?;
            Some(Activity::Reopened)
        }
        (PullState::Merged { .. }, Some(true)) => return Err(invalid("it is merged")),
        _ => None,
    };
    pull.updated_at = now;
    keep(shared, &pull);
    let edited = Changes::between(&was, &pull).map(Activity::Edited);
    for activity in edited.into_iter().chain(activity) {
        happened(shared, &repository, &pull, &activity, actor)?;
    }
    Ok(pull)
}

/// What is to be changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) title: Option<String>,
    pub(crate) body: Option<String>,
    /// A branch.
    pub(crate) base: Option<String>,
    pub(crate) open: Option<bool>,
}

/// Has an open one go to another branch.
fn retarget(
    shared: &Shared,
    repository: &Repository,
    pull: &mut PullRequest,
    base: String,
    now: Timestamp,
) -> Result<(), Refused> {
    if !pull.is_open() {
        return Err(invalid("cannot change the base branch of a closed pull request"));
    }
    let sha = base_of(repository, &base)?;
    if let Some(why) = why_not(repository, (&base, &sha), (&pull.head.branch, &pull.head.sha))? {
        return Err(Refused::Invalid(why));
    }
    (pull.base.branch, pull.base.sha) = (base, sha);
    if shared.look(|state| state.pulls.is_taken(pull)) {
        return Err(Refused::Invalid(exists(pull)));
    }
    pull.merge_sha = test_merge(repository, pull, now)?;
    Ok(())
}

/// Merges one into its base, which is a push to that. Blocking. Gives the commit.
pub(crate) fn merge(
    shared: &Shared,
    ids: &RepositoryIds,
    number: u64,
    expected: Option<&str>,
    actor: &Actor,
) -> Result<String, Refused> {
    let (repository, pull, update) = merged(shared, ids, number, expected)?;
    let sha = update.after.clone().unwrap_or_default();
    crate::push::pushed(shared, ids, &[update], actor);
    happened(shared, &repository, &pull, &Activity::Closed, actor)?;
    Ok(sha)
}

/// Moves the base to the merge. Gives what moved.
fn merged(
    shared: &Shared,
    ids: &RepositoryIds,
    number: u64,
    expected: Option<&str>,
) -> Result<(Repository, PullRequest, RefUpdate), Refused> {
    let _turn = shared.pulls_turn();
    let (repository, mut pull) = find(shared, ids, number)?;
    if !pull.is_open() {
        return Err(Refused::NotMergeable("Pull Request is not open"));
    }
    let now = shared.clock.now();
    refresh(shared, &repository, &mut pull, now)?;
    if expected.is_some_and(|sha| sha != pull.head.sha) {
        return Err(Refused::NotMergeable(
            "Head branch was modified. Review and try the merge again.",
        ));
    }
    let message =
        format!("Merge pull request #{number} from {}\n\n{}", pull.head.label(), pull.title);
    let (before, head) = (pull.base.sha.clone(), pull.head.sha.clone());
    let merged = repository.merge(&before, &head, &message, now)?;
    let merged = merged.ok_or(Refused::NotMergeable("Pull Request is not mergeable"))?;
    let name = format!("refs/heads/{}", pull.base.branch);
    if !repository.move_ref(&name, &before, &merged)? {
        return Err(Refused::NotMergeable(
            "Base branch was modified. Review and try the merge again.",
        ));
    }
    // It is in, whatever its branch is pushed to from now on.
    pull.state = PullState::Merged { at: now };
    keep(shared, &pull);
    let update = RefUpdate { name, before: Some(before), after: Some(merged) };
    Ok((repository, pull, update))
}

/// Looks at both branches again.
fn refresh(
    shared: &Shared,
    repository: &Repository,
    pull: &mut PullRequest,
    now: Timestamp,
) -> Result<(), Refused> {
    let from = shared.git.repository(&pull.head.repository.name).ok_or(Refused::NotFound)?;
    let head = repository.take(&from, &pull.head.branch, &PullRequest::head_ref(pull.number))?;
    let base = repository.resolve(&format!("refs/heads/{}", pull.base.branch))?;
    let gone = || invalid("a branch is gone");
    pull.head.sha = head.ok_or_else(gone)?;
    pull.base.sha = base.ok_or_else(gone)?;
    pull.merge_sha = test_merge(repository, pull, now)?;
    pull.updated_at = now;
    Ok(())
}

fn keep(shared: &Shared, pull: &PullRequest) {
    shared.change(|state, _| state.pulls.put(pull.clone()));
    shared.save_pulls();
}
