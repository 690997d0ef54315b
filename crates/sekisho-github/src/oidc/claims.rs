//! Every claim, in a type of its own where GitHub gives it a form.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::subject::Subject;
use super::token::TokenError;

/// Longest claim, in bytes: refs and paths.
const MAX_CLAIM_BYTES: usize = 1024;

/// What custom properties of a repository begin with.
const PROPERTY: &str = "repo_property_";

/// Where workflows are, and nowhere else.
const WORKFLOWS: &str = ".github/workflows/";

/// What a verified token says. Decisions belong on the ids, which are never given out twice.
///
/// Source: GitHub's "OpenID Connect reference"; protocol reference 7.3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `iss`: who issued it.
    pub issuer: String,
    /// `aud`: whom it is for.
    pub audience: String,
    /// `sub`. For people: an organisation can choose its form, so nothing is decided on it.
    pub subject: Option<Subject>,
    /// `jti`: unique to the token.
    pub token_id: String,
    /// `iat`.
    pub issued_at: Option<Timestamp>,
    /// `nbf`.
    pub not_before: Option<Timestamp>,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `repository`: `owner/name`; the owner is [`Self::repository_owner`].
    pub repository: String,
    /// `repository_id`.
    pub repository_id: u64,
    /// `repository_owner`.
    pub repository_owner: String,
    /// `repository_owner_id`.
    pub repository_owner_id: u64,
    /// `repository_visibility`.
    pub repository_visibility: Option<Visibility>,
    /// `ref`: full, such as `refs/heads/main`.
    pub git_ref: String,
    /// `ref_type`.
    pub ref_type: Option<RefType>,
    /// `ref_protected`.
    pub ref_protected: Option<bool>,
    /// `sha`: the commit.
    pub sha: Option<String>,
    /// `base_ref`: where a pull request goes.
    pub base_ref: Option<String>,
    /// `head_ref`: where a pull request comes from.
    pub head_ref: Option<String>,
    /// `event_name`: `push`, `pull_request`, …
    pub event_name: String,
    /// `actor`.
    pub actor: Option<String>,
    /// `actor_id`.
    pub actor_id: Option<u64>,
    /// `workflow`: its name.
    pub workflow: Option<String>,
    /// `workflow_ref`: the file that was started.
    pub workflow_ref: Option<WorkflowRef>,
    /// `workflow_sha`: the commit of that file.
    pub workflow_sha: Option<String>,
    /// `job_workflow_ref`: the file that defines the job.
    pub job_workflow_ref: Option<WorkflowRef>,
    /// `job_workflow_sha`: the commit of that file.
    pub job_workflow_sha: Option<String>,
    /// `run_id`.
    pub run_id: u64,
    /// `run_number`: counts the runs of the workflow.
    pub run_number: Option<u64>,
    /// `run_attempt`: from 1.
    pub run_attempt: u64,
    /// `check_run_id`: the job.
    pub check_run_id: Option<u64>,
    /// `environment`: the deployment environment, if the job has one.
    pub environment: Option<String>,
    /// `runner_environment`.
    pub runner_environment: Option<RunnerEnvironment>,
    /// `enterprise`.
    pub enterprise: Option<String>,
    /// `enterprise_id`.
    pub enterprise_id: Option<u64>,
    /// Custom properties of the repository: `repo_property_tier` is `tier` here.
    pub properties: BTreeMap<String, String>,
}

/// What a ref names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefType {
    /// `branch`.
    Branch,
    /// `tag`.
    Tag,
}

/// Who can see a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Everybody.
    Public,
    /// Who was invited.
    Private,
    /// The enterprise.
    Internal,
}

/// Whose machine a job runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunnerEnvironment {
    /// GitHub's own.
    GithubHosted,
    /// The user's.
    SelfHosted,
}

impl RefType {
    /// As the claim has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Branch => "branch",
            Self::Tag => "tag",
        }
    }
}

impl Visibility {
    /// As the claim has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Internal => "internal",
        }
    }
}

impl RunnerEnvironment {
    /// As the claim has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GithubHosted => "github-hosted",
            Self::SelfHosted => "self-hosted",
        }
    }
}

/// A workflow file at a ref: `owner/name/.github/workflows/file.yml@refs/heads/main`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowRef {
    text: String,
    repository_end: usize,
    path_end: usize,
}

