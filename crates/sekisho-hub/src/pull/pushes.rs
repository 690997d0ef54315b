//! Pull requests whose branches are pushed to.

use sekisho_github::hub_api::Pushed;

use super::runs::happened;
use super::{Refused, find, is_in, keep, refresh, turn};
use crate::event::{Activity, Actor};
use crate::push::{RefUpdate, tell};
use crate::shared::Shared;
use crate::state::{PullRequest, PullState, RepositoryIds};

/// Brings the pull requests up to date that a push is about, and starts their runs. Blocking. Gives
/// what to tell the pusher.
pub(crate) fn pushed(
    shared: &Shared,
    ids: &RepositoryIds,
    updates: &[RefUpdate],
    actor: &Actor,
) -> Vec<String> {
    let mut messages = Vec::new();
    for update in updates {
        let Some(branch) = update.name.strip_prefix("refs/heads/") else { continue };
        // Whoever is opening one looks at its branches once more when it can be found here.
        for pull in shared.look(|state| state.pulls.about(ids.id, branch)) {
            let number = pull.number;
            match moved(shared, (ids, branch), update, &pull, actor) {
                Ok(outcome) => messages.extend(tell(&outcome)),
                Err(error) => {
                    tracing::error!("pull request {number} is not brought up to date: {error:?}");
                    messages
                        .push(format!("error: pull request {number} is not brought up to date"));
                }
            }
        }
    }
    messages
}

/// One of the branches of a pull request was pushed to, or is gone.
fn moved(
    shared: &Shared,
    (ids, branch): (&RepositoryIds, &str),
    update: &RefUpdate,
    known: &PullRequest,
    actor: &Actor,
) -> Result<Pushed, Refused> {
    let base = &known.base.repository;
    let lock = shared.pull_lock(base.id);
    let _turn = turn(&lock);
    // Whoever had the turn before may have changed it.
    let (repository, mut pull) = match find(shared, base, known.number) {
        Err(Refused::NotFound) => return Ok(Pushed::default()),
        found => found?,
    };
    if !pull.is_about(ids.id, branch) {
        return Ok(Pushed::default());
    }
    let now = shared.clock.now();
    let before = pull.head.sha.clone();
    let is_head = pull.head.is_branch(ids.id, branch);
    let activity = match &update.after {
        None => {
            pull.state = PullState::Closed { at: now };
            Activity::Closed
        }
        Some(after) if !is_head => {
            if !repository.is_ancestor(&pull.head.sha, after)? {
                return Ok(Pushed::default());
            }
            is_in(&repository, &mut pull, after, now)?;
            Activity::Closed
        }
        // Whoever changed it meanwhile has seen this push already.
        Some(after) if *after == pull.head.sha => return Ok(Pushed::default()),
        Some(_) => {
            refresh(shared, &repository, &mut pull, now)?;
            Activity::Synchronize { before }
        }
    };
    pull.updated_at = now;
    keep(shared, &repository, &pull)?;
    Ok(happened(shared, &repository, &pull, &activity, actor)?)
}
