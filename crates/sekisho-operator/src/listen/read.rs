//! What GitHub's messages say, as decisions know it.

use sekisho_api::JobResult;
use sekisho_github::wire::scale_set::{JobMessage, JobMessageKind, JobResult as WireResult};
use sekisho_reconcile::At;
use sekisho_reconcile::runner::Job;
use sekisho_reconcile::session::message;
/// When a job that a runner has was queued, and when the runner got it.
pub(super) fn waited(message: &JobMessage) -> Option<(At, At)> {
    let times = message.queue_time.zip(message.runner_assign_time);
    let times = times.filter(|_| message.kind == JobMessageKind::Started);
    times.map(|(queued, started)| (At::of(queued), At::of(started)))
}

pub(super) fn read(message: &JobMessage) -> message::Event {
    let job = Job {
        id: match message.job_id.as_str() {
            "" => message.runner_request_id.to_string(),
            id => id.to_owned(),
        },
        run_id: message.workflow_run_id,
        repository: format!("{}/{}", message.owner_name, message.repository_name),
        display_name: message.job_display_name.clone(),
        workflow_ref: Some(message.job_workflow_ref.clone()).filter(|text| !text.is_empty()),
        started: message.runner_assign_time.map(At::of),
        completed: message.finish_time.map(At::of),
        result: message.result.as_ref().map(result),
    };
    let runner = message.runner_name.clone().filter(|name| !name.is_empty());
    let registration = message.runner_id.unwrap_or_default();
    match (&message.kind, runner) {
        (JobMessageKind::Available, _) => {
            message::Event::Available { request: message.runner_request_id }
        }
        (JobMessageKind::Assigned, _) => message::Event::Assigned,
        (JobMessageKind::Started, Some(runner)) => {
            message::Event::Started { runner, registration, job }
        }
        (JobMessageKind::Completed, runner) => {
            let result = job.result.or(Some(JobResult::Other));
            message::Event::Completed { runner, job: Job { result, ..job } }
        }
        (JobMessageKind::Started, None) | (JobMessageKind::Other(_), _) => {
            message::Event::Unreadable
        }
    }
}

fn result(result: &WireResult) -> JobResult {
    match result {
        WireResult::Succeeded => JobResult::Succeeded,
        WireResult::Failed => JobResult::Failed,
        WireResult::Canceled => JobResult::Cancelled,
        _ => JobResult::Other,
    }
}
