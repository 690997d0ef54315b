//! Workflow files: what they say, checked and with places.
//!
//! [`parse`] accepts what GitHub's schema accepts and says where a file departs from it. What the
//! one-machine plane cannot do yet (containers, services, environments) is an error at its place,
//! never silently left out.

mod cache_mode;
mod events;
mod fields;
mod graph;
mod job;
mod permissions;
mod read;
mod scopes;
mod step;
mod workflow;

use serde::{Deserialize, Serialize};

use crate::diagnostic::Position;
use crate::filter::{PullRequestFilter, PushFilter};
use crate::token::Token;

pub use cache_mode::CacheMode;
pub use permissions::{Access, PERMISSION_KEYS, Permissions};
pub use step::{ActionReference, Step, StepAction};
pub use workflow::parse;

/// Most jobs in one file.
pub const MAX_JOBS: usize = 256;

/// Most steps in one job.
pub const MAX_STEPS: usize = 1_000;

/// One workflow file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// Its path in the repository.
    pub path: String,
    /// `name`.
    pub name: Option<String>,
    /// `run-name`; may use `github`, `inputs`, `vars`.
    pub run_name: Option<Token>,
    /// `on`.
    pub on: Triggers,
    /// `permissions`; `None` when the file says nothing.
    pub permissions: Option<Permissions>,
    /// `cache-mode`; `None` when the file says nothing.
    pub cache_mode: Option<CacheMode>,
    /// `env`, a mapping; evaluated on the runner.
    pub env: Option<Token>,
    /// `defaults`, the mapping `{run: {shell, working-directory}}`.
    pub defaults: Option<Token>,
    /// `concurrency`: a group, or `{group, cancel-in-progress, queue}`.
    pub concurrency: Option<Token>,
    /// In the order of the file.
    pub jobs: Vec<Job>,
}

impl Workflow {
    /// `name`, or the path where there is none: what `github.workflow` is.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.path)
    }

    /// The job with this id, in any case.
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id.eq_ignore_ascii_case(id))
    }
}

/// The events that start a workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Triggers {
    /// In the order of the file.
    pub events: Vec<Event>,
}

impl Triggers {
    /// Event `name`, if the workflow listens for it.
    pub fn event(&self, name: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.name == name)
    }

    /// The filters of `push`, if the workflow listens for it.
    pub fn push(&self) -> Option<&PushFilter> {
        self.events.iter().find_map(|event| match &event.kind {
            EventKind::Push(filter) => Some(filter),
            _ => None,
        })
    }

    /// The filters of an event about pull requests, if the workflow listens for it: `pull_request`, or
    /// `pull_request_target`.
    pub fn pull_request(&self, event: &str) -> Option<&PullRequestFilter> {
        match &self.event(event)?.kind {
            EventKind::PullRequest(filter) => Some(filter),
            _ => None,
        }
    }

    /// `workflow_call`, if the workflow can be called.
    pub fn workflow_call(&self) -> Option<&CallTrigger> {
        self.events.iter().find_map(|event| match &event.kind {
            EventKind::WorkflowCall(call) => Some(call),
            _ => None,
        })
    }

    /// The inputs of `workflow_dispatch`, if the workflow can be started by hand.
    pub fn workflow_dispatch(&self) -> Option<&[Input]> {
        self.events.iter().find_map(|event| match &event.kind {
            EventKind::WorkflowDispatch(inputs) => Some(inputs.as_slice()),
            _ => None,
        })
    }
}

/// One event of `on`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `push`, `pull_request`, …
    pub name: String,
    /// Where the file names it.
    pub at: Position,
    /// What is said about it.
    pub kind: EventKind,
}

/// What a workflow says about an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// `push`, with its filters.
    Push(PushFilter),
    /// `pull_request` or `pull_request_target`, with its filters.
    PullRequest(PullRequestFilter),
    /// `workflow_call`.
    WorkflowCall(CallTrigger),
    /// `workflow_dispatch`, with its inputs.
    WorkflowDispatch(Vec<Input>),
    /// A known event that only GitHub itself raises: recorded, as the file has it.
    Other(Token),
}

/// `on.workflow_call`: what a caller gives and gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallTrigger {
    /// In the order of the file.
    pub inputs: Vec<Input>,
    /// In the order of the file.
    pub outputs: Vec<Output>,
    /// In the order of the file.
    pub secrets: Vec<SecretDefinition>,
}

/// An input of a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// What it accepts.
    pub kind: InputKind,
    /// Whether a caller must give it.
    pub required: bool,
    /// What it is when not given; may use `github`, `inputs`, `vars` in `workflow_call`.
    pub default: Option<Token>,
    /// For people.
    pub description: Option<String>,
    /// Where its name stands.
    pub at: Position,
}

