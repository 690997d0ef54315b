//! The run service: acquire, renew and complete a job.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Body of `POST acquirejob`; the answer is a [`super::job::AgentJobRequestMessage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcquireJob {
    /// `runner_request_id` of the broker's message.
    pub job_message_id: String,
    /// `Linux`.
    #[serde(default, rename = "runnerOS")]
    pub runner_os: String,
    /// Echoed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_owner_id: Option<String>,
}

/// Body of `POST renewjob`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewJob {
    /// The plan.
    pub plan_id: Uuid,
    /// The job.
    pub job_id: Uuid,
}

/// Answer to `renewjob`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenewJobResponse {
    /// The lock's new end.
    pub locked_until: Timestamp,
}

/// How a job or a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Conclusion {
    /// All well.
    Succeeded,
    /// All well, with warnings; an old word.
    SucceededWithIssues,
    /// A step failed.
    Failed,
    /// Someone stopped it.
    Canceled,
    /// Its condition was false.
    Skipped,
    /// The service gave it up.
    Abandoned,
}

/// Body of `POST completejob`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CompleteJob {
    /// The plan.
    pub plan_id: Uuid,
    /// The job.
    pub job_id: Uuid,
    /// The job's result.
    pub conclusion: Conclusion,
    /// Job outputs.
    #[serde(default)]
    pub outputs: BTreeMap<String, OutputValue>,
    /// All steps, in the order of their numbers.
    #[serde(default)]
    pub step_results: Vec<StepResult>,
    /// Annotations of the job as a whole.
    #[serde(default)]
    pub annotations: Vec<Annotation>,
    /// Notes for the service's owner.
    #[serde(default)]
    pub telemetry: Vec<Telemetry>,
    /// URL of the deployment environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_url: Option<String>,
    /// Echoed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_owner_id: Option<String>,
    /// Set when the runner, not the job, is to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure_failure_category: Option<String>,
}

/// One job output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutputValue {
    /// The text.
    #[serde(default)]
    pub value: String,
    /// Never true from us: outputs that hold a secret are dropped.
    #[serde(default)]
    pub is_secret: bool,
}

/// One step's result. These names really are in snake_case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// The step's id.
    pub external_id: Uuid,
    /// 1-based. Runners leave it out where it is 0.
    #[serde(default)]
    pub number: u32,
    /// The display name, masked.
    #[serde(default)]
    pub name: String,
    /// Name of the action, empty for `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_name: Option<String>,
    /// Ref of the action.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// `run`, `repository`, …
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Where it stands.
    pub status: StepState,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<Conclusion>,
    /// `None` when it never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    /// Where the log is; the results service knows it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_log_url: Option<String>,
    /// Lines in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_log_lines: Option<i64>,
    /// Its annotations.
    #[serde(default)]
    pub annotations: Vec<Annotation>,
}

/// Where a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepState {
    /// Not started.
    Pending,
    /// Running.
    InProgress,
    /// Ended.
    Completed,
}

/// How serious an annotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AnnotationLevel {
    /// Good to know.
    Notice,
    /// Look at it.
    Warning,
    /// Something failed.
    Failure,
}

/// A remark about a place in a file, a step, or the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotation {
    /// How serious.
    pub level: AnnotationLevel,
    /// The text, masked, at most 4,096 characters.
    #[serde(default)]
    pub message: String,
    /// A heading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// More text; not used by us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_details: Option<String>,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether the runner, not the job, is to blame.
    #[serde(default)]
    pub is_infrastructure_issue: bool,
    /// 1-based.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_line: Option<i64>,
    /// 1-based.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_line: Option<i64>,
    /// 1-based.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_column: Option<i64>,
    /// 1-based.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_column: Option<i64>,
    /// The step's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_number: Option<u32>,
}

impl Annotation {
    /// A remark without a place.
    pub fn new(level: AnnotationLevel, message: impl Into<String>) -> Self {
        Self {
            level,
            message: message.into(),
            title: None,
            raw_details: None,
            path: None,
            is_infrastructure_issue: false,
            start_line: None,
            end_line: None,
            start_column: None,
            end_column: None,
            step_number: None,
        }
    }
}

/// A note for the service's owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Telemetry {
    /// The text, masked.
    #[serde(default)]
    pub message: String,
    /// Its kind.
    #[serde(default, rename = "type")]
    pub kind: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_without_a_number_is_no_reason_to_lose_a_result() {
        let text = r#"{"planId":"00000000-0000-0000-0000-000000000001",
            "jobId":"00000000-0000-0000-0000-000000000002","conclusion":"succeeded",
            "stepResults":[{"external_id":"00000000-0000-0000-0000-000000000003",
              "name":"Set up Worker","status":"completed","conclusion":"succeeded"}]}"#;
        let body: CompleteJob = crate::lenient::from_str(text).unwrap();
        assert_eq!(body.step_results[0].number, 0);
        assert_eq!(body.step_results[0].status, StepState::Completed);
    }

    #[test]
    fn other_runners_letter_cases_are_read() {
        let text = r#"{"PlanId":"00000000-0000-0000-0000-000000000001",
            "jobID":"00000000-0000-0000-0000-000000000002","conclusion":"SUCCEEDED",
            "outputs":{"Version":{"Value":"1.2"}},
            "stepResults":[{"external_id":"00000000-0000-0000-0000-000000000003","number":2,
              "name":"x","status":"COMPLETED","conclusion":"failed",
              "annotations":[{"level":"FAILURE","message":"m","startLine":3}]}]}"#;
        let body: CompleteJob = crate::lenient::from_str(text).unwrap();
        assert_eq!(body.conclusion, Conclusion::Succeeded);
        assert_eq!(body.outputs["Version"].value, "1.2");
        let step = &body.step_results[0];
        assert_eq!(
            (step.status, step.conclusion),
            (StepState::Completed, Some(Conclusion::Failed))
        );
        assert_eq!(step.annotations[0].level, AnnotationLevel::Failure);
        assert_eq!(step.annotations[0].start_line, Some(3));
    }
}
