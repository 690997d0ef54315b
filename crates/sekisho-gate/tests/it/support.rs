//! A gate, an issuer and an inspector for one test.

mod issuer;
mod lines;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use axum::Router;
use jiff::Timestamp;
use reqwest::{Method, RequestBuilder, Response};
use secrecy::SecretString;
use sekisho_gate::{
    Archive, Clock, Config, Gate, Inspector, Issuer, MirrorConfig, Reading, User, Verified, Workers,
};
use sekisho_oci::{Descriptor, ImageManifest, media_type};
use sekisho_policy::Exceptions;
use sekisho_store::Bucket;
use sekisho_types::Digest;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::issuer::issuer_router;
pub(crate) use self::issuer::{key, sign};
pub(crate) use self::lines::Lines;

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const ADMIN: &str = "admin-token-of-a-test";

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// What a world may have of its own.
pub(crate) struct Options {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) policies: Option<String>,
    pub(crate) exceptions: Exceptions,
    pub(crate) users: Vec<User>,
    pub(crate) workers: Option<Arc<dyn Workers>>,
    pub(crate) mirror: Option<MirrorConfig>,
    /// What looks into layers; [`Lines`] where nothing is said.
    pub(crate) inspector: Option<Arc<dyn Inspector>>,
    /// How the issuer's claims are read; GitHub's where nothing is said.
    pub(crate) reading: Option<Reading>,
    /// When it begins, as its clock says.
    pub(crate) now: i64,
    pub(crate) gate: sekisho_gate::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            policies: None,
            exceptions: Exceptions::default(),
            users: Vec::new(),
            workers: None,
            mirror: None,
            inspector: None,
            reading: None,
            now: NOW,
            gate: sekisho_gate::Options::default(),
        }
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) gate: Gate,
    config: Config,
    pub(crate) url: String,
    pub(crate) issuer: String,
    /// The issuer answers nothing but that it is not available.
    pub(crate) issuer_away: Arc<AtomicBool>,
    pub(crate) lines: Arc<Lines>,
    /// How often the issuer's keys were fetched.
    pub(crate) fetched: Arc<AtomicUsize>,
    clock: Arc<AtomicI64>,
    http: reqwest::Client,
    servers: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.servers.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn serve(listener: TcpListener, router: Router) {
    let patience = sekisho_gate::Patience::default();
    sekisho_gate::serve(listener, router, patience, CancellationToken::new()).await;
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Opens a gate where it may block.
async fn opened(config: Config) -> Gate {
    tokio::task::spawn_blocking(|| Gate::open(config).unwrap()).await.unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::open(Options::default()).await
    }

    /// A gate on folders that another one may have used, perhaps with policies of its own.
    pub(crate) async fn on(dir: tempfile::TempDir, policies: Option<String>) -> Self {
        Self::open(Options { dir, policies, ..Options::default() }).await
    }

    /// As [`World::on`], with findings that somebody answers for.
    pub(crate) async fn with(
        dir: tempfile::TempDir,
        policies: Option<String>,
        exceptions: Exceptions,
    ) -> Self {
        Self::open(Options { dir, policies, exceptions, ..Options::default() }).await
    }

    /// A gate of one's choice.
    pub(crate) async fn open(options: Options) -> Self {
        let Options { dir, policies, exceptions, users, workers, mirror, .. } = options;
        let Options { inspector, reading, now, gate, .. } = options;
        let (issuer_listener, issuer) = listener().await;
        let (gate_listener, url) = listener().await;
        let clock = Arc::new(AtomicI64::new(now));
        let lines = Arc::new(Lines::default());
        let fetched = Arc::new(AtomicUsize::new(0));
        let now = Arc::clone(&clock);
        let config = Config {
            dir: dir.path().join("gate"),
            upstream_dir: dir.path().join("upstream"),
            base_url: url.parse().unwrap(),
            service: "sekisho-gate".into(),
            admin_token: SecretString::from(ADMIN.to_owned()),
            issuers: vec![Issuer {
                url: issuer.clone(),
                audience: url.clone(),
                reading: reading.unwrap_or(Reading::GitHub),
            }],
            users,
            workers,
            mirror,
            local_owner: Some("local".into()),
            inspector: inspector.unwrap_or_else(|| lines.clone()),
            policies,
            exceptions,
            clock: Clock::new(move || at(now.load(Ordering::SeqCst))),
            options: gate,
        };
        let gate = opened(config.clone()).await;
        let issuer_away = Arc::new(AtomicBool::new(false));
        let issuer_router = issuer_router(&issuer, Arc::clone(&fetched), Arc::clone(&issuer_away));
        let servers = vec![
            tokio::spawn(serve(issuer_listener, issuer_router)),
            tokio::spawn(serve(gate_listener, gate.router())),
        ];
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { dir, gate, config, url, issuer, issuer_away, lines, fetched, clock, http, servers }
    }

    /// A gate that keeps everything in a bucket; others may join it by [`World::replica`].
    pub(crate) async fn in_bucket(bucket: Bucket) -> Self {
        let mut options = Options::default();
        options.gate.keys_dir = Some(options.dir.path().join("keys"));
        options.gate.bucket = Some(bucket);
        Self::open(options).await
    }

    /// Another gate on the same bucket, with the same keys, under the same name.
    pub(crate) async fn replica(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            dir: dir.path().join("gate"),
            upstream_dir: dir.path().join("upstream"),
            ..self.config.clone()
        };
        let gate = opened(config.clone()).await;
        let (listener, url) = listener().await;
        let servers = vec![tokio::spawn(serve(listener, gate.router()))];
        let (issuer, issuer_away) = (self.issuer.clone(), self.issuer_away.clone());
        let (lines, fetched) = (self.lines.clone(), self.fetched.clone());
        let (clock, http) = (self.clock.clone(), self.http.clone());
        Self { dir, gate, config, url, issuer, issuer_away, lines, fetched, clock, http, servers }
    }

    /// What the gate was told.
    pub(crate) fn config(&self) -> Config {
        self.config.clone()
    }

    /// What the gate wrote down.
    pub(crate) fn archive(&self) -> Archive {
        Archive::of(&self.config.dir, &self.config.options)
    }

    /// What a check of all decisions finds.
    pub(crate) async fn verified(&self) -> Verified {
        let gate = self.gate.clone();
        tokio::task::spawn_blocking(move || gate.verify_decisions().unwrap()).await.unwrap()
    }

    /// Another gate on the folders of this one, which is gone.
    pub(crate) async fn again(mut self, options: Options) -> Self {
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        drop(self);
        Self::open(Options { dir, ..options }).await
    }

    pub(crate) fn host(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn claims(&self) -> Value {
        let now = self.clock.load(Ordering::SeqCst);
        json!({
            "iss": self.issuer, "aud": self.url, "sub": "repo:acme/app:ref:refs/heads/main",
            "jti": format!("{:?}", std::thread::current().id()) + &rand(), "iat": now,
            "nbf": now - 600, "exp": now + 300,
            "repository": "acme/app", "repository_id": "4711",
            "repository_owner": "acme", "repository_owner_id": "99",
            "ref": "refs/heads/main", "sha": "abc", "event_name": "push",
            "run_id": "12", "run_attempt": "1", "actor": "ann",
        })
    }

    /// The issuer's token for a run of `acme/app`, with some claims changed.
    pub(crate) fn jwt(&self, changes: &Value) -> String {
        let mut claims = self.claims();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        sign(&json!({"alg": "RS256", "kid": "k1"}), &claims, 0)
    }

    pub(crate) async fn exchange(&self, jwt: &str) -> (u16, Value) {
        let body = json!({"subject_token": jwt});
        let response =
            self.http.post(format!("{}/oidc/exchange", self.url)).json(&body).send().await;
        let response = response.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// A session of a run of `acme/app`, with some claims changed.
    pub(crate) async fn session(&self, changes: Value) -> String {
        let (status, body) = self.exchange(&self.jwt(&changes)).await;
        assert_eq!(status, 200, "{body}");
        body["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn request(&self, method: &str, path: &str, token: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        let url =
            if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.url) };
        let request = self.http.request(method, url);
        if token.is_empty() { request } else { request.bearer_auth(token) }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, token: &str) -> Response {
        self.request(method, path, token).send().await.unwrap()
    }

    /// Pushes a blob in one go.
    pub(crate) async fn push_blob(&self, repository: &str, token: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        let response =
            self.request("POST", &path, token).body(bytes.to_vec()).send().await.unwrap();
        assert_eq!(response.status(), 201, "{:?}", response.text().await);
        digest
    }

    /// Pushes the blobs of an image with these layers, and gives its manifest.
    pub(crate) async fn push_blobs(
        &self,
        repository: &str,
        token: &str,
        layers: &[&str],
        user: &str,
    ) -> Vec<u8> {
        let diff_ids: Vec<String> =
            layers.iter().map(|layer| Digest::sha256(layer.as_bytes()).to_string()).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"User": user},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        self.push_blob(repository, token, config.as_bytes()).await;
        let mut descriptors = Vec::new();
        for layer in layers {
            self.push_blob(repository, token, layer.as_bytes()).await;
            descriptors.push(Descriptor::of(media_type::OCI_LAYER, layer.as_bytes()));
        }
        let config = Descriptor::of(media_type::OCI_CONFIG, config.as_bytes());
        ImageManifest::new(config, descriptors).to_bytes()
    }

    pub(crate) async fn put_manifest(&self, path: &str, token: &str, bytes: &[u8]) -> Response {
        self.put_as(path, token, bytes, media_type::OCI_MANIFEST).await
    }

    pub(crate) async fn put_as(
        &self,
        path: &str,
        token: &str,
        bytes: &[u8],
        content_type: &str,
    ) -> Response {
        let request = self.request("PUT", &format!("/v2/{path}"), token);
        request.header("content-type", content_type).body(bytes.to_vec()).send().await.unwrap()
    }

    /// Pushes a whole image and gives the answer to its manifest.
    pub(crate) async fn push(&self, name: &str, token: &str, layers: &[&str]) -> Response {
        let (repository, tag) = name.split_once(':').unwrap();
        let manifest = self.push_blobs(repository, token, layers, "app").await;
        self.put_manifest(&format!("{repository}/manifests/{tag}"), token, &manifest).await
    }

    pub(crate) async fn decisions(&self, query: &str) -> Vec<Value> {
        let response = self.send("GET", &format!("/_gate/v1/decisions{query}"), ADMIN).await;
        assert_eq!(response.status(), 200);
        let body: Value = response.json().await.unwrap();
        body["decisions"].as_array().unwrap().clone()
    }

    /// Every file that was promoted.
    pub(crate) fn upstream_files(&self) -> usize {
        files(&self.dir.path().join("upstream"))
    }
}

pub(crate) fn files(dir: &Path) -> usize {
    let entries = fs_err::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

fn rand() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The header of an answer as text; empty when it is not there.
pub(crate) fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
}

/// Asserts status and code of an answer in the distribution-spec's form; gives its message.
#[track_caller]
pub(crate) fn is_error(status: u16, body: &Value, want: (u16, &str)) -> String {
    let error = &body["errors"][0];
    assert_eq!((status, error["code"].as_str().unwrap_or_default()), want, "{body}");
    error["message"].as_str().unwrap().to_owned()
}

/// As [`is_error`], of an answer.
pub(crate) async fn check_error(response: Response, status: u16, code: &str) -> String {
    let found = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    is_error(found, &body, (status, code))
}
