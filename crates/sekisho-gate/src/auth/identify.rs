//! A token of a trusted issuer in, an identity out.
//!
//! Signatures, times, and GitHub's claims are `sekisho_github::oidc`'s; here is which of them count, and
//! what those of other issuers mean.

use jiff::Timestamp;
use sekisho_github::http::ClientOptions;
use sekisho_github::oidc::{self, Claims, TokenError, Unverified, Verifier, VerifyError};
use sekisho_policy::Identity;
use sekisho_types::RepositoryName;
use serde_json::Value;

use crate::config::{ClaimNames, Issuer, OpenError, Reading, check_prefixes};

/// Longest claim, in bytes: refs and paths.
const MAX_CLAIM_BYTES: usize = 1024;

/// Why an OIDC token is refused. The token itself is never part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Token(TokenError),
    #[error("the token was exchanged already")]
    Replayed,
    #[error("the token was given to a job that runs elsewhere")]
    Elsewhere,
    #[error("the token is no password here: exchange it, as `sekisho gate login` does")]
    NoPassword,
    #[error("the token was shown from another address first")]
    OtherAddress,
}

/// Why there is no identity.
#[derive(Debug)]
pub(crate) enum Unidentified {
    /// The token is at fault.
    Refused(Refused),
    /// The issuer cannot be asked; the token may be good.
    Unavailable,
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) identity: Identity,
    /// Unique to the token.
    pub(crate) jti: String,
    /// Seconds since 1970.
    pub(crate) expires: i64,
}

/// Every issuer that is trusted.
pub(crate) struct Issuers {
    verifier: Verifier,
    issuers: Vec<Issuer>,
}

impl Issuers {
    pub(crate) fn new(issuers: Vec<Issuer>) -> Result<Self, OpenError> {
        check_prefixes(&issuers).map_err(OpenError::Prefix)?;
        let trusted = issuers.iter().map(|issuer| oidc::Issuer {
            url: issuer.url.clone(),
            audience: issuer.audience.clone(),
        });
        let verifier = Verifier::new(trusted.collect(), &ClientOptions::default());
        Ok(Self { verifier: verifier.map_err(OpenError::Issuer)?, issuers })
    }

    /// Verifies signature and claims of an OIDC token.
    pub(crate) async fn verify(
        &self,
        token: &str,
        now: Timestamp,
    ) -> Result<Verified, Unidentified> {
        let refused = |error| Unidentified::Refused(Refused::Token(error));
        let failed = |error| match error {
            VerifyError::Token(error) => refused(error),
            VerifyError::Unavailable => Unidentified::Unavailable,
        };
        // Only to know how to read it: nothing in it is believed yet.
        let named = Unverified::parse(token).map_err(refused)?.issuer().to_owned();
        let issuer = self.issuers.iter().find(|issuer| issuer.url == named);
        match &issuer.ok_or_else(|| refused(TokenError::Issuer))?.reading {
            Reading::GitHub => {
                let claims = self.verifier.verify(token, now).await.map_err(failed)?;
                self.of_github(claims).map_err(refused)
            }
            Reading::Mapped { prefix, claims } => {
                let said = self.verifier.verify_plain(token, now).await.map_err(failed)?;
                mapped(prefix, claims, &Value::Object(said)).map_err(refused)
            }
        }
    }

