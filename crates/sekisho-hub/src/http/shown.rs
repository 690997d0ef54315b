//! Runs and jobs, as REST and webhooks show them.

use sekisho_github::hub_api::{Conclusion, Job, Run, Status};
use sekisho_github::rest::{
    Account, JobStep, RepositoryInfo, RunConclusion, RunStatus, WorkflowJob, WorkflowRun,
};
use sekisho_github::webhook::node_id;
use sha2::{Digest as _, Sha256};

use crate::event::short_ref;
use crate::state::{DEFAULT_GROUP, DEFAULT_GROUP_NAME, RepositoryIds};

/// The number of a workflow file: the same as long as its path is. 48 bits, so that a program that
/// reads numbers as floats has it right.
pub(crate) fn workflow_id(repository: u64, path: &str) -> u64 {
    let hash = Sha256::digest(format!("{repository}:{path}"));
    hash.iter().take(6).fold(0, |id, byte| (id << 8) | u64::from(*byte))
}

/// A repository, told with something else.
pub(crate) fn repository(
    base: &str,
    ids: &RepositoryIds,
    default_branch: Option<&str>,
) -> RepositoryInfo {
    RepositoryInfo {
        id: ids.id,
        name: ids.name.name().to_owned(),
        full_name: ids.name.to_string(),
        owner: Account {
            login: ids.name.owner().to_owned(),
            id: ids.owner_id,
            kind: "Organization".to_owned(),
        },
        private: true,
        html_url: format!("{base}/{}", ids.name),
        default_branch: default_branch.map(str::to_owned),
    }
}

/// Branch and commit that a run is shown with: those that a pull request brings, if it is of one.
fn head(run: &Run) -> (&str, &str) {
    match &run.head {
        Some(head) => (&head.branch, &head.sha),
        None => (short_ref(&run.git_ref), &run.sha),
    }
}

/// A run.
pub(crate) fn run(base: &str, run: &Run, ids: &RepositoryIds, actor: &str) -> WorkflowRun {
    let api = format!("{base}/api/v3/repos/{}/actions", ids.name);
    let url = format!("{api}/runs/{}", run.id);
    let account = Account { login: actor.to_owned(), id: ids.owner_id, kind: "User".to_owned() };
    let workflow_id = workflow_id(ids.id, &run.workflow_path);
    let earlier = run.run_attempt.saturating_sub(1);
    WorkflowRun {
        id: run.id,
        name: Some(run.workflow_name.clone()),
        node_id: node_id("WorkflowRun", run.id),
        head_branch: Some(head(run).0.to_owned()),
        head_sha: head(run).1.to_owned(),
        path: run.workflow_path.clone(),
        display_title: run.workflow_name.clone(),
        run_number: run.run_number,
        event: run.event.clone(),
        status: status(run.status),
        conclusion: run.conclusion.map(conclusion),
        workflow_id,
        html_url: format!("{base}/{}/actions/runs/{}", ids.name, run.id),
        created_at: run.created_at,
        updated_at: run.completed_at.or(run.started_at).unwrap_or(run.created_at),
        run_attempt: run.run_attempt,
        run_started_at: Some(run.started_at.unwrap_or(run.created_at)),
        actor: account.clone(),
        triggering_actor: account,
        jobs_url: format!("{url}/jobs"),
        logs_url: format!("{url}/logs"),
        artifacts_url: format!("{url}/artifacts"),
        cancel_url: format!("{url}/cancel"),
        rerun_url: format!("{url}/rerun"),
        previous_attempt_url: (earlier > 0).then(|| format!("{url}/attempts/{earlier}")),
        workflow_url: format!("{api}/workflows/{workflow_id}"),
        repository: repository(base, ids, None),
        url,
    }
}

/// A job of a run.
pub(crate) fn job(base: &str, run: &Run, job: &Job) -> WorkflowJob {
    let api = format!("{base}/api/v3/repos/{}", run.repository);
    let queued_at = job.queued_at.unwrap_or(run.created_at);
    let has_runner = job.runner_id.is_some();
    WorkflowJob {
        id: job.id,
        run_id: run.id,
        run_url: format!("{api}/actions/runs/{}", run.id),
        run_attempt: job.run_attempt,
        node_id: node_id("CheckRun", job.id),
        head_sha: head(run).1.to_owned(),
        head_branch: Some(head(run).0.to_owned()),
        url: format!("{api}/actions/jobs/{}", job.id),
        html_url: Some(format!("{base}/{}/actions/runs/{}/job/{}", run.repository, run.id, job.id)),
        status: status(job.status),
        conclusion: job.conclusion.map(conclusion),
        created_at: queued_at,
        // Filled while it is queued too, as on GitHub.
        started_at: job.started_at.unwrap_or(queued_at),
        completed_at: job.completed_at,
        name: job.name.clone(),
        steps: job.steps.iter().map(step).collect(),
        check_run_url: format!("{api}/check-runs/{}", job.id),
        labels: job.labels.clone(),
        runner_id: job.runner_id,
        runner_name: job.runner_name.clone(),
        runner_group_id: has_runner.then(|| job.runner_group_id.unwrap_or(DEFAULT_GROUP)),
        runner_group_name: has_runner.then(|| {
            job.runner_group_name.clone().unwrap_or_else(|| DEFAULT_GROUP_NAME.to_owned())
        }),
        workflow_name: Some(run.workflow_name.clone()),
    }
}

fn step(step: &sekisho_github::hub_api::Step) -> JobStep {
    // Steps know no `pending`.
    let status = match step.status {
        Status::Pending => RunStatus::Queued,
        other => status(other),
    };
    JobStep {
        name: step.name.clone(),
        status,
        conclusion: step.conclusion.map(conclusion),
        number: step.number,
        started_at: step.started_at,
        completed_at: step.completed_at,
    }
}

/// The word for where it is.
pub(crate) fn status(status: Status) -> RunStatus {
    match status {
        Status::Pending => RunStatus::Pending,
        Status::Queued => RunStatus::Queued,
        Status::InProgress => RunStatus::InProgress,
        Status::Completed => RunStatus::Completed,
    }
}

/// The word for how it ended.
pub(crate) fn conclusion(conclusion: Conclusion) -> RunConclusion {
    match conclusion {
        Conclusion::Success => RunConclusion::Success,
        Conclusion::Failure => RunConclusion::Failure,
        Conclusion::Cancelled => RunConclusion::Cancelled,
        Conclusion::Skipped => RunConclusion::Skipped,
    }
}
