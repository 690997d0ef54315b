//! `sekisho gate serve`: gates of their own, two over one bucket, as they run in a cluster.

#[path = "../../../sekisho-gate/tests/it/support/issuer.rs"]
mod issuer;
mod promoter;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, Response};
use sekisho_oci::{Descriptor, ImageManifest, media_type};
use sekisho_types::Digest;
use serde_json::{Value, json};

use crate::bucket::{Moto, storage_text};
use crate::support::{Said, Started, World, eventually, signal};

/// As long as an admin token must be.
const ADMIN: &str = "an-admin-token-of-a-test-0123456789";

/// What two gates are told, and what they share.
struct Cluster {
    /// Configuration and keys.
    world: World,
    issuer: String,
    /// What its gates find in their environment.
    env: Vec<(&'static str, String)>,
    _server: tokio::task::JoinHandle<()>,
}

/// A gate that is a process.
struct Gate {
    world: World,
    child: Started,
    config: PathBuf,
    url: String,
}

impl Cluster {
    /// An issuer of tokens, and no gate yet.
    async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let (fetched, away) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let router = issuer::issuer_router(&issuer, fetched, away);
        let _server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let world = World::new();
        let this = Self { world, issuer, env: Vec::new(), _server };
        let issuers = format!(
            "[[issuer]]\nurl = \"{}\"\naudience = \"{URL}\"\nkind = \"github\"\n",
            this.issuer
        );
        this.configure("issuers.toml", &issuers);
        let token = this.world.folder.path().join("admin");
        fs_err::write(&token, format!("{ADMIN}\n")).unwrap();
        this.configure("gate.toml", &least(&token, ""));
        this
    }

    fn config(&self) -> PathBuf {
        self.world.folder.path().join("config")
    }

    fn configure(&self, name: &str, text: &str) {
        fs_err::create_dir_all(self.config()).unwrap();
        fs_err::write(self.config().join(name), text).unwrap();
    }

    /// Starts a gate on a data folder of its own.
    fn gate(&self) -> Gate {
        let (world, config) = (World::new(), self.config());
        let mut command = with(&world, &config, &["gate", "serve"]);
        let child = Started::new(command.envs(self.env.iter().cloned()));
        let file = world.data().join("plane.json");
        let read = || serde_json::from_slice::<Value>(&fs_err::read(&file).ok()?).ok();
        eventually("the gate is up", || read().is_some());
        let url = read().unwrap()["url"].as_str().unwrap().trim_end_matches('/').to_owned();
        Gate { world, child, config, url }
    }

    /// What a gate that does not begin says.
    fn refused(&self) -> Said {
        let world = World::new();
        Said::of(with(&world, &self.config(), &["gate", "serve"]).output().unwrap()).exits(1)
    }

    /// A token of a run of `acme/app`.
    fn token(&self, run: &str) -> String {
        let now = jiff_now();
        let claims = json!({
            "iss": self.issuer, "aud": URL, "sub": "repo:acme/app:ref:refs/heads/main",
            "jti": run, "iat": now, "nbf": now - 60, "exp": now + 300,
            "repository": "acme/app", "repository_id": "4711",
            "repository_owner": "acme", "repository_owner_id": "99",
            "ref": "refs/heads/main", "sha": "abc", "event_name": "push",
            "run_id": run, "run_attempt": "1", "actor": "ann",
        });
        issuer::sign(&json!({"alg": "RS256", "kid": "k1"}), &claims, 0)
    }
}

/// The name of both gates, as clients and tokens have it.
const URL: &str = "https://gate.example";

fn least(admin: &Path, more: &str) -> String {
    format!(
        "url = \"{URL}\"\nlisten = \"127.0.0.1:0\"\nadmin_token_file = \"{}\"\ndrain_seconds = 1\n{more}",
        admin.display()
    )
}

#[expect(clippy::disallowed_methods, reason = "the gate compares a token with the clock")]
fn jiff_now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn with(world: &World, config: &Path, arguments: &[&str]) -> Command {
    let mut command = world.command(arguments);
    command.env("SEKISHO_GATE_CONFIG", config);
    command
}

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

impl Gate {
    fn sekisho(&self, arguments: &[&str]) -> Said {
        Said::of(with(&self.world, &self.config, arguments).output().unwrap())
    }

    async fn get(&self, path: &str, token: &str) -> Response {
        let request = client().get(format!("{}{path}", self.url));
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        request.send().await.unwrap()
    }

    async fn exchange(&self, jwt: &str) -> Response {
        let body = json!({"subject_token": jwt});
        let url = format!("{}/oidc/exchange", self.url);
        client().post(url).json(&body).send().await.unwrap()
    }

