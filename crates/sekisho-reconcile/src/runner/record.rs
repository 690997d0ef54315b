//! What is written down of a runner, and how messages about its job change it.

use sekisho_api::condition::{self, Time, Truth};
use sekisho_api::{JobResult, Reason, RunnerStatus};

use super::Pod;
use crate::At;

/// The status of a Runner, whole. Two write it: its own reconciler, and who reads GitHub's messages;
/// both with the resourceVersion that they read, so that neither undoes what the other wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The reason of the condition `Succeeded`; [`Reason::Pending`] where there is none yet.
    pub state: Reason,
    /// Its status: `Unknown` while it lives.
    pub truth: Truth,
    /// Its message.
    pub message: String,
    /// GitHub's number of the registration.
    pub registration: Option<i64>,
    /// The pod that the runner is bound to.
    pub pod: Option<PodRecord>,
    /// Its job.
    pub job: Option<Job>,
    /// `timeline.podCreated`.
    pub pod_created: Option<At>,
    /// `timeline.online`: GitHub saw the runner. From then on there is no secret, for ever.
    pub online: Option<At>,
    /// `timeline.ended`.
    pub ended: Option<At>,
}

/// A pod that a runner is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRecord {
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.nodeName`.
    pub node: Option<String>,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// GitHub's name of it: a number or a UUID.
    pub id: String,
    /// The workflow run.
    pub run_id: i64,
    /// `owner/name`.
    pub repository: String,
    /// What GitHub's page calls it.
    pub display_name: String,
    /// File and ref of the workflow.
    pub workflow_ref: Option<String>,
    /// When it started.
    pub started: Option<At>,
    /// When it ended.
    pub completed: Option<At>,
    /// How it ended.
    pub result: Option<JobResult>,
}

#[cfg(test)]
impl Job {
    /// A job of tests that has no result yet.
    pub(crate) fn example() -> Self {
        Self {
            id: "5".to_owned(),
            run_id: 9,
            repository: "acme/app".to_owned(),
            display_name: "build".to_owned(),
            workflow_ref: None,
            started: None,
            completed: None,
            result: None,
        }
    }
}

/// How the end of a job is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The Runner is deleted: its job has a result at GitHub, and nothing is left to tell of it.
    Delete,
    /// The result is written on the Runner, which is kept for another reason.
    Write(Box<Record>),
    /// It was recorded before, or is about another job.
    Nothing,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            state: Reason::Pending,
            truth: Truth::Unknown,
            message: String::new(),
            registration: None,
            pod: None,
            job: None,
            pod_created: None,
            online: None,
            ended: None,
        }
    }
}

impl Record {
    /// What the status of a Runner says.
    pub fn of(status: Option<&RunnerStatus>) -> Self {
        let Some(status) = status else { return Self::default() };
        let at = |time: &Option<Time>| time.as_ref().map(|it| At::of(it.0));
        let (truth, state, message) =
            condition::told(&status.conditions, condition::SUCCEEDED, Reason::Pending);
        let timeline = status.timeline.clone().unwrap_or_default();
        Self {
            state,
            truth,
            message,
            registration: status.registration.as_ref().map(|it| it.id),
            pod: status
                .pod
                .as_ref()
                .map(|pod| PodRecord { uid: pod.uid.clone(), node: pod.node.clone() }),
            job: status.job.as_ref().map(|job| Job {
                id: job.id.clone(),
                run_id: job.run_id,
                repository: job.repository.clone(),
                display_name: job.display_name.clone(),
                workflow_ref: job.workflow_ref.clone(),
                started: at(&job.started),
                completed: at(&job.completed),
                result: job.result,
            }),
            pod_created: at(&timeline.pod_created),
            online: at(&timeline.online),
            ended: at(&timeline.ended),
        }
    }

    /// After `JobStarted`; `None` where it says nothing new. `pod` is the one of the runner's name,
    /// where there is one; `registration` GitHub's number in the message.
    ///
    /// A runner that was taken for lost gets its job too: so it is known which job was lost with it.
    pub fn started(
        &self,
        job: &Job,
        registration: i64,
        pod: Option<&Pod>,
        now: At,
    ) -> Option<Self> {
        if self.job.is_some() {
            return None;
        }
        let mut next = self.clone();
        next.job = Some(Job { result: None, completed: None, ..job.clone() });
        next.registration = self.registration.or(Some(registration));
        next.online = self.online.or(Some(now));
        if let Some(pod) = pod.filter(|pod| pod.ours && self.may_be(pod)) {
            next.pod = Some(PodRecord { uid: pod.uid.clone(), node: pod.node.clone() });
            next.pod_created = Some(pod.created);
        }
        if next.truth == Truth::Unknown && next.state != Reason::Interrupted {
            (next.state, next.message) = (Reason::Busy, String::new());
        }
        Some(next)
    }

    /// After `JobCompleted`, or a fate that was read.
    pub fn completed(&self, job: &Job, deleting: bool) -> Completion {
        let known = self.job.as_ref();
        if known.is_some_and(|known| known.id != job.id || known.result.is_some()) {
            return Completion::Nothing;
        }
        if self.truth == Truth::Unknown && self.state != Reason::Interrupted {
            // While it is being deleted, what its pod and GitHub say is enough.
            return if deleting { Completion::Nothing } else { Completion::Delete };
        }
        let mut next = self.clone();
        let started = known.and_then(|known| known.started).or(job.started);
        next.job = Some(Job { started, ..job.clone() });
        Completion::Write(Box::new(next))
    }

    /// Whether it ended badly.
    pub fn failed(&self) -> bool {
        self.truth == Truth::False
    }

    /// Whether the pod can be the one that this runner is bound to.
    pub(super) fn may_be(&self, pod: &Pod) -> bool {
        self.pod.as_ref().is_none_or(|bound| bound.uid == pod.uid)
    }
}
