//! Pull requests over REST.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::authorize::{Caller, reads};
use super::limits::listed;
use super::reply::GithubError;
use super::rest::{self, At, Page};
use super::work;
use crate::event::{Actor, pull_request_json};
use crate::git::PUSH_WAIT;
use crate::pull::{self, Change, NewPull, Refused};
use crate::shared::Shared;
use crate::state::{PullRequest, RepositoryIds};

type Hub = State<Arc<Shared>>;
type Reply = Result<Response, GithubError>;

/// Longest title, in characters.
const MAX_TITLE: usize = 256;
/// Longest description, in characters, as on GitHub.
const MAX_BODY: usize = 65_536;

#[derive(Debug, Deserialize)]
struct Open {
    title: String,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    draft: bool,
    head: String,
    #[serde(default)]
    head_repo: Option<String>,
    base: String,
}

/// `POST …/pulls`
pub(super) async fn open(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Extension(caller): Extension<Caller>,
    Path(at): Path<At>,
    body: Bytes,
) -> Reply {
    let ids = at.repository(&shared)?;
    let Open { title, body, draft, head, head_repo, base } = rest::read(&body)?;
    check(Some(&title), body.as_deref())?;
    let new = NewPull { title, body, draft, head, head_repository: head_repo, base };
    let open = move |shared: &Shared, ids: &RepositoryIds| {
        pull::open(shared, ids, new, &actor, |name| reads(&caller, name))
    };
    let pull = turn(&shared, &ids, open).await?;
    Ok((StatusCode::CREATED, Json(shown(&shared, &ids, &pull)?)).into_response())
}

