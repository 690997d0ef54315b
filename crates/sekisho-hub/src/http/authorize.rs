//! Who asks GitHub's REST, and whether he may: one decision before every call.
//!
//! | credential | is |
//! |---|---|
//! | the plane's admin token | everything, and the App too |
//! | a JWT of the configured App | the App itself: its installations and their tokens |
//! | an installation token, `ghs_…` | what the installation was given |
//! | a job's `github.token` | its repository, as its `permissions` say, while it runs |
//! | `RemoteAuth` with a registration token | looking at runners and groups, and removing one |
//! | the admin token of a tenant that was had for one | the same: one runner's `configure` uses it |
//!
//! Source: protocol reference 1.2 to 1.4, 1.10. Statuses and words are GitHub's: 401 for a bad
//! credential, 403 for one that may not, 404 for what it cannot see.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, Method, StatusCode};
use sekisho_github::wire::scale_set::RunnerEvent;
use sekisho_workflow::model::Access;

use super::guard::{bearer, is_admin};
use super::reply::GithubError;
use crate::event::Actor;
use crate::names::RepoName;
use crate::shared::Shared;
use crate::tokens::{GithubClaims, InstallationClaims, RegistrationClaims, TenantClaims, allows};

/// Where the REST is.
const PREFIX: &str = "/api/v3";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The plane's administrator.
    Admin,
    /// The configured App, as itself.
    App,
    /// The App where it is installed.
    Installation(InstallationClaims),
    /// A job that runs.
    Job(GithubClaims),
    /// Somebody who registers or removes a runner.
    Registrar {
        /// As the scale sets name an owner.
        scope: String,
        /// He removes.
        remove: bool,
    },
}

/// What a path is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) owner: Owner,
    need: Need,
}

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// `owner/name`.
    Repository(String),
    /// An organization.
    Organization(String),
    /// An enterprise.
    Enterprise(String),
    /// Nobody's: `/app`, `/rate_limit`.
    None,
}

