//! Pull requests that are opened.

use super::{
    Refused, base_of, catch_up, exists, forget_refs, happened, invalid, room, test_merge, turn,
    why_not,
};
use crate::event::{Activity, Actor};
use crate::git::Repository;
use crate::names::RepoName;
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

/// Opens one, and starts its runs. Blocking. `may_read`: whether who asks may read a repository.
pub(crate) fn open(
    shared: &Shared,
    ids: &RepositoryIds,
    new: NewPull,
    actor: &Actor,
    may_read: impl Fn(&RepoName) -> bool,
) -> Result<PullRequest, Refused> {
    let lock = shared.pull_lock(ids.id);
    let _turn = turn(&lock);
    let (head_ids, branch) = head_of(shared, ids, &new, may_read)?;
    let found = |ids: &RepositoryIds| shared.git.repository(&ids.name).ok_or(Refused::NotFound);
    let (repository, from) = (found(ids)?, found(&head_ids)?);
    let base_sha = base_of(&repository, &new.base)?;
    let number = shared.change(|state, _| state.pulls.reserve(ids.id));
    let head_ref = PullRequest::head_ref(number);
    let head_sha = repository.take(&from, &branch, &head_ref)?;
    let head_sha = head_sha.ok_or_else(|| invalid("head is invalid"))?;
    let (base, head) = (side(ids, new.base, base_sha), side(&head_ids, branch, head_sha));
    let now = shared.clock.now();
    let pull = PullRequest {
        id: 0,
        number,
        title: new.title,
        body: new.body,
        draft: new.draft,
        state: PullState::Open,
        actor: actor.name.clone(),
        head,
        base,
        merge_sha: None,
        created_at: now,
        updated_at: now,
    };
    let mut pull = match put(shared, &repository, pull) {
        Ok(pull) => pull,
        Err(why) => {
            forget_refs(&repository, number)?;
            return Err(why);
        }
    };
    shared.save_pulls();
    catch_up(shared, &repository, &mut pull, now)?;
    happened(shared, &repository, &pull, &Activity::Opened, actor)?;
    Ok(pull)
}

fn side(repository: &RepositoryIds, branch: String, sha: String) -> Side {
    Side { repository: repository.clone(), branch, sha }
}

/// Has one among the others, if it may be there; room is made for it, if there is none.
fn put(
    shared: &Shared,
    repository: &Repository,
    mut pull: PullRequest,
) -> Result<PullRequest, Refused> {
    let (base, head) = (&pull.base, &pull.head);
    let why = why_not(repository, (&base.branch, &base.sha), (&head.branch, &head.sha))?;
    if let Some(why) = why {
        return Err(Refused::Invalid(why));
    }
    pull.merge_sha = test_merge(repository, &pull, pull.created_at)?;
    let (text, own) = (pull.text(), (pull.base.repository.id, pull.number));
    loop {
        match shared.change(|state, _| state.pulls.open(pull.clone())) {
            Ok(pull) => return Ok(pull),
            Err(PullError::Exists) => return Err(Refused::Invalid(exists(&pull))),
            // Another may take the room that was made for this one.
            Err(PullError::Full) => room::make(shared, own, 1, text)?,
        }
    }
}

/// Repository and branch of `branch` or `owner:branch`.
fn head_of(
    shared: &Shared,
    base: &RepositoryIds,
    new: &NewPull,
    may_read: impl Fn(&RepoName) -> bool,
) -> Result<(RepositoryIds, String), Refused> {
    let (owner, branch) = match new.head.split_once(':') {
        Some((owner, branch)) => (owner, branch),
        None => (base.name.owner(), new.head.as_str()),
    };
    let name = new.head_repository.as_deref().unwrap_or(base.name.name());
    let name = RepoName::new(owner, name.rsplit('/').next().unwrap_or(name));
    // What it brings is copied into the base: who may not read it there does not get it here, nor is
    // told that it is there.
    let name = name.ok().filter(|name| name.key() == base.name.key() || may_read(name));
    let known = name.and_then(|name| shared.look(|state| state.repositories.get(&name)));
    Ok((known.ok_or_else(|| invalid("head is invalid"))?, branch.to_owned()))
}
