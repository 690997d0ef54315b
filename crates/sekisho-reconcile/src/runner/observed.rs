//! What follows from an observation of a runner, before anything is decided.

use std::time::Duration;

use sekisho_api::condition::Truth;
use sekisho_api::{JobResult, Reason};

use super::{
    ABSENT_SWEEPS, AtGitHub, Container, Effect, Job, Observed, Pod, PodRecord, Record,
    Registration, secs,
};
use crate::At;
use crate::failure::Trouble;

impl Observed {
    /// The uid of the pod that this runner is bound to, if it is bound to one. A container starts with
    /// the secret of its name, whichever pod that was made for: so a pod that started has it.
    pub(super) fn bound(&self) -> Option<&str> {
        if let Some(pod) = &self.record.pod {
            return Some(pod.uid.as_str());
        }
        let secret = self.secret.as_ref()?;
        let started = |pod: &&Pod| pod.ours && pod.runner != Container::Waiting;
        let pod = self.pod.as_ref().filter(started).map(|pod| pod.uid.as_str());
        Some(pod.unwrap_or(secret.pod_uid.as_str()))
    }

    /// GitHub's number of the registration, where it is known.
    pub(super) fn registration(&self) -> Option<i64> {
        self.record.registration.or_else(|| self.secret.as_ref().map(|secret| secret.registration))
    }

    /// A registration was made, as far as the cluster knows.
    pub(super) fn registered(&self) -> bool {
        self.registration().is_some()
    }

    /// GitHub said that there is no registration, and said so since its container runs: before that
    /// a second controller may have made one.
    pub(super) fn is_absent(&self) -> bool {
        let running = match self.pod.as_ref().map(|pod| pod.runner) {
            Some(Container::Running { since }) => Some(since),
            _ => None,
        };
        let absent = |at: &AtGitHub| matches!(at.seen, Registration::Absent { .. });
        self.github.filter(absent).is_some_and(|at| running.is_none_or(|since| at.at >= since))
    }

    pub(super) fn is_absent_for_good(&self) -> bool {
        let gone =
            |seen| matches!(seen, Registration::Absent { sweeps } if sweeps >= ABSENT_SWEEPS);
        self.github.is_some_and(|at| gone(at.seen))
    }

    /// What is known of the job's end.
    pub(super) fn concluded(&self) -> Option<JobResult> {
        let recorded = self.record.job.as_ref().and_then(|job| job.result);
        recorded.or(self.fate.and_then(|fate| fate.result))
    }

    /// GitHub says that it has a job.
    pub(super) fn is_busy(&self) -> bool {
        let busy = |seen| matches!(seen, Registration::Present { busy: true, .. });
        self.github.is_some_and(|at| busy(at.seen))
    }

    pub(super) fn is_online(&self) -> bool {
        let online = |seen| matches!(seen, Registration::Present { online: true, .. });
        self.github.is_some_and(|at| online(at.seen))
    }

    /// How long until GitHub may be asked again.
    pub(super) fn ask_in(&self, every: Duration) -> Duration {
        self.github.map_or(Duration::ZERO, |at| self.now.until(at.at + every))
    }

    /// The job has no result yet.
    pub(super) fn open_job(&self) -> Option<&Job> {
        self.record.job.as_ref().filter(|job| job.result.is_none())
    }

    /// As far as the cluster has it written down, it has a job, whether that is known or not.
    pub(super) fn noted_busy(&self) -> bool {
        let busy = matches!(self.record.state, Reason::Busy | Reason::Interrupted);
        self.open_job().is_some() || (busy && self.record.job.is_none())
    }

    /// The time for what is left since `start` is over. After an outage of ours it may be over before
    /// anything was tried: then it is tried once.
    pub(super) fn is_late(&self, start: At) -> bool {
        let timeout = secs(u64::from(self.lifecycle.deletion_timeout_seconds));
        let tried = self.is_absent() || self.trouble.is_some();
        self.now.is_past(start, timeout) && tried
    }

    /// An effect that failed waits for its next attempt.
    pub(super) fn held(&self) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|trouble| trouble.holds(self.now))
    }

    /// The status that says how it ended.
    pub(super) fn end(&self, reason: Reason, message: impl Into<String>) -> Effect {
        let mut record = self.noted(reason, message);
        (record.truth, record.ended) = (Truth::False, Some(self.now));
        Effect::WriteStatus(Box::new(record))
    }

    /// The status with another state, and all that is known now.
    pub(super) fn noted(&self, state: Reason, message: impl Into<String>) -> Record {
        let mut record = self.record.clone();
        (record.state, record.message) = (state, message.into());
        record.registration = self.registration();
        if let Some(pod) = self.pod.as_ref().filter(|pod| pod.ours && record.may_be(pod)) {
            record.pod = Some(PodRecord { uid: pod.uid.clone(), node: pod.node.clone() });
            record.pod_created = Some(pod.created);
        } else if record.pod.is_none() {
            let uid = self.secret.as_ref().map(|secret| secret.pod_uid.clone());
            record.pod = uid.map(|uid| PodRecord { uid, node: None });
        }
        record
    }
}
