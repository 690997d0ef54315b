//! Runs and jobs: looked at, stopped, run again.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::super::address::Repository;
use super::super::client::{Call, GithubClient, PER_PAGE, Page};
use super::super::error::RestError;
use super::super::run::{
    Dispatched, RepositoryInfo, WorkflowJob, WorkflowJobs, WorkflowRun, WorkflowRuns,
};

/// How long a log may take to come.
const LOG_DEADLINE: Duration = Duration::from_mins(5);

/// The permission to change runs.
const WRITE: &str = "actions: write";

/// Which runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// A status or a conclusion, such as `queued`.
    pub status: Option<String>,
    /// Short.
    pub branch: Option<String>,
    /// Such as `push`.
    pub event: Option<String>,
    /// The commit.
    pub head_sha: Option<String>,
}

/// Which jobs of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunJobs {
    /// Those of the newest attempt, or that it kept.
    Latest,
    /// Those of every attempt.
    All,
    /// Those of one attempt.
    Attempt(u64),
}

impl Page for WorkflowRuns {
    type Entry = WorkflowRun;

    fn entries(self) -> Vec<WorkflowRun> {
        self.workflow_runs
    }
}

impl Page for WorkflowJobs {
    type Entry = WorkflowJob;

    fn entries(self) -> Vec<WorkflowJob> {
        self.jobs
    }
}

fn actions<'a>(
    operation: &'static str,
    method: Method,
    repository: &'a Repository,
    rest: &[&'a str],
) -> Call<'a> {
    let mut path = vec!["repos", &repository.owner, &repository.name, "actions"];
    path.extend(rest);
    Call::new(operation, method, path)
}

