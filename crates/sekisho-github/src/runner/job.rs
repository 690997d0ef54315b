//! The calls of one job: renew, complete, step states, logs, summaries.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use url::Url;
use uuid::Uuid;

use super::error::ClientError;
use super::http::{self, CALL_DEADLINE, JobHttp, MAX_ANSWER, UPLOAD_DEADLINE, retry};
use super::tenant_job::TenantJob;
use crate::http::Client;
use crate::retry::Policy;
use crate::wire::job::{AgentJobRequestMessage, variable};
use crate::wire::results::{
    AZURE, JobLogsMetadata, JobRequest, Ok as OkAnswer, RECEIVER, STEPS_UPDATE, SignedUrlResponse,
    StepLogsMetadata, StepRequest, StepUpdate, SummaryMetadata, WorkflowStepsUpdate, method,
};
use crate::wire::run_service::{CompleteJob, RenewJob, RenewJobResponse};

/// Bytes in one block of an uploaded log.
const BLOCK_LEN: usize = 2 * 1024 * 1024;
/// Completing goes on for as long as a lock may be held, some ten minutes: a result that is lost is a
/// job that has to run again.
const COMPLETE: Policy =
    Policy { attempts: 60, base: Duration::from_secs(1), cap: Duration::from_secs(15) };
/// An answer that is not transient is believed after this many.
const COMPLETE_REFUSALS: u32 = 5;

/// Speaks for one job, with the job's token.
#[derive(Clone)]
pub struct JobClient {
    pub(super) http: JobHttp,
    pub(super) run: Url,
    /// Set for the old flow; then `run` is not asked.
    tenant: Option<Arc<TenantJob>>,
    results: Option<Url>,
    /// Only its authority counts.
    pub(super) launch: Option<Url>,
    pub(super) plan_id: Uuid,
    pub(super) job_id: Uuid,
}

/// Which log an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// Of one step.
    Step(Uuid),
    /// Of the whole job.
    Job,
}

impl JobClient {
    pub(super) fn new(
        client: Client,
        message: &AgentJobRequestMessage,
        tenant: Option<TenantJob>,
    ) -> Result<Self, ClientError> {
        let what = "endpoint `SystemVssConnection`";
        let endpoint = message.system_connection().ok_or(ClientError::Message { what })?;
        let what = "access token";
        let token = endpoint.access_token().ok_or(ClientError::Message { what })?;
        let results = message.variable(variable::RESULTS_ENDPOINT);
        let results =
            results.map(|v| v.value.expose()).or_else(|| endpoint.data("ResultsServiceUrl"));
        let results = results.filter(|url| !url.is_empty());
        Ok(Self {
            http: JobHttp { client, token: token.clone() },
            run: http::base_url(&endpoint.url, "the run service's URL")?,
            tenant: tenant.map(Arc::new),
            results: results
                .map(|url| http::base_url(url, "the results service's URL"))
                .transpose()?,
            launch: message
                .variable(variable::LAUNCH_ENDPOINT)
                .map(|v| v.value.expose())
                .filter(|url| !url.is_empty())
                .map(|url| http::base_url(url, "the launch service's URL"))
                .transpose()?,
            plan_id: message.plan.plan_id,
            job_id: message.job_id,
        })
    }