    async fn session(&self, jwt: &str) -> String {
        let answer = self.exchange(jwt).await;
        assert_eq!(answer.status(), 200);
        answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
    }

    async fn blob(&self, session: &str, bytes: &[u8]) {
        let digest = Digest::sha256(bytes);
        let url = format!("{}/v2/acme/app/blobs/uploads/?digest={digest}", self.url);
        let put = client().post(url).bearer_auth(session).body(bytes.to_vec());
        assert_eq!(put.send().await.unwrap().status(), 201);
    }

    async fn manifest(&self, session: &str, tag: &str, bytes: &[u8]) -> Response {
        let url = format!("{}/v2/acme/app/manifests/{tag}", self.url);
        let put = client().put(url).bearer_auth(session).body(bytes.to_vec());
        put.header("content-type", media_type::OCI_MANIFEST).send().await.unwrap()
    }

    fn stop(mut self) {
        signal(&self.child, "TERM");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        assert!(!self.world.data().join("plane.json").exists());
    }
}

/// A layer with one file, and a config and manifest about it.
fn image(file: &str, text: &[u8]) -> [Vec<u8>; 3] {
    let mut writer = sekisho_oci::layer::Writer::new(Vec::new());
    let entry = sekisho_oci::layer::Entry::file(file, text.len() as u64);
    writer.append_data(&entry, &mut &*text).unwrap();
    let layer = writer.finish().unwrap();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"User": "1000"},
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(&layer).to_string()]},
    });
    let config = config.to_string().into_bytes();
    let manifest = ImageManifest::new(
        Descriptor::of(media_type::OCI_CONFIG, &config),
        vec![Descriptor::of("application/vnd.oci.image.layer.v1.tar", &layer)],
    );
    [layer, config, manifest.to_bytes()]
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gates_serve_one_bucket() {
    let Some(moto) = Moto::start() else { return };
    let cluster = Cluster::new().await;
    let keys = cluster.world.folder.path().join("keys");
    cluster.configure("storage.toml", &storage_text(&cluster.world, moto.host(), 60));
    cluster.refused().says(&["are not in", "sekisho gate keys DIR"]);
    cluster.world.sekisho(&["gate", "keys", keys.to_str().unwrap()]).exits(0);
    // As a secret that a cluster mounts: nobody writes there.
    let made: Vec<_> = fs_err::read_dir(&keys).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(made.len(), 4, "{made:?}");
    let (one, two) = (cluster.gate(), cluster.gate());
    for gate in [&one, &two] {
        assert_eq!(gate.get("/readyz", "").await.status(), 200);
        assert_eq!(gate.get("/healthz", "").await.status(), 200);
        assert_eq!(gate.get("/_gate/v1/decisions", "").await.status(), 401);
    }

    // A token is taken once, whichever gate it is shown to; its session is good at both.
    let jwt = cluster.token("1");
    let session = one.session(&jwt).await;
    assert_ne!(two.exchange(&jwt).await.status(), 200);
    let [layer, config, manifest] = image("srv/index.html", b"<p>hello</p>");
    one.blob(&session, &layer).await;
    two.blob(&session, &config).await;
    assert_eq!(two.manifest(&session, "v1", &manifest).await.status(), 201);
    for gate in [&one, &two] {
        let pulled = gate.get("/v2/acme/app/manifests/v1", "").await.bytes().await.unwrap();
        assert_eq!(pulled, manifest);
    }

    // What one refuses is on record at the other, and is made again there.
    let [layer, config, manifest] =
        image("app/package-lock.json", br#"{"lockfileVersion": 3, "packages": "#);
    two.blob(&session, &layer).await;
    two.blob(&session, &config).await;
    let refused = two.manifest(&session, "v2", &manifest).await;
    assert_eq!(refused.status(), 403);
    assert!(refused.text().await.unwrap().contains("unreadable-content"));
    let listed = one.get("/_gate/v1/decisions", ADMIN).await.json::<Value>().await.unwrap();
    let of = |at: usize| listed["decisions"][at]["verdict"]["decision"].clone();
    assert_eq!((of(0), of(1)), (json!("allow"), json!("deny")));
    let said = one.sekisho(&["gate", "verify", "--output", "json"]).exits(0).json();
    assert_eq!((&said["records"], &said["faults"]), (&json!(2), &json!([])));
    let said = one.sekisho(&["policy", "explain", "2", "--output", "json"]).exits(0).json();
    assert_eq!(said["reproduced"], true);
    one.sekisho(&["gate", "quarantine", "list"]).exits(3);

    // One goes, with its disk; the other and a new one have everything.
    one.stop();
    assert_eq!(two.get("/v2/acme/app/manifests/v1", "").await.status(), 200);
    let three = cluster.gate();
    assert_eq!(three.get("/v2/acme/app/manifests/v1", "").await.status(), 200);
    assert_eq!(three.manifest(&session, "v2", &manifest).await.status(), 403);
    two.stop();
    three.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_ends_tls_itself_and_leaves_when_it_is_told() {
    let cluster = Cluster::new().await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let path = |name: &str| cluster.world.folder.path().join(name);
    fs_err::write(path("crt"), made.cert.pem()).unwrap();
    fs_err::write(path("key"), made.signing_key.serialize_pem()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tls = format!(
        "url = \"https://localhost:{port}\"\nlisten = \"127.0.0.1:{port}\"\ndrain_seconds = 600\n\
         admin_token_file = \"{}\"\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        path("admin").display(),
        path("crt").display(),
        path("key").display()
    );
    cluster.configure("gate.toml", &tls);
    let mut gate = cluster.gate();
    assert_eq!(gate.url, format!("https://localhost:{port}"));
    let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let https = Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let ready = async || https.get(format!("{}/readyz", gate.url)).send().await.unwrap().status();
    assert_eq!(ready().await, 200);
    let asked = https.get(format!("{}/v2/", gate.url)).send().await.unwrap();
    let challenge = asked.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains(&format!("https://localhost:{port}/token")), "{challenge}");
    // Nobody is served in the clear.
    assert!(client().get(format!("http://localhost:{port}/v2/")).send().await.is_err());

    signal(&gate.child, "TERM");
    let left = async {
        loop {
            let status = ready().await;
            if status != 200 {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(90), left).await.unwrap();
    assert_eq!(status, 503, "it serves on, and says that it leaves");
    signal(&gate.child, "TERM");
    assert_eq!(gate.child.wait().unwrap().code(), Some(0));
    // Not even when it is told twice is its address left, with the admin token.
    assert!(!gate.world.data().join("plane.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gate_is_told_wrong_is_named() {
    let cluster = Cluster::new().await;
    let issuers = fs_err::read_to_string(cluster.config().join("issuers.toml")).unwrap();
    cluster.configure("issuers.toml", "");
    cluster.refused().says(&["issuers.toml` names nobody", "hint:"]);
    cluster.configure("issuers.toml", &issuers);
    cluster.configure("policies.cedar", "forbid (");
    cluster.refused().says(&["opening the gate"]);
    fs_err::remove_file(cluster.config().join("policies.cedar")).unwrap();
    let gate = cluster.gate();
    let again = gate.sekisho(&["gate", "serve"]).exits(1);
    again.says(&["another program holds", "--data-dir"]);
    fs_err::remove_file(cluster.config().join("gate.toml")).unwrap();
    cluster.refused().says(&["there is no `", "gate.toml`", "SEKISHO_GATE_CONFIG"]);
    gate.stop();
}

/// As EKS Pod Identity gives a pod its role.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_is_known_to_its_bucket_by_what_its_pod_is_given() {
    let Some(moto) = Moto::start() else { return };
    let mut cluster = Cluster::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let give = move |headers: axum::http::HeaderMap| async move {
        assert_eq!(headers["authorization"], "token-of-the-pod");
        counted.fetch_add(1, Ordering::SeqCst);
        axum::Json(json!({
            "AccessKeyId": "test", "SecretAccessKey": "test", "Token": "session",
            "Expiration": "2199-01-01T00:00:00Z", "AccountId": "000000000000",
        }))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let agent = format!("http://{}/v1/credentials", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/v1/credentials", axum::routing::get(give));
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let token = cluster.world.folder.path().join("pod-token");
    fs_err::write(&token, "token-of-the-pod").unwrap();
    let storage = storage_text(&cluster.world, moto.host(), 60);
    let without = storage.lines().filter(|line| !line.contains("access_key"));
    cluster.configure("storage.toml", &without.collect::<Vec<_>>().join("\n"));
    let keys = cluster.world.folder.path().join("keys");
    cluster.world.sekisho(&["gate", "keys", keys.to_str().unwrap()]).exits(0);
    cluster.env = vec![
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.display().to_string()),
    ];
    let gate = cluster.gate();
    let session = gate.session(&cluster.token("1")).await;
    let [layer, config, manifest] = image("srv/index.html", b"<p>hello</p>");
    gate.blob(&session, &layer).await;
    gate.blob(&session, &config).await;
    assert_eq!(gate.manifest(&session, "v1", &manifest).await.status(), 201);
    assert!(asked.load(Ordering::SeqCst) > 0);
    gate.stop();
    server.abort();
}
