//! From the JIT configuration to a job, and back to nothing.

mod beside;

use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use sekisho_github::jit::JitConfig;
use sekisho_github::lenient;
use sekisho_github::retry::{Policy, heed, jitter, retry};
use sekisho_github::runner::{Client, ClientError, Identity, JobClient, Session};
use sekisho_github::wire::error::kind;
use sekisho_github::wire::job::AgentJobRequestMessage;
use sekisho_github::wire::message::{
    MessageType, RunnerJobRequest, RunnerStatus, TaskAgentMessage,
};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use self::beside::beside;
use crate::job::{self, JobInput};
use crate::lease::Loss;
use crate::state::RunnerFacts;
use crate::{Options, RunnerOutcome, Stop};

/// A poll that is answered with nothing sooner than this is not followed by the next at once.
const MIN_POLL: Duration = Duration::from_secs(1);
/// How long the result is reported for when there is no time left.
const HURRIED_REPORT: Duration = Duration::from_secs(5);
/// A session that another process holds is asked for again this often …
const CONFLICT_PAUSE: Duration = Duration::from_secs(30);
/// … and this many times.
const CONFLICT_TRIES: u32 = 8;
/// Polls that may fail one after the other.
const MAX_POLL_FAILURES: u32 = 20;
/// After these many failed polls the pauses get longer.
const EARLY_FAILURES: u32 = 5;

/// Why there is no job.
enum Idle {
    Ended(RunnerOutcome),
    Failed(ClientError),
}

impl From<ClientError> for Idle {
    fn from(error: ClientError) -> Self {
        Self::Failed(error)
    }
}

pub(crate) async fn run(jit: SecretString, options: Options) -> anyhow::Result<RunnerOutcome> {
    let config = JitConfig::decode(&jit).context("reading the JIT configuration")?;
    drop(jit);
    let architecture = architecture();
    let identity = Identity {
        version: options.version.clone(),
        os: "Linux",
        architecture,
        owner: format!("{} (PID: {})", host_name(), std::process::id()),
    };
    let client = Client::new(&config, identity).context("preparing the runner's client")?;
    let session = match open_session(&client, &options.stop).await {
        Ok(session) => session,
        Err(idle) => return end(idle),
    };
    let mut session = session;
    let job = match wait_for_job(&client, &mut session, &options.stop).await {
        Ok(job) => job,
        Err(idle) => {
            close_session(&client, &session).await;
            return end(idle);
        }
    };
    let result = run_job(&client, &session, &config, architecture, job, options).await;
    close_session(&client, &session).await;
    result
}

/// What the outcome is when there is no job. What another runner could not help either is an
/// outcome; what needs someone to look at is an error.
fn end(idle: Idle) -> anyhow::Result<RunnerOutcome> {
    let error = match idle {
        Idle::Ended(outcome) => return Ok(outcome),
        Idle::Failed(error) => error,
    };
    let outcome = if error.is_version_too_old() {
        RunnerOutcome::VersionTooOld
    } else if error.is_unregistered() || matches!(error.status(), Some(401 | 403)) {
        RunnerOutcome::Refused
    } else if error.is_transient() {
        RunnerOutcome::Unreachable
    } else {
        return Err(error).context("waiting for a job");
    };
    tracing::error!(error = format!("{:#}", anyhow::Error::from(error)), "there is no job");
    Ok(outcome)
}

async fn open_session(client: &Client, stop: &Stop) -> Result<Session, Idle> {
    let mut conflicts = 0;
    loop {
        let session = tokio::select! {
            session = client.create_session() => session,
            () = stop.cancelled() => return Err(Idle::Ended(RunnerOutcome::NoJob)),
        };
        match session {
            Err(error) if error.status() == Some(409) => {
                conflicts += 1;
                if conflicts >= CONFLICT_TRIES {
                    return Err(Idle::Ended(RunnerOutcome::SessionConflict));
                }
                pause(CONFLICT_PAUSE, stop).await?;
            }
            other => return other.map_err(Idle::Failed),
        }
    }
}

