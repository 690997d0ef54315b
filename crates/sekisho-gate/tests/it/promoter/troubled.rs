//! Registries that stumble, and such as take passwords that end.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use peers::{DockerRegistry, Log};
use reqwest::StatusCode;
use sekisho_types::Digest;
use serde_json::json;
use tokio::net::TcpListener;

use super::{ALL, FINE, Journey};
use crate::support::{NOW, Options, check_error};

/// What stands before a registry, and answers one of the requests itself.
#[derive(Clone)]
struct Stumbling {
    host: String,
    http: reqwest::Client,
    /// Requests until that one.
    left: Arc<AtomicI64>,
}

async fn stumble(State(stumbling): State<Stumbling>, request: Request) -> Response {
    if stumbling.left.fetch_sub(1, Ordering::SeqCst) == 0 {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let (head, body) = request.into_parts();
    let url = format!("http://{}{}", stumbling.host, head.uri);
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    // With the host that it was asked for by, so that uploads come back this way.
    let request = stumbling.http.request(head.method, url).headers(head.headers).body(body);
    let answer = request.send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    response.headers_mut().unwrap().extend(answer.headers().clone());
    response.body(axum::body::Body::from(answer.bytes().await.unwrap())).unwrap()
}

#[tokio::test]
async fn a_registry_that_stumbles_at_any_request_has_it_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let Some(registry) = DockerRegistry::start(folder.path(), Log::Off).unwrap() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let routes = ALL.replace("REGISTRY", &listener.local_addr().unwrap().to_string());
    let left = Arc::new(AtomicI64::new(-1));
    let stumbling = Stumbling {
        host: registry.host().to_owned(),
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        left: Arc::clone(&left),
    };
    let router = axum::Router::new().fallback(stumble).with_state(stumbling);
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let journey = Journey::with(Options::default(), &routes, registry, folder, Vec::new()).await;
    let world = &journey.world;
    let token = world.session(json!({})).await;
    let mut stumbled = 0;
    for request in 0.. {
        let (name, layer) = (format!("acme/app:v{request}"), format!("LAYER\nnumber {request}"));
        left.store(request, Ordering::SeqCst);
        let done = world.push(&name, &token, &[FINE, &layer]).await;
        if left.load(Ordering::SeqCst) >= 0 {
            // It was done before that request came.
            assert_eq!(done.status(), 201);
            break;
        }
        stumbled += 1;
        left.store(-1, Ordering::SeqCst);
        let there = journey.holds(&format!("prod/{name}")).await;
        if done.status() == 201 {
            // A question that may go unanswered.
            assert!(there.is_some(), "{request}");
            continue;
        }
        check_error(done, 503, "UNAVAILABLE").await;
        assert!(journey.is_clean(), "{request}");
        let digest =
            Digest::sha256(&world.push_blobs("acme/app", &token, &[FINE, &layer], "app").await);
        let done = world.push(&name, &token, &[FINE, &layer]).await;
        assert_eq!(done.status(), 201, "{request}: {:?}", done.text().await);
        assert_eq!(journey.holds(&format!("prod/{name}")).await, Some(digest));
    }
    assert!(stumbled > 12, "only {stumbled} requests were made");
    server.abort();
}

/// An agent of EKS Pod Identity, ECR's API and the registry that takes its passwords, which it changes.
#[derive(Clone)]
struct Amazon {
    registry: Stumbling,
    /// How often a password was asked for; the last one is good.
    passwords: Arc<AtomicI64>,
}

async fn amazon(State(amazon): State<Amazon>, request: Request) -> Response {
    let headers = request.headers().clone();
    let told = |name: &str| {
        let value = headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let now = amazon.passwords.load(Ordering::SeqCst);
    let basic = |number: i64| BASE64_STANDARD.encode(format!("AWS:password-{number}"));
    match request.uri().path() {
        "/agent" => {
            assert_eq!(told("authorization"), "token-of-the-pod");
            axum::Json(json!({
                "AccessKeyId": "AKIAPOD", "SecretAccessKey": "secret", "Token": "session",
                "Expiration": "2199-01-01T00:00:00Z",
            }))
            .into_response()
        }
        "/ecr" => {
            assert!(told("authorization").contains("Credential=AKIAPOD/"));
            assert!(told("x-amz-target").ends_with(".GetAuthorizationToken"));
            let token = basic(amazon.passwords.fetch_add(1, Ordering::SeqCst) + 1);
            let data = json!({"authorizationToken": token, "expiresAt": (NOW + 43_200) as f64});
            axum::Json(json!({"authorizationData": [data]})).into_response()
        }
        _ if told("authorization") != format!("Basic {}", basic(now)) => {
            let challenge = [("www-authenticate", "Basic realm=\"ecr\"")];
            (StatusCode::UNAUTHORIZED, challenge).into_response()
        }
        _ => stumble(State(amazon.registry), request).await,
    }
}

#[tokio::test]
async fn at_ecr_it_is_known_by_the_role_of_its_pod() {
    let folder = tempfile::tempdir().unwrap();
    let Some(registry) = DockerRegistry::start(folder.path(), Log::Off).unwrap() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let passwords = Arc::new(AtomicI64::new(0));
    let behind = Stumbling {
        host: registry.host().to_owned(),
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        left: Arc::new(AtomicI64::new(-1)),
    };
    let state = Amazon { registry: behind, passwords: Arc::clone(&passwords) };
    let router = axum::Router::new().fallback(amazon).with_state(state);
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let token = folder.path().join("token");
    fs_err::write(&token, "token-of-the-pod").unwrap();
    let identity = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{host}/agent")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.display().to_string()),
    ];
    let identity = identity.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let routes = format!(
        "ecr_endpoint = \"http://{host}/ecr\"\n{}login = \"ecr\"\nregion = \"eu-central-1\"\n",
        ALL.replace("REGISTRY", &host)
    );
    let journey = Journey::with(Options::default(), &routes, registry, folder, identity).await;
    let world = &journey.world;
    let token = world.session(json!({})).await;
    for tag in ["v1", "v2"] {
        assert_eq!(world.push(&format!("acme/app:{tag}"), &token, &[FINE]).await.status(), 201);
        assert!(journey.holds(&format!("prod/acme/app:{tag}")).await.is_some());
    }
    assert_eq!(passwords.load(Ordering::SeqCst), 1, "one password is good for hours");
    // It is taken back: asked for anew, once.
    passwords.store(7, Ordering::SeqCst);
    assert_eq!(world.push("acme/app:v3", &token, &[FINE]).await.status(), 201);
    assert!(journey.holds("prod/acme/app:v3").await.is_some());
    assert_eq!(passwords.load(Ordering::SeqCst), 8);
    server.abort();
}
