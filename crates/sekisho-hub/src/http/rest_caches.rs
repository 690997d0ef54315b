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
use super::rest::{self, Page};
use crate::shared::Shared;
use crate::storage::CacheEntry;

type Hub = State<Arc<Shared>>;

/// Where a request is about.
#[derive(Debug, Deserialize)]
pub(super) struct At {
    owner: String,
    name: String,
    #[serde(default)]
    cache: u64,
}

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

impl At {
    /// The repository's id.
    fn repository(&self, shared: &Shared) -> Result<u64, GithubError> {
        rest::repository(shared, &self.owner, &self.name).map(|ids| ids.id)
    }
}

/// `GET …/actions/caches`: last used first.
pub(super) async fn list(
    State(shared): Hub,
    Path(at): Path<At>,
    Query(filter): Query<Filter>,
) -> Result<Response, GithubError> {
    let repository = at.repository(&shared)?;
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
    let repository = at.repository(&shared)?;
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
    let repository = at.repository(&shared)?;
    let work = move || shared.storage.delete_cache(repository, at.cache);
    let deleted = tokio::task::spawn_blocking(work).await;
    match deleted.map_err(|error| GithubError::internal(&error))? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(GithubError::not_found()),
    }
}
