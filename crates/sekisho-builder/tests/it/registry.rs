//! A registry in memory, as small as the protocol allows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sekisho_types::Digest;

#[derive(Default)]
pub(crate) struct Content {
    pub(crate) blobs: BTreeMap<String, Bytes>,
    /// By `repository:reference`.
    pub(crate) manifests: BTreeMap<String, (String, Bytes)>,
    /// Answered to a manifest PUT.
    pub(crate) deny: Option<String>,
    /// It says that it decides at every push.
    pub(crate) decides: bool,
    /// Manifests that a tag leads to after it was asked for once, by `repository:tag`.
    pub(crate) moves: BTreeMap<String, (String, Bytes)>,
    /// It knows no HEAD of a manifest.
    pub(crate) no_head: bool,
    /// Method and path of every request.
    pub(crate) requests: Vec<String>,
    uploads: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone)]
pub(crate) struct Registry {
    pub(crate) content: Arc<Mutex<Content>>,
    pub(crate) host: String,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        // The second test of a process finds it installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let registry = Self { content: Arc::default(), host };
        let router = Router::new().fallback(serve).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        registry
    }

    pub(crate) fn uploads(&self) -> usize {
        let content = self.content.lock().unwrap();
        content.requests.iter().filter(|request| request.starts_with("POST")).count()
    }
}

async fn serve(
    State(registry): State<Registry>,
    Query(query): Query<BTreeMap<String, String>>,
    request: Request,
) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let body = axum::body::to_bytes(request.into_body(), 1 << 30).await.unwrap();
    let mut content = registry.content.lock().unwrap();
    content.requests.push(format!("{method} {path}"));
    let Some(rest) = path.strip_prefix("/v2/") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if rest.is_empty() {
        return StatusCode::OK.into_response();
    }
    if let Some((repository, tail)) = rest.split_once("/blobs/uploads/") {
        return upload(&mut content, &method, repository, tail, &query, &body);
    }
    if let Some((_, digest)) = rest.split_once("/blobs/") {
        return match content.blobs.get(digest) {
            None => StatusCode::NOT_FOUND.into_response(),
            Some(blob) => blob.clone().into_response(),
        };
    }
    let Some((repository, reference)) = rest.split_once("/manifests/") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if method == Method::HEAD && content.no_head {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let key = format!("{repository}:{reference}");
    if method == Method::PUT {
        if let Some(denial) = content.deny.clone() {
            return (StatusCode::FORBIDDEN, [(header::CONTENT_TYPE, "application/json")], denial)
                .into_response();
        }
        let manifest: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        let missing = layers
            .chain(manifest.get("config"))
            .any(|blob| !content.blobs.contains_key(blob["digest"].as_str().unwrap()));
        if missing {
            let error =
                r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"a blob is not here"}]}"#;
            return (StatusCode::BAD_REQUEST, error).into_response();
        }
        let digest = Digest::sha256(&body).to_string();
        content.manifests.insert(format!("{repository}:{digest}"), (kind.clone(), body.clone()));
        content.manifests.insert(key, (kind, body));
        return (StatusCode::CREATED, [("docker-content-digest", digest)]).into_response();
    }
    let found = content.manifests.get(&key).cloned();
    if let Some(moved) = content.moves.remove(&key) {
        content.manifests.insert(key, moved);
    }
    match found {
        None => StatusCode::NOT_FOUND.into_response(),
        Some((kind, bytes)) => {
            let digest = Digest::sha256(&bytes).to_string();
            let headers = [("content-type", kind), ("docker-content-digest", digest)];
            let mut response = (headers, bytes).into_response();
            if content.decides {
                let headers = response.headers_mut();
                headers.insert("sekisho-decides", header::HeaderValue::from_static("every-push"));
            }
            response
        }
    }
}

fn upload(
    content: &mut Content,
    method: &Method,
    repository: &str,
    tail: &str,
    query: &BTreeMap<String, String>,
    body: &Bytes,
) -> Response {
    let id = if *method == Method::POST {
        let id = format!("u{}", content.requests.len());
        content.uploads.insert(id.clone(), Vec::new());
        id
    } else {
        tail.to_owned()
    };
    let Some(data) = content.uploads.get_mut(&id) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    data.extend_from_slice(body);
    if *method == Method::PUT {
        let data = content.uploads.remove(&id).unwrap();
        let digest = Digest::sha256(&data).to_string();
        assert_eq!(query.get("digest"), Some(&digest));
        content.blobs.insert(digest.clone(), data.into());
        return (StatusCode::CREATED, [("docker-content-digest", digest)]).into_response();
    }
    let location = format!("/v2/{repository}/blobs/uploads/{id}");
    let end = data.len().saturating_sub(1);
    (StatusCode::ACCEPTED, [(header::LOCATION, location), (header::RANGE, format!("0-{end}"))])
        .into_response()
}