#[derive(Debug, Deserialize)]
struct Update {
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    base: Option<String>,
    #[serde(default)]
    state: Option<OpenOrClosed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OpenOrClosed {
    Open,
    Closed,
}

/// `PATCH …/pulls/{pull}`
pub(super) async fn update(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Path(at): Path<At>,
    body: Bytes,
) -> Reply {
    let ids = at.repository(&shared)?;
    let Update { title, body, base, state } = rest::read(&body)?;
    check(title.as_deref(), body.as_deref())?;
    let open = state.map(|state| state == OpenOrClosed::Open);
    let change = Change { title, body, base, open };
    let number = at.pull;
    let update = move |shared: &Shared, ids: &RepositoryIds| {
        pull::update(shared, ids, number, change, &actor)
    };
    let pull = turn(&shared, &ids, update).await?;
    Ok(Json(shown(&shared, &ids, &pull)?).into_response())
}

#[derive(Debug, Default, Deserialize)]
struct Merge {
    #[serde(default)]
    sha: Option<String>,
    #[serde(default)]
    merge_method: Option<String>,
}

/// `PUT …/pulls/{pull}/merge`
pub(super) async fn merge(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Path(at): Path<At>,
    body: Bytes,
) -> Reply {
    let ids = at.repository(&shared)?;
    let wanted: Merge = if body.is_empty() { Merge::default() } else { rest::read(&body)? };
    if wanted.merge_method.is_some_and(|method| method != "merge") {
        return Err(GithubError::unprocessable("Only the merge method `merge` is there"));
    }
    let number = at.pull;
    let merge = move |shared: &Shared, ids: &RepositoryIds| {
        pull::merge(shared, ids, number, wanted.sha.as_deref(), &actor)
    };
    let sha = turn(&shared, &ids, merge).await?;
    let message = "Pull Request successfully merged";
    Ok(Json(json!({ "sha": sha, "merged": true, "message": message })).into_response())
}

/// `GET …/pulls/{pull}`
pub(super) async fn get(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Json<Value>, GithubError> {
    let ids = at.repository(&shared)?;
    let (looks, of) = (Arc::clone(&shared), ids.clone());
    let seen = rest::blocking(move || pull::seen(&looks, &of, at.pull)).await?;
    let (pull, is_known) = seen.map_err(refused)?;
    let mut shown = shown(&shared, &ids, &pull)?;
    if !is_known {
        shown["mergeable"] = Value::Null;
    }
    Ok(Json(shown))
}

/// Query of [`list`].
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// `open` if absent.
    state: Option<String>,
    /// `owner:branch`
    head: Option<String>,
    base: Option<String>,
    page: Option<usize>,
    per_page: Option<usize>,
}

/// `GET …/pulls`: the newest first.
pub(super) async fn list(
    State(shared): Hub,
    Path(at): Path<At>,
    Query(wanted): Query<Wanted>,
) -> Reply {
    let ids = at.repository(&shared)?;
    let is_wanted = |pull: &&PullRequest| {
        let state = match wanted.state.as_deref() {
            Some("all") => true,
            Some("closed") => !pull.is_open(),
            _ => pull.is_open(),
        };
        state
            && wanted.head.as_ref().is_none_or(|head| *head == pull.head.label())
            && wanted.base.as_ref().is_none_or(|base| *base == pull.base.branch)
    };
    let all: Vec<PullRequest> =
        shared.look(|state| state.pulls.of(ids.id).filter(is_wanted).cloned().collect());
    let total = all.len();
    let page = Page::new(wanted.page, wanted.per_page).of(all);
    // Whether one goes together with its base is looked at when it is asked for by itself, as on GitHub.
    let brief = |pull: &PullRequest| {
        shown(&shared, &ids, pull).map(|mut shown| {
            shown.as_object_mut().map(|fields| fields.remove("mergeable"));
            shown
        })
    };
    let page: Result<Vec<Value>, GithubError> = page.iter().map(brief).collect();
    Ok(listed(total, json!(page?)).into_response())
}

fn check(title: Option<&str>, body: Option<&str>) -> Result<(), GithubError> {
    let refuse = |why: String| Err(GithubError::unprocessable(format!("Validation Failed: {why}")));
    if let Some(title) = title {
        if title.trim().is_empty() || title.chars().any(char::is_control) {
            return refuse("title is empty, or has control characters".to_owned());
        }
        if title.chars().count() > MAX_TITLE {
            return refuse(format!("title is too long (maximum is {MAX_TITLE} characters)"));
        }
    }
    if body.is_some_and(|body| body.chars().count() > MAX_BODY) {
        return refuse(format!("body is too long (maximum is {MAX_BODY} characters)"));
    }
    Ok(())
}

fn refused(refused: Refused) -> GithubError {
    match refused {
        Refused::NotFound => GithubError::not_found(),
        Refused::Invalid(why) => GithubError::unprocessable(why),
        Refused::NotMergeable(why) => GithubError(StatusCode::METHOD_NOT_ALLOWED, why.to_owned()),
        Refused::Forbidden(why) => GithubError(StatusCode::FORBIDDEN, why),
        Refused::Busy => {
            let why = "other pull requests are being worked on: try again".to_owned();
            GithubError(StatusCode::SERVICE_UNAVAILABLE, why)
        }
        Refused::Git(error) => GithubError::internal(&error),
    }
}

fn shown(shared: &Shared, ids: &RepositoryIds, pull: &PullRequest) -> Result<Value, GithubError> {
    let repository = shared.git.repository(&ids.name).ok_or_else(GithubError::not_found)?;
    let branch = repository.default_branch_name().map_err(|error| GithubError::internal(&error))?;
    Ok(pull_request_json(&shared.config.base_url, pull, &branch))
}

/// Does what blocks, one after the other for a repository, as pushes are.
async fn turn<T: Send + 'static>(
    shared: &Arc<Shared>,
    ids: &RepositoryIds,
    work: impl FnOnce(&Shared, &RepositoryIds) -> Result<T, Refused> + Send + 'static,
) -> Result<T, GithubError> {
    let busy = |_| {
        let why = "another push is under way".to_owned();
        GithubError(StatusCode::SERVICE_UNAVAILABLE, why)
    };
    let lock = shared.push_lock(&ids.name).acquire_owned();
    let lock = tokio::time::timeout(PUSH_WAIT, lock).await.map_err(busy)?;
    let lock = lock.map_err(|error| GithubError::internal(&error))?;
    let (of_work, ids) = (Arc::clone(shared), ids.clone());
    let done = rest::blocking(work::holding(lock, move || work(&of_work, &ids))).await?;
    // Who is told that it is done finds it so, whatever becomes of this process.
    let written = shared.saver.flushed().await;
    let done = done.map_err(refused)?;
    Ok(written.map(|()| done)?)
}