impl GithubClient {
    /// The repositories of an organization that were pushed to last, the newest first: at most a page of
    /// them, 100.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn pushed_repositories(
        &self,
        organization: &str,
    ) -> Result<Vec<RepositoryInfo>, RestError> {
        let call = Call::get("listing the repositories", vec!["orgs", organization, "repos"]);
        let call = call.needs("metadata: read").query("sort", "pushed").query("direction", "desc");
        self.json(call.query("per_page", PER_PAGE.to_string())).await
    }

    /// The runs of a repository, newest first.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn runs(
        &self,
        repository: &Repository,
        filter: &RunFilter,
    ) -> Result<Vec<WorkflowRun>, RestError> {
        let mut call = actions("listing the runs", Method::GET, repository, &["runs"]);
        for (name, value) in [
            ("status", &filter.status),
            ("branch", &filter.branch),
            ("event", &filter.event),
            ("head_sha", &filter.head_sha),
        ] {
            if let Some(value) = value {
                call = call.query(name, value);
            }
        }
        self.list::<WorkflowRuns>(call).await
    }

    /// A run, in its newest attempt.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn run(&self, repository: &Repository, id: u64) -> Result<WorkflowRun, RestError> {
        let id = id.to_string();
        self.json(actions("looking at a run", Method::GET, repository, &["runs", &id])).await
    }

    /// A run, in one of its attempts.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn run_attempt(
        &self,
        repository: &Repository,
        id: u64,
        attempt: u64,
    ) -> Result<WorkflowRun, RestError> {
        let (id, attempt) = (id.to_string(), attempt.to_string());
        let path = ["runs", &id, "attempts", &attempt];
        self.json(actions("looking at an attempt", Method::GET, repository, &path)).await
    }

    /// The jobs of a run.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn jobs(
        &self,
        repository: &Repository,
        run: u64,
        which: RunJobs,
    ) -> Result<Vec<WorkflowJob>, RestError> {
        const OPERATION: &str = "listing a run's jobs";
        let run = run.to_string();
        let list = ["runs", &run, "jobs"];
        match which {
            RunJobs::Latest => {
                self.list::<WorkflowJobs>(actions(OPERATION, Method::GET, repository, &list)).await
            }
            RunJobs::All => {
                let call = actions(OPERATION, Method::GET, repository, &list);
                self.list::<WorkflowJobs>(call.query("filter", "all")).await
            }
            RunJobs::Attempt(attempt) => {
                let attempt = attempt.to_string();
                let path = ["runs", &run, "attempts", &attempt, "jobs"];
                self.list::<WorkflowJobs>(actions(OPERATION, Method::GET, repository, &path)).await
            }
        }
    }

    /// One job.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn job(&self, repository: &Repository, id: u64) -> Result<WorkflowJob, RestError> {
        let id = id.to_string();
        self.json(actions("looking at a job", Method::GET, repository, &["jobs", &id])).await
    }

    /// The log of a job, of at most `max_bytes`.
    ///
    /// # Errors
    /// 404 while there is none; see [`RestError`].
    pub async fn job_log(
        &self,
        repository: &Repository,
        id: u64,
        max_bytes: usize,
    ) -> Result<Vec<u8>, RestError> {
        let id = id.to_string();
        let path = ["jobs", &id, "logs"];
        let call = actions("reading a job's log", Method::GET, repository, &path);
        self.download(call, max_bytes, LOG_DEADLINE).await
    }

    /// Runs all jobs of a run again. May use the reserve, as may all that follow.
    ///
    /// # Errors
    /// 403 when it is not over, or too old; see [`RestError`].
    pub async fn rerun(&self, repository: &Repository, run: u64) -> Result<(), RestError> {
        let run = run.to_string();
        let path = ["runs", &run, "rerun"];
        self.act("running a run again", repository, &path).await
    }

    /// Runs the failed jobs of a run again, and all that need them.
    ///
    /// # Errors
    /// As [`Self::rerun`].
    pub async fn rerun_failed_jobs(
        &self,
        repository: &Repository,
        run: u64,
    ) -> Result<(), RestError> {
        let run = run.to_string();
        let path = ["runs", &run, "rerun-failed-jobs"];
        self.act("running failed jobs again", repository, &path).await
    }

    /// Runs one job again, and all that need it.
    ///
    /// # Errors
    /// As [`Self::rerun`].
    pub async fn rerun_job(&self, repository: &Repository, job: u64) -> Result<(), RestError> {
        let job = job.to_string();
        let path = ["jobs", &job, "rerun"];
        self.act("running a job again", repository, &path).await
    }

    /// Asks the jobs of a run to stop.
    ///
    /// # Errors
    /// 409 when it is over; see [`RestError`].
    pub async fn cancel(&self, repository: &Repository, run: u64) -> Result<(), RestError> {
        let run = run.to_string();
        self.act("cancelling a run", repository, &["runs", &run, "cancel"]).await
    }

    /// Ends a run without waiting for its runners.
    ///
    /// # Errors
    /// 409 when it is over; see [`RestError`].
    pub async fn force_cancel(&self, repository: &Repository, run: u64) -> Result<(), RestError> {
        let run = run.to_string();
        let path = ["runs", &run, "force-cancel"];
        self.act("cancelling a run by force", repository, &path).await
    }

    async fn act(
        &self,
        operation: &'static str,
        repository: &Repository,
        path: &[&str],
    ) -> Result<(), RestError> {
        self.done(actions(operation, Method::POST, repository, path).needs(WRITE).reserved()).await
    }

    /// Starts a workflow, by its id or its file's name, and gives the run.
    ///
    /// # Errors
    /// 404 for no such workflow, 422 when it takes no dispatch or other inputs; see [`RestError`].
    pub async fn dispatch(
        &self,
        repository: &Repository,
        workflow: &str,
        git_ref: &str,
        inputs: &Value,
    ) -> Result<Dispatched, RestError> {
        let path = ["workflows", workflow, "dispatches"];
        let call = actions("starting a workflow", Method::POST, repository, &path).needs(WRITE);
        let body = json!({"ref": git_ref, "inputs": inputs, "return_run_details": true});
        self.json(call.body(body)).await
    }
}
