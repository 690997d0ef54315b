//! Who is asking.
//!
//! A job shows the OIDC token of its issuer once and gets a session token for it; a client shows
//! the session (or the OIDC token itself) to `/token` and gets an access token for some
//! repositories. All of the gate's own tokens carry the identity, so nothing about them is stored.

pub(crate) mod exchange;
pub(crate) mod identify;
pub(crate) mod memo;
pub(crate) mod replay;
pub(crate) mod session;
pub(crate) mod token;
pub(crate) mod users;
pub(crate) mod worker;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::request::Parts;
use http::{HeaderMap, header};

use self::session::{Grant, Permission};
use self::worker::Peer;
use crate::error::{ApiError, ApiResult, Code, OrFail as _};
use crate::gate::Inner;
use crate::owners;
use crate::staging::Scope;
use sekisho_policy::{Identity, Target, Verdict};
use sekisho_types::{RepositoryName, Tag};

/// Longest credential of any kind, in bytes. GitHub's tokens have about 1.5 KiB.
pub(crate) const MAX_CREDENTIAL_BYTES: usize = 8 * 1024;

/// What a request says about who sends it.
pub(crate) enum Credential {
    None,
    Basic { user: String, password: String },
    Bearer(String),
}

/// Reads the `Authorization` header.
pub(crate) fn credential(headers: &HeaderMap) -> ApiResult<Credential> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(Credential::None) };
    let bad = || ApiError::new(Code::Unauthorized, "the Authorization header is malformed");
    let text = value.to_str().map_err(|_| bad())?;
    if text.len() > MAX_CREDENTIAL_BYTES * 2 {
        return Err(bad());
    }
    let (scheme, rest) = text.split_once(' ').ok_or_else(bad)?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Credential::Bearer(rest.to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(bad());
    }
    let decoded = BASE64_STANDARD.decode(rest).map_err(|_| bad())?;
    let decoded = String::from_utf8(decoded).map_err(|_| bad())?;
    let (user, password) = decoded.split_once(':').ok_or_else(bad)?;
    Ok(Credential::Basic { user: user.to_owned(), password: password.to_owned() })
}

/// Whoever sent a request to `/v2/`.
pub(crate) struct Caller {
    /// `None`: said nothing.
    grant: Option<Grant>,
}

impl Caller {
    /// Understands the request's credential; a bad one is an error, none is not.
    pub(crate) fn of(gate: &Inner, request: &Parts) -> ApiResult<Self> {
        let token =
            match credential(&request.headers).map_err(|error| challenged(gate, error, None))? {
                Credential::None => return Ok(Self { grant: None }),
                // A session token as a password, from clients that do not wait to be asked.
                Credential::Basic { password, .. } => password,
                Credential::Bearer(token) => token,
            };
        match gate.sessions.verify(&token, gate.now()) {
            Ok(grant) => {
                let peer = Peer::of(&request.extensions);
                let fits = |identity: &Identity| worker::may_use(gate, identity, peer);
                if grant.identity.as_ref().is_none_or(fits) {
                    return Ok(Self { grant: Some(grant) });
                }
                // Not 401: a client that asks for another token gets nowhere either.
                Err(ApiError::new(Code::Denied, identify::Refused::Elsewhere.to_string()))
            }
            Err(error) => {
                let error = ApiError::new(Code::Unauthorized, error.to_string());
                Err(challenged(gate, error, None))
            }
        }
    }