/// What it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Any good credential.
    Anything,
    /// To be the App.
    App,
    /// A permission.
    Permission(&'static str, Access),
    /// A permission, or a registration token.
    Runners(&'static str, Access),
}

impl Owner {
    /// In lower case, as tokens name it.
    pub(super) fn scope(&self) -> String {
        let text = match self {
            Self::Repository(name) => format!("repos/{name}"),
            Self::Organization(name) => format!("orgs/{name}"),
            Self::Enterprise(name) => format!("enterprises/{name}"),
            Self::None => String::new(),
        };
        text.to_ascii_lowercase()
    }

    /// As the state names it.
    pub(super) fn owner(&self) -> crate::state::Owner {
        crate::state::Owner::from(self.scope().as_str())
    }

    /// Its first part.
    pub(super) fn account(&self) -> &str {
        match self {
            Self::Repository(name) => name.split('/').next().unwrap_or_default(),
            Self::Organization(name) | Self::Enterprise(name) => name,
            Self::None => "",
        }
    }
}

/// Reads a path below `/api/v3`.
pub(super) fn target(method: &Method, path: &str) -> Target {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (owner, rest) = match parts.as_slice() {
        ["repos", owner, name, rest @ ..] => (Owner::Repository(format!("{owner}/{name}")), rest),
        ["orgs", name, rest @ ..] => (Owner::Organization((*name).to_owned()), rest),
        ["enterprises", name, rest @ ..] => (Owner::Enterprise((*name).to_owned()), rest),
        rest => (Owner::None, rest),
    };
    let access = if *method == Method::GET { Access::Read } else { Access::Write };
    let runners = match owner {
        Owner::Repository(_) => "administration",
        _ => "organization_self_hosted_runners",
    };
    let need = match (&owner, rest) {
        (Owner::None, ["app", ..]) | (_, ["installation"]) => Need::App,
        (Owner::None, _) => Need::Anything,
        // Of what is written, a registration token removes one runner, and no more.
        (_, ["actions", "runners" | "runner-groups"]) if access == Access::Read => {
            Need::Runners(runners, access)
        }
        (_, ["actions", "runners", id])
            if id.parse::<u64>().is_ok() && matches!(*method, Method::GET | Method::DELETE) =>
        {
            Need::Runners(runners, access)
        }
        (_, ["actions", "runners" | "runner-groups", ..]) => Need::Permission(runners, access),
        (_, ["actions", ..]) => Need::Permission("actions", access),
        (_, ["pulls", _, "merge"] | ["contents", ..]) => Need::Permission("contents", access),
        (_, ["pulls", ..]) => Need::Permission("pull_requests", access),
        (Owner::Organization(_), ["repos"]) => Need::Permission("metadata", access),
        (Owner::Repository(_), ["hooks", ..]) => Need::Permission("repository_hooks", access),
        (_, ["hooks", ..]) => Need::Permission("organization_hooks", access),
        _ => Need::Anything,
    };
    Target { owner, need }
}

/// Whether the caller may: nothing, or what GitHub says.
pub(super) fn decide(caller: &Caller, target: &Target) -> Result<(), GithubError> {
    let hidden = || Err(GithubError::not_found());
    let forbidden = |message: &str| Err(GithubError(StatusCode::FORBIDDEN, message.to_owned()));
    let integration = || forbidden("Resource not accessible by integration");
    match (caller, target.need) {
        (Caller::Admin, _) | (Caller::App, Need::App) => Ok(()),
        (Caller::App, _) => Err(GithubError(
            StatusCode::UNAUTHORIZED,
            "A JSON web token could not be used here: make an installation token".to_owned(),
        )),
        (_, Need::App) => Err(GithubError(
            StatusCode::UNAUTHORIZED,
            "A JSON web token could not be decoded".to_owned(),
        )),
        (Caller::Registrar { scope, remove }, Need::Runners(_, access)) => {
            if *scope != target.owner.scope() {
                return hidden();
            }
            let removes = access == Access::Write;
            if removes && !remove { forbidden("Bad credentials") } else { Ok(()) }
        }
        (Caller::Registrar { .. }, _) => {
            Err(GithubError(StatusCode::UNAUTHORIZED, "Bad credentials".to_owned()))
        }
        // An enterprise may have the name of an account, and is none.
        (Caller::Installation(_), _) if matches!(target.owner, Owner::Enterprise(_)) => hidden(),
        (_, Need::Anything) => Ok(()),
        (
            Caller::Installation(claims),
            Need::Permission(name, access) | Need::Runners(name, access),
        ) => {
            if !claims.account.eq_ignore_ascii_case(target.owner.account()) {
                return hidden();
            }
            if let (Owner::Repository(name), Some(only)) = (&target.owner, &claims.repositories)
                && !only.iter().any(|one| one.eq_ignore_ascii_case(name))
            {
                return hidden();
            }
            if allows(&claims.permissions, name, access) { Ok(()) } else { integration() }
        }
        (Caller::Job(claims), Need::Permission(name, access)) => {
            if Owner::Repository(claims.repository.clone()).scope() != target.owner.scope() {
                return hidden();
            }
            if claims.allows(name, access) { Ok(()) } else { integration() }
        }
        (Caller::Job(_), Need::Runners(..)) => integration(),
    }
}

/// Whether the caller may read what is in a repository.
pub(super) fn reads(caller: &Caller, repository: &RepoName) -> bool {
    let owner = Owner::Repository(repository.to_string());
    decide(caller, &Target { owner, need: Need::Permission("contents", Access::Read) }).is_ok()
}

/// The layer around the REST.
pub(super) async fn layer(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    if headers.get(USER_AGENT).is_none_or(http::HeaderValue::is_empty) {
        let message = "Request forbidden by administrative rules. Please make sure your request \
                       has a User-Agent header.";
        return GithubError(StatusCode::FORBIDDEN, message.to_owned()).into_response();
    }
    let path = request.uri().path();
    let target = target(request.method(), path.strip_prefix(PREFIX).unwrap_or(path));
    let caller = match caller(&shared, headers) {
        Ok(caller) => caller,
        Err(error) => return error.into_response(),
    };
    if let Err(error) = decide(&caller, &target) {
        return error.into_response();
    }
    let actor = match &caller {
        Caller::Job(_) => Actor::job(),
        _ => Actor::user(&shared.config.actor),
    };
    request.extensions_mut().insert(actor);
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(target.owner);
    next.run(request).await
}

/// Understands the credential.
fn caller(shared: &Shared, headers: &HeaderMap) -> Result<Caller, GithubError> {
    let denied = |message: &str| GithubError(StatusCode::UNAUTHORIZED, message.to_owned());
    if !headers.contains_key(AUTHORIZATION) {
        return Err(denied("Requires authentication"));
    }
    if is_admin(shared, headers) {
        return Ok(Caller::Admin);
    }
    if let Some((scope, event)) = registrar(shared, headers) {
        return Ok(Caller::Registrar { scope, remove: event == RunnerEvent::Remove.as_str() });
    }
    let token = bearer(headers).ok_or_else(|| denied("Bad credentials"))?;
    if let Some(token) = token.strip_prefix(INSTALLATION_TOKEN) {
        let claims = shared.tokens.read::<InstallationClaims>(token);
        return claims.map(Caller::Installation).ok_or_else(|| denied("Bad credentials"));
    }
    if let Some(claims) = shared.tokens.read::<GithubClaims>(token) {
        let running = shared.is_running(claims.at());
        return if running { Ok(Caller::Job(claims)) } else { Err(denied("Bad credentials")) };
    }
    match &shared.config.app {
        Some(app) if token.matches('.').count() == 2 => {
            super::app::check_jwt(app, token, shared.clock.now()).map(|()| Caller::App)
        }
        _ => Err(denied("Bad credentials")),
    }
}

/// For which place, and for which event, somebody may register or remove runners.
pub(super) fn registrar(shared: &Shared, headers: &HeaderMap) -> Option<(String, String)> {
    if let Some(token) = remote_auth(headers) {
        let claims = shared.tokens.read::<RegistrationClaims>(token)?;
        return Some((claims.owner, claims.event));
    }
    let claims = shared.tokens.read::<TenantClaims>(bearer(headers)?)?;
    Some((claims.owner, claims.event))
}

/// What installation tokens begin with.
pub(super) const INSTALLATION_TOKEN: &str = "ghs_";

/// The token of `Authorization: RemoteAuth …`.
pub(super) fn remote_auth(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("remoteauth").then(|| token.trim())
}

#[cfg(test)]
mod tests;
