//! Other registries through the gate: one that misbehaves on request; in [`real`] Debian's docker-registry.

mod kept;
mod named;
mod real;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{any, get};
use sekisho_gate::{MirrorConfig, MirroredRegistry};
use sekisho_oci::{Descriptor, ImageManifest, media_type};
use sekisho_registry::{Client, Keyring};
use sekisho_types::Digest;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{NOW, Options, World, at, check_error, header};

const LAYER: &[u8] = b"LAYER\npkg libc6 2.36 fine";

/// Allows `library/*` of a registry at this address, under the name `docker.io`.
fn mirror(address: &str) -> MirrorConfig {
    patient(address, Duration::from_secs(20))
}

/// That gives up on an answer after this time.
fn patient(address: &str, answer_deadline: Duration) -> MirrorConfig {
    let options = sekisho_registry::Options {
        attempts_max: 1,
        answer_deadline,
        ..sekisho_registry::Options::default()
    };
    MirrorConfig {
        registries: vec![MirroredRegistry {
            name: "docker.io".into(),
            address: Some(address.to_owned()),
            allow: vec!["library/*".into()],
            fresh_minutes: 60,
            stale_hours: 24,
        }],
        keep_bytes: 1 << 30,
        client: Arc::new(Client::with_options(Keyring::anonymous(), options)),
    }
}

async fn world(address: &str) -> World {
    World::open(Options { mirror: Some(mirror(address)), ..Options::default() }).await
}

/// The config and the manifest of a base of one layer, made a hundred days ago.
fn base() -> (Vec<u8>, Vec<u8>) {
    let created = at(NOW - 100 * 86_400).to_string();
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": created, "config": {"User": "app"},
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(LAYER).to_string()]},
    })
    .to_string()
    .into_bytes();
    let manifest = ImageManifest::new(
        Descriptor::of(media_type::OCI_CONFIG, &config),
        vec![Descriptor::of(media_type::OCI_LAYER, LAYER)],
    );
    (config, manifest.to_bytes())
}

const GOOD: u8 = 0;
const BUSY: u8 = 1;
const BROKEN: u8 = 2;
const LIES: u8 = 3;

/// A registry that asks for tokens and does as it is told.
struct Fake {
    url: String,
    mode: AtomicU8,
    heads: AtomicUsize,
    manifests: AtomicUsize,
    blobs: AtomicUsize,
    tokens: AtomicUsize,
    /// A word in the manifest's annotations, so that the tag can move.
    revision: AtomicU8,
}

impl Fake {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            mode: AtomicU8::new(GOOD),
            heads: AtomicUsize::new(0),
            manifests: AtomicUsize::new(0),
            blobs: AtomicUsize::new(0),
            tokens: AtomicUsize::new(0),
            revision: AtomicU8::new(0),
        });
        let router = Router::new()
            .route("/token", get(Self::token))
            .route("/v2/{*path}", any(Self::serve))
            .with_state(Arc::clone(&fake));
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    fn host(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    fn manifest(&self) -> Vec<u8> {
        let mut manifest: ImageManifest = serde_json::from_slice(&base().1).unwrap();
        let revision = self.revision.load(Ordering::SeqCst).to_string();
        manifest.annotations.insert("revision".into(), revision);
        manifest.to_bytes()
    }

    async fn token(State(fake): State<Arc<Self>>) -> axum::Json<Value> {
        fake.tokens.fetch_add(1, Ordering::SeqCst);
        axum::Json(json!({"token": "t-1", "expires_in": 300}))
    }

    async fn serve(State(fake): State<Arc<Self>>, request: Request) -> Response {
        let answer = |status: u16| Response::builder().status(status);
        let is_head = request.method() == "HEAD";
        let token = request.headers().get("authorization").and_then(|it| it.to_str().ok());
        if token != Some("Bearer t-1") {
            let challenge = format!("Bearer realm=\"{}/token\",service=\"fake\"", fake.url);
            return answer(401).header("www-authenticate", challenge).body(Body::empty()).unwrap();
        }
        match fake.mode.load(Ordering::SeqCst) {
            BUSY => return answer(429).header("retry-after", "120").body(Body::empty()).unwrap(),
            BROKEN => return answer(500).body(Body::empty()).unwrap(),
            _ => {}
        }
        let lies = fake.mode.load(Ordering::SeqCst) == LIES;
        let (config, manifest) = (base().0, fake.manifest());
        let path = request.uri().path();
        let (count, mut bytes, kind) = if path.contains("/manifests/") {
            let count = if is_head { &fake.heads } else { &fake.manifests };
            (count, manifest, media_type::OCI_MANIFEST)
        } else if path.ends_with(Digest::sha256(&config).hex()) {
            (&fake.blobs, config, "application/octet-stream")
        } else if path.ends_with(Digest::sha256(LAYER).hex()) {
            (&fake.blobs, LAYER.to_vec(), "application/octet-stream")
        } else {
            return answer(404).body(Body::empty()).unwrap();
        };
        count
            .fetch_add(usize::from(!is_head || kind == media_type::OCI_MANIFEST), Ordering::SeqCst);
        let digest = Digest::sha256(&bytes).to_string();
        if lies {
            bytes[0] ^= 1;
        }
        let length = bytes.len();
        let body = if is_head { Body::empty() } else { Body::from(bytes) };
        answer(200)
            .header("content-type", kind)
            .header("content-length", length)
            .header("docker-content-digest", digest)
            .body(body)
            .unwrap()
    }

    fn counts(&self) -> [usize; 3] {
        [&self.heads, &self.manifests, &self.blobs].map(|count| count.load(Ordering::SeqCst))
    }
}

