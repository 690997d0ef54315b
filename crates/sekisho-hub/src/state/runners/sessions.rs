//! Sessions: a runner that listens, and one that does not any more.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::super::State;

/// A session that was not heard of for so long may be replaced: four polls were missed.
const SESSION_SILENCE: SignedDuration = SignedDuration::from_mins(4);

/// A runner that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(super) id: Uuid,
    pub(super) last_seen: Timestamp,
}

/// Why a session cannot be had or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionError {
    /// The registration is gone.
    RunnerNotFound,
    /// Another process listens as this runner.
    Conflict,
    /// The session is not the runner's.
    Invalid,
}

impl State {
    /// The runner begins to listen: it may be offered a job at once.
    pub(crate) fn open_session(
        &mut self,
        runner: u64,
        session: Uuid,
        os: &str,
        now: Timestamp,
    ) -> Result<(), SessionError> {
        let runner = self.runners.get_mut(&runner).ok_or(SessionError::RunnerNotFound)?;
        let alive = |session: &Session| now.duration_since(session.last_seen) < SESSION_SILENCE;
        if runner.session.as_ref().is_some_and(alive) {
            return Err(SessionError::Conflict);
        }
        runner.session = Some(Session { id: session, last_seen: now });
        os.clone_into(&mut runner.os);
        self.touch_queue();
        self.offer_jobs(now);
        Ok(())
    }

    /// A runner that was registered with a token has not done what it should: it is not listened to, until
    /// it opens a session again. One that was made just in time goes by other ways.
    pub(crate) fn end_kept_session(&mut self, id: u64) {
        if let Some(runner) = self.runners.get_mut(&id).filter(|runner| runner.life.is_kept()) {
            runner.session = None;
            self.touch_queue();
        }
    }

    /// The runner stops listening. Its job, if it has one, goes on.
    pub(crate) fn close_session(&mut self, id: u64, now: Timestamp) {
        let Some(runner) = self.runners.get_mut(&id) else { return };
        runner.session = None;
        let job = runner.job;
        self.touch_queue();
        if let Some(at) = job {
            self.withdraw_offer(at, id, now);
        }
    }
}
