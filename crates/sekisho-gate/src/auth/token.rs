//! `/token`: what registry clients ask after a 401.
//!
//! Source: the distribution project's token authentication specification. Less than asked for may
//! be granted; the refusal then comes, with its reason, where the permission is used.

use axum::extract::{Request, State};
use axum::response::Response;
use sekisho_policy::Identity;
use serde::Deserialize;
use serde_json::json;

use super::identify::{Refused, Verified};
use super::session::{Access, Kind, Permission, Sessions};
use super::worker::{self, Peer};
use super::{Credential, credential, exchange, permissions, users};
use crate::config::TokenPasswords;
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};
use crate::gate::Gate;

/// Clients take a token that lives shorter for one that lives that long.
const LEAST_SECONDS: i64 = 60;

/// Most scopes in one request; a mount asks for two.
const MAX_SCOPES: usize = 32;

/// Longest query, in bytes.
const MAX_QUERY_BYTES: usize = 16 * 1024;

#[derive(Deserialize)]
struct Form {
    grant_type: String,
    #[serde(default)]
    scope: String,
    username: Option<String>,
    password: Option<String>,
    refresh_token: Option<String>,
    access_type: Option<String>,
}

/// Who asks, and how long that is known for.
struct Asking {
    identity: Option<Identity>,
    until: Option<i64>,
    /// A session that a client may come back with.
    refresh_token: Option<String>,
}