/// Polls until there is a job that is ours.
async fn wait_for_job(
    client: &Client,
    session: &mut Session,
    stop: &Stop,
) -> Result<(AgentJobRequestMessage, JobClient), Idle> {
    let mut failures = 0;
    loop {
        let asked = Instant::now();
        let polled = tokio::select! {
            polled = client.poll(session, RunnerStatus::Online) => polled,
            () = stop.cancelled() => return Err(Idle::Ended(RunnerOutcome::NoJob)),
        };
        let polled = match polled {
            Ok(None) => {
                failures = 0;
                pause((asked + MIN_POLL).saturating_duration_since(Instant::now()), stop).await?;
                continue;
            }
            Ok(Some(polled)) => polled,
            Err(error) if is_session_invalid(&error) => {
                *session = open_session(client, stop).await?;
                continue;
            }
            Err(error) if error.is_transient() && failures < MAX_POLL_FAILURES => {
                failures += 1;
                tracing::warn!(error = %error, failures, "polling failed");
                pause(pause_after(&error, failures), stop).await?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        failures = 0;
        let job = match MessageType::parse(&polled.message.message_type) {
            Some(MessageType::RunnerJobRequest) => take(client, session, &polled.message).await?,
            Some(MessageType::PipelineAgentJobRequest) => {
                take_whole(client, &polled.message).await?
            }
            Some(MessageType::ForceTokenRefresh) => {
                client.forget_token();
                None
            }
            Some(MessageType::HostedRunnerShutdown) => {
                return Err(Idle::Ended(RunnerOutcome::NoJob));
            }
            Some(
                MessageType::JobCancellation
                | MessageType::RunnerRefresh
                | MessageType::RunnerRefreshConfig
                | MessageType::AgentRefresh
                | MessageType::BrokerMigration,
            )
            | None => {
                tracing::debug!(kind = polled.message.message_type, "a message is ignored");
                None
            }
        };
        // Only now: a job that could not be taken is delivered again.
        client.delete_message(session, &polled).await;
        if let Some(job) = job {
            return Ok(job);
        }
    }
}

/// Takes a job that comes whole, as the old flow has it; its first renewal must succeed.
async fn take_whole(
    client: &Client,
    message: &TaskAgentMessage,
) -> Result<Option<(AgentJobRequestMessage, JobClient)>, Idle> {
    let Ok(message) = lenient::from_str::<AgentJobRequestMessage>(&message.body) else {
        tracing::warn!("a job that cannot be read is ignored");
        return Ok(None);
    };
    let job = client.job(&message).await?;
    match retry(Policy::QUICK, ClientError::is_transient, |_| job.renew()).await {
        Ok(_) => Ok(Some((message, job))),
        Err(error) if error.is_transient() => Err(error.into()),
        Err(error) => {
            tracing::info!(%error, "the job is not ours");
            Ok(None)
        }
    }
}

/// Acknowledges and acquires; `None` when the job turns out not to be ours.
async fn take(
    client: &Client,
    session: &Session,
    message: &TaskAgentMessage,
) -> Result<Option<(AgentJobRequestMessage, JobClient)>, Idle> {
    let Ok(request) = lenient::from_str::<RunnerJobRequest>(&message.body) else {
        tracing::warn!("a job message that cannot be read is ignored");
        return Ok(None);
    };
    if request.should_acknowledge
        && let Err(error) = client.acknowledge(session, &request).await
    {
        let gone = kind::ACKNOWLEDGE_JOB_NOT_FOUND;
        if error.kind().is_some_and(|kind| kind.eq_ignore_ascii_case(gone)) {
            return Err(Idle::Ended(RunnerOutcome::NoJob));
        }
        tracing::warn!(error = %error, "the job could not be acknowledged");
    }
    match client.acquire(&request).await {
        Ok(message) => {
            let job = client.job(&message).await?;
            Ok(Some((message, job)))
        }
        Err(error) if matches!(error.status(), Some(404 | 409 | 422)) => {
            tracing::info!(error = %error, "the job is not ours");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn run_job(
    client: &Client,
    session: &Session,
    config: &JitConfig,
    architecture: &'static str,
    (message, job): (AgentJobRequestMessage, JobClient),
    options: Options,
) -> anyhow::Result<RunnerOutcome> {
    let stop = options.stop;
    let job_id = message.job_id;
    let input = JobInput {
        message,
        client: job.clone(),
        root: options.root,
        work_folder: config.runner.work_folder.clone(),
        version: options.version,
        runner: RunnerFacts {
            name: config.runner.agent_name.clone(),
            architecture,
            tracking: format!("github_{}", Uuid::new_v4()),
        },
        environment: options.environment,
        output: options.output,
        grace: options.grace,
        stop: stop.clone(),
    };
    let (result, loss) = {
        let beside = beside(client, session.clone(), &job, job_id, &stop);
        tokio::pin!(beside);
        let running = AbortOnDropHandle::new(tokio::spawn(job::run(input)));
        tokio::pin!(running);
        // Both arms are cancel-safe in the way that matters: the job's task is only looked at,
        // and what goes on beside it is of no use once the job is over.
        tokio::select! {
            result = &mut running => (result, None),
            loss = &mut beside => (running.await, Some(loss)),
        }
    };
    let report = result.context("running the job")?.context("running the job")?;
    if loss == Some(Loss::Refused) {
        // The service has said that the job is not ours: a result would be another runner's.
        return Ok(RunnerOutcome::LockLost);
    }
    let reported = stop.hurry(HURRIED_REPORT, job.complete(&report)).await;
    match reported.context("reporting the job's result took too long")? {
        Ok(()) => Ok(RunnerOutcome::Completed(report.conclusion)),
        Err(error) if matches!(error.status(), Some(404 | 409)) => {
            tracing::error!(%error, "the job is not ours any more");
            Ok(RunnerOutcome::LockLost)
        }
        Err(error) => Err(error).context("reporting the job's result"),
    }
}

async fn close_session(client: &Client, session: &Session) {
    if let Err(error) = client.delete_session(session).await {
        tracing::debug!(error = %error, "the session could not be closed");
    }
}

fn is_session_invalid(error: &ClientError) -> bool {
    error.kind().is_some_and(|kind| kind.eq_ignore_ascii_case(kind::RUNNER_SESSION_INVALID))
}

/// How long no poll is sent after one that failed: as long as the service asks for, or longer.
fn pause_after(error: &ClientError, failures: u32) -> Duration {
    heed(backoff(failures), error.retry_after())
}

/// 15 to 30 s for the first failures, 30 to 60 s after.
fn backoff(failures: u32) -> Duration {
    let base = if failures <= EARLY_FAILURES { 15 } else { 30 };
    Duration::from_secs(base).mul_f64(1.0 + jitter())
}

/// Sleeps; ends early when the runner is to stop.
async fn pause(time: Duration, stop: &Stop) -> Result<(), Idle> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        () = stop.cancelled() => Err(Idle::Ended(RunnerOutcome::NoJob)),
    }
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "X64",
        "x86" => "X86",
        "aarch64" => "ARM64",
        "arm" => "ARM",
        other => other,
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
