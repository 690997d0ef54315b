//! The queue's messages: batches of job messages, and the set's numbers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::budget::{BudgetError, read};
use super::text::open_enum;
use super::{Statistics, time};
use crate::lenient::{self, scalar};

/// `messageType` of every message: clients refuse any other.
pub const JOB_MESSAGES: &str = "RunnerScaleSetJobMessages";
/// Job messages of one message that are read; the service sends about 50 at most.
pub const MAX_JOBS: usize = 1_000;

/// Answer of a poll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueMessage {
    /// Grows; github.com begins above 100,000,000.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub message_id: i64,
    /// [`JOB_MESSAGES`].
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub message_type: String,
    /// A JSON array of [`JobMessage`]s, as text; empty if there are only numbers.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub body: String,
    /// Never absent where we write it: the Go listener fails without.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub statistics: Statistics,
}

/// The job messages of a [`QueueMessage`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jobs {
    /// Those that could be read, in order.
    pub messages: Vec<JobMessage>,
    /// How many could not: they do not keep the others from being handled.
    pub unreadable: usize,
}

impl QueueMessage {
    /// A message of these jobs.
    pub fn new(message_id: i64, jobs: &[JobMessage], statistics: Statistics) -> Self {
        let body = if jobs.is_empty() {
            String::new()
        } else {
            // Our own types always serialize.
            serde_json::to_string(jobs).unwrap_or_default()
        };
        Self { message_id, message_type: JOB_MESSAGES.to_owned(), body, statistics }
    }

    /// Its job messages. One that makes no sense is counted and left out; so is every one beyond
    /// [`MAX_JOBS`].
    ///
    /// # Errors
    /// When the body as a whole is not an array within the limits.
    pub fn jobs(&self) -> Result<Jobs, BudgetError> {
        if self.body.trim().is_empty() {
            return Ok(Jobs::default());
        }
        let all: Vec<Value> = read(self.body.as_bytes())?;
        let count = all.len();
        let readable =
            all.into_iter().take(MAX_JOBS).filter_map(|job| lenient::from_value(job).ok());
        let messages: Vec<JobMessage> = readable.collect();
        Ok(Jobs { unreadable: count - messages.len(), messages })
    }
}

open_enum! {
    /// What a job message says.
    JobMessageKind {
        /// A job matches the set: some listener must acquire it. Not sent by github.com any more.
        Available = "JobAvailable",
        /// The job is the set's: start a runner.
        Assigned = "JobAssigned",
        /// A runner took it.
        Started = "JobStarted",
        /// It is over.
        Completed = "JobCompleted",
    }
}

open_enum! {
    /// How a job ended.
    JobResult {
        /// It did what it should.
        Succeeded = "succeeded",
        /// It did not.
        Failed = "failed",
        /// Somebody, or a time limit, stopped it; or no runner came.
        Canceled = "canceled",
        /// Its condition was false.
        Skipped = "skipped",
        /// The service gave it up.
        Abandoned = "abandoned",
    }
}

/// Something that happened to a job. The `runner_request_id` names it: messages may come twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobMessage {
    /// What happened.
    #[serde(rename = "messageType")]
    pub kind: JobMessageKind,
    /// The job, for `acquirejobs`.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub runner_request_id: i64,
    /// Without its owner.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub repository_name: String,
    /// The repository's owner.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub owner_name: String,
    /// A GUID: the job's name for its runner.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub job_id: String,
    /// `o/r/.github/workflows/ci.yml@refs/heads/main`.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub job_workflow_ref: String,
    /// The job's name for people.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub job_display_name: String,
    /// The run.
    #[serde(default, deserialize_with = "scalar::int_or_text")]
    pub workflow_run_id: i64,
    /// `push`.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub event_name: String,
    /// `runs-on`.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub request_labels: Vec<String>,
    /// When the job began to wait.
    #[serde(default, with = "time")]
    pub queue_time: Option<Timestamp>,
    /// When it became the set's.
    #[serde(default, with = "time")]
    pub scale_set_assign_time: Option<Timestamp>,
    /// When a runner took it.
    #[serde(default, with = "time")]
    pub runner_assign_time: Option<Timestamp>,
    /// When it ended.
    #[serde(default, with = "time")]
    pub finish_time: Option<Timestamp>,
    /// Of [`JobMessageKind::Available`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acquire_job_url: Option<String>,
    /// Of [`JobMessageKind::Completed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
    /// Of [`JobMessageKind::Started`] and [`JobMessageKind::Completed`]; 0 if no runner took it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "scalar::some_int_or_text"
    )]
    pub runner_id: Option<i64>,
    /// Of [`JobMessageKind::Started`] and [`JobMessageKind::Completed`]; empty if no runner took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_name: Option<String>,
}

/// Answer of `POST …/acquirejobs`: those that are the caller's now.
pub type AcquiredJobs = super::Counted<i64>;