impl WorkflowRef {
    /// Reads one. `None` for what is none, or could be read in two ways: both file names and refs
    /// may have an `@`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut slashes = text.match_indices('/').map(|(at, _)| at);
        let (first, second) = (slashes.next()?, slashes.next()?);
        if first == 0 || second == first + 1 || text.get(..second)?.contains('@') {
            return None;
        }
        let is_file = |at: &usize| {
            let name = text.get(second + 1..*at).and_then(|path| path.strip_prefix(WORKFLOWS));
            let known = |name: &str| name.ends_with(".yml") || name.ends_with(".yaml");
            name.is_some_and(|name| known(name) && !name.contains('/'))
        };
        let mut ends = text.match_indices('@').map(|(at, _)| at).filter(is_file);
        let path_end = ends.next().filter(|at| at + 1 < text.len())?;
        if ends.next().is_some() {
            return None;
        }
        Some(Self { text: text.to_owned(), repository_end: second, path_end })
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `owner/name`.
    pub fn repository(&self) -> &str {
        self.text.get(..self.repository_end).unwrap_or_default()
    }

    /// `.github/workflows/file.yml`.
    pub fn path(&self) -> &str {
        self.text.get(self.repository_end + 1..self.path_end).unwrap_or_default()
    }

    /// What stands behind the `@`: `refs/heads/main`, `v1` or a commit.
    pub fn git_ref(&self) -> &str {
        self.text.get(self.path_end + 1..).unwrap_or_default()
    }
}