    /// Prolongs the job's lock. One try: when to try again is the caller's to decide.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn renew(&self) -> Result<RenewJobResponse, ClientError> {
        const OPERATION: &str = "renewing the job";
        if let Some(tenant) = &self.tenant {
            return tenant.renew().await;
        }
        let body = RenewJob { plan_id: self.plan_id, job_id: self.job_id };
        let url = http::join(&self.run, "renewjob");
        self.http.post(OPERATION, &url, &body).await
    }

    /// Reports the job's result. Retried for some ten minutes while the service is away, five times
    /// after other errors, and not at all after 401 and 404.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn complete(&self, body: &CompleteJob) -> Result<(), ClientError> {
        const OPERATION: &str = "completing the job";
        let url = http::join(&self.run, "completejob");
        let (refusals, lost) = (AtomicU32::new(0), AtomicBool::new(false));
        let again = |error: &ClientError| {
            lost.fetch_or(error.is_lost_answer(), Ordering::Relaxed);
            let refused = !error.is_transient();
            let refusals = refusals.fetch_add(refused.into(), Ordering::Relaxed);
            let is_final = matches!(error.status(), Some(401 | 404));
            !refused || (refusals + 1 < COMPLETE_REFUSALS && !is_final)
        };
        let send = |_| async {
            if let Some(tenant) = &self.tenant {
                return tenant.complete(body).await;
            }
            let request = self.http.client.post(url.clone()).json(body);
            self.http.send(OPERATION, request, CALL_DEADLINE).await.map(drop)
        };
        match retry(COMPLETE, again, send).await {
            // The job is over: by the report whose answer was lost.
            Err(error)
                if lost.load(Ordering::Relaxed) && matches!(error.status(), Some(404 | 409)) =>
            {
                Ok(())
            }
            done => done,
        }
    }

    /// Reports the steps' states. One try: the next update, with a higher order, holds it all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn update_steps(
        &self,
        steps: Vec<StepUpdate>,
        change_order: i64,
    ) -> Result<(), ClientError> {
        if let Some(tenant) = &self.tenant {
            tenant.update_steps(&steps).await?;
        }
        let Some(results) = &self.results else { return Ok(()) };
        let body = WorkflowStepsUpdate {
            steps,
            change_order,
            workflow_run_backend_id: self.plan_id,
            workflow_job_run_backend_id: self.job_id,
        };
        let url = http::join(results, STEPS_UPDATE);
        let _: serde_json::Value = self.http.post("updating the steps", &url, &body).await?;
        Ok(())
    }

    /// Uploads a whole log: an append blob in blocks of 2 MiB, then its metadata.
    ///
    /// `file` is at its start; `line_count` is the number of lines in it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload_log(
        &self,
        kind: LogKind,
        mut file: File,
        line_count: i64,
        uploaded_at: Timestamp,
    ) -> Result<(), ClientError> {
        const OPERATION: &str = "asking where a log goes";
        if let Some(tenant) = &self.tenant {
            let record = match kind {
                LogKind::Step(step) => step,
                LogKind::Job => self.job_id,
            };
            return tenant.upload_log(record, &mut file).await;
        }
        let signed: SignedUrlResponse = match kind {
            LogKind::Step(step) => {
                self.receive(OPERATION, method::STEP_LOGS_URL, &self.step_request(step)).await?
            }
            LogKind::Job => {
                self.receive(OPERATION, method::JOB_LOGS_URL, &self.job_request()).await?
            }
        };
        if signed.logs_url.is_empty() {
            let reason = "no URL".to_owned();
            return Err(ClientError::Body { operation: OPERATION, reason });
        }
        if signed.blob_storage_type == AZURE {
            self.append(&signed.logs_url, &mut file).await?;
        } else {
            let length = file.metadata().await.map_err(ClientError::reading_log)?;
            let url = signed_url(&signed.logs_url, "")?;
            let request = self.http.client.put(url).header(CONTENT_LENGTH, length.len());
            self.put(request.header(CONTENT_TYPE, "text/plain").body(file)).await?;
        }
        const METADATA: &str = "recording a log";
        let _: OkAnswer = match kind {
            LogKind::Step(step_backend_id) => {
                let body = StepLogsMetadata {
                    workflow_run_backend_id: self.plan_id,
                    workflow_job_run_backend_id: self.job_id,
                    step_backend_id,
                    uploaded_at,
                    line_count,
                };
                self.receive(METADATA, method::STEP_LOGS_METADATA, &body).await?
            }
            LogKind::Job => {
                let body = JobLogsMetadata {
                    workflow_run_backend_id: self.plan_id,
                    workflow_job_run_backend_id: self.job_id,
                    uploaded_at,
                    line_count,
                };
                self.receive(METADATA, method::JOB_LOGS_METADATA, &body).await?
            }
        };
        Ok(())
    }

    /// Uploads a step's summary, masked Markdown, and its metadata.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload_summary(
        &self,
        step: Uuid,
        markdown: Vec<u8>,
        uploaded_at: Timestamp,
    ) -> Result<(), ClientError> {
        const OPERATION: &str = "asking where a summary goes";
        let request = self.step_request(step);
        let signed: SignedUrlResponse =
            self.receive(OPERATION, method::STEP_SUMMARY_URL, &request).await?;
        let size = i64::try_from(markdown.len()).unwrap_or(i64::MAX);
        let url = signed_url(&signed.summary_url, "")?;
        let put = |_| {
            let request = self.http.client.put(url.clone()).header("x-ms-blob-type", "BlockBlob");
            self.put(request.header(CONTENT_TYPE, "text/plain").body(markdown.clone()))
        };
        retry(Policy::PATIENT, ClientError::is_transient, put).await?;
        let body = SummaryMetadata {
            workflow_run_backend_id: self.plan_id,
            workflow_job_run_backend_id: self.job_id,
            step_backend_id: step,
            size,
            uploaded_at,
        };
        let operation = "recording a summary";
        let _: OkAnswer = self.receive(operation, method::STEP_SUMMARY_METADATA, &body).await?;
        Ok(())
    }

    /// Whether there is a place for logs.
    pub fn takes_logs(&self) -> bool {
        self.tenant.is_some() || self.results.is_some()
    }

    /// Whether there is a place for summaries.
    pub fn takes_summaries(&self) -> bool {
        self.results.is_some()
    }

    async fn append(&self, url: &str, file: &mut File) -> Result<(), ClientError> {
        let create = signed_url(url, "")?;
        let put = |_| {
            let request =
                self.http.client.put(create.clone()).header("x-ms-blob-type", "AppendBlob");
            self.put(request.header(CONTENT_LENGTH, 0).header(CONTENT_TYPE, "text/plain"))
        };
        retry(Policy::PATIENT, ClientError::is_transient, put).await?;
        let mut offset = 0_usize;
        let mut next = read_block(file).await?;
        loop {
            let block = next;
            next = if block.len() < BLOCK_LEN { Vec::new() } else { read_block(file).await? };
            let last = next.is_empty();
            let url = signed_url(
                url,
                if last { "comp=appendblock&seal=true" } else { "comp=appendblock" },
            )?;
            let put = |attempt| {
                let (block, url) = (block.clone(), url.clone());
                async move {
                    // The position makes a repeated append harmless: 412 on a second try means
                    // that the first one arrived and only its answer was lost.
                    let mut request = self
                        .http
                        .client
                        .put(url)
                        .header("x-ms-blob-condition-appendpos", offset)
                        .header(CONTENT_TYPE, "text/plain");
                    if last {
                        request = request.header("x-ms-blob-sealed", "true");
                    }
                    match self.put(request.body(block)).await {
                        Err(error) if attempt > 0 && error.status() == Some(412) => Ok(()),
                        other => other,
                    }
                }
            };
            retry(Policy::PATIENT, ClientError::is_transient, put).await?;
            if last {
                return Ok(());
            }
            offset += BLOCK_LEN;
        }
    }

    async fn put(&self, request: reqwest::RequestBuilder) -> Result<(), ClientError> {
        const OPERATION: &str = "uploading";
        let answer = http::send(OPERATION, request, UPLOAD_DEADLINE, MAX_ANSWER).await?;
        answer.success(OPERATION).map(|_| ())
    }

    fn step_request(&self, step: Uuid) -> StepRequest {
        StepRequest {
            workflow_run_backend_id: self.plan_id,
            workflow_job_run_backend_id: self.job_id,
            step_backend_id: step,
        }
    }

    fn job_request(&self) -> JobRequest {
        JobRequest {
            workflow_run_backend_id: self.plan_id,
            workflow_job_run_backend_id: self.job_id,
        }
    }

    async fn receive<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        method: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let results = self.results.as_ref();
        let results = results.ok_or(ClientError::Message { what: "results service" })?;
        let url = http::join(results, &format!("{RECEIVER}{method}"));
        retry(Policy::PATIENT, ClientError::is_transient, |_| self.http.post(operation, &url, body))
            .await
    }
}

