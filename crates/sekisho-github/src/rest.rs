//! GitHub's REST: the types, shared with the hub, and the client.
//!
//! [`GithubClient`] asks; [`Address`] says whom, [`Credential`] as who. What may still be asked is
//! decided in [`budget`], when a token is renewed in [`token`]: both are plain functions.

mod address;
mod answers;
mod app;
pub mod budget;
mod calls;
mod client;
mod clock;
mod error;
mod group;
pub mod link;
mod run;
pub mod token;

pub use address::{Address, AddressError, Hosting, Repository, Scope};
pub use app::{KeySigner, SignError, SignFuture, Signer, assertion};
pub use calls::{RunFilter, RunJobs, WorkflowFile};
pub use client::{API_VERSION, GithubClient};
pub use clock::Clock;
pub use error::RestError;
pub use group::{
    ContentEntry, Installation, InstallationToken, Labels, RegistrationToken, RunnerGroup,
    RunnerGroupChange, RunnerGroups,
};
pub use run::{
    Account, Dispatched, JobStep, RepositoryInfo, RunConclusion, RunStatus, WorkflowJob,
    WorkflowJobs, WorkflowRun, WorkflowRuns,
};
pub use token::Credential;

use serde::{Deserialize, Serialize};

/// Body of `POST …/actions/runners/generate-jitconfig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateJitConfig {
    /// Unique among the registered runners.
    pub name: String,
    /// `1` is the default group.
    pub runner_group_id: u64,
    /// 1 to 100; nothing is added to them.
    pub labels: Vec<String>,
    /// `_work` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work_folder: Option<String>,
}

/// Answer to [`GenerateJitConfig`], status 201.
#[derive(Clone, Serialize, Deserialize)]
pub struct JitConfig {
    /// The registration.
    pub runner: Runner,
    /// The runner's only credential: a secret.
    pub encoded_jit_config: String,
}

impl std::fmt::Debug for JitConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JitConfig").field("runner", &self.runner).finish_non_exhaustive()
    }
}

/// A registered runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    /// Unique in the service.
    pub id: u64,
    /// As registered.
    pub name: String,
    /// `unknown` until it has listened.
    pub os: String,
    /// `online` or `offline`.
    pub status: String,
    /// Has a job.
    pub busy: bool,
    /// What it offers, lower case.
    pub labels: Vec<Label>,
    /// Its group.
    #[serde(default)]
    pub runner_group_id: Option<u64>,
    /// Takes one job and is gone.
    #[serde(default)]
    pub ephemeral: Option<bool>,
}

/// Something a runner offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// `0` for those of a JIT registration.
    #[serde(default)]
    pub id: Option<u64>,
    /// Lower case.
    pub name: String,
    /// `read-only` or `custom`.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
}

/// Answer to `GET …/actions/runners`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runners {
    /// Of all pages.
    pub total_count: u64,
    /// This page.
    pub runners: Vec<Runner>,
}