    fn of_github(&self, claims: Claims) -> Result<Verified, TokenError> {
        // An owner whose name is the prefix of another issuer would have that one's names.
        let taken = self.issuers.iter().any(|issuer| match &issuer.reading {
            Reading::Mapped { prefix, .. } => claims.repository_owner.eq_ignore_ascii_case(prefix),
            Reading::GitHub => false,
        });
        if taken {
            return Err(TokenError::Claim("repository_owner"));
        }
        let text = |claim: Option<String>| claim.unwrap_or_default();
        let file = |file: Option<oidc::WorkflowRef>| text(file.map(|file| file.to_string()));
        let number = |id: Option<u64>| text(id.map(|id| id.to_string()));
        let identity = Identity {
            issuer: claims.issuer,
            repository: claims.repository,
            repository_id: claims.repository_id.to_string(),
            repository_owner: claims.repository_owner,
            repository_owner_id: claims.repository_owner_id.to_string(),
            git_ref: claims.git_ref,
            ref_type: claims.ref_type.map_or("", oidc::RefType::as_str).to_owned(),
            ref_protected: claims.ref_protected.unwrap_or_default(),
            repository_visibility: claims
                .repository_visibility
                .map_or("", oidc::Visibility::as_str)
                .to_owned(),
            sha: text(claims.sha),
            event_name: claims.event_name,
            environment: text(claims.environment),
            runner_environment: claims
                .runner_environment
                .map_or("", oidc::RunnerEnvironment::as_str)
                .to_owned(),
            job_workflow_ref: file(claims.job_workflow_ref),
            job_workflow_sha: text(claims.job_workflow_sha),
            workflow_ref: file(claims.workflow_ref),
            actor: text(claims.actor),
            run_id: claims.run_id.to_string(),
            run_attempt: claims.run_attempt.to_string(),
            check_run_id: number(claims.check_run_id),
        };
        let expires = claims.expires_at.as_second();
        Ok(Verified { identity, jti: claims.token_id, expires })
    }
}

/// The identity that another issuer's claims make.
pub(crate) fn mapped(
    prefix: &str,
    names: &ClaimNames,
    said: &Value,
) -> Result<Verified, TokenError> {
    let needed = |pointer: &str, name| match claim(said, pointer, name)? {
        text if text.is_empty() => Err(TokenError::Claim(name)),
        text => Ok(text),
    };
    let mut repository: Vec<String> = Vec::new();
    repository.extend(Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty()));
    for pointer in &names.repository {
        repository.push(needed(pointer, "repository")?);
    }
    let repository = repository.join("/");
    // What is no name of a repository could be read as another one's.
    if repository.to_ascii_lowercase().parse::<RepositoryName>().is_err() {
        return Err(TokenError::Claim("repository"));
    }
    let ref_type = claim(said, &names.ref_type, "ref_type")?;
    let git_ref = claim(said, &names.git_ref, "ref")?;
    let git_ref = match ref_type.as_str() {
        "branch" => format!("refs/heads/{git_ref}"),
        "tag" => format!("refs/tags/{git_ref}"),
        _ => git_ref,
    };
    let event = needed(&names.event, "event_name")?;
    let identity = Identity {
        issuer: needed("/iss", "iss")?,
        repository,
        repository_id: needed(&names.repository_id, "repository_id")?,
        repository_owner: needed(&names.owner, "repository_owner")?,
        repository_owner_id: needed(&names.owner_id, "repository_owner_id")?,
        git_ref,
        ref_type,
        ref_protected: claim(said, &names.ref_protected, "ref_protected")? == "true",
        repository_visibility: String::new(),
        sha: claim(said, &names.sha, "sha")?,
        event_name: names.events.get(&event).cloned().unwrap_or(event),
        environment: claim(said, &names.environment, "environment")?,
        runner_environment: String::new(),
        job_workflow_ref: claim(said, &names.job_workflow_ref, "job_workflow_ref")?,
        job_workflow_sha: String::new(),
        workflow_ref: String::new(),
        actor: claim(said, &names.actor, "actor")?,
        run_id: needed(&names.run_id, "run_id")?,
        run_attempt: "1".to_owned(),
        check_run_id: claim(said, &names.job_id, "check_run_id")?,
    };
    let expires = said["exp"].as_i64().ok_or(TokenError::Claim("exp"))?;
    Ok(Verified { identity, jti: needed("/jti", "jti")?, expires })
}

