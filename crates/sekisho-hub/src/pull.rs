//! Pull requests: opened, brought up to date by pushes, closed; and the runs that come of it.
//!
//! | event | ref of its runs | workflow and commit | token |
//! |---|---|---|---|
//! | `pull_request` | `refs/pull/N/merge` | of the test merge | reads, and has no identity, if it is of a fork |
//! | `pull_request_target` | the base branch | of the base branch | as the workflow says |
//!
//! One that does not go together with its base starts no `pull_request`. Source: protocol reference
//! 6.3, 6.4.

mod merge;
mod open;
mod pushes;
mod room;
mod runs;

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use jiff::Timestamp;

pub(crate) use self::merge::merge;
pub(crate) use self::open::{NewPull, open};
pub(crate) use self::pushes::pushed;
use self::runs::happened;
use crate::event::{Activity, Actor, Changes};
use crate::git::{GitError, Repository};
use crate::names::is_plain_ref;
use crate::shared::Shared;
use crate::state::{PullRequest, PullState, RepositoryIds};

/// Why something is not done with a pull request.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is none, or no repository.
    NotFound,
    /// GitHub's words for what is wrong with the request.
    Invalid(String),
    /// It cannot be merged now.
    NotMergeable(&'static str),
    /// Whoever asks may not do it.
    Forbidden(String),
    /// Somebody else is at work where it would be done.
    Busy,
    /// A repository cannot be read.
    Git(GitError),
}

impl From<GitError> for Refused {
    fn from(error: GitError) -> Self {
        Self::Git(error)
    }
}

/// One after the other, for the pull requests to one repository.
fn turn(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    // Whoever panicked has written down what he did, or nothing.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same, but nobody is waited for. `None`: somebody has it.
fn try_turn(lock: &Mutex<()>) -> Option<MutexGuard<'_, ()>> {
    match lock.try_lock() {
        Ok(turn) => Some(turn),
        Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
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
    let lock = shared.pull_lock(ids.id);
    let _turn = turn(&lock);
    let (repository, mut pull) = find(shared, ids, number)?;
    let (now, was) = (shared.clock.now(), pull.clone());
    pull.title = change.title.unwrap_or(pull.title);
    pull.body = change.body.or(pull.body);
    match change.base.filter(|base| *base != pull.base.branch) {
        Some(base) => retarget(shared, &repository, &mut pull, base, now)?,
        None => {
            freshen(&repository, &mut pull, now)?;
        }
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
    if pull.text() > was.text() {
        room::make(shared, (ids.id, number), 0, pull.text() - was.text())?;
    }
    pull.updated_at = now;
    keep(shared, &repository, &pull)?;
    if activity == Some(Activity::Reopened) {
        catch_up(shared, &repository, &mut pull, now)?;
    }
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

/// The commit that an open one's base is at now, if it is another.
fn moved_base(repository: &Repository, pull: &PullRequest) -> Result<Option<String>, GitError> {
    if !pull.is_open() {
        return Ok(None);
    }
    let tip = repository.resolve(&format!("refs/heads/{}", pull.base.branch))?;
    Ok(tip.filter(|tip| *tip != pull.base.sha))
}

/// Looks at an open one's base again: whether the two go together is another matter when that has gone on.
/// False if it is as it was.
fn freshen(
    repository: &Repository,
    pull: &mut PullRequest,
    now: Timestamp,
) -> Result<bool, GitError> {
    let Some(tip) = moved_base(repository, pull)? else { return Ok(false) };
    pull.base.sha = tip;
    pull.merge_sha = test_merge(repository, pull, now)?;
    Ok(true)
}

/// One, as it is now; and whether it is known if the two go together, which it is not while somebody else
/// is at work in the repository. Blocking, but nobody is waited for.
pub(crate) fn seen(
    shared: &Shared,
    ids: &RepositoryIds,
    number: u64,
) -> Result<(PullRequest, bool), Refused> {
    let (repository, pull) = find(shared, ids, number)?;
    if moved_base(&repository, &pull)?.is_none() {
        return Ok((pull, true));
    }
    let lock = shared.pull_lock(ids.id);
    let Some(_turn) = try_turn(&lock) else { return Ok((pull, false)) };
    let (repository, mut pull) = find(shared, ids, number)?;
    if freshen(&repository, &mut pull, shared.clock.now())? {
        keep(shared, &repository, &pull)?;
    }
    Ok((pull, true))
}

/// Looks at the head of one that is open from now on once more: a push that came since it was looked at
/// has found no open one to bring up to date. Any later push finds it.
fn catch_up(
    shared: &Shared,
    repository: &Repository,
    pull: &mut PullRequest,
    now: Timestamp,
) -> Result<(), Refused> {
    let from = shared.git.repository(&pull.head.repository.name).ok_or(Refused::NotFound)?;
    match from.resolve(&format!("refs/heads/{}", pull.head.branch))? {
        Some(tip) if tip == pull.head.sha => return Ok(()),
        Some(_) => refresh(shared, repository, pull, now)?,
        None => pull.state = PullState::Closed { at: now },
    }
    keep(shared, repository, pull)
}

/// Its base has it from this commit on.
fn is_in(
    repository: &Repository,
    pull: &mut PullRequest,
    commit: &str,
    now: Timestamp,
) -> Result<(), GitError> {
    pull.state = PullState::Merged { at: now };
    pull.merge_sha = Some(commit.to_owned());
    repository.set_ref(&PullRequest::merge_ref(pull.number), commit)
}

/// Writes one down. It may have had to make room for another.
fn keep(shared: &Shared, repository: &Repository, pull: &PullRequest) -> Result<(), Refused> {
    if !shared.change(|state, _| state.pulls.put(pull.clone())) {
        forget_refs(repository, pull.number)?;
        return Err(Refused::NotFound);
    }
    shared.save_pulls();
    Ok(())
}

/// Removes the refs of one.
fn forget_refs(repository: &Repository, number: u64) -> Result<(), GitError> {
    repository.remove_ref(&PullRequest::merge_ref(number))?;
    repository.remove_ref(&PullRequest::head_ref(number))
}
