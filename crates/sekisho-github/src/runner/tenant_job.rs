//! The calls of a job in the old flow: its lock, its timeline, its logs, its end.

use std::sync::Arc;

use jiff::Timestamp;
use reqwest::header::CONTENT_TYPE;
use tokio::fs::File;
use url::Url;
use uuid::Uuid;

use super::error::ClientError;
use super::http::{CALL_DEADLINE, JobHttp, MAX_ANSWER, UPLOAD_DEADLINE, retry};
use super::job::read_block;
use super::routes::Routes;
use super::token::TokenSource;
use crate::http::{Answer, Client};
use crate::retry::Policy;
use crate::secret::WireSecret;
use crate::wire::job::AgentJobRequestMessage;
use crate::wire::results::{StepConclusion, StepStatus, StepUpdate};
use crate::wire::run_service::{
    Annotation, AnnotationLevel, CompleteJob, Conclusion, RenewJobResponse, StepState,
};
use crate::wire::tenant::{
    Issue, JOB_COMPLETED_SINCE, JobCompleted, Listed, LockRequest, LogReference, TimelineRecord,
    resource,
};

/// Records of one call.
const MAX_RECORDS: usize = 25;

/// A job of a tenant.
pub(super) struct TenantJob {
    /// The lock is the runner's, and asked for with the runner's token.
    lock: Url,
    tokens: Arc<TokenSource>,
    /// All else is the job's, with its token.
    http: JobHttp,
    routes: Routes,
    request_id: i64,
    job_id: Uuid,
    plan_version: i32,
    /// Scope, hub, plan and timeline.
    plan: [(&'static str, String); 4],
}

impl TenantJob {
    pub(super) fn new(
        client: Client,
        tokens: Arc<TokenSource>,
        lock: Url,
        routes: Routes,
        message: &AgentJobRequestMessage,
        token: &WireSecret,
    ) -> Self {
        let hub = Some(message.plan.plan_type.clone()).filter(|hub| !hub.is_empty());
        Self {
            lock,
            tokens,
            http: JobHttp { client, token: token.clone() },
            routes,
            request_id: message.request_id,
            job_id: message.job_id,
            plan_version: message.plan.version,
            plan: [
                ("scopeIdentifier", message.plan.scope_identifier.to_string()),
                ("hubName", hub.unwrap_or_else(|| "actions".to_owned())),
                ("planId", message.plan.plan_id.to_string()),
                ("timelineId", message.timeline.id.to_string()),
            ],
        }
    }

    pub(super) async fn renew(&self) -> Result<RenewJobResponse, ClientError> {
        const OPERATION: &str = "renewing the job";
        let body = LockRequest { request_id: self.request_id, finish_time: None, result: None };
        self.lock(OPERATION, &body).await?.json(OPERATION)
    }

    async fn lock(
        &self,
        operation: &'static str,
        body: &LockRequest,
    ) -> Result<Answer, ClientError> {
        let build = || {
            let request = self.http.client.patch(self.lock.clone());
            request.query(&[("lockToken", Uuid::nil().to_string())]).json(body)
        };
        self.tokens.authorized(operation, build, CALL_DEADLINE, MAX_ANSWER).await
    }

    /// Reports the steps' states, and that of the job.
    pub(super) async fn update_steps(&self, steps: &[StepUpdate]) -> Result<(), ClientError> {
        let mut records = vec![TimelineRecord {
            id: self.job_id,
            kind: Some("Job".to_owned()),
            state: Some("inProgress".to_owned()),
            ..TimelineRecord::default()
        }];
        records.extend(steps.iter().map(|step| self.record(step)));
        self.patch_records(records).await
    }

    fn record(&self, step: &StepUpdate) -> TimelineRecord {
        let state = match StepStatus::from_number(step.status) {
            Some(StepStatus::InProgress) => "inProgress",
            Some(StepStatus::Completed) => "completed",
            Some(StepStatus::Pending) | None => "pending",
        };
        let result = StepConclusion::from_number(step.conclusion);
        TimelineRecord {
            id: step.external_id,
            parent_id: Some(self.job_id),
            kind: Some("Task".to_owned()),
            name: Some(step.name.clone()),
            start_time: step.started_at,
            finish_time: step.completed_at,
            state: Some(state.to_owned()),
            result: result.map(|conclusion| match conclusion {
                StepConclusion::Success => Conclusion::Succeeded,
                StepConclusion::Failure => Conclusion::Failed,
                StepConclusion::Cancelled => Conclusion::Canceled,
                StepConclusion::Skipped => Conclusion::Skipped,
            }),
            order: Some(step.number),
            ..TimelineRecord::default()
        }
    }

    async fn patch_records(&self, records: Vec<TimelineRecord>) -> Result<(), ClientError> {
        const OPERATION: &str = "updating the timeline";
        let url = self.url(resource::RECORDS, &[])?;
        for batch in records.chunks(MAX_RECORDS) {
            let body = Listed::from(batch.to_vec());
            let send = |_| {
                let request = self.http.client.patch(url.clone()).json(&body);
                self.http.send(OPERATION, request, CALL_DEADLINE)
            };
            retry(Policy::QUICK, ClientError::is_transient, send).await?;
        }
        Ok(())
    }

    /// Uploads a whole log in pieces, then hangs it onto its record.
    pub(super) async fn upload_log(
        &self,
        record: Uuid,
        file: &mut File,
    ) -> Result<(), ClientError> {
        let path = Some(format!("logs\\{record}"));
        let (operation, logs) = ("creating a log", self.url(resource::LOGS, &[])?);
        let reference = LogReference { id: 0, path };
        let create = |_| self.http.post(operation, &logs, &reference);
        let log: LogReference = retry(Policy::QUICK, ClientError::is_transient, create).await?;
        let url = self.url(resource::LOGS, &[("logId", &log.id.to_string())])?;
        loop {
            let block = read_block(file).await?;
            if block.is_empty() {
                break;
            }
            let request = self.http.client.post(url.clone()).body(block);
            let request = request.header(CONTENT_TYPE, "application/octet-stream");
            // One try: nothing tells whether a piece whose answer was lost is there already.
            self.http.send("uploading", request, UPLOAD_DEADLINE).await?;
        }
        let log = Some(LogReference { id: log.id, path: None });
        self.patch_records(vec![TimelineRecord { id: record, log, ..TimelineRecord::default() }])
            .await
    }

    /// Reports the steps' annotations, and the job's end.
    pub(super) async fn complete(&self, body: &CompleteJob) -> Result<(), ClientError> {
        const OPERATION: &str = "completing the job";
        let mut records: Vec<TimelineRecord> = Vec::new();
        for step in &body.step_results {
            let with = |level| step.annotations.iter().filter(move |a| a.level == level).count();
            records.push(TimelineRecord {
                id: step.external_id,
                parent_id: Some(self.job_id),
                state: (step.status == StepState::Completed).then(|| "completed".to_owned()),
                result: step.conclusion,
                issues: step.annotations.iter().map(issue).collect(),
                error_count: with(AnnotationLevel::Failure),
                warning_count: with(AnnotationLevel::Warning),
                notice_count: with(AnnotationLevel::Notice),
                ..TimelineRecord::default()
            });
        }
        records.push(TimelineRecord {
            id: self.job_id,
            state: Some("completed".to_owned()),
            result: Some(body.conclusion),
            issues: body.annotations.iter().map(issue).collect(),
            ..TimelineRecord::default()
        });
        self.patch_records(records).await?;
        if self.plan_version < JOB_COMPLETED_SINCE {
            let (finish_time, result) = (Some(now()), Some(body.conclusion));
            let end = LockRequest { request_id: self.request_id, finish_time, result };
            return self.lock(OPERATION, &end).await.map(|_| ());
        }
        let event = JobCompleted {
            name: "JobCompleted".to_owned(),
            request_id: self.request_id,
            job_id: self.job_id,
            result: body.conclusion,
            outputs: body.outputs.clone(),
        };
        let url = self.url(resource::PLAN_EVENTS, &[])?;
        let request = self.http.client.post(url).json(&event);
        self.http.send(OPERATION, request, CALL_DEADLINE).await.map(drop)
    }

    fn url(&self, resource: Uuid, more: &[(&str, &str)]) -> Result<Url, ClientError> {
        let mut values: Vec<(&str, &str)> =
            self.plan.iter().map(|(name, value)| (*name, value.as_str())).collect();
        values.extend_from_slice(more);
        self.routes.url(resource, &values)
    }
}

fn issue(annotation: &Annotation) -> Issue {
    let kind = match annotation.level {
        AnnotationLevel::Failure => "error",
        AnnotationLevel::Warning => "warning",
        AnnotationLevel::Notice => "notice",
    };
    let number = |number: Option<i64>| number.map(|number| number.to_string());
    let data = [
        ("file", annotation.path.clone()),
        ("title", annotation.title.clone()),
        ("line", number(annotation.start_line)),
        ("endLine", number(annotation.end_line)),
        ("col", number(annotation.start_column)),
        ("endColumn", number(annotation.end_column)),
    ];
    Issue {
        kind: kind.to_owned(),
        message: annotation.message.clone(),
        data: data.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect(),
        is_infrastructure_issue: annotation.is_infrastructure_issue,
    }
}

fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "act: the job is over now")]
    Timestamp::now()
}
