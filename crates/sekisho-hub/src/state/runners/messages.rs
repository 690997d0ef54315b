//! What a runner is told: of a job that it may take, and that a job is to stop.
//!
//! What it is told follows from the state alone; what is kept here is what was told already, and what
//! a fault switch does with it.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::super::jobs::stop_within;
use super::super::{Phase, State};
use super::SessionError;

/// A message whose effect is not seen is sent again after this time: its answer was lost.
const REDELIVER_AFTER: SignedDuration = SignedDuration::from_secs(15);

/// What a runner is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// There is a job.
    Offer {
        /// Counts the runner's messages.
        id: i64,
        /// What to acquire.
        request: Uuid,
    },
    /// Stop the job.
    Cancellation {
        /// Counts the runner's messages.
        id: i64,
        /// The job.
        job: Uuid,
        /// How long the job may take to end.
        within: SignedDuration,
    },
}

/// Which message a fault switch has come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The runner's first: the offer of its job.
    First,
    /// The one that was sent last.
    Newest,
}

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Offer(Uuid),
    Cancellation(Uuid),
}

/// What a runner was told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    count: i64,
    /// When the newest message went out.
    sent: Option<(Sent, Timestamp)>,
    /// The first message and the newest, for fault switches.
    told: Option<(Message, Message)>,
    /// A message that is to come next, whatever has become of it.
    again: Option<Message>,
    /// The next message is put aside, until another has overtaken it.
    overtake: bool,
    aside: Option<Message>,
}

impl Telling {
    /// Notes that a message goes out now. `None`: it is put aside, or went out just before.
    fn send(
        &mut self,
        sent: Sent,
        now: Timestamp,
        message: impl FnOnce(i64) -> Message,
    ) -> Option<Message> {
        if let Some((before, at)) = self.sent
            && before == sent
            && now.duration_since(at) < REDELIVER_AFTER
        {
            return None;
        }
        self.sent = Some((sent, now));
        self.count += 1;
        let message = message(self.count);
        if std::mem::take(&mut self.overtake) {
            self.aside = Some(message);
            return None;
        }
        // What was overtaken comes after what overtook it.
        self.again = self.aside.take();
        let first = self.told.take().map_or_else(|| message.clone(), |(first, _)| first);
        self.told = Some((first, message.clone()));
        Some(message)
    }
}

impl State {
    /// What the runner is to be told now.
    pub(crate) fn next_message(
        &mut self,
        id: u64,
        session: Uuid,
        now: Timestamp,
    ) -> Result<Option<Message>, SessionError> {
        let runner = self.runners.get_mut(&id).ok_or(SessionError::RunnerNotFound)?;
        match &mut runner.session {
            Some(known) if known.id == session => known.last_seen = now,
            _ => return Err(SessionError::Invalid),
        }
        if let Some(message) = runner.telling.again.take() {
            return Ok(Some(message));
        }
        let Some((_, _, job, _)) = runner.job.and_then(|at| self.job(at)) else { return Ok(None) };
        let (guid, within) = (job.guid, stop_within(job.ready.as_deref()));
        let sent = match &job.phase {
            Phase::Offered { runner, request, .. } if *runner == id => Sent::Offer(*request),
            Phase::Running(running) if running.runner == id && running.stop_until.is_some() => {
                Sent::Cancellation(guid)
            }
            _ => return Ok(None),
        };
        let runner = self.runners.get_mut(&id).ok_or(SessionError::RunnerNotFound)?;
        Ok(runner.telling.send(sent, now, |id| match sent {
            Sent::Offer(request) => Message::Offer { id, request },
            Sent::Cancellation(job) => Message::Cancellation { id, job, within },
        }))
    }

    /// Has a runner told again what it was told before; nothing, if it was told nothing yet.
    pub(crate) fn repeat_message(&mut self, id: u64, which: Repeat) {
        let Some(runner) = self.runners.get_mut(&id) else { return };
        let told = runner.telling.told.clone();
        runner.telling.again = told.map(|(first, newest)| match which {
            Repeat::First => first,
            Repeat::Newest => newest,
        });
    }

    /// Has the next message to a runner come after the one behind it.
    pub(crate) fn overtake_message(&mut self, id: u64) {
        if let Some(runner) = self.runners.get_mut(&id) {
            runner.telling.overtake = true;
        }
    }

    /// Whether the offer still stands.
    pub(crate) fn acknowledge(&self, runner: u64, request: Uuid) -> bool {
        let job = self.runners.get(&runner).and_then(|runner| runner.job);
        let phase = job.and_then(|at| self.phase(at));
        matches!(phase, Some(Phase::Offered { request: offered, .. }) if *offered == request)
    }
}