/// A claim as text: a string, number or flag. Empty when it is not there or nobody asks for it.
fn claim(said: &Value, pointer: &str, name: &'static str) -> Result<String, TokenError> {
    if let Some(text) = pointer.strip_prefix('=') {
        return Ok(text.to_owned());
    }
    if pointer.is_empty() {
        return Ok(String::new());
    }
    let text = match said.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Array(_) | Value::Object(_)) => return Err(TokenError::Claim(name)),
    };
    if text.len() > MAX_CLAIM_BYTES || text.contains(char::is_control) {
        return Err(TokenError::Claim(name));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn gitlab() -> Value {
        json!({
            "iss": "https://gitlab.example", "aud": "g", "jti": "1", "exp": 5,
            "project_id": "20", "project_path": "Group/sub/project",
            "namespace_id": 10, "namespace_path": "group/sub", "user_login": "ann",
            "pipeline_id": "1", "pipeline_source": "web", "job_id": "7",
            "ref": "main", "ref_type": "branch", "ref_protected": "true",
            "environment": "production", "sha": "abc",
            "ci_config_ref_uri": "gitlab.example/group/sub/project//.gitlab-ci.yml@refs/heads/main",
        })
    }

    fn read(claims: &Value) -> Result<Identity, TokenError> {
        mapped("gitlab", &ClaimNames::gitlab(), claims).map(|verified| verified.identity)
    }

    #[test]
    fn gitlab_is_read() {
        let identity = read(&gitlab()).unwrap();
        assert_eq!(identity.repository, "gitlab/Group/sub/project");
        assert_eq!(identity.repository_id, "20");
        assert_eq!(identity.repository_owner_id, "10");
        assert_eq!(identity.git_ref, "refs/heads/main");
        assert_eq!(identity.event_name, "workflow_dispatch");
        assert!(identity.ref_protected);
        assert_eq!((identity.run_id.as_str(), identity.check_run_id.as_str()), ("1", "7"));
    }

    #[test]
    fn what_is_missing_or_no_name_is_refused() {
        for (name, value, want) in [
            ("project_path", json!("../evil"), "repository"),
            ("project_path", json!("a//b"), "repository"),
            ("project_path", json!(""), "repository"),
            ("project_path", json!(["a"]), "repository"),
            ("project_path", json!("a\nb"), "repository"),
            ("project_id", Value::Null, "repository_id"),
            ("namespace_id", json!(""), "repository_owner_id"),
            ("pipeline_source", Value::Null, "event_name"),
            ("pipeline_id", Value::Null, "run_id"),
            ("jti", Value::Null, "jti"),
            ("exp", json!("x"), "exp"),
            ("sha", json!("a".repeat(1025)), "sha"),
        ] {
            let mut claims = gitlab();
            claims[name] = value.clone();
            assert_eq!(read(&claims), Err(TokenError::Claim(want)), "{name}: {value}");
        }
    }

    #[test]
    fn a_service_account_is_read() {
        let claims = json!({
            "iss": "https://kubernetes.example", "jti": "1", "exp": 5,
            "kubernetes.io": {"namespace": "ci", "pod": {"name": "p", "uid": "u-1"},
                "serviceaccount": {"name": "builder", "uid": "s-1"}},
            "sub": "system:serviceaccount:ci:builder",
        });
        let verified = mapped("k8s", &ClaimNames::kubernetes(), &claims).unwrap();
        let identity = verified.identity;
        assert_eq!(identity.repository, "k8s/ci/builder");
        assert_eq!((identity.repository_id.as_str(), identity.run_id.as_str()), ("s-1", "u-1"));
        assert_eq!(identity.event_name, "service_account");
    }

    proptest! {
        #[test]
        fn a_mapped_repository_stays_below_its_prefix(path in "[a-zA-Z0-9./_\\-~]{0,20}") {
            let mut claims = gitlab();
            claims["project_path"] = path.into();
            if let Ok(identity) = read(&claims) {
                let name = identity.repository.to_ascii_lowercase();
                prop_assert!(name.starts_with("gitlab/") && !name.contains(".."), "{}", name);
                prop_assert!(name.parse::<RepositoryName>().is_ok());
            }
        }
    }
}
