//! Runner: one registration, one pod, one job.
//!
//! ```text
//!  Pending ─▶ Provisioning ─▶ Starting ─▶ Idle ─▶ Busy ─▶ Completing ─▶ gone
//!     │ no pod     │ no node     │ JIT    │ online │ job      │ result
//!     │            │             │        │        ├─▶ Interrupted: its pod or node is about to go
//!     └────────────┴─────────────┴────────┴────────┴──▶ failed, and why; kept to be looked at
//! ```
//!
//! The state is the reason of the condition `Succeeded`; it is derived anew each time from what is
//! there, and written only when it is evidence, when it is a guard, or when it has lasted
//! [`NOTE_AFTER`]. A quick life is not described while it passes.
//!
//! **Pod first, then the registration.** A pod that waits for a node has no registration; see
//! docs/decisions/0015-pod-first-then-the-registration.md. The registration is made when the pod has
//! a node, and its JIT configuration goes into a secret named like the runner. To *create* that secret
//! is the guard: who finds it there removes the registration he made ([`registration`]). The secret
//! names the pod's uid, and is owned by the Runner, not by the pod: it must outlive a pod that is
//! lost, for until a status is written it is the one proof that the registration was given away. So
//! what was never given a registration may be made again, and what was given one, never.
//!
//! **What GitHub says counts.** An exit code is no result. A job's result is the one of its
//! `JobCompleted`, or of REST when none comes within [`RESULT_AFTER`]. A registration is removed
//! before its pod is, and the answer that it has a job makes the runner busy.
//!
//! **Writes.** The life of a runner that is made for a job takes eight: create Runner, create pod,
//! create secret, status (online, with its job), delete secret, delete Runner, delete pod, remove the
//! finalizer. The result of a job needs none of its own: that its Runner goes is the record, for the
//! result stands at GitHub (see [`Record::completed`]). One that waits for its job takes a ninth: idle.

mod ended;
mod leave;
mod live;
mod observed;
mod record;
pub mod registration;

use std::time::Duration;

pub use record::{Completion, Job, PodRecord, Record};
use sekisho_api::condition::Truth;
use sekisho_api::{JobResult, Lifecycle, Reason};

use crate::At;
use crate::failure::{Failure, Trouble};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// How long a state must last before it is written for nothing but to be read.
pub const NOTE_AFTER: Duration = secs(10);
/// How long an image may fail to be pulled: a registry's hiccup is shorter.
pub const PULL_GRACE: Duration = secs(30);
/// How long after the end of the container its job's result is waited for.
pub const RESULT_AFTER: Duration = secs(60);
/// How often a job's fate is read.
pub const FATE_EVERY: Duration = secs(60);
/// How long a job's fate is read. GitHub gives a job up some ten minutes after its runner fell silent.
pub const FATE_DEADLINE: Duration = secs(15 * 60);
/// How soon after its container started a runner is asked for at GitHub, and said to be idle: it takes
/// some two seconds, and one that was made for a job has it by then.
pub const ASK_AFTER: Duration = secs(5);
/// How long a runner whose job is over may take to exit by itself.
pub const EXIT_GRACE: Duration = secs(10);
/// How often a runner is asked for at GitHub.
pub const ASK_EVERY: Duration = secs(15);
/// In how many sweeps in a row a registration must be missing before it is believed to be gone.
pub const ABSENT_SWEEPS: u32 = 2;
/// How long beyond its grace period a pod of a dead node may be there.
pub const FORCE_AFTER: Duration = secs(60);
/// How long a node may be silent before a runner without a job is given up. That one with a job is
/// interrupted is noted at once: Kubernetes waits some 40 s before it takes a node for silent.
pub const SILENT_NODE: Duration = secs(60);
/// How often an effect that waits for GitHub is tried in a deletion.
pub const RETRY: Duration = secs(10);

/// Everything [`decide`] may look at.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When the observation was made.
    pub now: At,
    /// `metadata.name`: also that of pod, secret and registration.
    pub name: String,
    /// `metadata.creationTimestamp`.
    pub created: At,
    /// `metadata.deletionTimestamp`.
    pub deleting: Option<At>,
    /// Our finalizer is on it.
    pub finalizer: bool,
    /// [`sekisho_api::ANNOTATION_STOP_NOW`] is on it, or on its RunnerDeployment.
    pub stop_now: bool,
    /// The namespace is being deleted: nothing can be created in it, and nothing may hold it.
    pub namespace_terminating: bool,
    /// How long it may stay in which state.
    pub lifecycle: Lifecycle,
    /// Its status.
    pub record: Record,
    /// The pod of its name. Read live where the cache has none and it would be taken for lost by that, or
    /// left alone for good.
    pub pod: Option<Pod>,
    /// The pod's node.
    pub node: Node,
    /// The secret of its name. Read live where the cache has none and something would be made, or left
    /// behind, by that.
    pub secret: Option<Secret>,
    /// What GitHub said of the registration, when it was last asked.
    pub github: Option<AtGitHub>,
    /// What GitHub said of its job, when it was last asked or by `JobCompleted`; kept in memory.
    pub fate: Option<Fate>,
    /// The effect that failed last time, if the one before this observation did.
    pub trouble: Option<Trouble>,
}

/// A pod, as far as its runner needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`.
    pub uid: String,
    /// Its owner is this Runner, by uid.
    pub ours: bool,
    /// `metadata.creationTimestamp`.
    pub created: At,
    /// `metadata.deletionTimestamp`: when its grace period is over.
    pub gone_by: Option<At>,
    /// `spec.nodeName`.
    pub node: Option<String>,
    /// Why it does not run yet, where the cluster says so.
    pub waiting: Option<Waiting>,
    /// The container `runner`; [`Container::Ended`] in any case when the pod's phase says so.
    pub runner: Container,
    /// Why the cluster stops or stopped it: `Evicted`, `Preempting`, `NodeShutdown`, with its words.
    pub disrupted: Option<String>,
    /// A container of it was killed for its memory.
    pub out_of_memory: bool,
}

