//! The results service: step states, logs and summaries. Twirp over JSON, snake_case.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Path prefix of the log and summary calls, relative to the results base.
pub const RECEIVER: &str = "twirp/results.services.receiver.Receiver/";
/// Path of the step update, relative to the results base.
pub const STEPS_UPDATE: &str =
    "twirp/github.actions.results.api.v1.WorkflowStepUpdateService/WorkflowStepsUpdate";
/// Value of `blob_storage_type` that asks for the Azure dialect.
pub const AZURE: &str = "BLOB_STORAGE_TYPE_AZURE";

/// Names of [`RECEIVER`]'s methods.
pub mod method {
    /// [`super::StepRequest`] → [`super::SignedUrlResponse`].
    pub const STEP_SUMMARY_URL: &str = "GetStepSummarySignedBlobURL";
    /// [`super::SummaryMetadata`] → [`super::Ok`].
    pub const STEP_SUMMARY_METADATA: &str = "CreateStepSummaryMetadata";
    /// [`super::StepRequest`] → [`super::SignedUrlResponse`].
    pub const STEP_LOGS_URL: &str = "GetStepLogsSignedBlobURL";
    /// [`super::StepLogsMetadata`] → [`super::Ok`].
    pub const STEP_LOGS_METADATA: &str = "CreateStepLogsMetadata";
    /// [`super::JobRequest`] → [`super::SignedUrlResponse`].
    pub const JOB_LOGS_URL: &str = "GetJobLogsSignedBlobURL";
    /// [`super::JobLogsMetadata`] → [`super::Ok`].
    pub const JOB_LOGS_METADATA: &str = "CreateJobLogsMetadata";
}

/// Body of `WorkflowStepsUpdate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowStepsUpdate {
    /// The steps that changed, or all.
    #[serde(default)]
    pub steps: Vec<StepUpdate>,
    /// Increases; an older update is ignored.
    #[serde(default, deserialize_with = "crate::lenient::scalar::int_or_text")]
    pub change_order: i64,
    /// The plan's id.
    pub workflow_run_backend_id: Uuid,
    /// The job's id.
    pub workflow_job_run_backend_id: Uuid,
}

/// One step's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepUpdate {
    /// The step's id.
    pub external_id: Uuid,
    /// 1-based, in the order of the job page.
    pub number: u32,
    /// The display name, masked.
    pub name: String,
    /// A [`StepStatus`] as its number.
    pub status: i32,
    /// `None` until it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// `None` until it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// A [`StepConclusion`] as its number; 0 until it ends.
    #[serde(default)]
    pub conclusion: i32,
}

/// Numbers of `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepStatus {
    /// 3.
    InProgress,
    /// 5.
    Pending,
    /// 6.
    Completed,
}

impl StepStatus {
    /// The number that is sent.
    pub fn number(self) -> i32 {
        match self {
            Self::InProgress => 3,
            Self::Pending => 5,
            Self::Completed => 6,
        }
    }

    /// Reads a number; 1 and 2 are what the Go runner sends for 3 and 5 (and its 3 for 6 cannot
    /// be told apart from ours: look at the conclusion).
    pub fn from_number(number: i32) -> Option<Self> {
        match number {
            1 | 3 => Some(Self::InProgress),
            2 | 5 => Some(Self::Pending),
            6 => Some(Self::Completed),
            _ => None,
        }
    }
}

/// Numbers of `conclusion`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepConclusion {
    /// 2.
    Success,
    /// 3.
    Failure,
    /// 4.
    Cancelled,
    /// 7.
    Skipped,
}

impl StepConclusion {
    /// The number that is sent.
    pub fn number(self) -> i32 {
        match self {
            Self::Success => 2,
            Self::Failure => 3,
            Self::Cancelled => 4,
            Self::Skipped => 7,
        }
    }

    /// Reads a number; `None` while there is no conclusion.
    pub fn from_number(number: i32) -> Option<Self> {
        match number {
            2 => Some(Self::Success),
            3 => Some(Self::Failure),
            4 => Some(Self::Cancelled),
            7 => Some(Self::Skipped),
            _ => None,
        }
    }

    /// The word of the `steps` context and of REST: `success`, `failure`, `cancelled`, `skipped`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// Asks for a signed URL of the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRequest {
    /// The plan's id.
    pub workflow_run_backend_id: Uuid,
    /// The job's id.
    pub workflow_job_run_backend_id: Uuid,
}

/// Asks for a signed URL of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRequest {
    /// The plan's id.
    pub workflow_run_backend_id: Uuid,
    /// The job's id.
    pub workflow_job_run_backend_id: Uuid,
    /// The step's id.
    pub step_backend_id: Uuid,
}

/// A URL to upload to. Exactly one of the URLs is set, by the method called.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SignedUrlResponse {
    /// Of a summary.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub summary_url: String,
    /// Of a step's or the job's log.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub logs_url: String,
    /// Bytes, as text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub soft_size_limit: String,
    /// [`AZURE`], or anything else for a plain PUT.
    pub blob_storage_type: String,
}

// A signed URL is a credential: whoever has it may write.
impl std::fmt::Debug for SignedUrlResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedUrlResponse")
            .field("blob_storage_type", &self.blob_storage_type)
            .finish_non_exhaustive()
    }
}

/// A summary is uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryMetadata {
    /// The plan's id.
    pub workflow_run_backend_id: Uuid,
    /// The job's id.
    pub workflow_job_run_backend_id: Uuid,
    /// The step's id.
    pub step_backend_id: Uuid,
    /// Bytes.
    #[serde(deserialize_with = "crate::lenient::scalar::int_or_text")]
    pub size: i64,
    /// When.
    pub uploaded_at: Timestamp,
}

/// A step's log is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepLogsMetadata {
    /// The plan's id.
    pub workflow_run_backend_id: Uuid,
    /// The job's id.
    pub workflow_job_run_backend_id: Uuid,
    /// The step's id.
    pub step_backend_id: Uuid,
    /// When.
    pub uploaded_at: Timestamp,
    /// Lines in the log.
    #[serde(deserialize_with = "crate::lenient::scalar::int_or_text")]
    pub line_count: i64,
}

/// The job's log is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLogsMetadata {
    /// The plan's id.
    pub workflow_run_backend_id: Uuid,
    /// The job's id.
    pub workflow_job_run_backend_id: Uuid,
    /// When.
    pub uploaded_at: Timestamp,
    /// Lines in the log.
    #[serde(deserialize_with = "crate::lenient::scalar::int_or_text")]
    pub line_count: i64,
}

/// The answer to the metadata calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ok {
    /// Always true.
    pub ok: bool,
}