const TAG: &str = "/v2/docker.io/library/debian/manifests/12";

#[tokio::test]
async fn a_tag_is_fetched_once_and_asked_for_when_it_is_old() {
    let fake = Fake::start().await;
    let world = world(fake.host()).await;
    let first = world.send("GET", TAG, "").await;
    assert_eq!(first.status(), 200);
    assert_eq!(header(&first, "content-type"), media_type::OCI_MANIFEST);
    let digest = header(&first, "docker-content-digest");
    assert_eq!(first.bytes().await.unwrap(), fake.manifest());
    assert_eq!(fake.counts(), [0, 1, 1], "the manifest, and the config that tells bases apart");
    // As containerd asks, and by digest, and only whether it is there: nobody is asked.
    for (method, path) in [
        ("GET", "/v2/library/debian/manifests/12?ns=docker.io".to_owned()),
        ("GET", format!("/v2/docker.io/library/debian/manifests/{digest}")),
        ("HEAD", TAG.to_owned()),
    ] {
        let again = world.send(method, &path, "").await;
        assert_eq!(
            (again.status().as_u16(), header(&again, "docker-content-digest")),
            (200, digest.clone())
        );
    }
    assert_eq!(fake.counts(), [0, 1, 1]);
    // An hour later one HEAD says that it is the same.
    world.pass(3601);
    assert_eq!(world.send("GET", TAG, "").await.status(), 200);
    assert_eq!(fake.counts(), [1, 1, 1]);
    // And then it moved.
    world.pass(3601);
    fake.revision.store(1, Ordering::SeqCst);
    let moved = world.send("GET", TAG, "").await;
    assert_eq!(
        header(&moved, "docker-content-digest"),
        Digest::sha256(&fake.manifest()).to_string()
    );
    assert_eq!(fake.counts(), [2, 2, 2]);
    assert_eq!(fake.tokens.load(Ordering::SeqCst), 1, "one token for all of it");
}

#[tokio::test]
async fn many_clients_are_one_fetch() {
    let fake = Fake::start().await;
    let world = world(fake.host()).await;
    let layer = format!("/v2/docker.io/library/debian/blobs/{}", Digest::sha256(LAYER));
    let manifests = (0..20).map(|_| world.send("GET", TAG, ""));
    for response in futures_util::future::join_all(manifests).await {
        assert_eq!(response.status(), 200);
    }
    let blobs = (0..20).map(|_| world.send("GET", &layer, ""));
    for response in futures_util::future::join_all(blobs).await {
        assert_eq!(response.status(), 200);
        assert_eq!(response.bytes().await.unwrap(), LAYER);
    }
    assert_eq!(fake.counts(), [0, 1, 2], "one manifest, one config, one layer");
}

#[tokio::test]
async fn a_registry_that_is_busy_is_left_alone() {
    let fake = Fake::start().await;
    let world = world(fake.host()).await;
    fake.mode.store(BUSY, Ordering::SeqCst);
    let response = world.send("GET", TAG, "").await;
    assert_eq!(header(&response, "retry-after"), "120");
    check_error(response, 429, "TOOMANYREQUESTS").await;
    // It would answer now, and is not asked.
    fake.mode.store(GOOD, Ordering::SeqCst);
    world.pass(60);
    let response = world.send("GET", TAG, "").await;
    assert_eq!(header(&response, "retry-after"), "60");
    check_error(response, 429, "TOOMANYREQUESTS").await;
    assert_eq!(fake.counts(), [0, 0, 0]);
    world.pass(60);
    assert_eq!(world.send("GET", TAG, "").await.status(), 200);

    // What is kept is served meanwhile, for as long as it may.
    world.pass(3601);
    fake.mode.store(BUSY, Ordering::SeqCst);
    assert_eq!(world.send("GET", TAG, "").await.status(), 200);
    fake.mode.store(BROKEN, Ordering::SeqCst);
    world.pass(3600);
    assert_eq!(world.send("GET", TAG, "").await.status(), 200);
    world.pass(24 * 3600);
    check_error(world.send("GET", TAG, "").await, 503, "UNAVAILABLE").await;
}

