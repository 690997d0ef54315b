//! Runner groups, labels and installations: what else registration is about.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Label;
use super::run::Account;
use crate::secret::WireSecret;

/// Answer to `…/registration-token` and `…/remove-token`, status 201.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegistrationToken {
    /// For `Authorization: RemoteAuth …` alone: it is no API token.
    pub token: WireSecret,
    /// An hour from now.
    pub expires_at: Timestamp,
}

/// Answer to `POST /app/installations/{id}/access_tokens`, status 201.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstallationToken {
    /// `ghs_…`
    pub token: WireSecret,
    /// An hour from now.
    pub expires_at: Timestamp,
    /// What it may do, such as `actions: write`.
    #[serde(default)]
    pub permissions: std::collections::BTreeMap<String, String>,
    /// `all` or `selected`.
    #[serde(default)]
    pub repository_selection: String,
}

/// An App, installed somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Names it in `access_tokens`.
    pub id: u64,
    /// Where.
    pub account: Account,
    /// Which App.
    #[serde(default)]
    pub app_id: u64,
    /// `all` or `selected`.
    #[serde(default)]
    pub repository_selection: String,
    /// When somebody suspended it.
    #[serde(default)]
    pub suspended_at: Option<Timestamp>,
}

/// Labels of a runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// How many.
    pub total_count: u64,
    /// All of them.
    pub labels: Vec<Label>,
}

/// A group of runners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerGroup {
    /// Unique.
    pub id: u64,
    /// Unique in its owner.
    pub name: String,
    /// `all`, `selected` or `private`.
    pub visibility: String,
    /// Where runners go that name no other.
    #[serde(rename = "default")]
    pub is_default: bool,
    /// Its runners.
    pub runners_url: String,
    /// It belongs to the enterprise.
    pub inherited: bool,
    /// Public repositories may use it.
    pub allows_public_repositories: bool,
    /// Only [`Self::selected_workflows`] may.
    pub restricted_to_workflows: bool,
    /// Workflow files at a ref.
    pub selected_workflows: Vec<String>,
    /// The restriction comes from above.
    pub workflow_restrictions_read_only: bool,
}

/// A page of groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerGroups {
    /// Of all pages.
    pub total_count: u64,
    /// This page.
    pub runner_groups: Vec<RunnerGroup>,
}

/// What a group is to be; what is not said stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerGroupChange {
    /// Its name; needed for a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `all`, `selected` or `private`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visibility: Option<String>,
    /// Public repositories may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allows_public_repositories: Option<bool>,
    /// Only [`Self::selected_workflows`] may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restricted_to_workflows: Option<bool>,
    /// Workflow files at a ref.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected_workflows: Option<Vec<String>>,
    /// Ids of the repositories that may use it, if its visibility is `selected`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected_repository_ids: Option<Vec<u64>>,
}

/// A file or folder of a repository, as the contents API has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentEntry {
    /// `file`, `dir`, `symlink` or `submodule`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Without its folder.
    pub name: String,
    /// From the repository's root.
    pub path: String,
    /// The object's id.
    pub sha: String,
    /// In bytes; 0 for a folder.
    pub size: u64,
    /// `base64`, or `none` for what is larger than 1 MiB; only for one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// With line ends in between; only for one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// This object.
    #[serde(default)]
    pub url: String,
}
