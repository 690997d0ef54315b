//! Which commit an action is, and where its files are: the "launch" service.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::secret::WireSecret;

/// The path of the call, on the authority of the endpoint.
pub fn path(plan: Uuid, job: Uuid) -> String {
    format!("/actions/build/{plan}/jobs/{job}/runnerresolve/actions")
}

/// The question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveActions {
    /// What a job uses.
    pub actions: Vec<ActionRequest>,
}

/// One action.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ActionRequest {
    /// `owner/repository`.
    pub action: String,
    /// A branch, a tag or a commit.
    pub version: String,
    /// A folder of the repository, or empty.
    #[serde(default)]
    pub path: String,
}

impl ActionRequest {
    /// The key of its answer: `owner/repository@version`.
    pub fn key(&self) -> String {
        format!("{}@{}", self.action, self.version)
    }
}

/// The answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ResolvedActions {
    /// By [`ActionRequest::key`].
    #[serde(default)]
    pub actions: BTreeMap<String, ResolvedAction>,
}

/// Where an action's files are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResolvedAction {
    /// `owner/repository`, as asked for.
    #[serde(default)]
    pub name: String,
    /// The same after a rename.
    #[serde(default)]
    pub resolved_name: String,
    /// The commit.
    pub resolved_sha: String,
    /// A gzipped tar with exactly one folder at its top.
    pub tar_url: String,
    /// How to fetch it; without one it is public.
    #[serde(default)]
    pub authentication: Option<ArchiveToken>,
}

/// A token for one archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArchiveToken {
    /// Password of `x-access-token`.
    pub token: WireSecret,
}

/// Body of a 422: what is wrong with which action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveErrors {
    /// By [`ActionRequest::key`].
    #[serde(default)]
    pub errors: BTreeMap<String, ResolveError>,
}

/// What is wrong with an action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolveError {
    /// For people.
    #[serde(default)]
    pub message: String,
}