    pub(crate) fn said_something(&self) -> bool {
        self.grant.is_some()
    }

    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.grant.as_ref().and_then(|grant| grant.identity.as_ref())
    }

    /// Whose staging the caller sees.
    pub(crate) fn scope(&self) -> Option<Scope> {
        self.identity().map(Scope::of)
    }

    /// The identity, if it may push there.
    pub(crate) fn may_push<'a>(
        &'a self,
        gate: &Inner,
        repository: &RepositoryName,
    ) -> ApiResult<&'a Identity> {
        self.may(gate, repository, Permission::Push)
    }

    /// The identity, if it may do that there.
    pub(crate) fn may<'a>(
        &'a self,
        gate: &Inner,
        repository: &RepositoryName,
        permission: Permission,
    ) -> ApiResult<&'a Identity> {
        let scope = match permission {
            Permission::Pull => "pull",
            Permission::Push => "pull,push",
            Permission::Delete => "pull,push,delete",
        };
        let Some(identity) = self.identity() else {
            let error = ApiError::new(Code::Unauthorized, "this needs an identity");
            return Err(challenged(gate, error, Some((repository, scope))));
        };
        let verdict = ask(gate, Some(identity), repository, permission);
        if !verdict.decision.passes() {
            tracing::info!(
                repository = repository.as_str(),
                by = identity.repository,
                run = identity.run_id,
                "{scope} refused: {}",
                verdict.message()
            );
            return Err(crate::push::answer::refusal(&verdict, None));
        }
        let granted = self.grant.as_ref().is_some_and(|g| g.allows(repository, permission));
        if !granted {
            let error = ApiError::new(Code::Unauthorized, "the token was not made for this");
            return Err(challenged(gate, error, Some((repository, scope))));
        }
        Ok(identity)
    }

    /// Whether the sender may read there.
    pub(crate) fn may_pull(&self, gate: &Inner, repository: &RepositoryName) -> ApiResult<()> {
        let identity = self.identity();
        let verdict = ask(gate, identity, repository, Permission::Pull);
        if verdict.decision.passes() {
            return Ok(());
        }
        let error = crate::push::answer::refusal(&verdict, None);
        if identity.is_some() {
            return Err(error);
        }
        let error = ApiError::new(Code::Unauthorized, "it is not for everybody; say who you are");
        Err(challenged(gate, error, Some((repository, "pull"))))
    }

    /// What is not there to be seen by this token may be there for another one: who did not say
    /// who he is, or not for this repository, is asked first.
    pub(crate) fn unknown(
        &self,
        gate: &Inner,
        repository: &RepositoryName,
        error: ApiError,
    ) -> ApiError {
        if self.may_read_staged(repository) {
            return error;
        }
        let error = ApiError::new(Code::Unauthorized, "it is not public; say who you are");
        challenged(gate, error, Some((repository, "pull")))
    }

    /// Whether staged content of that repository may be read by this token.
    pub(crate) fn may_read_staged(&self, repository: &RepositoryName) -> bool {
        let allows = |grant: &Grant| {
            grant.allows(repository, Permission::Pull) || grant.allows(repository, Permission::Push)
        };
        self.grant.as_ref().is_some_and(allows)
    }
}

/// Tells the client where to get a token, and for what.
pub(crate) fn challenged(
    gate: &Inner,
    error: ApiError,
    scope: Option<(&RepositoryName, &str)>,
) -> ApiError {
    let mut challenge =
        format!("Bearer realm=\"{}token\",service=\"{}\"", gate.base_url, gate.service);
    if let Some((repository, actions)) = scope {
        challenge.push_str(&format!(",scope=\"repository:{repository}:{actions}\""));
    }
    error.with_header(header::WWW_AUTHENTICATE, &challenge)
}

/// What the policies say. Who does not say who he is may ask to read.
fn ask(
    gate: &Inner,
    identity: Option<&Identity>,
    repository: &RepositoryName,
    permission: Permission,
) -> Verdict {
    let nobody = Identity::default();
    let local_owner = identity.and(gate.local_owner.as_deref());
    let known = identity.unwrap_or(&nobody);
    let target = Target::of(repository, known, local_owner);
    let answer = || match permission {
        Permission::Pull => gate.policies.may_pull(identity, &target),
        Permission::Push => gate.policies.may_push(known, &target),
        Permission::Delete => gate.policies.may_delete(known, &target),
    };
    // Asked with each request of a push. The policies are the same as long as the gate is open.
    let question = serde_json::to_vec(&(identity, &target, permission));
    let answered = question.and_then(|question| gate.asked.of(&question, || Ok(answer())));
    answered.unwrap_or_else(|_| answer())
}

/// Whether the policies let a deletion pass, with all that is known of the place. Blocks.
pub(crate) fn may_delete(
    gate: &Inner,
    identity: &Identity,
    repository: &RepositoryName,
    change: (Option<&Tag>, bool),
) -> ApiResult<()> {
    let owner = gate.owners.of(repository).or_fail("looking whose a name is")?;
    let target = owners::target(gate, identity, repository, owner.as_ref(), change);
    let verdict = gate.policies.may_delete(identity, &target);
    if verdict.decision.passes() {
        return Ok(());
    }
    Err(crate::push::answer::refusal(&verdict, None))
}

/// What an identity may be granted in a repository.
pub(crate) fn permissions(
    gate: &Inner,
    identity: Option<&Identity>,
    repository: &RepositoryName,
    asked: &[Permission],
) -> Vec<Permission> {
    let granted = |permission: &Permission| {
        (identity.is_some() || *permission == Permission::Pull)
            && ask(gate, identity, repository, *permission).decision.passes()
    };
    asked.iter().copied().filter(granted).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_header_is_a_credential_or_refused(
            text in "(Basic|bearer|Bearer| |:|OnB3|dTpw|=|[ -~]){0,8}"
        ) {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&text).unwrap());
            match credential(&headers) {
                Ok(Credential::Bearer(token)) => prop_assert!(text.contains(&token)),
                Ok(Credential::Basic { .. }) => {
                    prop_assert!(text.get(..5).is_some_and(|it| it.eq_ignore_ascii_case("basic")));
                }
                Ok(Credential::None) => prop_assert!(false, "there is a header"),
                Err(error) => prop_assert_eq!(error.status(), http::StatusCode::UNAUTHORIZED),
            }
        }
    }
}
