//! Room for pull requests: those that were closed first go.

use super::{Refused, forget_refs, try_turn};
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
    // None goes for nothing.
    if !shared.look(|state| state.pulls.can_have_room(own, more, text)) {
        let counts = shared.look(|state| state.pulls.can_have_room(own, more, 0));
        return Err(Refused::Invalid(if counts {
            format!(
                "Validation Failed: title and body: the open pull requests of the hub hold at most \
                 {MAX_TEXT} bytes of text"
            )
        } else {
            format!(
                "Validation Failed: the hub holds {MAX_PULLS} pull requests, and all are open: close one \
                 first"
            )
        }));
    }
    for key in shared.look(|state| state.pulls.closed()) {
        if shared.look(|state| state.pulls.has_room(more, text)) {
            break;
        }
        if key != own {
            remove(shared, own.0, key)?;
        }
    }
    let has_room = shared.look(|state| state.pulls.has_room(more, text));
    has_room.then_some(()).ok_or(Refused::Busy)
}

/// Removes a closed one: its refs, then what is known of it, so that none of its refs is left behind. It stays
/// if somebody is at work in its repository.
fn remove(shared: &Shared, held: u64, (repository, number): (u64, u64)) -> Result<(), Refused> {
    let lock = shared.pull_lock(repository);
    // Not waited for: whoever has it may wait for ours.
    let turn = try_turn(&lock);
    if turn.is_none() && repository != held {
        return Ok(());
    }
    let is_closed = shared
        .look(|state| state.pulls.get(repository, number).is_some_and(|pull| !pull.is_open()));
    if !is_closed {
        return Ok(());
    }
    let ids = shared.look(|state| state.repositories.by_id(repository));
    if let Some(found) = ids.and_then(|ids| shared.git.repository(&ids.name)) {
        forget_refs(&found, number)?;
    }
    shared.change(|state, _| state.pulls.forget(repository, number));
    shared.save_pulls();
    Ok(())
}
