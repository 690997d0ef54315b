//! HTTP: the server as a router, in process and over loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::ApiError;
use super::fault::{FaultKind, strike};
use super::list::{list, partial};
use super::patch::PatchKind;
use super::request::{Request, Verb};
use super::write::find;
use super::{Call, Shared, delete, patch, pod, watch, write};

/// Longest body of a request, in bytes: as the real one.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// The server on a loopback port.
pub struct Served {
    address: SocketAddr,
    _stop: DropGuard,
}

impl Served {
    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client over the network.
    ///
    /// # Errors
    /// Never, for this address.
    pub fn client(&self) -> anyhow::Result<Client> {
        let mut config = Config::new(self.url().parse()?);
        config.default_namespace = "default".to_owned();
        Ok(Client::try_from(config)?)
    }
}

pub(super) async fn serve(router: Router) -> std::io::Result<Served> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            // Dropping it ends all connections, watches too.
            served = axum::serve(listener, router) => served,
            () = stopped.cancelled() => Ok(()),
        }
    });
    Ok(Served { address, _stop: stop.drop_guard() })
}

#[derive(Clone)]
struct Door {
    shared: Arc<Shared>,
    client: Arc<str>,
}

pub(super) fn router(shared: Arc<Shared>, client: &str) -> Router {
    Router::new().fallback(answer).with_state(Door { shared, client: client.into() })
}

async fn answer(
    State(door): State<Door>,
    method: Method,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match uri.path() {
        "/version" => return json_response(200, &version()),
        "/livez" | "/readyz" | "/healthz" => return "ok".into_response(),
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" if method == Method::POST => {
            return json_response(
                201,
                &json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {}, "spec": {}, "status": { "allowed": true } }),
            );
        }
        _ => {}
    }
    let parsed = Request::parse(&door.shared.resources(), &method, uri.path(), query);
    let mut request = match parsed {
        Ok(request) => request,
        Err(error) => return failure(&error),
    };
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    request.metadata_only = accept.contains("as=PartialObjectMetadata");
    let body = match to_bytes(body, MAX_BODY).await {
        Ok(body) => body,
        Err(error) => return failure(&ApiError::bad_request(error.to_string())),
    };
    let mut call = called(&door, &request, &body);
    let fault = strike(&mut door.shared.lock().faults, &door.client, &request);
    let response = match fault {
        Some(FaultKind::Status(code)) => failure(&ApiError::status(code, "as it was armed")),
        Some(FaultKind::Late(late)) => {
            tokio::time::sleep(late).await;
            act(&door, &request, &headers, &body)
        }
        Some(FaultKind::AnswerLost) => {
            act(&door, &request, &headers, &body);
            failure(&ApiError::status(504, "the answer was lost, as it was armed"))
        }
        None => act(&door, &request, &headers, &body),
    };
    call.status = response.status().as_u16();
    door.shared.lock().calls.push(call);
    response
}

fn called(door: &Door, request: &Request, body: &[u8]) -> Call {
    let options = if request.verb == Verb::Delete { parse(body).ok() } else { None };
    let preconditions = options.and_then(|it| it["preconditions"].as_object().cloned());
    Call {
        client: door.client.to_string(),
        verb: request.verb,
        resource: request.resource.plural.clone(),
        subresource: request.subresource.clone(),
        namespace: request.namespace.clone(),
        name: request.name.clone(),
        manager: request.param("fieldManager").to_owned(),
        preconditions: preconditions.into_iter().flatten().map(|(name, _)| name).collect(),
        status: 0,
    }
}

