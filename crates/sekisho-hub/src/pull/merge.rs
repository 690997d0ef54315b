//! Pull requests that are merged.

use super::{Refused, find, happened, is_in, keep, refresh, turn};
use crate::event::{Activity, Actor};
use crate::git::Repository;
use crate::push::RefUpdate;
use crate::shared::Shared;
use crate::state::{PullRequest, RepositoryIds};

/// Merges one into its base, which is a push to that. Blocking. Gives the commit.
pub(crate) fn merge(
    shared: &Shared,
    ids: &RepositoryIds,
    number: u64,
    expected: Option<&str>,
    actor: &Actor,
) -> Result<String, Refused> {
    let (repository, pull, update) = merged(shared, ids, number, expected, actor)?;
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
    actor: &Actor,
) -> Result<(Repository, PullRequest, RefUpdate), Refused> {
    let lock = shared.pull_lock(ids.id);
    let _turn = turn(&lock);
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
    if actor.is_job
        && let Some(path) = repository.new_workflow(&before, &merged)?
    {
        let why = format!("the token of a job may not create or update the workflow {path}");
        return Err(Refused::Forbidden(why));
    }
    let name = format!("refs/heads/{}", pull.base.branch);
    if !repository.move_ref(&name, &before, &merged)? {
        return Err(Refused::NotMergeable(
            "Base branch was modified. Review and try the merge again.",
        ));
    }
    // It is in, whatever its branch is pushed to from now on.
    is_in(&repository, &mut pull, &merged, now)?;
    keep(shared, &repository, &pull)?;
    let update = RefUpdate { name, before: Some(before), after: Some(merged) };
    Ok((repository, pull, update))
}
