//! What passes, copied on by a promoter to a registry that others wrote.

mod troubled;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use peers::{DockerRegistry, Log};
use reqwest::StatusCode;
use sekisho_gate::{Clock, Patience, Promoter, PromoterConfig, load_promoter, serve};
use sekisho_oci::{Descriptor, ImageIndex, media_type};
use sekisho_registry::{Keyring, Options as RegistryOptions};
use sekisho_types::Digest;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::quarantine::{RULES, SEVERE};
use crate::support::{ADMIN, NOW, Options, World, at, check_error, files, header};

const FINE: &str = "LAYER\npkg express 4.21.2 fine";

/// A gate, its promoter, and where that copies to.
struct Journey {
    world: World,
    registry: DockerRegistry,
    folder: tempfile::TempDir,
    /// Requests that the promoter is still sent before it answers none; below zero all.
    patience: Arc<AtomicI64>,
    /// What it was sent.
    orders: Orders,
    url: String,
    clock: Arc<AtomicI64>,
    http: reqwest::Client,
    _server: tokio::task::JoinHandle<()>,
}

impl Journey {
    /// `None`, said on one line, where docker-registry is not installed.
    async fn begin(options: Options, routes: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let registry = DockerRegistry::start(folder.path(), Log::Off).unwrap()?;
        let routes = routes.replace("REGISTRY", registry.host());
        Some(Self::with(options, &routes, registry, folder, Vec::new()).await)
    }

    async fn with(
        options: Options,
        routes: &str,
        registry: DockerRegistry,
        folder: tempfile::TempDir,
        identity: Vec<(String, String)>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut options = options;
        options.gate.promoter = Some(format!("http://{address}/").parse().unwrap());
        let world = World::open(options).await;
        let blobs = folder.path().join("blobs");
        fs_err::create_dir(&blobs).unwrap();
        let text = format!(
            "listen = \"{address}\"\ngate = \"{}\"\ngate_keys = \"{}\"\n{}",
            world.url,
            world.dir.path().join("gate/keys").display(),
            routes,
        );
        let clock = Arc::new(AtomicI64::new(NOW));
        let now = Arc::clone(&clock);
        let promoter = Promoter::open(PromoterConfig {
            settings: load_promoter(&text).unwrap(),
            keyring: Keyring::anonymous(),
            registry: RegistryOptions { attempts_max: 1, ..RegistryOptions::default() },
            folder: blobs,
            identity,
            clock: Clock::new(move || at(now.load(Ordering::SeqCst))),
        });
        let patience = Arc::new(AtomicI64::new(-1));
        let orders = Orders::default();
        let state = (patience.clone(), orders.clone());
        let router = promoter.unwrap().router().layer(from_fn_with_state(state, away));
        let url = format!("http://{address}/v1/promotions");
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router, Patience::default(), stop));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { world, registry, folder, patience, orders, url, clock, http, _server: server }
    }

    async fn get(&self, path: &str) -> (StatusCode, Vec<u8>) {
        let url = format!("http://{}/v2/{path}", self.registry.host());
        let accept = media_type::ACCEPT_MANIFESTS.join(", ");
        let response = self.http.get(url).header("accept", accept).send().await.unwrap();
        (response.status(), response.bytes().await.unwrap().to_vec())
    }

    /// The digest of what a name leads to there, all of which is there.
    async fn holds(&self, name: &str) -> Option<Digest> {
        let (repository, tag) = name.split_once(':').unwrap();
        let (status, bytes) = self.get(&format!("{repository}/manifests/{tag}")).await;
        if status == StatusCode::NOT_FOUND {
            return None;
        }
        assert_eq!(status, StatusCode::OK);
        let manifest: Value = serde_json::from_slice(&bytes).unwrap();
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for blob in layers.chain(manifest.get("config")) {
            let digest = blob["digest"].as_str().unwrap();
            let (status, bytes) = self.get(&format!("{repository}/blobs/{digest}")).await;
            assert_eq!(
                (status, Digest::sha256(&bytes).to_string().as_str()),
                (StatusCode::OK, digest)
            );
        }
        for part in manifest["manifests"].as_array().into_iter().flatten() {
            let part = part["digest"].as_str().unwrap();
            assert_eq!(self.get(&format!("{repository}/manifests/{part}")).await.0, StatusCode::OK);
        }
        Some(Digest::sha256(&bytes))
    }

    async fn promote(&self, id: &str) -> reqwest::Response {
        self.world.send("POST", &format!("/_gate/v1/decisions/{id}/promote"), ADMIN).await
    }

    /// Time passes, at the gate and at the promoter.
    fn pass(&self, seconds: i64) {
        self.world.pass(seconds);
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    /// The decisions whose images wait.
    async fn waiting(&self) -> Vec<String> {
        let answer = self.world.send("GET", "/_gate/v1/outgoing", ADMIN).await;
        let answer: Value = answer.json().await.unwrap();
        let waiting = answer["waiting"].as_array().unwrap().iter();
        waiting.map(|one| one["decision"].as_str().unwrap().to_owned()).collect()
    }

    /// Nothing of what was copied lies about: there is the lock alone.
    fn is_clean(&self) -> bool {
        files(&self.folder.path().join("blobs")) == 1
    }
}

