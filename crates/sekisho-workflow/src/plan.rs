//! From a workflow to its jobs, and from the state of a run to what to do next.
//!
//! [`expand`] flattens a workflow and the workflows it calls into a [`Plan`]. A job that calls a
//! workflow stays in the plan, as a node without a runner: the *call*. Its jobs follow it, with
//! keys `call/job`.
//!
//! [`decide`] is level-triggered: it looks at the plan and the state of each job, and says what
//! can be done now. The hub applies the actions, observes again and calls it again, until there
//! is nothing left to do; then it waits for a runner to report.
//!
//! ```text
//! job:  (absent) ── Queue ──▶ Queued ──▶ Running ──▶ Completed
//!           │                    └── Cancel ──▶ Cancelling ──▶ Completed
//! call: (absent) ── Start ──▶ (Queued ──▶) Running ── Complete ──▶ Completed
//! both: (absent) ── Skip, Fail ──▶ Completed
//! ```

mod concurrency;
mod decide;
mod expand;
mod given;
mod inputs;
mod matrix;
mod names;
mod needs;
mod rerun;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::diagnostic::Position;
use crate::expr::{Contexts, Value};
use crate::model::{CacheMode, CallSecrets, Input, Output, Permissions, Step, Workflow};
use crate::token::Token;

pub(crate) use concurrency::literal_group;
pub use concurrency::{
    Claim, ClaimState, Concurrency, GroupAction, GroupQueue, MAX_GROUP_BYTES, MAX_WAITING,
    decide_group,
};
pub use decide::{conclude_calls, decide};
pub use expand::{ResolveError, expand};
pub use inputs::{dispatch_inputs, secrets_of};
pub use rerun::{Rerun, rerun};

/// Calls inside calls.
pub const MAX_CALL_DEPTH: usize = 10;

/// Workflow files of one run: the one that was started, and 50 that are called.
pub const MAX_FILES: usize = 51;

/// Jobs of one run, calls included.
pub const MAX_PLANNED_JOBS: usize = 1_000;

/// Instances of one matrix.
pub const MAX_MATRIX_JOBS: usize = 256;

/// How long a job may run when it does not say, in minutes.
pub const DEFAULT_TIMEOUT_MINUTES: f64 = 360.0;

/// How long a cancelled job may clean up when it does not say, in minutes.
pub const DEFAULT_CANCEL_TIMEOUT_MINUTES: f64 = 5.0;

/// Where a workflow file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowSource {
    /// `owner/repo`.
    pub repository: String,
    /// `.github/workflows/f.yml`.
    pub path: String,
    /// As the reference has it: `refs/heads/main`, `v1`, or a commit.
    pub git_ref: String,
    /// The commit it was read from.
    pub sha: String,
}

impl WorkflowSource {
    /// `owner/repo/.github/workflows/f.yml@ref`: what `job_workflow_ref` and `workflow_ref` are.
    pub fn workflow_ref(&self) -> String {
        format!("{}/{}@{}", self.repository, self.path, self.git_ref)
    }
}

/// A workflow and where it comes from: what a resolver returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The parsed file.
    pub workflow: Workflow,
    /// Where it was found.
    pub source: WorkflowSource,
}

/// All jobs of a run, in the order of the files; a call comes before its jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Jobs and calls.
    pub jobs: Vec<PlannedJob>,
    /// The files, the started one first.
    pub files: Vec<WorkflowSource>,
}

impl Plan {
    /// The job or call with this key.
    pub fn job(&self, key: &str) -> Option<&PlannedJob> {
        self.jobs.iter().find(|job| job.key == key)
    }
}

/// One job of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedJob {
    /// Unique in the run: `build`, `image/build`, and `test#0`, `test#1` for a matrix.
    pub key: String,
    /// The key without the matrix part: what [`PlannedJob::needs`] of others names.
    pub group: String,
    /// The job's id in its file: `system.github.job`.
    pub id: String,
    /// The call this job belongs to, by key.
    pub parent: Option<String>,
    /// What people read, `caller / called`. Parts that depend on other jobs are missing here;
    /// [`ReadyJob::name`] has them.
    pub name: String,
    /// `name` of the file.
    pub name_token: Option<Token>,
    /// Groups this job waits for; the id is what follows the last `/`.
    pub needs: Vec<String>,
    /// The expression of `if`, with `success()` added where it belongs.
    pub condition: String,
    /// Which of [`Plan::files`] it comes from.
    pub file: usize,
    /// Where its id stands in that file.
    pub at: Position,
    /// What the job's token may do.
    pub permissions: Permissions,
    /// What the job may do with caches; `None` when no file says anything.
    pub cache_mode: Option<CacheMode>,
    /// `concurrency` of the job; evaluated when it becomes ready.
    pub concurrency: Option<Token>,
    /// The `strategy` context.
    pub strategy: StrategyContext,
    /// The `matrix` context; null for a job without one. JSON.
    pub matrix: serde_json::Value,
    /// What it does.
    pub kind: PlannedKind,
}

impl PlannedJob {
    /// Whether it is a call, which needs no runner.
    pub fn is_call(&self) -> bool {
        matches!(self.kind, PlannedKind::Call(_))
    }
}

/// The `strategy` context of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyContext {
    /// Whether the failure of one instance cancels the others.
    pub fail_fast: bool,
    /// Instances that may run at the same time.
    pub max_parallel: u32,
    /// From 0.
    pub job_index: u32,
    /// How many instances there are.
    pub job_total: u32,
}

impl Default for StrategyContext {
    fn default() -> Self {
        Self { fail_fast: true, max_parallel: 1, job_index: 0, job_total: 1 }
    }
}

