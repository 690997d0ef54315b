//! Cancelling a job: first politely, then with no time left.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::plan::must_stop;

/// Two levels of stopping, shared by everything that runs for a job.
///
/// *Cancelled*: the running step is stopped unless its condition still holds, and the rest are
/// gated with `cancelled()` true. *Out of time*: whatever runs is killed, nothing starts.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    cancelled: CancellationToken,
    out_of_time: CancellationToken,
}

impl Stop {
    /// Nothing is cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels the job; a second call means that there is no time left.
    pub fn cancel(&self) {
        if self.cancelled.is_cancelled() {
            self.out_of_time.cancel();
        }
        self.cancelled.cancel();
    }

    /// Cancels the job, and says that there is no time left.
    pub fn cancel_now(&self) {
        self.cancelled.cancel();
        self.out_of_time.cancel();
    }

    /// Cancels the job politely now, and without mercy when `time` is over.
    pub fn cancel_within(&self, time: Duration) {
        self.cancelled.cancel();
        let stop = self.clone();
        // It ends with the job's time, however that ends, or with the process.
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(time) => stop.cancel_now(),
                () = stop.out_of_time() => {}
            }
        });
    }

    /// Does something at the job's end: to its end, or for `rest` more once there is no time left.
    pub(crate) async fn hurry<T>(
        &self,
        rest: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = async {
                self.out_of_time().await;
                tokio::time::sleep(rest).await;
            } => None,
        }
    }

    /// Whether the job is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Whether there is no time left.
    pub fn is_out_of_time(&self) -> bool {
        self.out_of_time.is_cancelled()
    }

    /// Waits until the job is cancelled. Cancel-safe.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Waits until there is no time left. Cancel-safe.
    pub async fn out_of_time(&self) {
        self.out_of_time.cancelled().await;
    }
}

/// Why a running step is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The job is cancelled.
    Cancelled,
    /// `timeout-minutes` is over.
    TimedOut,
    /// There is no time left, even for the polite signals.
    OutOfTime,
}

/// When a step must stop.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    pub(crate) stop: Stop,
    /// The step's condition holds in a cancelled job too.
    pub(crate) also_if_cancelled: bool,
    pub(crate) deadline: Option<Instant>,
}

impl Interrupt {
    /// The cause, if the step must stop now.
    pub(crate) fn cause(&self) -> Option<Cause> {
        let (cancelled, out_of_time) = (self.stop.is_cancelled(), self.stop.is_out_of_time());
        if must_stop(cancelled, out_of_time, self.also_if_cancelled) {
            Some(if out_of_time { Cause::OutOfTime } else { Cause::Cancelled })
        } else if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            Some(Cause::TimedOut)
        } else {
            None
        }
    }

    /// Waits until the step must stop. Cancel-safe: it only waits for levels.
    pub(crate) async fn wait(&self) -> Cause {
        loop {
            if let Some(cause) = self.cause() {
                return cause;
            }
            let deadline = async {
                match self.deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let cancelled = async {
                if self.also_if_cancelled {
                    std::future::pending::<()>().await;
                }
                self.stop.cancelled().await;
            };
            tokio::select! {
                () = self.stop.out_of_time() => {}
                () = cancelled => {}
                () = deadline => {}
            }
        }
    }

    /// The same with an earlier end.
    pub(crate) fn within(&self, timeout: Option<Duration>) -> Self {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let deadline = match (self.deadline, deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self { deadline, ..self.clone() }
    }
}