type Orders = Arc<Mutex<Vec<Bytes>>>;

async fn away(
    State((patience, orders)): State<(Arc<AtomicI64>, Orders)>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    orders.lock().unwrap().push(body.clone());
    let request = Request::from_parts(head, body.into());
    match patience.load(Ordering::SeqCst) {
        0 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        left => {
            if left > 0 {
                patience.fetch_sub(1, Ordering::SeqCst);
            }
            next.run(request).await
        }
    }
}

const ALL: &str =
    "[[to]]\nrepositories = \"acme/*\"\nregistry = \"REGISTRY\"\nname = \"prod/{repository}\"\n";

#[tokio::test]
async fn what_passes_is_there_when_the_push_is_done_and_what_does_not_is_not() {
    let Some(journey) = Journey::begin(Options::default(), ALL).await else { return };
    let world = &journey.world;
    let token = world.session(json!({})).await;
    let done = world.push("acme/app:v1", &token, &[FINE, "LAYER\nsecond"]).await;
    assert_eq!(done.status(), 201);
    let digest = journey.holds("prod/acme/app:v1").await.unwrap();
    let image = format!("{}/prod/acme/app:v1@{digest}", journey.registry.host());
    assert_eq!(header(&done, "sekisho-promoted"), image);
    assert_eq!(header(&done, "docker-content-digest"), digest.to_string());
    // The gate's word on it went along; docker-registry lists no referrers, so it is looked for by its digest.
    let referrers = world.send("GET", &format!("/v2/acme/app/referrers/{digest}"), &token).await;
    let referrers: Value = referrers.json().await.unwrap();
    let word = referrers["manifests"][0]["digest"].as_str().unwrap();
    let (status, word) = journey.get(&format!("prod/acme/app/manifests/{word}")).await;
    let word: Value = serde_json::from_slice(&word).unwrap();
    assert_eq!((status, &word["subject"]["digest"]), (StatusCode::OK, &json!(digest)));

    let refused = world.push("acme/app:v2", &token, &[SEVERE]).await;
    check_error(refused, 403, "DENIED").await;
    assert_eq!(journey.holds("prod/acme/app:v2").await, None);
    // Again is no fault, and a tag moves with what passes.
    assert_eq!(world.push("acme/app:v1", &token, &[FINE, "LAYER\nsecond"]).await.status(), 201);
    assert_eq!(world.push("acme/app:v1", &token, &[FINE]).await.status(), 201);
    assert_ne!(journey.holds("prod/acme/app:v1").await.unwrap(), digest);
    assert!(journey.is_clean());
}

