//! What the policies may know, each a small value built by whoever observed it.

use jiff::Timestamp;
use sekisho_advisory::{Finding, NotAssessed};
use sekisho_types::RepositoryName;
use serde::{Deserialize, Serialize};

/// Who pushes: a job, by the verified claims of its OIDC token.
///
/// Source: protocol reference, "Claims"; a claim that the token lacks is empty. `sub` is not here:
/// its form differs between repositories, so nothing is decided on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// `iss`.
    pub issuer: String,
    /// `owner/name`.
    pub repository: String,
    /// A number in digits, never given out twice.
    pub repository_id: String,
    /// The owner's name.
    pub repository_owner: String,
    /// A number in digits, never given out twice.
    pub repository_owner_id: String,
    /// `refs/heads/main`.
    pub git_ref: String,
    /// `branch` or `tag`.
    pub ref_type: String,
    /// The commit.
    pub sha: String,
    /// `push`, `pull_request`, …
    pub event_name: String,
    /// The deployment environment, if the job has one.
    pub environment: String,
    /// `self-hosted` or `github-hosted`.
    pub runner_environment: String,
    /// `owner/repository/path@ref` of the file that defines the job.
    pub job_workflow_ref: String,
    /// `owner/repository/path@ref` of the file that was started.
    pub workflow_ref: String,
    /// Who started it.
    pub actor: String,
    /// The run.
    pub run_id: String,
    /// Its attempt, from 1.
    pub run_attempt: String,
}

/// Where a push goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The repository at the gate.
    pub repository: String,
    /// It is the identity's own, or below it.
    pub in_namespace: bool,
}

impl Target {
    /// Compares the name with the identity's repository, in lower case as registries have names.
    ///
    /// `local_owner`, on one machine, may leave its own name away: `local/hello` pushes to `hello`.
    pub fn of(name: &RepositoryName, identity: &Identity, local_owner: Option<&str>) -> Self {
        let name = name.as_str();
        let full = identity.repository.to_ascii_lowercase();
        let bare = local_owner
            .filter(|owner| *owner == identity.repository_owner)
            .and_then(|owner| full.strip_prefix(owner)?.strip_prefix('/'));
        let below = |home: &str| {
            !home.is_empty()
                && name
                    .strip_prefix(home)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        Self { repository: name.to_owned(), in_namespace: below(&full) || bare.is_some_and(below) }
    }
}

/// What is in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    /// `USER` of the config; empty when there is none.
    pub user: String,
    /// How many packages were found.
    pub packages: usize,
    /// What applies to them.
    pub findings: Vec<Finding>,
    /// What nobody could judge.
    pub not_assessed: Vec<NotAssessed>,
    /// When the newest advisory was changed; `None` when there are none.
    pub newest_advisory: Option<Timestamp>,
}
