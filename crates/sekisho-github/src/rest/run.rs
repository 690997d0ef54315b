//! Workflow runs and jobs, as REST and webhooks have them.
//!
//! Source: protocol reference 1.7. What a service may leave out is optional or empty here; a word
//! that is new is `Unknown`, so that a new status at GitHub stops nobody.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::lenient::scalar::null_is_default;

/// Where a run, a job or a step is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waits for a runner.
    Queued,
    /// A runner has it.
    InProgress,
    /// Over: there is a conclusion.
    Completed,
    /// Waits for an approval, or for its concurrency group.
    Waiting,
    /// Not yet queued.
    Requested,
    /// Waits for its concurrency group.
    Pending,
    /// A word that this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// How a run, a job or a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunConclusion {
    /// It did what it should.
    Success,
    /// It did not.
    Failure,
    /// Neither.
    Neutral,
    /// Somebody, or a time limit, stopped it.
    Cancelled,
    /// Its condition was false.
    Skipped,
    /// It took too long.
    TimedOut,
    /// Somebody has to do something.
    ActionRequired,
    /// It could not begin.
    StartupFailure,
    /// GitHub gave it up.
    Stale,
    /// A word that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Somebody with an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The name.
    pub login: String,
    /// Never given out twice.
    pub id: u64,
    /// `User`, `Organization` or `Bot`.
    #[serde(rename = "type", default)]
    pub kind: String,
}

/// A repository, as far as it is told with something else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryInfo {
    /// Never given out twice.
    pub id: u64,
    /// Without its owner.
    pub name: String,
    /// `owner/name`.
    pub full_name: String,
    /// Whose.
    #[serde(default)]
    pub owner: Account,
    /// Not everybody can see it.
    #[serde(default)]
    pub private: bool,
    /// Its page.
    #[serde(default)]
    pub html_url: String,
    /// `main`; only in webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
}

/// One run of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowRun {
    /// Unique; stays the same when the run is run again.
    pub id: u64,
    /// The workflow's name.
    #[serde(default)]
    pub name: Option<String>,
    /// Opaque.
    #[serde(default)]
    pub node_id: String,
    /// Short, without `refs/heads/`.
    #[serde(default)]
    pub head_branch: Option<String>,
    /// The commit.
    pub head_sha: String,
    /// `.github/workflows/image.yml`.
    #[serde(default)]
    pub path: String,
    /// What lists show.
    #[serde(default)]
    pub display_title: String,
    /// Counts the runs of the workflow.
    pub run_number: u64,
    /// `push`, …
    pub event: String,
    /// Where it is.
    pub status: RunStatus,
    /// How it ended.
    pub conclusion: Option<RunConclusion>,
    /// Of the file.
    #[serde(default)]
    pub workflow_id: u64,
    /// This object.
    pub url: String,
    /// Its page.
    #[serde(default)]
    pub html_url: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// From 1.
    #[serde(default = "first")]
    pub run_attempt: u64,
    /// When this attempt began.
    #[serde(default)]
    pub run_started_at: Option<Timestamp>,
    /// Who made the event.
    #[serde(default)]
    pub actor: Account,
    /// Who started this attempt.
    #[serde(default)]
    pub triggering_actor: Account,
    /// Its jobs.
    #[serde(default)]
    pub jobs_url: String,
    /// Its logs, as a zip.
    #[serde(default)]
    pub logs_url: String,
    /// Its artifacts.
    #[serde(default)]
    pub artifacts_url: String,
    /// `POST`.
    #[serde(default)]
    pub cancel_url: String,
    /// `POST`.
    #[serde(default)]
    pub rerun_url: String,
    /// The attempt before this.
    #[serde(default)]
    pub previous_attempt_url: Option<String>,
    /// The file.
    #[serde(default)]
    pub workflow_url: String,
    /// Where.
    #[serde(default)]
    pub repository: RepositoryInfo,
}

fn first() -> u64 {
    1
}

/// A page of runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowRuns {
    /// Of all pages.
    pub total_count: u64,
    /// This page.
    pub workflow_runs: Vec<WorkflowRun>,
}

/// One job of a run's attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowJob {
    /// Unique; an attempt has jobs of its own.
    pub id: u64,
    /// Its run.
    pub run_id: u64,
    /// That object.
    #[serde(default)]
    pub run_url: String,
    /// From 1.
    #[serde(default = "first")]
    pub run_attempt: u64,
    /// Opaque.
    #[serde(default)]
    pub node_id: String,
    /// The commit.
    #[serde(default)]
    pub head_sha: String,
    /// Short.
    #[serde(default)]
    pub head_branch: Option<String>,
    /// This object.
    #[serde(default)]
    pub url: String,
    /// Its page.
    #[serde(default)]
    pub html_url: Option<String>,
    /// Where it is.
    pub status: RunStatus,
    /// How it ended.
    pub conclusion: Option<RunConclusion>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When a runner took it; while it is queued, when it was asked for.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Display name.
    pub name: String,
    /// In their order; none while it is queued.
    #[serde(default, deserialize_with = "null_is_default")]
    pub steps: Vec<JobStep>,
    /// The check that stands for it.
    #[serde(default)]
    pub check_run_url: String,
    /// What a runner must offer.
    #[serde(default, deserialize_with = "null_is_default")]
    pub labels: Vec<String>,
    /// Who has it.
    pub runner_id: Option<u64>,
    /// Who has it.
    pub runner_name: Option<String>,
    /// The group of who has it.
    pub runner_group_id: Option<u64>,
    /// The group of who has it.
    pub runner_group_name: Option<String>,
    /// The workflow's name.
    #[serde(default)]
    pub workflow_name: Option<String>,
}

/// One step of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStep {
    /// Display name.
    pub name: String,
    /// Where it is.
    pub status: RunStatus,
    /// How it ended.
    pub conclusion: Option<RunConclusion>,
    /// From 1.
    pub number: u64,
    /// When it began.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub completed_at: Option<Timestamp>,
}

/// A page of jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowJobs {
    /// Of all pages.
    pub total_count: u64,
    /// This page.
    pub jobs: Vec<WorkflowJob>,
}

/// Answer to a dispatch that asks for the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatched {
    /// The run.
    pub workflow_run_id: u64,
    /// That object.
    pub run_url: String,
    /// Its page.
    pub html_url: String,
}
