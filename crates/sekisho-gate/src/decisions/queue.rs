//! Decisions that wait to be written: whoever finds nobody at it writes for all who wait, so that many
//! need one sync and not one each.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use sekisho_store::Batch;

use super::{Decision, Draft};

type Answer = OnceLock<Result<Decision, (io::ErrorKind, String)>>;

/// Whoever waits for an answer; it comes in any case.
pub(super) struct Asker(Arc<Answer>);

impl Asker {
    /// Answers; the first answer counts.
    pub(super) fn answer(self, result: io::Result<Decision>) {
        let _ = self.0.set(result.map_err(|error| (error.kind(), error.to_string())));
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.0.set(Err((io::ErrorKind::Other, "the decision was not written".to_owned())));
    }
}

/// A decision that is to be written.
pub(super) struct Waiting {
    pub(super) draft: Draft,
    /// What it rests on, to be there before it is.
    pub(super) evidence: Batch,
    pub(super) asker: Asker,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    is_writing: bool,
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

/// Whose turn it is; over when this is dropped.
struct Turn<'a>(&'a Queue);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().is_writing = false;
        self.0.changed.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a decision is written, by `write` here or in another thread, which answers all it is
    /// given in order. Blocks.
    pub(super) fn write(
        &self,
        draft: Draft,
        evidence: Batch,
        write: impl Fn(Vec<Waiting>),
    ) -> io::Result<Decision> {
        let answer = Arc::new(Answer::new());
        let asker = Asker(Arc::clone(&answer));
        let mut state = self.lock();
        state.waiting.push(Waiting { draft, evidence, asker });
        loop {
            if let Some(answer) = answer.get() {
                return answer.clone().map_err(|(kind, message)| io::Error::new(kind, message));
            }
            if state.is_writing {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.is_writing = true;
            let waiting = std::mem::take(&mut state.waiting);
            drop(state);
            let turn = Turn(self);
            write(waiting);
            drop(turn);
            state = self.lock();
        }
    }
}