/// It takes a request, and says nothing.
#[tokio::test]
async fn a_registry_that_never_answers_keeps_nobody_waiting_for_ever() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let world = World::open(Options {
        mirror: Some(patient(&address, Duration::from_millis(300))),
        ..Options::default()
    })
    .await;
    let token = world.session(json!({})).await;
    let asked = (0..10).map(|_| world.send("GET", TAG, ""));
    let asked = futures_util::future::join_all(asked);
    // Meanwhile the gate serves who does not ask for it.
    let pushed = world.push("acme/app:v1", &token, &["LAYER\npkg a 1 fine"]);
    let (asked, pushed) = tokio::join!(asked, pushed);
    assert_eq!(pushed.status(), 201);
    for response in asked {
        check_error(response, 503, "UNAVAILABLE").await;
    }
}

#[tokio::test]
async fn what_is_not_what_it_should_be_is_not_kept() {
    let fake = Fake::start().await;
    let world = world(fake.host()).await;
    fake.mode.store(LIES, Ordering::SeqCst);
    let layer = format!("/v2/docker.io/library/debian/blobs/{}", Digest::sha256(LAYER));
    let manifest =
        format!("/v2/docker.io/library/debian/manifests/{}", Digest::sha256(&fake.manifest()));
    for path in [TAG, &layer, &manifest] {
        let response = world.send("GET", path, "").await;
        assert_eq!(response.status(), 502, "{path}");
    }
    // It tells the truth again, and so does the gate.
    fake.mode.store(GOOD, Ordering::SeqCst);
    for (path, want) in [(TAG, fake.manifest()), (&layer, LAYER.to_vec())] {
        let response = world.send("GET", path, "").await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.bytes().await.unwrap(), want);
    }
}

#[tokio::test]
async fn only_what_is_on_the_list_is_asked_for() {
    let fake = Fake::start().await;
    let world = world(fake.host()).await;
    let token = world.session(json!({})).await;
    let ns = |ns: &str| format!("/v2/library/debian/manifests/12?ns={ns}");
    for path in [
        "/v2/docker.io/evil/debian/manifests/12".to_owned(),
        "/v2/docker.io/library/manifests/12".to_owned(),
        ns("169.254.169.254"),
        ns("localhost:22"),
        ns("evil.example"),
        ns(fake.host()),
        ns("docker.io@evil.example"),
        ns("docker.io/..%2f"),
        ns(""),
        "/v2/evil/debian/manifests/12?ns=docker.io".to_owned(),
    ] {
        let status = world.send("GET", &path, &token).await.status().as_u16();
        assert!(matches!(status, 403 | 404), "{path}: {status}");
    }
    // Nobody pushes or deletes there, whoever he is.
    for (method, path) in [
        ("PUT", TAG.to_owned()),
        ("DELETE", TAG.to_owned()),
        ("POST", "/v2/docker.io/library/debian/blobs/uploads/".to_owned()),
        ("POST", "/v2/library/debian/blobs/uploads/?ns=docker.io".to_owned()),
    ] {
        check_error(world.send(method, &path, &token).await, 403, "DENIED").await;
    }
    assert_eq!(fake.counts(), [0, 0, 0], "nobody was asked");
    assert_eq!(fake.tokens.load(Ordering::SeqCst), 0);
    // What one repository has is nothing that another one has.
    assert_eq!(world.send("GET", TAG, "").await.status(), 200);
    let unknown = format!("/v2/docker.io/library/debian/blobs/{}", Digest::sha256(b"other"));
    check_error(world.send("GET", &unknown, "").await, 404, "BLOB_UNKNOWN").await;
}

#[tokio::test]
async fn a_base_that_the_gate_served_is_known() {
    let policies = "@id(\"permit\") permit (principal, action, resource);\n\
         @id(\"approved-base\") @mode(\"enforce\") @message(\"no approved base\") @fix(\"f\") @docs(\"d\")\n\
         forbid (principal, action == Action::\"ship\", resource)\n\
         unless { resource.base_known && resource.base_name like \"docker.io/library/*\" };";
    let fake = Fake::start().await;
    let world = World::open(Options {
        mirror: Some(mirror(fake.host())),
        policies: Some(policies.to_owned()),
        ..Options::default()
    })
    .await;
    let token = world.session(json!({})).await;
    let layers = [std::str::from_utf8(LAYER).unwrap(), "LAYER\npkg app 1 fine"];
    // The layers are right, and the gate has never served such a base.
    let response = world.push("acme/app:v1", &token, &layers).await;
    let message = check_error(response, 403, "DENIED").await;
    assert!(message.starts_with("approved-base"), "{message}");
    // Whoever pushes cannot say so himself.
    let mut manifest: ImageManifest =
        serde_json::from_slice(&world.push_blobs("acme/app", &token, &layers, "app").await)
            .unwrap();
    let name = "org.opencontainers.image.base.name";
    manifest.annotations.insert(name.into(), "docker.io/library/debian:12".into());
    let claimed = manifest.to_bytes();
    let put = world.put_manifest("acme/app/manifests/v1", &token, &claimed).await;
    check_error(put, 403, "DENIED").await;

    assert_eq!(world.send("GET", TAG, "").await.status(), 200);
    assert_eq!(world.push("acme/app:v2", &token, &layers).await.status(), 201);
    // Built on something else.
    let response = world.push("acme/app:v3", &token, &[layers[1], layers[0]]).await;
    check_error(response, 403, "DENIED").await;
}
