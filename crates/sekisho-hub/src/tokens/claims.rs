//! What tokens say: whom each is of, and what he may do.

use std::collections::BTreeMap;

use sekisho_workflow::model::Access;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::state::JobRef;

/// Says what a token is for, so that none serves as another.
pub(crate) trait Kind: Serialize + DeserializeOwned {
    const AUDIENCE: &'static str;
}

/// A runner, at the broker and for `acquirejob`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunnerClaims {
    pub(crate) runner: u64,
}

/// A job, at the run service, the results service and for ID tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobClaims {
    /// Read by clients: `Actions.Results:<plan>:<job>`.
    pub(crate) scp: String,
    /// Read by cache clients: a JSON text.
    pub(crate) ac: String,
    pub(crate) orch_id: String,
    pub(crate) repository_id: String,
    pub(crate) run: u64,
    pub(crate) job: u64,
}

impl JobClaims {
    pub(crate) fn at(&self) -> JobRef {
        JobRef { run: self.run, job: self.job }
    }
}

/// `github.token` of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GithubClaims {
    pub(crate) repository: String,
    /// What it may do there.
    pub(crate) permissions: Granted,
    pub(crate) run: u64,
    pub(crate) job: u64,
}

impl GithubClaims {
    pub(crate) fn at(&self) -> JobRef {
        JobRef { run: self.run, job: self.job }
    }

    /// Whether it may do something, by REST's name of the permission.
    pub(crate) fn allows(&self, permission: &str, access: Access) -> bool {
        allows(&self.permissions, permission, access)
    }
}

/// `read` or `write`, by the names that REST has for permissions: with `_`.
pub(crate) type Granted = BTreeMap<String, String>;

/// What every token of an installation or a job may read.
const METADATA: &str = "metadata";

/// Whether something is granted.
pub(crate) fn allows(granted: &Granted, permission: &str, access: Access) -> bool {
    match granted.get(permission).map(String::as_str) {
        _ if permission == METADATA && access == Access::Read => true,
        Some("write" | "admin") => true,
        Some("read") => access == Access::Read,
        _ => false,
    }
}

/// A registration token: no API token, good for `RemoteAuth` alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegistrationClaims {
    /// Whose runners.
    pub(crate) owner: String,
    /// `register` or `remove`.
    pub(crate) event: String,
}

/// The admin token of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TenantClaims {
    /// Whose runners.
    pub(crate) owner: String,
    /// What it was made for: `register` or `remove`.
    pub(crate) event: String,
}

/// The queue token of a scale set's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueClaims {
    pub(crate) set: u64,
    pub(crate) session: Uuid,
}

/// A token of the App where it is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InstallationClaims {
    pub(crate) installation: u64,
    /// Where it is installed.
    pub(crate) account: String,
    /// Full names; `None` for all of the account.
    pub(crate) repositories: Option<Vec<String>>,
    pub(crate) permissions: Granted,
}

/// A signed URL of a job's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogClaims {
    pub(crate) run: u64,
    pub(crate) job: u64,
}

/// A signed URL of the logs of a run's attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunLogClaims {
    pub(crate) run: u64,
    pub(crate) attempt: u64,
}

/// A signed URL for one upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobClaims {
    pub(crate) run: u64,
    pub(crate) job: u64,
    pub(crate) name: String,
}

/// A signed URL of an artifact or a cache entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StorageClaims {
    pub(crate) blob: Uuid,
    /// For the upload; else for the download.
    pub(crate) write: bool,
    /// Content type of the download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mime_type: Option<String>,
    /// File name of the download.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file_name: Option<String>,
}

impl Kind for StorageClaims {
    const AUDIENCE: &'static str = "sekisho-hub/storage";
}

impl Kind for RunnerClaims {
    const AUDIENCE: &'static str = "sekisho-hub/runner";
}

impl Kind for JobClaims {
    const AUDIENCE: &'static str = "sekisho-hub/job";
}

impl Kind for GithubClaims {
    const AUDIENCE: &'static str = "sekisho-hub/github";
}

impl Kind for RegistrationClaims {
    const AUDIENCE: &'static str = "sekisho-hub/registration";
}

impl Kind for TenantClaims {
    const AUDIENCE: &'static str = "sekisho-hub/tenant";
}

impl Kind for QueueClaims {
    const AUDIENCE: &'static str = "sekisho-hub/queue";
}

impl Kind for InstallationClaims {
    const AUDIENCE: &'static str = "sekisho-hub/installation";
}

impl Kind for LogClaims {
    const AUDIENCE: &'static str = "sekisho-hub/log";
}

impl Kind for RunLogClaims {
    const AUDIENCE: &'static str = "sekisho-hub/run-log";
}

impl Kind for BlobClaims {
    const AUDIENCE: &'static str = "sekisho-hub/blob";
}