/// With Basic credentials, or with none for what everybody may.
pub(crate) async fn get(State(gate): State<Gate>, request: Request) -> ApiResult<Response> {
    let peer = Peer::of(request.extensions());
    let query = request.uri().query().unwrap_or_default();
    if query.len() > MAX_QUERY_BYTES {
        return Err(ApiError::new(Code::Unauthorized, "the token request is too long"));
    }
    let fields = || url::form_urlencoded::parse(query.as_bytes());
    let scopes: Vec<String> = fields()
        .filter(|(name, _)| name == "scope")
        .flat_map(|(_, value)| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let offline = fields().any(|(name, value)| name == "offline_token" && value == "true");
    let asking = match credential(request.headers())? {
        Credential::None => Asking { identity: None, until: None, refresh_token: None },
        Credential::Basic { user, password } if gate.inner.users.knows(&user) => {
            of_user(&gate, user, password, offline, peer).await?
        }
        Credential::Basic { password, .. } => authenticate(&gate, password, offline, peer).await?,
        Credential::Bearer(token) => authenticate(&gate, token, offline, peer).await?,
    };
    answer(&gate, asking, &scopes)
}

/// OAuth 2 forms: `grant_type=password` and `grant_type=refresh_token`.
pub(crate) async fn post(State(gate): State<Gate>, request: Request) -> ApiResult<Response> {
    let (parts, body) = request.into_parts();
    let (headers, peer) = (parts.headers, Peer::of(&parts.extensions));
    let bad = |what: &str| ApiError::new(Code::Unauthorized, what);
    let form: Form = exchange::read(&headers, body)
        .await
        .ok_or_else(|| bad("give `grant_type` and what goes with it"))?;
    let scopes: Vec<String> = form.scope.split(' ').map(str::to_owned).collect();
    let offline = form.access_type.as_deref() == Some("offline");
    let secret = match form.grant_type.as_str() {
        "password" => form.password,
        "refresh_token" => form.refresh_token,
        _ => return Err(bad("`grant_type` is neither `password` nor `refresh_token`")),
    };
    let secret = secret.ok_or_else(|| bad("the credential is missing"))?;
    let user =
        form.username.filter(|name| form.grant_type == "password" && gate.inner.users.knows(name));
    let asking = match user {
        Some(user) => of_user(&gate, user, secret, offline, peer).await?,
        None => authenticate(&gate, secret, offline, peer).await?,
    };
    answer(&gate, asking, &scopes)
}

/// A session token, or an OIDC token. The latter is not used up here, for clients keep a password
/// and show it again and again; only a session is given out for it once.
async fn authenticate(gate: &Gate, secret: String, offline: bool, peer: Peer) -> ApiResult<Asking> {
    let refused = |error: String| ApiError::new(Code::Unauthorized, error);
    if Sessions::is_ours(&secret) {
        let grant = gate.inner.sessions.verify(&secret, gate.inner.now());
        let grant = grant.map_err(|error| refused(error.to_string()))?;
        if grant.kind != Kind::Session {
            return Err(refused("an access token opens nothing else".to_owned()));
        }
        let fits = |identity: &Identity| worker::may_use(&gate.inner, identity, peer);
        if !grant.identity.as_ref().is_none_or(fits) {
            return Err(ApiError::new(Code::Denied, Refused::Elsewhere.to_string()));
        }
        let until = Some(grant.expires());
        return Ok(Asking { identity: grant.identity, until, refresh_token: Some(secret) });
    }
    let verified = exchange::verify(gate, &secret, peer).await?;
    let verified = verified.map_err(|error| refused(error.to_string()))?;
    let identity = Some(verified.identity.clone());
    // It may be shown again by whoever has it, as long as it lives and no longer.
    let least = gate.inner.now().as_second() + LEAST_SECONDS;
    let until = Some(verified.expires.max(least));
    // Whoever comes back with a session has used the token up.
    let refresh_token = if offline {
        let session = exchange::session(gate, verified).await?;
        let (token, _) = session.ok_or_else(|| refused(Refused::Replayed.to_string()))?;
        Some(token)
    } else {
        let may = as_password(gate, verified, peer).await?;
        may.map_err(|error| refused(error.to_string()))?;
        None
    };
    Ok(Asking { identity, until, refresh_token })
}

/// Whether an OIDC token may be shown as a password, again and again.
async fn as_password(
    gate: &Gate,
    verified: Verified,
    peer: Peer,
) -> ApiResult<Result<(), Refused>> {
    match gate.inner.options.token_passwords {
        TokenPasswords::Anywhere => Ok(Ok(())),
        TokenPasswords::Never => Ok(Err(Refused::NoPassword)),
        TokenPasswords::OneAddress => {
            let inner = gate.inner.clone();
            blocking("looking where a token was shown", move || {
                let Some(address) = peer.ip() else { return Ok(Err(Refused::OtherAddress)) };
                let Verified { identity, jti, expires } = &verified;
                let token = (identity.issuer.as_str(), jti.as_str(), *expires);
                let is_first = inner.exchanged.is_first_shown_from(token, address);
                let is_first = is_first.or_fail("looking where a token was shown")?;
                Ok(if is_first { Ok(()) } else { Err(Refused::OtherAddress) })
            })
            .await
        }
    }
}

/// A user with a password, on this machine. A session token in its place is one.
async fn of_user(
    gate: &Gate,
    user: String,
    password: String,
    offline: bool,
    peer: Peer,
) -> ApiResult<Asking> {
    if Sessions::is_ours(&password) {
        return authenticate(gate, password, offline, peer).await;
    }
    if !peer.is_loopback() {
        let message = "passwords are taken from this machine alone";
        return Err(ApiError::new(Code::Denied, message));
    }
    let inner = gate.inner.clone();
    let verified = move || Ok(inner.users.verify(&user, &password, inner.now()));
    match blocking("verifying a password", verified).await? {
        users::Answer::Yes(identity) => {
            let session = gate.inner.sessions.session(&identity, gate.inner.now());
            let refresh_token = session.filter(|_| offline).map(|(token, _)| token);
            Ok(Asking { identity: Some(*identity), until: None, refresh_token })
        }
        users::Answer::No => {
            Err(ApiError::new(Code::Unauthorized, "the user or the password is wrong"))
        }
        users::Answer::Wait(seconds) => {
            let message = format!("too many wrong passwords; try again in {seconds} s");
            let error = ApiError::new(Code::TooManyRequests, message);
            Err(error.with_retry_after(&seconds.to_string()))
        }
    }
}

fn answer(gate: &Gate, asking: Asking, scopes: &[String]) -> ApiResult<Response> {
    let now = gate.inner.now();
    let Asking { identity, until, refresh_token } = asking;
    let mut granted: Vec<Access> = Vec::new();
    for scope in scopes.iter().filter(|scope| !scope.is_empty()).take(MAX_SCOPES) {
        let Some(mut access) = parse(scope) else { continue };
        access.permissions =
            permissions(&gate.inner, identity.as_ref(), &access.repository, &access.permissions);
        granted.push(access);
    }
    let (token, expires_in) = gate
        .inner
        .sessions
        .access(identity, granted, now, until)
        .ok_or_else(|| ApiError::internal("signing a token", &"no token"))?;
    let mut body = json!({
        "token": token,
        "access_token": token,
        "expires_in": expires_in,
        "issued_at": now.to_string(),
    });
    if let Some(refresh_token) = refresh_token {
        body["refresh_token"] = refresh_token.into();
    }
    Ok(exchange::secret(body))
}

/// `repository:NAME:pull,push`; the name may hold a colon (a port), so both ends are cut off. What
/// is of another kind is not granted.
pub(crate) fn parse(scope: &str) -> Option<Access> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    if kind != "repository" {
        return None;
    }
    let mut permissions: Vec<Permission> = Vec::new();
    for action in actions.split(',') {
        let named: &[Permission] = match action {
            "pull" => &[Permission::Pull],
            "push" => &[Permission::Push],
            "delete" => &[Permission::Delete],
            "*" => &[Permission::Pull, Permission::Push, Permission::Delete],
            _ => &[],
        };
        // Each once: a policy is asked about each, and each stands in the token.
        let new = |one: &&Permission| !permissions.contains(one);
        permissions.extend(named.iter().filter(new).copied().collect::<Vec<_>>());
    }
    Some(Access { repository: name.parse().ok()?, permissions })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_scope_is_read_or_not_granted(text in "(repository|registry|:|,|\\*|pull|push|delete|a/b|\\PC){0,10}") {
            if let Some(access) = parse(&text) {
                proptest::prop_assert!(text.contains(access.repository.as_str()));
            }
        }
    }

    #[test]
    fn scopes() {
        let check = |text: &str, want: Option<(&str, &[Permission])>| {
            let got = parse(text);
            let got = got.as_ref().map(|it| (it.repository.as_str(), it.permissions.as_slice()));
            assert_eq!(got, want, "{text}");
        };
        let all = [Permission::Pull, Permission::Push, Permission::Delete];
        let both = &all[..2];
        check("repository:a/b:pull,push", Some(("a/b", both)));
        check("repository:a:*", Some(("a", &all)));
        check("repository:a:delete", Some(("a", &all[2..])));
        check("repository:a:pull,admin", Some(("a", &all[..1])));
        check("repository:a:*,*,pull", Some(("a", &all)));
        check("repository:host:5000/a:pull", None);
        check("registry:catalog:*", None);
        check("repository:a", None);
        check("", None);
    }
}