/// Does it.
fn act(door: &Door, request: &Request, headers: &HeaderMap, body: &[u8]) -> Response {
    let result = match request.verb {
        Verb::Watch => {
            return match watch::watch(Arc::clone(&door.shared), request.clone()) {
                Ok(lines) => {
                    let json = [(header::CONTENT_TYPE, "application/json")];
                    (json, Body::from_stream(lines)).into_response()
                }
                Err(error) => failure(&error),
            };
        }
        Verb::List => list(&door.shared.lock().store, request).map(|list| (200, list)),
        Verb::Get => read(door, request),
        Verb::Create => parse(body).and_then(|object| create(door, request, object)),
        Verb::Update => parse(body).and_then(|object| update(door, request, object)),
        Verb::Patch => patch(door, request, headers, body),
        Verb::Delete => remove(door, request, body),
    };
    if let Ok((_, object)) = &result
        && object["kind"] == json!("CustomResourceDefinition")
        && !matches!(request.verb, Verb::Get | Verb::Delete)
    {
        door.shared.define(object);
    }
    match result {
        Ok((code, object)) if request.metadata_only && object["kind"] != json!("Status") => {
            let shown = if request.verb == Verb::List { object } else { partial(&object) };
            json_response(code, &shown)
        }
        Ok((code, object)) => json_response(code, &object),
        Err(error) => failure(&error),
    }
}

type Answered = Result<(u16, Value), ApiError>;

fn read(door: &Door, request: &Request) -> Answered {
    let object = find(&door.shared.lock().store, request)?.1.value;
    if request.subresource == "scale" {
        return Ok((200, write::shown_scale(&request.resource, &object)));
    }
    Ok((200, Value::clone(&object)))
}

fn create(door: &Door, request: &Request, object: Value) -> Answered {
    let success = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    door.shared.change(|resources, store| match request.subresource.as_str() {
        "" => write::create(resources, store, request, object)
            .map(|object| (201, Value::clone(&object))),
        "binding" => pod::bind(store, request, &object).map(|()| (201, success)),
        "eviction" => {
            delete::delete(store, request, &object["deleteOptions"]).map(|_| (201, success))
        }
        _ => Err(ApiError::method()),
    })
}

fn update(door: &Door, request: &Request, object: Value) -> Answered {
    door.shared.change(|_, store| {
        if request.subresource == "scale" {
            let found = find(store, request)?;
            return write::scale(store, request, found, &object)
                .map(|object| (200, Value::clone(&object)));
        }
        write::update(store, request, object).map(|object| (200, Value::clone(&object)))
    })
}

fn patch(door: &Door, request: &Request, headers: &HeaderMap, body: &[u8]) -> Answered {
    let given = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let given = given.unwrap_or_default();
    let kind = match given.split(';').next().unwrap_or_default() {
        "application/merge-patch+json" => PatchKind::Merge,
        "application/json-patch+json" => PatchKind::Json,
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => PatchKind::Apply,
        other => return Err(ApiError::media_type(other)),
    };
    let patch = parse(body)?;
    door.shared.change(|resources, store| {
        let there = delete::is_there(store, request);
        patch::patch(resources, store, request, kind, &patch)
            .map(|object| (if there { 200 } else { 201 }, Value::clone(&object)))
    })
}

fn remove(door: &Door, request: &Request, body: &[u8]) -> Answered {
    let options = if body.is_empty() { json!({}) } else { parse(body)? };
    if request.name.is_empty() {
        return remove_all(door, request, &options);
    }
    door.shared.change(|_, store| {
        let object = delete::delete(store, request, &options)?;
        let gone = !delete::is_there(store, request);
        let answer = match gone && request.resource.plural != "pods" {
            true => delete::gone(&request.resource, &object),
            false => Value::clone(&object),
        };
        Ok((200, answer))
    })
}

/// Deletes a whole list.
fn remove_all(door: &Door, request: &Request, options: &Value) -> Answered {
    door.shared.change(|_, store| {
        let found = list(store, request)?;
        for object in found["items"].as_array().into_iter().flatten() {
            let text =
                |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
            let one =
                Request { name: text("name"), namespace: text("namespace"), ..request.clone() };
            delete::delete(store, &one, options)?;
        }
        Ok((200, found))
    })
}

fn parse(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(error.to_string()))
}

fn version() -> Value {
    json!({ "major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "clean", "buildDate": "2025-08-27T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64" })
}

fn json_response(code: u16, value: &Value) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(value)).into_response()
}

fn failure(error: &ApiError) -> Response {
    json_response(error.code, &error.to_value())
}
