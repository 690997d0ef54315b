//! The life of a message session, decided: what to do next, from what was seen last.
//!
//! ```text
//!            ┌──── Conflict: remove our previous one, or wait; at most MAX_CONFLICTS times
//!            ▼   │
//!  Start ─▶ Create ─▶ Poll ─▶ Deliver ─▶ Poll …
//!            ▲         │ ▲
//!   Expired ─┘    401  ▼ │
//!                     Renew          trouble: the same again, later
//! ```
//!
//! Nothing here reads a clock, a socket or randomness: the jitter of a delay is given.

use std::time::Duration;

use crate::retry::Policy;

/// How often in a row a session may be somebody else's. With [`CONFLICT`], that is four minutes at
/// least: the service forgets a session that nobody polls in one to two.
pub const MAX_CONFLICTS: u32 = 24;
/// How often in a row a new queue token may be refused.
pub const MAX_RENEWALS: u32 = 3;
/// Delays between tries for a session that is somebody else's.
const CONFLICT: Policy =
    Policy { attempts: MAX_CONFLICTS, base: Duration::from_secs(5), cap: Duration::from_secs(20) };
/// Delays while the service cannot be used. There is no end of tries: a listener outlives an
/// outage of any length.
const TROUBLE: Policy =
    Policy { attempts: u32::MAX, base: Duration::from_millis(500), cap: Duration::from_secs(30) };
/// The longest wait that a service may ask for.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// Where a session is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// What is done when trouble is over.
    doing: Doing,
    /// The newest message that was seen; 0: none.
    cursor: i64,
    /// A session of an earlier process of ours may be in the way.
    previous: bool,
    conflicts: u32,
    renewals: u32,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Creating,
    RemovingPrevious,
    Polling,
    Renewing,
}

/// What came of the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A session stands.
    Created,
    /// The set's session is somebody else's (409).
    Conflict,
    /// Our previous session is gone, or was never there.
    PreviousRemoved,
    /// A message (200).
    Message {
        /// Its id.
        id: i64,
    },
    /// No message (202, or 200 with nothing in it).
    Nothing,
    /// There is a new queue token.
    Renewed,
    /// The queue token is refused (401).
    Unauthorized,
    /// The service does not know the session any more.
    Expired,
    /// The service does not know the set any more.
    SetGone,
    /// Asked too often (429, or 403 that says so).
    Throttled {
        /// How long to wait, where the service says.
        wait: Option<Duration>,
    },
    /// 5xx, a cut connection, no answer in time, an answer that makes no sense.
    Trouble,
    /// Any other status.
    Refused {
        /// The status.
        status: u16,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create a session.
    Create {
        /// After so long.
        wait: Duration,
    },
    /// Delete the session of an earlier process of ours.
    RemovePrevious {
        /// After so long.
        wait: Duration,
    },
    /// Ask for the oldest message after `cursor`.
    Poll {
        /// 0: from the beginning.
        cursor: i64,
        /// After so long.
        wait: Duration,
    },
    /// Give the message to the caller; then poll on.
    Deliver,
    /// Tell the caller that there is nothing; then poll on.
    Idle,
    /// Get a new queue token for the session.
    Renew {
        /// After so long.
        wait: Duration,
    },
    /// It is over.
    End(Ended),
}

/// Why a session is over for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Somebody else listens to the set.
    #[error("the scale set's session was somebody else's {tries} times in a row")]
    Conflict {
        /// How often it was tried.
        tries: u32,
    },
    /// New queue tokens are refused.
    #[error("the queue refused {tries} new tokens in a row")]
    Unauthorized {
        /// How many.
        tries: u32,
    },
    /// There is no such set.
    #[error("the scale set is not there any more")]
    SetGone,
    /// The service said no, and will say so again.
    #[error("the service refused with status {status}")]
    Refused {
        /// What it answered.
        status: u16,
    },
}

impl Life {
    /// A life that begins. `previous`: whether the id of a session of an earlier process is known.
    pub fn new(previous: bool) -> Self {
        Self { doing: Doing::Creating, cursor: 0, previous, conflicts: 0, renewals: 0, failures: 0 }
    }

    /// The newest message that was seen; 0: none.
    pub fn cursor(&self) -> i64 {
        self.cursor
    }

    /// How often in a row the service could not be used.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Has everything that was not deleted sent again.
    pub fn replay(&mut self) {
        self.cursor = 0;
    }

    /// What to do, now that the caller has had what was delivered.
    pub fn resume(&self) -> Step {
        self.again(Duration::ZERO)
    }

    fn again(&self, wait: Duration) -> Step {
        match self.doing {
            Doing::Creating => Step::Create { wait },
            Doing::RemovingPrevious => Step::RemovePrevious { wait },
            Doing::Polling => Step::Poll { cursor: self.cursor, wait },
            Doing::Renewing => Step::Renew { wait },
        }
    }

    fn doing(&mut self, doing: Doing) -> Step {
        self.doing = doing;
        self.again(Duration::ZERO)
    }
}

/// Decides. `jitter` is in `0.0..=1.0`.
pub fn decide(life: &Life, seen: &Seen, jitter: f64) -> (Life, Step) {
    let mut life = life.clone();
    let step = match seen {
        Seen::Created => {
            // The log belongs to the set: a new session sees all that was not deleted.
            life = Life::new(false);
            life.doing(Doing::Polling)
        }
        Seen::Conflict if life.previous => {
            life.previous = false;
            life.doing(Doing::RemovingPrevious)
        }
        Seen::Conflict => conflict(&mut life, jitter),
        Seen::PreviousRemoved => life.doing(Doing::Creating),
        Seen::Message { id } => {
            (life.failures, life.renewals) = (0, 0);
            life.cursor = life.cursor.max(*id);
            Step::Deliver
        }
        Seen::Nothing => {
            (life.failures, life.renewals) = (0, 0);
            Step::Idle
        }
        Seen::Renewed => {
            life.failures = 0;
            life.doing(Doing::Polling)
        }
        Seen::Unauthorized => {
            life.renewals += 1;
            if life.renewals > MAX_RENEWALS {
                Step::End(Ended::Unauthorized { tries: MAX_RENEWALS })
            } else {
                life.doing(Doing::Renewing)
            }
        }
        Seen::Expired => {
            life.failures = 0;
            life.doing(Doing::Creating)
        }
        Seen::SetGone => Step::End(Ended::SetGone),
        Seen::Throttled { wait } => {
            life.failures = life.failures.saturating_add(1);
            let own = TROUBLE.delay(life.failures, jitter);
            let asked = wait.unwrap_or_default().min(MAX_WAIT);
            life.again(own.max(asked))
        }
        Seen::Trouble => {
            life.failures = life.failures.saturating_add(1);
            life.again(TROUBLE.delay(life.failures, jitter))
        }
        Seen::Refused { status } => Step::End(Ended::Refused { status: *status }),
    };
    (life, step)
}

fn conflict(life: &mut Life, jitter: f64) -> Step {
    life.conflicts += 1;
    if life.conflicts >= MAX_CONFLICTS {
        return Step::End(Ended::Conflict { tries: MAX_CONFLICTS });
    }
    life.doing = Doing::Creating;
    Step::Create { wait: CONFLICT.delay(life.conflicts, jitter) }
}

#[cfg(test)]
mod tests;