#[tokio::test]
async fn an_index_goes_with_its_images_and_what_no_route_is_for_stays() {
    let routes = ALL.replace("acme/*", "acme/app");
    let Some(journey) = Journey::begin(Options::default(), &routes).await else { return };
    let world = &journey.world;
    let token = world.session(json!({})).await;
    let mut parts = Vec::new();
    for layer in [FINE, "LAYER\nother"] {
        let manifest = world.push_blobs("acme/app", &token, &[layer], "app").await;
        let digest = Digest::sha256(&manifest);
        let put =
            world.put_manifest(&format!("acme/app/manifests/{digest}"), &token, &manifest).await;
        assert_eq!(put.status(), 201);
        assert_eq!(header(&put, "sekisho-promoted"), "", "a part waits for its whole");
        parts.push(Descriptor::of(media_type::OCI_MANIFEST, &manifest));
    }
    let index = ImageIndex::new(parts).to_bytes();
    let put = world.put_as("acme/app/manifests/v1", &token, &index, media_type::OCI_INDEX).await;
    assert_eq!(put.status(), 201, "{:?}", put.text().await);
    assert_eq!(journey.holds("prod/acme/app:v1").await, Some(Digest::sha256(&index)));

    let done = world.push("acme/app/side:v1", &token, &[FINE]).await;
    assert_eq!((done.status().as_u16(), header(&done, "sekisho-promoted")), (201, String::new()));
    assert_eq!(journey.holds("prod/acme/app/side:v1").await, None);
}

#[tokio::test]
async fn a_promoter_that_is_away_is_come_back_for() {
    let Some(journey) = Journey::begin(Options::default(), ALL).await else { return };
    let world = &journey.world;
    let token = world.session(json!({})).await;
    journey.patience.store(0, Ordering::SeqCst);
    let away = world.push("acme/app:v1", &token, &[FINE]).await;
    assert_eq!(header(&away, "retry-after"), "5");
    let said = check_error(away, 503, "UNAVAILABLE").await;
    assert!(said.contains("decision 000000000001 lets it pass"), "{said}");
    assert_eq!(journey.holds("prod/acme/app:v1").await, None);
    assert_eq!(journey.waiting().await, ["000000000001"]);
    journey.patience.store(-1, Ordering::SeqCst);
    assert_eq!(world.push("acme/app:v1", &token, &[FINE]).await.status(), 201);
    assert!(journey.holds("prod/acme/app:v1").await.is_some());
    assert_eq!(world.decisions("").await.len(), 1, "it was decided once");
    assert_eq!(journey.waiting().await, [""; 0]);
}

#[tokio::test]
async fn what_nobody_comes_back_for_is_copied_on_by_itself() {
    let Some(journey) = Journey::begin(Options::default(), ALL).await else { return };
    let world = &journey.world;
    let token = world.session(json!({})).await;
    journey.patience.store(0, Ordering::SeqCst);
    for (tag, layer) in [("v1", FINE), ("v2", FINE), ("v2", "LAYER\nlater")] {
        let name = format!("acme/app:{tag}");
        check_error(world.push(&name, &token, &[layer]).await, 503, "UNAVAILABLE").await;
    }
    let all = ["000000000001", "000000000002", "000000000003"];
    assert_eq!(journey.waiting().await, all);
    assert_eq!(world.gate.promote_waiting().await.unwrap(), 0, "whoever pushed has a minute");
    journey.pass(61);
    // What its tag does not name any more is forgotten; what failed waits longer.
    assert_eq!(world.gate.promote_waiting().await.unwrap(), 0);
    assert_eq!(journey.waiting().await, ["000000000001", "000000000003"]);
    journey.patience.store(-1, Ordering::SeqCst);
    assert_eq!(world.gate.promote_waiting().await.unwrap(), 0);
    journey.pass(61);
    assert_eq!(world.gate.promote_waiting().await.unwrap(), 2);
    assert_eq!(journey.waiting().await, [""; 0]);
    assert!(journey.holds("prod/acme/app:v1").await.is_some());
    let named = world.send("GET", "/v2/acme/app/manifests/v2", &token).await;
    assert_eq!(
        journey.holds("prod/acme/app:v2").await,
        Some(Digest::sha256(&named.bytes().await.unwrap()))
    );
}

