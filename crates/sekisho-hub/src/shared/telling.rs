//! What the hooks are told of jobs and runs.

use sekisho_github::hub_api::{EventKind, Status};
use serde_json::json;

use super::Shared;
use crate::http::shown;
use crate::state::State;

impl Shared {
    /// Tells the hooks of a job or a run that changed.
    pub(super) fn tell(&self, state: &State, run: u64, kind: &EventKind) {
        let Some(run) = state.runs.get(&run) else { return };
        let Some(live) = run.live.as_deref() else { return };
        let (base, facts) = (&self.config.base_url, &live.facts);
        let (event, mut payload) = match kind {
            EventKind::Run { status, conclusion } if self.hooks.is_wanted("workflow_run") => {
                let action = match status {
                    // One with a concurrency group was pending before: told then.
                    Status::Queued if live.has_group() => return,
                    Status::Pending | Status::Queued => "requested",
                    Status::InProgress => "in_progress",
                    Status::Completed => "completed",
                };
                let mut shown = shown::run(base, &run.view, &facts.repository, &facts.actor);
                // As it was at this event: the state may have gone on since.
                shown.status = shown::status(*status);
                shown.conclusion = conclusion.map(shown::conclusion);
                ("workflow_run", json!({ "action": action, "workflow_run": shown }))
            }
            EventKind::Job { job_id, name, status, conclusion, runner_name }
                if self.hooks.is_wanted("workflow_job") =>
            {
                let Some(job) = run.view.jobs.iter().find(|job| job.id == *job_id) else { return };
                let action = match status {
                    // GitHub does not tell of a job that waits for others.
                    Status::Pending => return,
                    Status::Queued => "queued",
                    Status::InProgress => "in_progress",
                    Status::Completed => "completed",
                };
                // As it was at this event: the state may have gone on since.
                let mut job = job.clone();
                (job.name, job.status) = (name.clone(), *status);
                (job.conclusion, job.runner_name) = (*conclusion, runner_name.clone());
                job.completed_at = job.completed_at.filter(|_| *status == Status::Completed);
                if *status == Status::Queued {
                    (job.runner_id, job.runner_name) = (None, None);
                    job.steps.clear();
                }
                let shown = shown::job(base, &run.view, &job);
                ("workflow_job", json!({ "action": action, "workflow_job": shown }))
            }
            _ => return,
        };
        let branch = facts.github["event"]["repository"]["default_branch"].as_str();
        payload["repository"] = json!(shown::repository(base, &facts.repository, branch));
        payload["sender"] = json!({ "login": facts.actor, "id": facts.actor_id, "type": "User" });
        self.hooks.tell(event, &payload);
    }
}
