//! What goes around every answer of the REST: rate limits, pages, conditional requests.
//!
//! Source: protocol reference 1.2, 1.8.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::extract::{OriginalUri, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, ETAG, IF_NONE_MATCH, LINK};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use sekisho_github::rest::link;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::reply::GithubError;
use super::rest::PAGE;
use crate::shared::Shared;

/// A window, in seconds.
const WINDOW_SECS: i64 = 3600;
/// Credentials that are counted at a time.
const MAX_COUNTED: usize = 10_000;
/// Largest answer that gets an `ETag`, in bytes.
const MAX_TAGGED: usize = 16 * 1024 * 1024;

/// How many entries a list has on all its pages: the answer then gets its `Link` header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Total(pub(super) usize);

/// Requests of each credential in its window.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<BTreeMap<[u8; 32], (i64, u64)>>);

/// What is left to a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    limit: u64,
    used: u64,
    resets_at: i64,
}

impl Rates {
    /// Counts a request, unless it costs nothing.
    fn count(&self, who: [u8; 32], limit: u64, cost: u64, now: Timestamp) -> Left {
        let now = now.as_second();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_COUNTED && !all.contains_key(&who) {
            all.retain(|_, (start, _)| now < *start + WINDOW_SECS);
            // All are in their window: whoever began first is counted anew.
            if all.len() >= MAX_COUNTED
                && let Some(oldest) =
                    all.iter().min_by_key(|(_, (start, _))| *start).map(|(who, _)| *who)
            {
                all.remove(&oldest);
            }
        }
        let (start, used) = all.entry(who).or_insert((now, 0));
        if now >= *start + WINDOW_SECS {
            (*start, *used) = (now, 0);
        }
        *used = used.saturating_add(cost);
        Left { limit, used: *used, resets_at: *start + WINDOW_SECS }
    }
}

impl Left {
    fn write(self, headers: &mut HeaderMap) {
        for (name, value) in [
            ("x-ratelimit-limit", self.limit),
            ("x-ratelimit-remaining", self.limit.saturating_sub(self.used)),
            ("x-ratelimit-used", self.used.min(self.limit)),
            ("x-ratelimit-reset", self.resets_at.unsigned_abs()),
        ] {
            headers.insert(name, HeaderValue::from(value));
        }
        headers.insert("x-ratelimit-resource", HeaderValue::from_static("core"));
    }
}

fn who(headers: &HeaderMap) -> [u8; 32] {
    Sha256::digest(headers.get(AUTHORIZATION).map_or(&[][..], HeaderValue::as_bytes)).into()
}

/// The layer around the REST.
pub(super) async fn layer(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(limit) = shared.config.rest_requests_per_hour else {
        return conditional(request, next, &shared.config.base_url).await;
    };
    let who = who(request.headers());
    let free = request.uri().path().ends_with("/rate_limit");
    let before = shared.rates.count(who, limit, 0, shared.clock.now());
    if before.used >= limit && !free {
        let message = "API rate limit exceeded. If you reach out to GitHub Support for help, \
                       please include the request ID.";
        let refused = GithubError(StatusCode::FORBIDDEN, message.to_owned());
        let mut response = refused.into_response();
        before.write(response.headers_mut());
        return response;
    }
    let mut response = conditional(request, next, &shared.config.base_url).await;
    let cost = u64::from(!free && response.status() != StatusCode::NOT_MODIFIED);
    shared.rates.count(who, limit, cost, shared.clock.now()).write(response.headers_mut());
    response
}

/// Gives lists their `Link` and what was read its `ETag`, and says when it has not changed.
async fn conditional(request: Request, next: Next, base: &str) -> Response {
    let is_read = *request.method() == Method::GET;
    let known = request.headers().get(IF_NONE_MATCH).cloned();
    // Routers that are nested see the rest of the path alone.
    let uri = request.extensions().get::<OriginalUri>().map_or(request.uri(), |uri| &uri.0);
    let url = Url::parse(&format!("{base}{uri}")).ok();
    let mut response = next.run(request).await;
    if !is_read || response.status() != StatusCode::OK {
        return response;
    }
    if let Some(Total(total)) = response.extensions_mut().remove::<Total>()
        && let Some(link) = url.and_then(|url| page_link(&url, total))
        && let Ok(link) = HeaderValue::from_str(&link)
    {
        response.headers_mut().insert(LINK, link);
    }
    tagged(response, known.as_ref()).await
}

fn page_link(url: &Url, total: usize) -> Option<String> {
    let number = |wanted: &str| {
        let found = url.query_pairs().find(|(name, _)| name == wanted)?;
        found.1.parse::<usize>().ok()
    };
    let size = number("per_page").unwrap_or(PAGE.0).clamp(1, PAGE.1);
    link::write(url, number("page").unwrap_or(1).max(1), total.div_ceil(size))
}

async fn tagged(response: Response, known: Option<&HeaderValue>) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, MAX_TAGGED).await else {
        return GithubError::internal(&"an answer is too large").into_response();
    };
    let tag = format!("W/\"{}\"", hex::encode(Sha256::digest(&body)));
    let same = known.and_then(|known| known.to_str().ok()).is_some_and(|known| {
        known.split(',').any(|one| one.trim().trim_start_matches("W/") == &tag[2..])
    });
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        parts.headers.insert(ETAG, tag);
    }
    if same {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(body))
}

/// `GET /rate_limit`: costs nothing.
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<Json<Value>, GithubError> {
    let Some(limit) = shared.config.rest_requests_per_hour else {
        // As a GHES without limits says it.
        let message = "Rate limiting is not enabled.".to_owned();
        return Err(GithubError(StatusCode::NOT_FOUND, message));
    };
    let left = shared.rates.count(who(&headers), limit, 0, shared.clock.now());
    let core = json!({
        "limit": left.limit, "used": left.used.min(limit), "reset": left.resets_at,
        "remaining": left.limit.saturating_sub(left.used), "resource": "core",
    });
    Ok(Json(json!({ "resources": { "core": core }, "rate": core })))
}

/// A page of a list, with the number of all its entries.
pub(super) fn listed(total: usize, body: Value) -> (Extension<Total>, Json<Value>) {
    (Extension(Total(total)), Json(body))
}
