//! The services' side of the wire, as small as a runner needs it, recording all that it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post, put};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub(crate) const ACCESS: &str = "runner-access-token-1234";
pub(crate) const JOB_TOKEN: &str = "job-access-token-5678";

/// What the services were told.
#[derive(Default)]
pub(crate) struct Told {
    /// Names of calls, in order.
    pub(crate) calls: Vec<String>,
    pub(crate) assertion: String,
    pub(crate) complete: Option<Value>,
    pub(crate) updates: Vec<Value>,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) sealed: Vec<String>,
    pub(crate) metadata: Vec<Value>,
    pub(crate) feed: Vec<Value>,
    pub(crate) git_headers: Vec<String>,
}

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) told: Mutex<Told>,
    pub(crate) job: Mutex<Value>,
    /// Messages for a busy runner.
    pub(crate) messages: Mutex<Vec<Value>>,
    /// Something was told or queued.
    pub(crate) changed: Notify,
    /// Errors to answer with instead, by the end of a path: status and body; each once.
    pub(crate) errors: Mutex<BTreeMap<&'static str, (u16, Value)>>,
    /// So many connections of the live feed end after their first frame.
    pub(crate) feed_breaks: std::sync::atomic::AtomicU32,
    /// There is no job for a runner that waits.
    pub(crate) idle: std::sync::atomic::AtomicBool,
    /// The old flow.
    pub(crate) tenant: Mutex<crate::tenant::Tenant>,
    /// Archives of actions, by `owner/name@ref`.
    pub(crate) archives: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Folder with bare repositories.
    pub(crate) repositories: Mutex<Option<std::path::PathBuf>>,
}

type Shared = State<Arc<Server>>;

