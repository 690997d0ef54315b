//! What the policies may know, each a small value built by whoever observed it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sekisho_advisory::{Finding, NotAssessed, Threat};
use sekisho_types::{LeakedSecret, RepositoryName};
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
    /// `ref_protected`: rules guard the branch or tag.
    pub ref_protected: bool,
    /// `public`, `private` or `internal`.
    pub repository_visibility: String,
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
    /// The commit of that file.
    pub job_workflow_sha: String,
    /// `owner/repository/path@ref` of the file that was started.
    pub workflow_ref: String,
    /// Who started it.
    pub actor: String,
    /// The run.
    pub run_id: String,
    /// Its attempt, from 1.
    pub run_attempt: String,
    /// The job, where the issuer says so.
    pub check_run_id: String,
}

/// Where a push goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The repository at the gate.
    pub repository: String,
    /// It is the identity's own, or below it.
    pub in_namespace: bool,
    /// Nothing was promoted to it yet, or what was came from the same repository by issuer and id: a name
    /// can be registered anew by somebody else.
    #[serde(default = "yes")]
    pub same_owner: bool,
    /// What is pushed or deleted; `None` for a blob, and for a manifest by its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// A tag would name something else than it does, or nothing.
    #[serde(default)]
    pub overwrites: bool,
}

/// Of a decision that was made before owners were known.
fn yes() -> bool {
    true
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
        Self {
            repository: name.to_owned(),
            in_namespace: below(&full) || bare.is_some_and(below),
            same_owner: true,
            tag: None,
            overwrites: false,
        }
    }
}

/// What is in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    /// `USER` of the config; empty when there is none.
    pub user: String,
    /// `EXPOSE`: `80/tcp`.
    pub exposed_ports: BTreeSet<String>,
    /// `LABEL`.
    pub labels: BTreeMap<String, String>,
    /// `ENTRYPOINT` and `CMD`: what is run.
    pub command: Vec<String>,
    /// What it was built on, where anybody says so.
    pub base: Option<Base>,
    /// How many layers.
    pub layers: usize,
    /// Of all layers, as pushed.
    pub size_bytes: u64,
    /// Licences of its packages, each with some of the packages that have it.
    pub licences: BTreeMap<String, BTreeSet<String>>,
    /// Secrets in its layers and its config.
    pub secrets: Vec<LeakedSecret>,
    /// Further ones, which are not named.
    pub more_secrets: u64,
    /// A list of its parts was pushed with it, or before: read, and about this image.
    pub sbom: bool,
    /// A statement about how it was built was pushed with it, or before: read, and about this image.
    pub provenance: bool,
    /// It holds statements about something else alone, and nothing that runs.
    pub statement: bool,
    /// Who signed the list of parts: names of attestors, and `unsigned` where nobody signed who is known.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub sbom_signers: BTreeSet<String>,
    /// Who signed the statement about how it was built, in the same words.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub provenance_signers: BTreeSet<String>,
    /// What is known about attacks, by the id of a finding; those of which nothing is known are not here.
    pub threats: BTreeMap<String, Threat>,
    /// How many packages were found.
    pub packages: usize,
    /// Their names, each behind the family of its ecosystem: `Debian/openssl`, `npm/lodash`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub package_names: BTreeSet<String>,
    /// What applies to them.
    pub findings: Vec<Finding>,
    /// What nobody could judge.
    pub not_assessed: Vec<NotAssessed>,
    /// When the newest advisory was changed; `None` when there are none.
    pub newest_advisory: Option<Timestamp>,
}

/// The image that another one was built on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Base {
    /// `docker.io/library/debian:12`.
    pub name: String,
    /// Of its manifest; empty when nobody says.
    pub digest: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// The gate served it, and the image has its layers; else whoever pushes says so.
    pub known: bool,
}
