//! What goes on beside a job: its lock is renewed, and its cancellation listened for.

use std::time::Duration;

use sekisho_github::lenient;
use sekisho_github::retry::jitter;
use sekisho_github::runner::{Client, ClientError, JobClient, Session};
use sekisho_github::wire::message::{JobCancellation, MessageType, RunnerStatus, TaskAgentMessage};
use tokio::time::Instant;
use uuid::Uuid;

use super::{MIN_POLL, is_session_invalid, pause_after};
use crate::Stop;
use crate::clock;
use crate::lease::{Action, Answer, Lease, Loss, length};

/// A cancelled job gets at least this long.
const MIN_CANCEL: Duration = Duration::from_secs(60);
/// This much of a cancellation's time is kept for reporting.
const CANCEL_MARGIN: Duration = Duration::from_secs(15);

/// Renews and listens until the lock is lost; then the job is stopped, and the reason is the answer.
pub(super) async fn beside(
    client: &Client,
    session: Session,
    job: &JobClient,
    job_id: Uuid,
    stop: &Stop,
) -> Loss {
    let listening = listen(client, session, job_id, stop);
    tokio::pin!(listening);
    // Cancel-safe: when the lock is lost there is nothing more to be heard.
    tokio::select! {
        loss = keep(job) => {
            tracing::error!(?loss, "the job's lock is lost: the job is cancelled");
            stop.cancel_within(MIN_CANCEL - CANCEL_MARGIN);
            loss
        }
        never = &mut listening => match never {},
    }
}

/// Renews the lock until it is lost.
async fn keep(job: &JobClient) -> Loss {
    let began = Instant::now();
    let mut lease = Lease::new();
    loop {
        match lease.decide(began.elapsed()) {
            Action::Wait(until) => tokio::time::sleep_until(began + until).await,
            Action::Lost(loss) => return loss,
            Action::Renew => {
                let asked = began.elapsed();
                let answer = match job.renew().await {
                    Ok(answer) => {
                        let until = answer.locked_until.as_second();
                        Answer::Renewed(length(until, clock::now().as_second()))
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the job's lock was not renewed");
                        answer(&error)
                    }
                };
                lease.answered(asked, began.elapsed(), answer, jitter());
            }
        }
    }
}

/// What a failure means for the lock. An answer that cannot be read is one that may go away: some
/// proxy has spoken, not the service.
fn answer(error: &ClientError) -> Answer {
    match error.status() {
        Some(401 | 403) => Answer::Unauthorized,
        Some(404 | 409 | 410 | 422) => Answer::Refused,
        _ => Answer::Failed,
    }
}

async fn listen(
    client: &Client,
    mut session: Session,
    job_id: Uuid,
    stop: &Stop,
) -> std::convert::Infallible {
    let mut failures = 0;
    loop {
        let asked = Instant::now();
        match client.poll(&session, RunnerStatus::Busy).await {
            Ok(None) => {
                failures = 0;
                tokio::time::sleep_until(asked + MIN_POLL).await;
            }
            Ok(Some(polled)) => {
                failures = 0;
                let kind = MessageType::parse(&polled.message.message_type);
                if kind == Some(MessageType::PipelineAgentJobRequest) {
                    // Not ours, for we have one: it stays in the queue, for another runner.
                    tokio::time::sleep_until(asked + MIN_POLL).await;
                    continue;
                }
                if let Some(time) = cancellation(client, &polled.message, job_id) {
                    stop.cancel_within(time);
                }
                client.delete_message(&session, &polled).await;
            }
            Err(error) if is_session_invalid(&error) => match client.create_session().await {
                Ok(new) => session = new,
                Err(error) => {
                    tracing::warn!(%error, "there is no new session");
                    failures += 1;
                    tokio::time::sleep(pause_after(&error, failures)).await;
                }
            },
            Err(error) if error.is_transient() => {
                failures += 1;
                tokio::time::sleep(pause_after(&error, failures)).await;
            }
            Err(error) => {
                // The job goes on: its lock tells whether the service still wants it.
                tracing::warn!(%error, "cancellations are not heard any more");
                std::future::pending::<()>().await;
            }
        }
    }
}

/// How long the job has, if the message cancels it.
fn cancellation(client: &Client, message: &TaskAgentMessage, job_id: Uuid) -> Option<Duration> {
    match MessageType::parse(&message.message_type)? {
        MessageType::JobCancellation => {
            let body: JobCancellation = lenient::from_str(&message.body).ok()?;
            if body.job_id != job_id {
                return None;
            }
            Some(parse_span(&body.timeout).unwrap_or(MIN_CANCEL).max(MIN_CANCEL) - CANCEL_MARGIN)
        }
        MessageType::HostedRunnerShutdown => Some(MIN_CANCEL - CANCEL_MARGIN),
        MessageType::ForceTokenRefresh => {
            client.forget_token();
            None
        }
        MessageType::RunnerJobRequest
        | MessageType::PipelineAgentJobRequest
        | MessageType::BrokerMigration
        | MessageType::AgentRefresh
        | MessageType::RunnerRefresh
        | MessageType::RunnerRefreshConfig => None,
    }
}

/// `hh:mm:ss`, with a day's part before a dot perhaps, and a fraction.
fn parse_span(text: &str) -> Option<Duration> {
    let (days, clock) = match text.split_once('.') {
        Some((days, clock)) if clock.contains(':') => (days.parse::<u64>().ok()?, clock),
        _ => (0, text),
    };
    let mut parts = clock.split(':');
    let mut part = || parts.next()?.split('.').next()?.parse::<u64>().ok();
    let (hours, minutes, seconds) = (part()?, part()?, part()?);
    let total = days.checked_mul(24)?.checked_add(hours)?.checked_mul(60)?.checked_add(minutes)?;
    Some(Duration::from_secs(total.checked_mul(60)?.checked_add(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        assert_eq!(parse_span("00:05:00"), Some(Duration::from_secs(300)));
        assert_eq!(parse_span("1.01:00:01.5"), Some(Duration::from_secs(25 * 3600 + 1)));
        for bad in ["", "5", "a:b:c", "1:2", "99999999999999999999:0:0"] {
            assert_eq!(parse_span(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_span_or_none(text in "[-0-9.:a ]{0,30}") {
            let _ = parse_span(&text);
        }

        #[test]
        fn spans_are_read_back(days in 0..1000_u64, h in 0..24_u64, m in 0..60_u64, s in 0..60_u64) {
            let want = Duration::from_secs(((days * 24 + h) * 60 + m) * 60 + s);
            let text = format!("{days}.{h:02}:{m:02}:{s:02}.0000000");
            proptest::prop_assert_eq!(parse_span(&text), Some(want));
        }
    }
}
