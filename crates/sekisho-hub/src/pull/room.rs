//! Room for pull requests: those that were closed first go.

use std::sync::TryLockError;

use super::{Refused, forget_refs};
use crate::shared::Shared;
use crate::state::{MAX_PULLS, MAX_TEXT};

/// Makes room for so many more pull requests, and so many bytes of text, of one whose repository's lock the
/// caller has. An open one never goes, nor does `own` itself.
pub(super) fn make(
    shared: &Shared,
    own: (u64, u64),
    more: usize,
    text: usize,
) -> Result<(), Refused> {
    let mut busy = false;
    for key in shared.look(|state| state.pulls.closed()) {
        if shared.look(|state| state.pulls.has_room(more, text)) {
            break;
        }
        if key != own {
            busy |= !remove(shared, own.0, key)?;
        }
    }
    if shared.look(|state| state.pulls.has_room(more, text)) {
        return Ok(());
    }
    if busy {
        return Err(Refused::Busy);
    }
    let room = shared.look(|state| state.pulls.has_room(more, 0));
    Err(Refused::Invalid(if room {
        format!(
            "Validation Failed: title and body: the pull requests of the hub hold {MAX_TEXT} bytes of \
             text, and no more"
        )
    } else {
        format!(
            "Validation Failed: the hub holds {MAX_PULLS} pull requests, and all are open: close one first"
        )
    }))
}

/// Removes a closed one: its refs, then what is known of it, so that none of its refs is left behind. False
/// if somebody is at work in its repository.
fn remove(shared: &Shared, held: u64, (repository, number): (u64, u64)) -> Result<bool, Refused> {
    let lock = shared.pull_lock(repository);
    // Not waited for: whoever has it may wait for ours.
    let _turn = match lock.try_lock() {
        Ok(turn) => Some(turn),
        Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
        Err(TryLockError::WouldBlock) if repository == held => None,
        Err(TryLockError::WouldBlock) => return Ok(false),
    };
    let is_closed = shared.look(|state| state.pulls.closed().contains(&(repository, number)));
    if !is_closed {
        return Ok(true);
    }
    let ids = shared.look(|state| state.repositories.by_id(repository));
    if let Some(found) = ids.and_then(|ids| shared.git.repository(&ids.name)) {
        forget_refs(&found, number)?;
    }
    shared.change(|state, _| state.pulls.forget(repository, number));
    shared.save_pulls();
    Ok(true)
}
