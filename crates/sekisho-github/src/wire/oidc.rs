//! The job's OIDC token: request, claims, issuer metadata.

use serde::{Deserialize, Serialize};

use crate::secret::WireSecret;

/// Answer of `GET {ACTIONS_ID_TOKEN_REQUEST_URL}&audience=…`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdTokenResponse {
    /// Length of `value`; not looked at.
    #[serde(default)]
    pub count: i64,
    /// The JWT.
    pub value: WireSecret,
}

/// Claims of the job's token. All are text but the three times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdTokenClaims {
    /// Issuer.
    pub iss: String,
    /// Audience: what the job asked for.
    pub aud: String,
    /// Subject, `repo:O/R:ref:refs/heads/B`; for people, never for decisions.
    pub sub: String,
    /// A fresh id.
    pub jti: String,
    /// Issued at, seconds since 1970.
    pub iat: i64,
    /// Not before, seconds since 1970.
    pub nbf: i64,
    /// Expiry, seconds since 1970.
    pub exp: i64,
    /// `refs/heads/main`.
    #[serde(rename = "ref")]
    pub git_ref: String,
    /// `branch` or `tag`.
    pub ref_type: String,
    /// `true` or `false`, as text.
    pub ref_protected: String,
    /// The commit.
    pub sha: String,
    /// Target branch of a pull request, else empty.
    pub base_ref: String,
    /// Source branch of a pull request, else empty.
    pub head_ref: String,
    /// `owner/name`.
    pub repository: String,
    /// Immutable id of the repository.
    pub repository_id: String,
    /// `owner`.
    pub repository_owner: String,
    /// Immutable id of the owner.
    pub repository_owner_id: String,
    /// `public`, `private` or `internal`.
    pub repository_visibility: String,
    /// Who started the run.
    pub actor: String,
    /// Immutable id of the actor.
    pub actor_id: String,
    /// The workflow's name.
    pub workflow: String,
    /// `o/r/.github/workflows/x.yml@refs/heads/main` of the calling workflow.
    pub workflow_ref: String,
    /// Commit of the calling workflow.
    pub workflow_sha: String,
    /// The file in which the job is defined: the reusable workflow when one was called.
    pub job_workflow_ref: String,
    /// Commit of that file.
    pub job_workflow_sha: String,
    /// `push`.
    pub event_name: String,
    /// The run.
    pub run_id: String,
    /// Counts runs of the workflow.
    pub run_number: String,
    /// From 1.
    pub run_attempt: String,
    /// The job.
    pub check_run_id: String,
    /// `self-hosted` or `github-hosted`.
    pub runner_environment: String,
    /// Only with a deployment environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
}

/// `{iss}/.well-known/openid-configuration`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// Must equal the URL it was found under.
    pub issuer: String,
    /// Where the keys are.
    pub jwks_uri: String,
    /// `public`, `pairwise`.
    #[serde(default)]
    pub subject_types_supported: Vec<String>,
    /// `id_token`.
    #[serde(default)]
    pub response_types_supported: Vec<String>,
    /// Names of claims.
    #[serde(default)]
    pub claims_supported: Vec<String>,
    /// `RS256`.
    #[serde(default)]
    pub id_token_signing_alg_values_supported: Vec<String>,
    /// `openid`.
    #[serde(default)]
    pub scopes_supported: Vec<String>,
}
