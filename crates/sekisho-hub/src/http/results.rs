//! The results service: step states, and URLs to upload logs and summaries to.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use sekisho_github::hub_api::{Conclusion, Status};
use sekisho_github::lenient;
use sekisho_github::wire::results::{
    self as wire, AZURE, JobRequest, SignedUrlResponse, StepConclusion, StepRequest, StepStatus,
    WorkflowStepsUpdate, method,
};
use uuid::Uuid;

use super::guard::bearer;
use super::reply::TwirpFault;
use crate::shared::Shared;
use crate::state::{JobRef, StepState};
use crate::store::LogName;
use crate::tokens::{BlobClaims, JobClaims};

/// What a step summary should not exceed, in bytes, as text.
const SOFT_SIZE_LIMIT: &str = "1048576";
/// Steps of one update that are looked at.
const MAX_STEPS: usize = 2_000;

/// `POST …Receiver/{method}`
pub(super) async fn receive(
    State(shared): State<Arc<Shared>>,
    Path(called): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, TwirpFault> {
    let at = authorized(&shared, &headers)?;
    let job: JobRequest =
        lenient::from_slice(&body).map_err(|e| TwirpFault::invalid(e.to_string()))?;
    check(&shared, at, job.workflow_run_backend_id, job.workflow_job_run_backend_id)?;
    let step = || {
        let step: Result<StepRequest, _> = lenient::from_slice(&body);
        step.map(|step| step.step_backend_id).map_err(|e| TwirpFault::invalid(e.to_string()))
    };
    let url = |name: LogName| signed_url(&shared, at, name);
    let mut answer =
        SignedUrlResponse { blob_storage_type: AZURE.to_owned(), ..Default::default() };
    match called.as_str() {
        method::STEP_SUMMARY_URL => {
            answer.summary_url = url(LogName::Summary(step()?))?;
            answer.soft_size_limit = SOFT_SIZE_LIMIT.to_owned();
        }
        method::STEP_LOGS_URL => {
            answer.logs_url = url(LogName::Step(step()?))?;
            answer.soft_size_limit = SOFT_SIZE_LIMIT.to_owned();
        }
        method::JOB_LOGS_URL => answer.logs_url = url(LogName::Job)?,
        method::STEP_SUMMARY_METADATA | method::STEP_LOGS_METADATA | method::JOB_LOGS_METADATA => {
            // What was uploaded is on disk: there is nothing to add.
            return Ok(Json(wire::Ok { ok: true }).into_response());
        }
        _ => return Err(TwirpFault::not_found("there is no such method")),
    }
    Ok(Json(answer).into_response())
}

/// `POST …WorkflowStepUpdateService/WorkflowStepsUpdate`
pub(super) async fn steps_update(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<wire::Ok>, TwirpFault> {
    let at = authorized(&shared, &headers)?;
    let update: WorkflowStepsUpdate =
        lenient::from_slice(&body).map_err(|e| TwirpFault::invalid(e.to_string()))?;
    check(&shared, at, update.workflow_run_backend_id, update.workflow_job_run_backend_id)?;
    if update.steps.len() > MAX_STEPS {
        return Err(TwirpFault::invalid(format!("more than {MAX_STEPS} steps")));
    }
    let steps = update.steps.into_iter().map(step).collect();
    let order = update.change_order;
    shared
        .change(|state, _| state.update_steps(at, order, steps))
        .map_err(|_| TwirpFault::not_found("the job is not running"))?;
    Ok(Json(wire::Ok { ok: true }))
}

fn step(step: wire::StepUpdate) -> StepState {
    let conclusion =
        StepConclusion::from_number(step.conclusion).map(|conclusion| match conclusion {
            StepConclusion::Success => Conclusion::Success,
            StepConclusion::Failure => Conclusion::Failure,
            StepConclusion::Cancelled => Conclusion::Cancelled,
            StepConclusion::Skipped => Conclusion::Skipped,
        });
    // One runner's word for completed is the other's for in progress: a conclusion tells.
    let status = match StepStatus::from_number(step.status) {
        _ if conclusion.is_some() => Status::Completed,
        Some(StepStatus::Completed) => Status::Completed,
        Some(StepStatus::InProgress) => Status::InProgress,
        Some(StepStatus::Pending) | None => Status::Pending,
    };
    StepState {
        id: step.external_id,
        number: step.number.into(),
        name: step.name,
        status,
        conclusion,
        started_at: step.started_at,
        completed_at: step.completed_at,
    }
}

fn authorized(shared: &Shared, headers: &HeaderMap) -> Result<JobRef, TwirpFault> {
    let claims = bearer(headers).and_then(|token| shared.tokens.read::<JobClaims>(token));
    claims.map(|claims| claims.at()).ok_or_else(TwirpFault::unauthenticated)
}

/// The body must name the job whose token it came with.
fn check(shared: &Shared, at: JobRef, plan: Uuid, guid: Uuid) -> Result<(), TwirpFault> {
    let ids = shared.look(|state| state.job(at).map(|(_, live, job, _)| (live.plan_id, job.guid)));
    match ids {
        Some(ids) if ids == (plan, guid) => Ok(()),
        _ => Err(TwirpFault::not_found("the token is of another job, or the job is gone")),
    }
}

fn signed_url(shared: &Shared, at: JobRef, name: LogName) -> Result<String, TwirpFault> {
    let JobRef { run, job } = at;
    let name = name.file_name();
    let sig = shared.tokens.blob(BlobClaims { run, job, name: name.clone() }, shared.clock.now());
    let sig = sig.ok_or_else(TwirpFault::internal)?;
    // The query must be there already: clients add `&comp=…` to it.
    Ok(format!("{}/_blobs/{run}/{job}/{name}?sig={sig}", shared.config.base_url))
}
