//! Cache entries over REST.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::limits::listed;
use super::reply::GithubError;
use super::rest::{self, At, Page};
use crate::shared::Shared;
use crate::storage::CacheEntry;

type Hub = State<Arc<Shared>>;

/// Query of [`list`].
#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    /// A key, or how it begins.
    key: Option<String>,
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    page: Option<usize>,
    per_page: Option<usize>,
}

/// `GET …/actions/caches`: last used first.
pub(super) async fn list(
    State(shared): Hub,
    Path(at): Path<At>,
    Query(filter): Query<Filter>,
) -> Result<Response, GithubError> {
    let repository = at.repository(&shared)?.id;
    let wanted = |entry: &CacheEntry| {
        let place = &entry.place;
        place.repository == repository
            && filter.key.as_ref().is_none_or(|key| place.key.starts_with(key))
            && filter.git_ref.as_ref().is_none_or(|git_ref| *git_ref == place.scope)
    };
    let mut all = shared.storage.caches(wanted);
    all.sort_by_key(|entry| std::cmp::Reverse((entry.used_at, entry.id)));
    let total = all.len();
    let page = Page::new(filter.page, filter.per_page).of(all);
    let page: Vec<Value> = page.iter().map(shown).collect();
    Ok(listed(total, json!({ "total_count": total, "actions_caches": page })).into_response())
}

fn shown(entry: &CacheEntry) -> Value {
    json!({
        "id": entry.id,
        "ref": entry.place.scope,
        "key": entry.place.key,
        "version": entry.place.version,
        "last_accessed_at": entry.used_at,
        "created_at": entry.created_at,
        "size_in_bytes": entry.size_bytes,
    })
}

/// `GET …/actions/cache/usage`
pub(super) async fn usage(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<Json<Value>, GithubError> {
    let repository = at.repository(&shared)?.id;
    let all = shared.storage.caches(|entry| entry.place.repository == repository);
    Ok(Json(json!({
        "full_name": format!("{}/{}", at.owner, at.name),
        "active_caches_size_in_bytes": all.iter().map(|entry| entry.size_bytes).sum::<u64>(),
        "active_caches_count": all.len(),
    })))
}

/// `DELETE …/actions/caches/{cache}`
pub(super) async fn delete(
    State(shared): Hub,
    Path(at): Path<At>,
) -> Result<StatusCode, GithubError> {
    let repository = at.repository(&shared)?.id;
    let work = move || shared.storage.delete_cache(repository, at.cache);
    match rest::blocking(work).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(GithubError::not_found()),
    }
}