impl fmt::Display for WorkflowRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// As they stand in the token. A name that occurs twice is an error of the reader.
#[derive(Debug, Deserialize)]
pub(super) struct RawClaims {
    pub(super) iss: String,
    pub(super) aud: Value,
    pub(super) exp: i64,
    pub(super) nbf: Option<i64>,
    pub(super) iat: Option<i64>,
    jti: Option<String>,
    sub: Option<String>,
    repository: Option<String>,
    repository_id: Option<String>,
    repository_owner: Option<String>,
    repository_owner_id: Option<String>,
    repository_visibility: Option<String>,
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    ref_type: Option<String>,
    ref_protected: Option<String>,
    sha: Option<String>,
    base_ref: Option<String>,
    head_ref: Option<String>,
    event_name: Option<String>,
    actor: Option<String>,
    actor_id: Option<String>,
    workflow: Option<String>,
    workflow_ref: Option<String>,
    workflow_sha: Option<String>,
    job_workflow_ref: Option<String>,
    job_workflow_sha: Option<String>,
    run_id: Option<String>,
    run_number: Option<String>,
    run_attempt: Option<String>,
    check_run_id: Option<String>,
    environment: Option<String>,
    runner_environment: Option<String>,
    enterprise: Option<String>,
    enterprise_id: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl Claims {
    /// Reads every claim. The audience was compared before.
    pub(super) fn read(raw: RawClaims, audience: &str) -> Result<Self, TokenError> {
        let repository = required("repository", raw.repository)?;
        let repository_owner = required("repository_owner", raw.repository_owner)?;
        // Two claims about one thing: an issuer that contradicts itself is not to be trusted.
        let named = repository.split_once('/').is_some_and(|(owner, name)| {
            owner == repository_owner && !name.is_empty() && !name.contains('/')
        });
        if !named {
            return Err(TokenError::Claim("repository"));
        }
        Ok(Self {
            issuer: raw.iss,
            audience: audience.to_owned(),
            subject: optional("sub", raw.sub)?.map(|text| Subject::parse(&text)),
            token_id: required("jti", raw.jti)?,
            issued_at: time("iat", raw.iat)?,
            not_before: time("nbf", raw.nbf)?,
            expires_at: time("exp", Some(raw.exp))?.ok_or(TokenError::Claim("exp"))?,
            repository,
            repository_id: id("repository_id", raw.repository_id)?,
            repository_owner,
            repository_owner_id: id("repository_owner_id", raw.repository_owner_id)?,
            repository_visibility: one_of(
                "repository_visibility",
                raw.repository_visibility,
                &[Visibility::Public, Visibility::Private, Visibility::Internal]
                    .map(|it| (it.as_str(), it)),
            )?,
            git_ref: required("ref", raw.git_ref)?,
            ref_type: one_of(
                "ref_type",
                raw.ref_type,
                &[RefType::Branch, RefType::Tag].map(|it| (it.as_str(), it)),
            )?,
            ref_protected: one_of(
                "ref_protected",
                raw.ref_protected,
                &[("true", true), ("false", false)],
            )?,
            sha: optional("sha", raw.sha)?,
            base_ref: optional("base_ref", raw.base_ref)?,
            head_ref: optional("head_ref", raw.head_ref)?,
            event_name: required("event_name", raw.event_name)?,
            actor: optional("actor", raw.actor)?,
            actor_id: some_id("actor_id", raw.actor_id)?,
            workflow: optional("workflow", raw.workflow)?,
            workflow_ref: file("workflow_ref", raw.workflow_ref)?,
            workflow_sha: optional("workflow_sha", raw.workflow_sha)?,
            job_workflow_ref: file("job_workflow_ref", raw.job_workflow_ref)?,
            job_workflow_sha: optional("job_workflow_sha", raw.job_workflow_sha)?,
            run_id: id("run_id", raw.run_id)?,
            run_number: some_id("run_number", raw.run_number)?,
            run_attempt: id("run_attempt", raw.run_attempt)?,
            check_run_id: some_id("check_run_id", raw.check_run_id)?,
            environment: optional("environment", raw.environment)?,
            runner_environment: one_of(
                "runner_environment",
                raw.runner_environment,
                &[RunnerEnvironment::GithubHosted, RunnerEnvironment::SelfHosted]
                    .map(|it| (it.as_str(), it)),
            )?,
            enterprise: optional("enterprise", raw.enterprise)?,
            enterprise_id: some_id("enterprise_id", raw.enterprise_id)?,
            properties: properties(raw.others),
        })
    }
}

fn required(name: &'static str, claim: Option<String>) -> Result<String, TokenError> {
    optional(name, claim)?.ok_or(TokenError::Claim(name))
}

/// `None` when it is missing or empty: GitHub writes an empty text where there is nothing.
fn optional(name: &'static str, claim: Option<String>) -> Result<Option<String>, TokenError> {
    let Some(claim) = claim.filter(|claim| !claim.is_empty()) else { return Ok(None) };
    let good = claim.len() <= MAX_CLAIM_BYTES && !claim.contains(char::is_control);
    if good { Ok(Some(claim)) } else { Err(TokenError::Claim(name)) }
}

/// Digits, in a text, without leading zeros: two texts are never one id.
fn some_id(name: &'static str, claim: Option<String>) -> Result<Option<u64>, TokenError> {
    let Some(claim) = optional(name, claim)? else { return Ok(None) };
    let number = claim.parse::<u64>().ok().filter(|number| number.to_string() == claim);
    number.map(Some).ok_or(TokenError::Claim(name))
}

fn id(name: &'static str, claim: Option<String>) -> Result<u64, TokenError> {
    some_id(name, claim)?.ok_or(TokenError::Claim(name))
}

fn time(name: &'static str, claim: Option<i64>) -> Result<Option<Timestamp>, TokenError> {
    let read = |second| Timestamp::from_second(second).map_err(|_| TokenError::Claim(name));
    claim.map(read).transpose()
}

fn file(name: &'static str, claim: Option<String>) -> Result<Option<WorkflowRef>, TokenError> {
    let Some(claim) = optional(name, claim)? else { return Ok(None) };
    WorkflowRef::parse(&claim).map(Some).ok_or(TokenError::Claim(name))
}

fn one_of<T: Copy>(
    name: &'static str,
    claim: Option<String>,
    known: &[(&str, T)],
) -> Result<Option<T>, TokenError> {
    let Some(claim) = optional(name, claim)? else { return Ok(None) };
    let found = known.iter().find(|(text, _)| *text == claim);
    found.map(|(_, it)| Some(*it)).ok_or(TokenError::Claim(name))
}

/// Those with a text that is fit for use; other unknown claims mean nothing here.
fn properties(others: BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let property = |(name, value): (String, Value)| {
        let name = name.strip_prefix(PROPERTY)?.to_owned();
        let text = value.as_str().filter(|text| text.len() <= MAX_CLAIM_BYTES)?;
        Some((name, text.to_owned()))
    };
    others.into_iter().filter_map(property).collect()
}
