//! The run service: a job is taken, kept and given back.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use sekisho_github::hub_api::{Annotation, AnnotationLevel, Conclusion, Status};
use sekisho_github::lenient;
use sekisho_github::wire::job::AgentJobRequestMessage;
use sekisho_github::wire::run_service::{self as wire, AcquireJob, CompleteJob, RenewJob};
use uuid::Uuid;

use super::guard::bearer;
use super::reply::ServiceFault;
use crate::faults::{Call, Fault};
use crate::message;
use crate::shared::Shared;
use crate::state::{Completion, JobError, JobRef, StepState};
use crate::tokens::{JobClaims, RunnerClaims};

/// `POST acquirejob`, with the runner's token: once.
pub(super) async fn acquire(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<AgentJobRequestMessage>, ServiceFault> {
    let runner = bearer(&headers).and_then(|token| shared.tokens.read::<RunnerClaims>(token));
    let runner = runner.ok_or_else(unauthorized)?.runner;
    let request: AcquireJob = lenient::from_slice(&body).map_err(unprocessable)?;
    let request: Uuid = request.job_message_id.parse().map_err(unprocessable)?;
    let message = shared.change(|state, now| {
        let at = state.acquire(runner, request, now).map_err(refused)?;
        let job = state.job(at).ok_or_else(|| refused(JobError::NotFound))?;
        message::build(&shared.config, &shared.tokens, job, now)
            .ok_or_else(|| ServiceFault::internal(&"a job's message cannot be built"))
    });
    let ghost = |fault: &Fault| matches!(fault, Fault::Ghost { .. });
    if message.is_ok()
        && let Some(Fault::Ghost { refusals }) = shared.strike(Call::AcquireJob, ghost)
    {
        shared.change(|state, _| state.haunt(runner, refusals));
    }
    message.map(Json)
}

/// `POST renewjob`
pub(super) async fn renew(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<wire::RenewJobResponse>, ServiceFault> {
    let at = authorized(&shared, &headers)?;
    let request: RenewJob = lenient::from_slice(&body).map_err(unprocessable)?;
    check(&shared, at, request.plan_id, request.job_id)?;
    let renewed = shared.change(|state, now| state.renew(at, now));
    renewed.map(|locked_until| Json(wire::RenewJobResponse { locked_until })).map_err(refused)
}

/// `POST completejob`: once. Answered when the result is on disk; who was told that it is not asks again.
pub(super) async fn complete(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, ServiceFault> {
    let at = authorized(&shared, &headers)?;
    let report: CompleteJob = lenient::from_slice(&body).map_err(unprocessable)?;
    check(&shared, at, report.plan_id, report.job_id)?;
    let done = completion(report);
    shared.change(|state, now| state.complete(at, done, now)).map_err(refused)?;
    shared.saver.flushed().await?;
    shared.change(|state, _| state.settle(at));
    Ok(StatusCode::OK)
}

/// The job whose token it is.
fn authorized(shared: &Shared, headers: &HeaderMap) -> Result<JobRef, ServiceFault> {
    let claims = bearer(headers).and_then(|token| shared.tokens.read::<JobClaims>(token));
    claims.map(|claims| claims.at()).ok_or_else(unauthorized)
}

/// Whether the body names the job whose token it came with.
fn check(shared: &Shared, at: JobRef, plan: Uuid, guid: Uuid) -> Result<(), ServiceFault> {
    let ids = shared.look(|state| state.job(at).map(|(_, live, job, _)| (live.plan_id, job.guid)));
    match ids {
        Some(ids) if ids == (plan, guid) => Ok(()),
        Some(_) => Err(ServiceFault::run(
            StatusCode::FORBIDDEN,
            "the token is of another job than the request",
        )),
        None => Err(refused(JobError::NotFound)),
    }
}

fn completion(report: CompleteJob) -> Completion {
    let mut annotations: Vec<Annotation> = report.annotations.into_iter().map(annotation).collect();
    let mut steps = Vec::new();
    for step in report.step_results {
        annotations.extend(step.annotations.into_iter().map(annotation));
        steps.push(StepState {
            id: step.external_id,
            number: step.number.into(),
            name: step.name,
            status: match step.status {
                wire::StepState::Pending => Status::Pending,
                wire::StepState::InProgress => Status::InProgress,
                wire::StepState::Completed => Status::Completed,
            },
            conclusion: step.conclusion.map(conclusion),
            started_at: step.started_at,
            completed_at: step.completed_at,
        });
    }
    let plain = report.outputs.into_iter().filter(|(_, output)| !output.is_secret);
    Completion {
        conclusion: conclusion(report.conclusion),
        outputs: plain.map(|(name, output)| (name, output.value)).collect(),
        steps,
        annotations,
    }
}

fn conclusion(conclusion: wire::Conclusion) -> Conclusion {
    match conclusion {
        wire::Conclusion::Succeeded | wire::Conclusion::SucceededWithIssues => Conclusion::Success,
        wire::Conclusion::Failed | wire::Conclusion::Abandoned => Conclusion::Failure,
        wire::Conclusion::Canceled => Conclusion::Cancelled,
        wire::Conclusion::Skipped => Conclusion::Skipped,
    }
}

fn annotation(annotation: wire::Annotation) -> Annotation {
    Annotation {
        level: match annotation.level {
            wire::AnnotationLevel::Notice => AnnotationLevel::Notice,
            wire::AnnotationLevel::Warning => AnnotationLevel::Warning,
            wire::AnnotationLevel::Failure => AnnotationLevel::Failure,
        },
        message: annotation.message,
        path: annotation.path.filter(|path| !path.is_empty()),
        line: annotation.start_line.and_then(|line| u64::try_from(line).ok()),
    }
}

fn refused(error: JobError) -> ServiceFault {
    match error {
        JobError::NotFound => {
            ServiceFault::run(StatusCode::NOT_FOUND, "the job is not there any more")
        }
        JobError::Taken => ServiceFault::run(StatusCode::CONFLICT, "the job is taken already"),
    }
}

fn unauthorized() -> ServiceFault {
    ServiceFault::run(StatusCode::UNAUTHORIZED, "the token is not the right one")
}

fn unprocessable(error: impl std::fmt::Display) -> ServiceFault {
    ServiceFault::run(StatusCode::UNPROCESSABLE_ENTITY, format!("bad request: {error}"))
}