#[tokio::test]
async fn what_the_gates_tag_does_not_name_any_more_is_not_put_back() {
    let Some(journey) = Journey::begin(Options::default(), ALL).await else { return };
    let world = &journey.world;
    let token = world.session(json!({})).await;
    for layer in [FINE, "LAYER\nlater"] {
        assert_eq!(world.push("acme/app:v1", &token, &[layer]).await.status(), 201);
    }
    let later = journey.holds("prod/acme/app:v1").await;
    assert_eq!(journey.promote("000000000001").await.status(), 409);
    assert_eq!(journey.holds("prod/acme/app:v1").await, later);
    // Not by an order that somebody caught on its way either.
    let caught = journey.orders.lock().unwrap()[0].clone();
    let replayed = journey.http.post(&journey.url).body(caught).send().await.unwrap();
    assert_eq!(replayed.status(), 200);
    let replayed: Value = replayed.json().await.unwrap();
    assert_eq!((&replayed["state"], &replayed["sentBytes"]), (&json!("overtaken"), &json!(0)));
    assert_eq!(journey.holds("prod/acme/app:v1").await, later);
    // And back again, by a push, is a push.
    assert_eq!(world.push("acme/app:v1", &token, &[FINE]).await.status(), 201);
    assert_ne!(journey.holds("prod/acme/app:v1").await, later);
}

#[tokio::test]
async fn a_registry_that_says_no_is_told_with_the_next_step() {
    let Some(journey) = Journey::begin(Options::default(), ALL).await else { return };
    let world = &journey.world;
    let token = world.session(json!({})).await;
    // A folder of the registry's where it can write nothing: an answer of its own making.
    let data = journey.registry.data().join("docker/registry/v2/repositories/prod/acme");
    fs_err::create_dir_all(&data).unwrap();
    fs_err::write(data.join("app"), "a file is in the way").unwrap();
    let done = world.push("acme/app:v1", &token, &[FINE]).await;
    let said = check_error(done, 503, "UNAVAILABLE").await;
    assert!(
        said.contains("decision 000000000001 lets it pass, and it was not copied on"),
        "{said}"
    );
    assert!(said.contains("prod/acme/app` does not take the image"), "{said}");
    fs_err::remove_file(data.join("app")).unwrap();
    // By whoever keeps the gate, without a push.
    let promoted = journey.promote("000000000001").await;
    assert_eq!(promoted.status(), 200);
    let promoted: Value = promoted.json().await.unwrap();
    let digest = journey.holds("prod/acme/app:v1").await.unwrap();
    let image = format!("{}/prod/acme/app:v1@{digest}", journey.registry.host());
    assert_eq!(promoted["image"], image);
    // What was refused, or has lost its tag, is not copied by anybody's wish.
    check_error(world.push("acme/app:bad", &token, &[SEVERE]).await, 403, "DENIED").await;
    assert_eq!(world.push("acme/app:v1", &token, &["LAYER\nnew"]).await.status(), 201);
    for id in ["000000000001", "000000000002"] {
        assert_eq!(journey.promote(id).await.status(), 409, "{id}");
    }
    assert_eq!(journey.promote("000000000099").await.status(), 404);
    let stranger = world.send("POST", "/_gate/v1/decisions/000000000001/promote", &token).await;
    assert_eq!(stranger.status(), 401);
}

#[tokio::test]
async fn somebodys_word_lets_a_held_image_go_on() {
    let options = Options { policies: Some(RULES.to_owned()), ..Options::default() };
    let Some(journey) = Journey::begin(options, ALL).await else { return };
    let world = &journey.world;
    let token = world.session(json!({})).await;
    let held = world.push("acme/app:v1", &token, &[FINE, SEVERE]).await;
    let said = check_error(held, 403, "DENIED").await;
    assert!(said.starts_with("held as q-000000000001"), "{said}");
    assert_eq!(journey.holds("prod/acme/app:v1").await, None);
    let approve = world.request("POST", "/_gate/v1/quarantine/q-000000000001/approve", ADMIN);
    let word = json!({"by": "ann", "reason": "not reachable"});
    assert_eq!(approve.json(&word).send().await.unwrap().status(), 204);
    assert!(journey.holds("prod/acme/app:v1").await.is_some());
}