/// The type of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputKind {
    /// Text.
    String,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// One of these (`workflow_dispatch` only).
    Choice(Vec<String>),
    /// The name of a deployment environment (`workflow_dispatch` only).
    Environment,
}

/// An output of a called workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its value; may use `github`, `inputs`, `vars`, `jobs`.
    pub value: Token,
    /// Where its name stands.
    pub at: Position,
}

/// A secret a called workflow wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDefinition {
    /// Its name.
    pub name: String,
    /// Whether a caller must give it.
    pub required: bool,
    /// Where its name stands.
    pub at: Position,
}

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its key under `jobs`.
    pub id: String,
    /// Where that key stands.
    pub at: Position,
    /// `name`; may use `github`, `inputs`, `vars`, `needs`, `strategy`, `matrix`.
    pub name: Option<Token>,
    /// `needs`: ids of jobs of this file.
    pub needs: Vec<String>,
    /// `if`, as [`condition`] has it; `success()` where there is none.
    pub condition: String,
    /// `permissions`; `None` when the job says nothing.
    pub permissions: Option<Permissions>,
    /// `cache-mode`; `None` when the job says nothing.
    pub cache_mode: Option<CacheMode>,
    /// `strategy`, if there is one.
    pub strategy: Option<Strategy>,
    /// `concurrency`, as the workflow's; may use `needs`, `strategy` and `matrix` too.
    pub concurrency: Option<Token>,
    /// What it does.
    pub kind: JobKind,
}

/// `strategy` of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strategy {
    /// `matrix`, a mapping or an expression.
    pub matrix: Option<Token>,
    /// `fail-fast`; true where not said.
    pub fail_fast: Option<Token>,
    /// `max-parallel`.
    pub max_parallel: Option<Token>,
    /// Where it stands.
    pub at: Position,
}

/// A job runs steps, or calls a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobKind {
    /// Runs steps on a runner.
    Steps(Box<StepsJob>),
    /// Calls a reusable workflow.
    Call(CallJob),
}

/// A job with steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepsJob {
    /// `runs-on`: a label, labels, or `{group, labels}`.
    pub runs_on: Token,
    /// `env`, a mapping; evaluated on the runner.
    pub env: Option<Token>,
    /// `defaults`, the mapping `{run: {shell, working-directory}}`.
    pub defaults: Option<Token>,
    /// `outputs`, a mapping; evaluated on the runner after the last step.
    pub outputs: Option<Token>,
    /// In order; at least one.
    pub steps: Vec<Step>,
    /// `timeout-minutes`.
    pub timeout_minutes: Option<Token>,
    /// `cancel-timeout-minutes`.
    pub cancel_timeout_minutes: Option<Token>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Token>,
}

/// A job that calls a reusable workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallJob {
    /// `uses`: `owner/repo/.github/workflows/f.yml@ref` or `./.github/workflows/f.yml`.
    pub uses: WorkflowReference,
    /// Where `uses` stands.
    pub uses_at: Position,
    /// `with`, a mapping; may use `github`, `inputs`, `vars`, `needs`, `strategy`, `matrix`.
    pub with: Option<Token>,
    /// `secrets`.
    pub secrets: CallSecrets,
}

/// Which file a job calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WorkflowReference {
    /// A file of the caller's own repository, at the caller's own commit.
    Local {
        /// `.github/workflows/f.yml`.
        path: String,
    },
    /// A file of another repository.
    Remote {
        /// `owner/repo`.
        repository: String,
        /// `.github/workflows/f.yml`.
        path: String,
        /// A branch, a tag or a commit.
        reference: String,
    },
}

impl std::fmt::Display for WorkflowReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local { path } => write!(f, "./{path}"),
            Self::Remote { repository, path, reference } => {
                write!(f, "{repository}/{path}@{reference}")
            }
        }
    }
}

/// `secrets` of a job that calls a workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum CallSecrets {
    /// None but the job token.
    #[default]
    None,
    /// `inherit`: all of the caller's.
    Inherit,
    /// These, whose values may use `github`, `inputs`, `vars`, `needs`, `secrets`, `strategy`,
    /// `matrix`.
    Map(Token),
}

/// What an `if` becomes: `success()` where nothing is said, and `success() && (cond)` where the
/// condition calls no status function, so that a failure stops what does not ask for it.
///
/// `text` must be a valid expression.
pub fn condition(text: Option<&str>) -> String {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return "success()".to_owned();
    };
    match crate::expr::parse(text) {
        Ok(expr) if expr.uses_status_function() => text.to_owned(),
        _ => format!("success() && ({text})"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