/// Why a pod does not run yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// No node has room; the scheduler's words.
    Unschedulable(String),
    /// An image is not pulled; since when this is known, and the kubelet's words.
    ImagePull {
        /// When it was first seen.
        since: At,
        /// `ImagePullBackOff: ...`.
        detail: String,
    },
    /// Anything else that the kubelet says.
    Other(String),
}

/// The container `runner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// It has not started.
    Waiting,
    /// It runs.
    Running {
        /// Since when.
        since: At,
    },
    /// It ended.
    Ended {
        /// When.
        at: At,
        /// Its exit code; `None` where nobody saw it.
        code: Option<i32>,
    },
}

/// The node of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Node {
    /// The pod has none, or it was not looked at.
    #[default]
    Unknown,
    /// It answers.
    Ready,
    /// It does not.
    Silent {
        /// Since when.
        since: At,
    },
    /// There is no such node any more, or it has the taint `out-of-service`. Read live, and the pod with
    /// it: of a cache that is late, a node that is just being added is gone.
    Gone,
}

/// The JIT configuration's secret, as far as it may be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// `metadata.uid`.
    pub uid: String,
    /// The pod it was made for.
    pub pod_uid: String,
    /// GitHub's number of the registration.
    pub registration: i64,
}

/// What GitHub says of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtGitHub {
    /// When it was asked.
    pub at: At,
    /// What it said.
    pub seen: Registration,
}

/// A registration at GitHub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// There is none of this name.
    Absent {
        /// How many sweeps in a row did not find it; 1 after an answer to a single question.
        sweeps: u32,
    },
    /// There is.
    Present {
        /// GitHub's number.
        id: i64,
        /// The runner is connected.
        online: bool,
        /// It has a job.
        busy: bool,
    },
}

/// What GitHub says of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// When it was asked.
    pub at: At,
    /// How the job ended; `None` while it runs.
    pub result: Option<JobResult>,
}

/// One idempotent effect. They are done in order, up to the first that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Before anything else.
    AddFinalizer,
    /// Named like the runner and owned by it. One of somebody else that has the name is a failure.
    CreatePod,
    /// Run [`registration::decide`]: make a registration and the secret with its JIT configuration.
    Register {
        /// The pod that it is for.
        pod_uid: String,
    },
    /// With the uid as precondition.
    DeleteSecret {
        /// Which.
        uid: String,
    },
    /// With uid and resourceVersion of the pod that was seen as preconditions: if its container started
    /// meanwhile, it may have got a job, and is looked at again.
    DeletePod {
        /// Which.
        uid: String,
        /// Whether it is removed at once: its containers ended, or its node did. Otherwise it gets
        /// its grace period, in which the runner tells GitHub how the job ended.
        at_once: bool,
    },
    /// Remove the registration; that there is none is a success. It fails with
    /// [`Failure::RunnerBusy`] while it has a job, and the next observation says so.
    Deregister {
        /// GitHub's number, where it is known; otherwise it is looked up by the runner's name.
        id: Option<i64>,
    },
    /// Ask GitHub for the registration, live.
    AskGitHub,
    /// Remember that its job is over: GitHub's numbers may be older, and have it still.
    JobOver,
    /// Read the job's fate over REST. A result that was not known is remembered like [`Self::JobOver`].
    ReadFate {
        /// The job's workflow run.
        run_id: i64,
    },
    /// Replace the status, with the resourceVersion that was read as precondition.
    WriteStatus(Box<Record>),
    /// With the uid as precondition.
    DeleteRunner,
    /// Last.
    RemoveFinalizer,
    /// An event on the Runner's RunnerDeployment: for what would vanish with the Runner.
    Event {
        /// Why.
        reason: Reason,
        /// A sentence.
        message: String,
    },
}

/// What to do, and when to look again if nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The state it is in.
    pub state: Reason,
    /// In order.
    pub effects: Vec<Effect>,
    /// `None`: when something changes.
    pub requeue_after: Option<Duration>,
}

impl Plan {
    fn of(state: Reason, effects: impl IntoIterator<Item = Effect>) -> Self {
        Self { state, effects: effects.into_iter().collect(), requeue_after: None }
    }

    fn wait(state: Reason, span: Duration) -> Self {
        Self { state, effects: Vec::new(), requeue_after: Some(span) }
    }

    /// Looks again after `span` at the latest; never at once, which would be a hot loop.
    fn within(mut self, span: Duration) -> Self {
        let span = span.max(Duration::from_millis(100));
        self.requeue_after = Some(self.requeue_after.map_or(span, |known| known.min(span)));
        self
    }
}

/// Decides.
pub fn decide(seen: &Observed) -> Plan {
    if seen.deleting.is_some() && !seen.finalizer {
        return Plan::of(seen.record.state, []);
    }
    if seen.record.truth != Truth::Unknown {
        return ended::decide(seen);
    }
    match seen.deleting {
        Some(since) => leave::decide(seen, since),
        None => live::decide(seen),
    }
}

impl Failure {
    /// Whether a pod that was refused so will be refused again.
    const fn refuses_pod(&self) -> bool {
        matches!(
            self,
            Self::PodInvalid { .. }
                | Self::PodForbidden { .. }
                | Self::TemplateInvalid { .. }
                | Self::TemplateForbidden { .. }
        )
    }
}

#[cfg(test)]
mod tests;