impl fmt::Debug for JobClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobClient").field("job_id", &self.job_id).finish_non_exhaustive()
    }
}

/// A signed URL with one more piece of query.
fn signed_url(text: &str, query: &str) -> Result<Url, ClientError> {
    let what = "a signed URL";
    let mut url = Url::parse(text).map_err(|_| ClientError::Url { what })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ClientError::Url { what });
    }
    if !query.is_empty() {
        let old = url.query().unwrap_or_default();
        let new = if old.is_empty() { query.to_owned() } else { format!("{old}&{query}") };
        url.set_query(Some(&new));
    }
    Ok(url)
}

/// Fills a block as far as the file goes.
pub(super) async fn read_block(file: &mut File) -> Result<Vec<u8>, ClientError> {
    let mut block = Vec::new();
    let limit = u64::try_from(BLOCK_LEN).unwrap_or(u64::MAX);
    let read = file.take(limit).read_to_end(&mut block).await;
    read.map_err(ClientError::reading_log)?;
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_urls_keep_their_signature() {
        let url = signed_url("http://127.0.0.1:1/b/x?sig=a%2Bb", "comp=appendblock").unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:1/b/x?sig=a%2Bb&comp=appendblock");
        assert!(signed_url("file:///etc/passwd", "").is_err());
    }
}
