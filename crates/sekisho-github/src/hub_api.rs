//! The embedded hub's own API, under `/_hub/v1`: what GitHub has no endpoint for.
//!
//! The scheduler watches the queue with it, the command line follows a run. Every request carries
//! the plane's admin token as a bearer. All JSON is `snake_case`, times are RFC 3339 in UTC.
//!
//! | request | answer |
//! |---|---|
//! | `GET health` | `{"status":"ok"}`; 503 while what is done cannot be written down |
//! | `GET queue?after=<seq>&wait_ms=<n>` | [`Queue`], at once if its `seq` is past `after`, else when it is, or when the wait ends |
//! | `POST runners/{id}/gone` [`RunnerGone`] | 204; 404 if there is no such runner |
//! | `GET runs?limit=<n>` | [`Runs`], newest first |
//! | `GET runs/{run_id}` | [`Run`] |
//! | `GET runs/{run_id}/events?after=<n>` | [`Event`] lines (NDJSON), ending when the run completes |
//! | `POST runs/{run_id}/cancel` | 202; 409 if it is completed already |
//! | `GET pushes?repository=<owner/name>&sha=<sha>` | [`Pushed`] |
//! | `POST repositories/{owner}/{name}/dispatch` [`Dispatch`] | 201 [`Pushed`] |
//!
//! With fault switches there are `faults` and `clock` too: see `docs/protocol.md`.

mod event;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use event::{Event, EventKind};

/// Where a run or a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A job that waits for the jobs it needs.
    Pending,
    /// Waits for a runner. A run: no job of it has started yet.
    Queued,
    /// A runner has it.
    InProgress,
    /// Over; there is a conclusion.
    Completed,
}

impl Status {
    /// As it is written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a run, a job or a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// It did what it should.
    Success,
    /// It did not.
    Failure,
    /// Somebody, or a time limit, stopped it.
    Cancelled,
    /// Its condition was false.
    Skipped,
}

impl Conclusion {
    /// As it is written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for Conclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The scheduler's observation: who waits, and who is there to work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Grows with every change of what follows. Starts anew with the process.
    pub seq: u64,
    /// Jobs that wait for a runner, oldest first; one that was offered to a runner which has not
    /// taken it yet is still here.
    pub jobs: Vec<QueuedJob>,
    /// Every registered runner.
    pub runners: Vec<RunnerState>,
}

/// A job that waits for a runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedJob {
    /// Unique in this hub.
    pub job_id: u64,
    /// The run it is part of.
    pub run_id: u64,
    /// `owner/name`.
    pub repository: String,
    /// Display name.
    pub name: String,
    /// What a runner must offer, lower case.
    pub labels: Vec<String>,
    /// When it began to wait.
    pub queued_at: Timestamp,
}

/// A registered runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerState {
    /// Unique in this hub.
    pub id: u64,
    /// As registered.
    pub name: String,
    /// Whether it holds a session.
    pub status: RunnerStatus,
    /// A job was offered to it, or it works on one.
    pub busy: bool,
    /// That job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<u64>,
}

/// Whether a runner is listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerStatus {
    /// Registered; has no session.
    Offline,
    /// Has a session.
    Online,
}

/// Tells the hub that a runner's process has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerGone {
    /// Shown to whoever waits for the job, such as `killed by signal 9`.
    pub reason: String,
}

/// Several runs, newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    /// At most as many as were asked for.
    pub runs: Vec<Run>,
}

/// One run of one workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Unique in this hub, growing.
    pub id: u64,
    /// `owner/name`.
    pub repository: String,
    /// Full, such as `refs/heads/main`.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// The commit, 40 hex digits.
    pub sha: String,
    /// `push`, `workflow_dispatch`, `pull_request` or `pull_request_target`.
    pub event: String,
    /// The branch and the commit of a pull request, for a run that is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<RunHead>,
    /// `name:` of the workflow, or its path.
    pub workflow_name: String,
    /// Such as `.github/workflows/image.yml`.
    pub workflow_path: String,
    /// Counts the runs of this workflow in this repository, from 1.
    pub run_number: u64,
    /// Counts the attempts of this run, from 1.
    pub run_attempt: u64,
    /// Where it is.
    pub status: Status,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// When the push was taken.
    pub created_at: Timestamp,
    /// When the first job started.
    pub started_at: Option<Timestamp>,
    /// When the last job ended.
    pub completed_at: Option<Timestamp>,
    /// In the order of the file; those of a called workflow stand where the call stands.
    pub jobs: Vec<Job>,
    /// What calls of workflows came to, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calls: BTreeMap<String, CallResult>,
}

/// Branch and commit that a pull request brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHead {
    /// Without `refs/heads/`.
    pub branch: String,
    /// 40 hex digits.
    pub sha: String,
}

/// What a call of a workflow came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallResult {
    /// How it ended.
    pub conclusion: Conclusion,
    /// What the called workflow gave out.
    pub outputs: BTreeMap<String, String>,
}

/// One job of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Unique in this hub.
    pub id: u64,
    /// Display name: `caller / called` for a job of a called workflow.
    pub name: String,
    /// Id in the file: `caller/called` for a job of a called workflow.
    pub key: String,
    /// Where it is.
    pub status: Status,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// What its runner must offer, lower case.
    pub labels: Vec<String>,
    /// Which attempt of the run it is of: one that was not run again keeps its own.
    #[serde(default = "first")]
    pub run_attempt: u64,
    /// Who took it.
    #[serde(default)]
    pub runner_id: Option<u64>,
    /// Who took it.
    pub runner_name: Option<String>,
    /// The group of the runner that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_group_id: Option<u64>,
    /// That group's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_group_name: Option<String>,
    /// Its failure counts as success, by its `continue-on-error`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tolerated: bool,
    /// When the jobs it needs had ended.
    pub queued_at: Option<Timestamp>,
    /// When a runner took it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// As reported by the runner, in order.
    pub steps: Vec<Step>,
    /// Those that are no secrets.
    pub outputs: BTreeMap<String, String>,
    /// Errors and warnings about it.
    pub annotations: Vec<Annotation>,
}

fn first() -> u64 {
    1
}

/// One step of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The runner's id for it, a GUID; `step_id` of a log event.
    pub id: String,
    /// From 1.
    pub number: u64,
    /// Display name.
    pub name: String,
    /// Where it is.
    pub status: Status,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

/// A remark on a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// How bad it is.
    pub level: AnnotationLevel,
    /// What is to be said.
    pub message: String,
    /// A file of the repository that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A line of that file, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

/// How bad an annotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnnotationLevel {
    /// For information.
    Notice,
    /// Something is odd.
    Warning,
    /// Something went wrong.
    Failure,
}

/// What a push, or a dispatch, led to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// One for each workflow file that wanted to run, in the order of their paths.
    pub runs: Vec<u64>,
    /// What is wrong with the workflow files that could not be run.
    pub errors: Vec<WorkflowError>,
}

/// An error in a workflow file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowError {
    /// Relative to the repository.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// One sentence.
    pub message: String,
}

impl fmt::Display for WorkflowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.path, self.line, self.column, self.message)
    }
}

/// Asks for a run of a commit that is there already, as if it were pushed anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatch {
    /// Full, such as `refs/heads/main`.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// The commit, 40 hex digits.
    pub sha: String,
}

/// The error body of every `/_hub/v1` request: RFC 9457, with a code for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// One sentence for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// For programs, such as `not_found`.
    pub code: String,
    /// Names the request in the plane's log.
    pub request_id: String,
}