impl Server {
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self::start_on(listener, url)
    }

    /// With a URL by which it is reached.
    pub(crate) fn start_on(listener: TcpListener, url: String) -> Arc<Self> {
        let server = Arc::new(Self {
            url,
            told: Mutex::default(),
            job: Mutex::new(Value::Null),
            messages: Mutex::default(),
            changed: Notify::new(),
            errors: Mutex::default(),
            feed_breaks: 0.into(),
            idle: false.into(),
            tenant: Mutex::default(),
            archives: Mutex::default(),
            repositories: Mutex::default(),
        });
        let router = Router::new()
            .route("/oauth/token", post(token))
            .route("/broker/session", post(session).delete(no_session))
            .route("/broker/message", get(message))
            .route("/broker/acknowledge", post(acknowledge))
            .route("/run/acquirejob", post(acquire))
            .route("/run/renewjob", post(renew))
            .route("/run/completejob", post(complete))
            .route("/results/twirp/{service}/{method}", post(twirp))
            .route("/blobs/{name}", put(blob))
            .route("/feed", get(feed))
            .route("/actions/build/{plan}/jobs/{job}/runnerresolve/actions", post(resolve))
            .route("/tarball/{owner}/{name}", get(tarball))
            .nest("/tenant", crate::tenant::router())
            .route("/git/{*path}", get(crate::git::serve).post(crate::git::serve))
            .layer(DefaultBodyLimit::disable())
            .layer(axum::middleware::from_fn_with_state(Arc::clone(&server), fail))
            .with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    pub(crate) fn tell(&self, call: &str, change: impl FnOnce(&mut Told)) {
        let mut told = self.told.lock().unwrap();
        told.calls.push(call.to_owned());
        change(&mut told);
        drop(told);
        self.changed.notify_waiters();
    }

    pub(crate) fn keep_waiting(&self) {
        self.idle.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Waits until a call was made.
    pub(crate) async fn until(&self, call: &str) {
        let wait = async {
            while !self.told.lock().unwrap().calls.iter().any(|c| c == call) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect(call);
    }

    pub(crate) fn send(&self, kind: &str, body: &Value) {
        let message = json!({"messageId": 9, "messageType": kind, "body": body.to_string()});
        self.messages.lock().unwrap().push(message);
        self.changed.notify_waiters();
    }
}

/// Answers with an error that a test has asked for.
async fn fail(
    State(server): Shared,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let path = request.uri().path();
    let error = {
        let mut errors = server.errors.lock().unwrap();
        let name = errors.keys().copied().find(|name| path.ends_with(&format!("/{name}")));
        name.and_then(|name| errors.remove(name).map(|error| (name, error)))
    };
    match error {
        Some((name, (status, body))) => {
            server.tell(&format!("{status} to {name}"), |_| {});
            (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
        }
        None => next.run(request).await,
    }
}

fn bearer(headers: &HeaderMap) -> &str {
    let value = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.strip_prefix("Bearer ").unwrap_or_default()
}

pub(crate) fn expect_bearer(headers: &HeaderMap, token: &str) -> Result<(), StatusCode> {
    if bearer(headers) == token { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }
}

async fn token(State(server): Shared, body: String) -> Json<Value> {
    server.tell("token", |told| told.assertion = body);
    Json(json!({"access_token": ACCESS, "expires_in": 3600}))
}

async fn session(
    State(server): Shared,
    headers: HeaderMap,
    Json(mut body): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    expect_bearer(&headers, ACCESS)?;
    server.tell("session", |_| {});
    body["sessionId"] = json!("11111111-1111-1111-1111-111111111111");
    Ok(Json(body))
}

async fn no_session(State(server): Shared) -> StatusCode {
    server.tell("delete session", |_| {});
    StatusCode::OK
}

async fn message(
    State(server): Shared,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Response, StatusCode> {
    expect_bearer(&headers, ACCESS)?;
    assert_eq!(query["sessionId"], "11111111-1111-1111-1111-111111111111");
    assert_eq!(query["disableUpdate"], "true");
    let is_idle = server.idle.load(std::sync::atomic::Ordering::SeqCst);
    if query["status"] == "Online" && is_idle {
        server.tell("waiting", |_| {});
    } else if query["status"] == "Online" {
        server.tell("poll", |_| {});
        let body = json!({"id": "m", "runner_request_id": "r-1", "should_acknowledge": true,
            "run_service_url": format!("{}/run/", server.url)});
        let message =
            json!({"messageId": 1, "messageType": "RunnerJobRequest", "body": body.to_string()});
        return Ok(Json(message).into_response());
    }
    let wait = async {
        loop {
            let changed = server.changed.notified();
            if let Some(message) = server.messages.lock().unwrap().pop() {
                return message;
            }
            let _ = tokio::time::timeout(Duration::from_millis(50), changed).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(20), wait).await {
        Ok(message) => Ok(Json(message).into_response()),
        Err(_) => Ok(StatusCode::ACCEPTED.into_response()),
    }
}

async fn acknowledge(State(server): Shared, Json(body): Json<Value>) -> StatusCode {
    assert_eq!(body, json!({"runnerRequestId": "r-1"}));
    server.tell("acknowledge", |_| {});
    StatusCode::OK
}

async fn acquire(
    State(server): Shared,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    expect_bearer(&headers, ACCESS)?;
    assert_eq!(body, json!({"jobMessageId": "r-1", "runnerOS": "Linux"}));
    server.tell("acquire", |_| {});
    Ok(Json(server.job.lock().unwrap().clone()))
}

async fn renew(State(server): Shared, headers: HeaderMap) -> Result<Json<Value>, StatusCode> {
    expect_bearer(&headers, JOB_TOKEN)?;
    server.tell("renew", |_| {});
    Ok(Json(json!({"lockedUntil": "2030-01-01T00:00:00Z"})))
}

async fn complete(
    State(server): Shared,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<StatusCode, StatusCode> {
    expect_bearer(&headers, JOB_TOKEN)?;
    server.tell("complete", |told| told.complete = Some(body));
    Ok(StatusCode::OK)
}

async fn twirp(
    State(server): Shared,
    Path((_, method)): Path<(String, String)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    expect_bearer(&headers, JOB_TOKEN)?;
    let step = body["step_backend_id"].as_str().unwrap_or("job").to_owned();
    let url = |kind: &str| format!("{}/blobs/{kind}-{step}?sig=s", server.url);
    let azure = "BLOB_STORAGE_TYPE_AZURE";
    Ok(Json(match method.as_str() {
        "WorkflowStepsUpdate" => {
            server.tell("steps", |told| told.updates.push(body));
            json!({"ok": true})
        }
        "GetStepLogsSignedBlobURL" => json!({"logs_url": url("log"), "blob_storage_type": azure}),
        "GetStepSummarySignedBlobURL" => {
            json!({"summary_url": url("summary"), "blob_storage_type": azure})
        }
        "CreateStepLogsMetadata" | "CreateStepSummaryMetadata" => {
            server.tell(&method, |told| told.metadata.push(body));
            json!({"ok": true})
        }
        _ => return Err(StatusCode::NOT_FOUND),
    }))
}

async fn blob(
    State(server): Shared,
    Path(name): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    if query.get("sig").map(String::as_str) != Some("s") {
        return StatusCode::FORBIDDEN;
    }
    let kind = headers.get("x-ms-blob-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let append = query.get("comp").map(String::as_str) == Some("appendblock");
    server.tell("blob", |told| {
        if append {
            let blob = told.blobs.get_mut(&name).expect("it was created");
            let offset: usize =
                headers["x-ms-blob-condition-appendpos"].to_str().unwrap().parse().unwrap();
            assert_eq!(offset, blob.len());
            blob.extend_from_slice(&body);
            if query.contains_key("seal") {
                told.sealed.push(name);
            }
        } else {
            assert!(matches!(kind, "AppendBlob" | "BlockBlob"));
            told.blobs.insert(name, body.to_vec());
        }
    });
    StatusCode::CREATED
}

async fn feed(
    State(server): Shared,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, StatusCode> {
    expect_bearer(&headers, JOB_TOKEN)?;
    Ok(upgrade.on_upgrade(move |mut socket| async move {
        server.tell("feed connection", |_| {});
        while let Some(Ok(message)) = socket.recv().await {
            if let Message::Text(text) = message {
                let frame: Value = serde_json::from_str(&text).unwrap();
                server.tell("feed", |told| told.feed.push(frame));
                let order = std::sync::atomic::Ordering::SeqCst;
                let take = |left: u32| left.checked_sub(1);
                if server.feed_breaks.fetch_update(order, order, take).is_ok() {
                    break;
                }
            }
        }
    }))
}

async fn resolve(
    State(server): Shared,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Result<Response, StatusCode> {
    expect_bearer(&headers, JOB_TOKEN)?;
    server.tell("resolve", |_| {});
    let (mut found, mut missing) = (json!({}), json!({}));
    for action in body["actions"].as_array().unwrap() {
        let text = |key: &str| action[key].as_str().unwrap().to_owned();
        let key = format!("{}@{}", text("action"), text("version"));
        if server.archives.lock().unwrap().contains_key(&key) {
            found[&key] = json!({"name": text("action"), "resolved_name": text("action"),
                "resolved_sha": "0123456789", "tar_url": format!("{}/tarball/{key}", server.url),
                "authentication": {"token": "archive-token-1"}});
        } else {
            missing[&key] = json!({"message": "not here"});
        }
    }
    if missing == json!({}) {
        return Ok(Json(json!({"actions": found})).into_response());
    }
    let errors = Json(json!({"errors": missing}));
    Ok((StatusCode::UNPROCESSABLE_ENTITY, errors).into_response())
}

async fn tarball(
    State(server): Shared,
    headers: HeaderMap,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Vec<u8>, StatusCode> {
    // x-access-token:archive-token-1
    let wanted = "Basic eC1hY2Nlc3MtdG9rZW46YXJjaGl2ZS10b2tlbi0x";
    if headers.get("authorization").is_none_or(|value| value != wanted) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let archives = server.archives.lock().unwrap();
    archives.get(&format!("{owner}/{name}")).cloned().ok_or(StatusCode::NOT_FOUND)
}