/// What a planned job does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PlannedKind {
    /// Runs steps on a runner.
    Steps(Box<StepsTemplate>),
    /// Stands for the jobs of a called workflow.
    Call(Box<CallTemplate>),
}

/// What the hub sends to the runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepsTemplate {
    /// `runs-on`; evaluated when the job becomes ready.
    pub runs_on: Token,
    /// `environmentVariables` of the message: the workflow's, then the job's.
    pub env: Vec<Token>,
    /// `defaults` of the message: the workflow's, then the job's.
    pub defaults: Vec<Token>,
    /// `jobOutputs` of the message.
    pub outputs: Option<Token>,
    /// In order.
    pub steps: Vec<Step>,
    /// `timeout-minutes`.
    pub timeout_minutes: Option<Token>,
    /// `cancel-timeout-minutes`.
    pub cancel_timeout_minutes: Option<Token>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Token>,
}

/// What a call gives to and takes from the workflow it calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallTemplate {
    /// The inputs the workflow declares.
    pub inputs: Vec<Input>,
    /// `with` of the caller.
    pub with: Option<Token>,
    /// `secrets` of the caller.
    pub secrets: CallSecrets,
    /// The outputs the workflow declares.
    pub outputs: Vec<Output>,
    /// `concurrency` of the workflow.
    pub concurrency: Option<Token>,
    /// Groups of the called jobs.
    pub jobs: Vec<String>,
}

/// How a job or a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conclusion {
    /// Done, and well.
    Success,
    /// Done, and not well.
    Failure,
    /// Stopped.
    Cancelled,
    /// Never started, by its condition.
    Skipped,
}

impl Conclusion {
    /// As the wire and the `needs` context have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// What is known of a job that was acted upon. A job without a state was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a runner.
    Queued,
    /// On a runner; of a call: started.
    Running,
    /// Was told to stop, and has not yet; of a call: what is in it is stopped.
    Cancelling,
    /// Done.
    Completed {
        /// How. A failure that `continue-on-error` tolerates is `Failure` with `tolerated`.
        conclusion: Conclusion,
        /// The failure counts as success for `needs` and for the run.
        tolerated: bool,
        /// What the job gave out.
        outputs: BTreeMap<String, String>,
    },
}

impl JobState {
    /// Done with this conclusion, without outputs.
    pub fn completed(conclusion: Conclusion) -> Self {
        Self::Completed { conclusion, tolerated: false, outputs: BTreeMap::new() }
    }

    /// Whether nothing more will happen to the job.
    pub fn is_completed(&self) -> bool {
        matches!(self, Self::Completed { .. })
    }
}

/// Everything [`decide`] may look at.
#[derive(Clone, Copy, Debug)]
pub struct RunObserved<'a> {
    /// The jobs.
    pub plan: &'a Plan,
    /// `github`, `vars` and the run's own `inputs`.
    pub contexts: &'a Contexts,
    /// What is known of each job, by key.
    pub jobs: &'a BTreeMap<String, JobState>,
    /// Someone cancelled the run.
    pub cancelled: bool,
    /// The run is completed already.
    pub completed: bool,
}

/// One thing to do. Applying it changes what is observed, so that it is not decided again.
#[derive(Clone, Debug, PartialEq)]
pub enum JobAction {
    /// Build the message and offer the job to runners: it becomes [`JobState::Queued`].
    Queue(Box<ReadyJob>),
    /// The call begins: it becomes [`JobState::Running`], and its jobs can be decided. It stays
    /// [`JobState::Queued`] until it has its groups.
    Start {
        /// The call.
        key: String,
        /// Its name, with the parts that depend on other jobs.
        name: String,
        /// The groups that it must have one after the other: its own, then the called workflow's.
        concurrency: Vec<Concurrency>,
    },
    /// Completed as skipped, with no outputs: the condition is false, or the call was skipped.
    Skip {
        /// The job or call.
        key: String,
    },
    /// Completed as failed without ever running: an expression could not be evaluated.
    Fail {
        /// The job or call.
        key: String,
        /// Why, for an annotation.
        message: String,
    },
    /// Stop the job: one that is not on a runner is completed as cancelled, one that is becomes
    /// [`JobState::Cancelling`] and is told to stop. A call that has not begun is completed too.
    Cancel {
        /// The job.
        key: String,
    },
    /// The call's jobs are done: it becomes [`JobState::Completed`] with these.
    Complete {
        /// The call.
        key: String,
        /// From its jobs.
        conclusion: Conclusion,
        /// The outputs the called workflow declares.
        outputs: BTreeMap<String, String>,
        /// Why, when an output could not be evaluated.
        message: Option<String>,
    },
    /// Every job is completed: so is the run.
    CompleteRun {
        /// From all jobs.
        conclusion: Conclusion,
    },
}

/// A job that can run now, and what was evaluated for it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadyJob {
    /// Which job of the plan.
    pub key: String,
    /// What people read.
    pub name: String,
    /// Labels a runner must have.
    pub labels: Vec<String>,
    /// `runs-on.group`.
    pub runner_group: Option<String>,
    /// The group that it must have before it is offered to runners.
    pub concurrency: Option<Concurrency>,
    /// Minutes until the job is cancelled.
    pub timeout_minutes: f64,
    /// Minutes between the message that cancels the job and the end without the runner.
    pub cancel_timeout_minutes: f64,
    /// Whether its failure counts as success.
    pub continue_on_error: bool,
    /// The `needs` context.
    pub needs: Value,
    /// The `inputs` context.
    pub inputs: Value,
    /// The `strategy` context.
    pub strategy: Value,
    /// The `matrix` context.
    pub matrix: Value,
}

#[cfg(test)]
mod tests;
