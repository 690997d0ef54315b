//! A gate that dies or runs out of space at any write, and what its successor finds.
//!
//! The thousands are made on a store in memory that fails at a chosen write; some are real processes,
//! killed while they work on a real disk. `SEKISHO_INJECTIONS=10000` and `SEKISHO_KILLS=1000` in the
//! environment make more of them.

pub(crate) mod faulty;
mod overtaken;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use sekisho_gate::{Clock, Config, Gate, Options};
use sekisho_oci::{Descriptor, ImageManifest, media_type};
use sekisho_policy::Exceptions;
use sekisho_store::Bucket;
use sekisho_types::Digest;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use self::faulty::{Fault, Faulty};
use crate::support::{ADMIN, Lines, NOW, World, at};

/// Faults at a write of the store in memory, unless `SEKISHO_INJECTIONS` says otherwise.
const INJECTIONS: u64 = 60;

/// Kills of real processes, unless `SEKISHO_KILLS` says otherwise.
const KILLS: u64 = 25;

#[expect(clippy::disallowed_methods, reason = "a long run is asked for at the command line")]
fn many(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn roll(random: &mut u64, sides: u64) -> u64 {
    // SplitMix64: a seed gives the same faults for ever.
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % sides
}

/// An image: its blobs, its manifest, and whether the rules let it pass.
pub(crate) struct Image {
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) manifest: Vec<u8>,
    is_good: bool,
}

pub(crate) fn image(number: u64, is_good: bool) -> Image {
    let package = if is_good { "pkg qs 1.0 fine" } else { "pkg lodash 4.17.20 critical 4.17.21" };
    let layer = format!("LAYER {number}\n{package}").into_bytes();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"User": "app"},
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256(&layer).to_string()]},
    });
    let config = config.to_string().into_bytes();
    let manifest = ImageManifest::new(
        Descriptor::of(media_type::OCI_CONFIG, &config),
        vec![Descriptor::of(media_type::OCI_LAYER, &layer)],
    );
    Image { blobs: vec![layer, config], manifest: manifest.to_bytes(), is_good }
}

pub(crate) struct Rig {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) world: World,
    pub(crate) token: String,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (world, token) = runtime.block_on(async {
            let world = World::in_bucket(Bucket::on(Arc::new(Faulty::new()), "")).await;
            let token = world.session(json!({})).await;
            (world, token)
        });
        Self { runtime, world, token }
    }

    fn open(&self, store: &Faulty) -> Result<Gate, sekisho_gate::OpenError> {
        let _inside = self.runtime.enter();
        let options = Options {
            bucket: Some(Bucket::on(Arc::new(store.clone()), "gate")),
            ..self.world.config().options
        };
        Gate::open(Config { options, ..self.world.config() })
    }

    fn send(
        &self,
        gate: &Gate,
        method: &str,
        path: &str,
        token: &str,
        body: &[u8],
    ) -> (u16, Bytes) {
        let mut request = http::Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.header("content-type", media_type::OCI_MANIFEST);
        let request = request.body(Body::from(body.to_vec())).unwrap();
        self.runtime.block_on(async {
            let response = gate.router().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
            (status, body.unwrap_or_default())
        })
    }

    /// Pushes an image; which of its blobs were acknowledged, and what its manifest was told.
    fn push(&self, gate: &Gate, image: &Image, tag: &str) -> (Vec<Digest>, u16) {
        let mut acknowledged = Vec::new();
        for blob in &image.blobs {
            let digest = Digest::sha256(blob);
            let path = format!("/v2/acme/app/blobs/uploads/?digest={digest}");
            if self.send(gate, "POST", &path, &self.token, blob).0 == 201 {
                acknowledged.push(digest);
            }
        }
        let path = format!("/v2/acme/app/manifests/{tag}");
        (acknowledged, self.send(gate, "PUT", &path, &self.token, &image.manifest).0)
    }

    /// Whatever a tag names is there, whole, and was let pass.
    fn check_tag(&self, gate: &Gate, tag: &str) -> Option<Digest> {
        let (status, manifest) =
            self.send(gate, "GET", &format!("/v2/acme/app/manifests/{tag}"), "", b"");
        if status == 404 {
            return None;
        }
        assert_eq!(status, 200);
        let digest = Digest::sha256(&manifest);
        let parsed: Value = serde_json::from_slice(&manifest).unwrap();
        for descriptor in parsed["layers"].as_array().unwrap().iter().chain([&parsed["config"]]) {
            let named = descriptor["digest"].as_str().unwrap();
            let path = format!("/v2/acme/app/blobs/{named}");
            let (status, blob) = self.send(gate, "GET", &path, "", b"");
            assert_eq!((status, Digest::sha256(&blob).to_string().as_str()), (200, named));
        }
        let (_, body) = self.send(gate, "GET", "/_gate/v1/decisions", ADMIN, b"");
        let decisions: Value = serde_json::from_slice(&body).unwrap();
        let passed = decisions["decisions"].as_array().unwrap().iter().any(|decision| {
            decision["digest"] == digest.to_string() && decision["verdict"]["decision"] == "allow"
        });
        assert!(passed, "a tag that names what was not decided");
        Some(digest)
    }
}

#[test]
fn a_gate_that_dies_or_is_full_at_any_write_loses_nothing_that_it_acknowledged() {
    let rig = Rig::new();
    let (mut random, mut made) = (1, 0);
    let mut hit: BTreeMap<&str, u64> = BTreeMap::new();
    let injections = many("SEKISHO_INJECTIONS", INJECTIONS);
    while made < injections {
        let mut store = Faulty::new();
        let mut acknowledged: Option<Digest> = None;
        for number in 0..12 {
            let fault = [Fault::Before, Fault::After, Fault::Full][roll(&mut random, 3) as usize];
            store = store.next(Some((fault, roll(&mut random, 60) + 1)));
            made += 1;
            let image = image(number, roll(&mut random, 4) > 0);
            let digest = Digest::sha256(&image.manifest);
            let (blobs, status) = match rig.open(&store) {
                Ok(gate) => rig.push(&gate, &image, "v1"),
                // It did not even begin.
                Err(_) => (Vec::new(), 0),
            };
            *hit.entry(if status == 201 { "done" } else { "cut short" }).or_default() += 1;
            assert!(status != 201 || image.is_good);
            // Full is no failure of the gate, and worth coming back for.
            assert!(fault != Fault::Full || [0, 201, 400, 403, 500, 503].contains(&status));

            store = store.next(None);
            let gate = rig.open(&store).unwrap();
            for blob in blobs {
                let path = format!("/v2/acme/app/blobs/{blob}");
                let (status, bytes) = rig.send(&gate, "GET", &path, &rig.token, b"");
                assert_eq!((status, Digest::sha256(&bytes)), (200, blob), "an acknowledged blob");
            }
            let named = rig.check_tag(&gate, "v1");
            match status {
                201 => assert_eq!(named.as_ref(), Some(&digest), "an acknowledged tag"),
                // Either nothing happened to it, or all of it did.
                _ if image.is_good => {
                    assert!(named == acknowledged || named.as_ref() == Some(&digest));
                }
                _ => assert_eq!(named, acknowledged),
            }
            assert_eq!(gate.verify_decisions().unwrap().faults, []);
            // The client comes again.
            let (_, status) = rig.push(&gate, &image, "v1");
            assert_eq!(status, if image.is_good { 201 } else { 403 });
            acknowledged = rig.check_tag(&gate, "v1");
            if image.is_good {
                assert_eq!(acknowledged.as_ref(), Some(&digest));
            }
        }
    }
    eprintln!("{made} injections: {hit:?}");
    assert!(hit.len() == 2, "{hit:?}");
}

/// Folder, keys, address and folder for its port of a gate that this program is to be, a line each.
pub(crate) const BE_A_GATE: &str = "SEKISHO_TEST_BE_A_GATE";

/// A gate on folders, by what is known of it in another process.
fn folder_config(told: &str) -> Config {
    let mut lines = told.lines();
    let mut line = || lines.next().unwrap().to_owned();
    let (dir, keys, url) = (line(), line(), line());
    let dir = std::path::Path::new(&dir);
    Config {
        dir: dir.join("gate"),
        upstream_dir: dir.join("upstream"),
        base_url: url.parse().unwrap(),
        service: "sekisho-gate".into(),
        admin_token: ADMIN.to_owned().into(),
        issuers: vec![],
        users: vec![],
        workers: None,
        mirror: None,
        local_owner: None,
        inspector: Arc::new(Lines::default()),
        policies: None,
        exceptions: Exceptions::default(),
        clock: Clock::new(|| at(NOW)),
        options: Options { keys_dir: Some(keys.into()), reserve_bytes: 0, ..Options::default() },
    }
}

/// No test, but the gate that the next one starts as a process of its own, and kills.
#[test]
#[expect(clippy::disallowed_methods, reason = "this is how the test below tells it what to be")]
fn a_gate_of_its_own() {
    let Ok(told) = std::env::var(BE_A_GATE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let gate = {
        let _inside = runtime.enter();
        Gate::open(folder_config(&told)).unwrap()
    };
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dir = std::path::Path::new(told.lines().nth(3).unwrap());
        fs_err::write(dir.join("port.new"), port.to_string()).unwrap();
        fs_err::rename(dir.join("port.new"), dir.join("port")).unwrap();
        let patience = sekisho_gate::Patience::default();
        sekisho_gate::serve(listener, gate.router(), patience, CancellationToken::new()).await;
    });
}

/// Pushes image after image until the gate is gone; the last that was acknowledged, and the one
/// that was under way.
async fn push_until_gone(
    rig: &Rig,
    url: String,
    numbers: Range<u64>,
) -> (Option<Digest>, Vec<Digest>, Option<Digest>) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (mut named, mut blobs, mut trying) = (None, Vec::new(), None);
    for number in numbers {
        let image = image(number, true);
        for blob in &image.blobs {
            let digest = Digest::sha256(blob);
            let path = format!("{url}/v2/acme/app/blobs/uploads/?digest={digest}");
            let request = http.post(path).bearer_auth(&rig.token).body(blob.clone());
            match request.send().await {
                Ok(response) if response.status() == 201 => blobs.push(digest),
                _ => return (named, blobs, trying),
            }
        }
        let digest = Digest::sha256(&image.manifest);
        trying = Some(digest.clone());
        let request = http.put(format!("{url}/v2/acme/app/manifests/v1")).bearer_auth(&rig.token);
        let request = request.header("content-type", media_type::OCI_MANIFEST);
        match request.body(image.manifest.clone()).send().await {
            Ok(response) if response.status() == 201 => named = Some(digest),
            _ => return (named, blobs, trying),
        }
    }
    (named, blobs, trying)
}

#[test]
fn a_gate_that_is_killed_loses_nothing_that_it_acknowledged() {
    let rig = Rig::new();
    let dir = tempfile::tempdir().unwrap();
    let keys = rig.world.config().options.keys_dir.unwrap();
    let folder = dir.path().display();
    let told = format!("{folder}\n{}\n{}\n{folder}", keys.display(), rig.world.config().base_url);
    let (mut random, mut last, mut acknowledged) = (7, None, 0);
    let kills = many("SEKISHO_KILLS", KILLS);
    for kill in 0..kills {
        let port = dir.path().join("port");
        let _ = fs_err::remove_file(&port);
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::a_gate_of_its_own", "--nocapture"])
            .env(BE_A_GATE, &told)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !port.exists() {
            assert!(child.try_wait().unwrap().is_none(), "the gate ended by itself");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let url = format!("http://127.0.0.1:{}", fs_err::read_to_string(&port).unwrap());
        // At a moment that the seed chooses, among the first pushes.
        let moment = std::time::Duration::from_micros(roll(&mut random, 120_000));
        let (named, blobs, trying) = rig.runtime.block_on(async {
            let pushing = push_until_gone(&rig, url, kill * 1000..kill * 1000 + 900);
            let killing = async {
                tokio::time::sleep(moment).await;
                child.kill().unwrap();
            };
            futures_util::future::join(pushing, killing).await.0
        });
        child.wait().unwrap();
        acknowledged += blobs.len();

        let gate = {
            let _inside = rig.runtime.enter();
            Gate::open(folder_config(&told)).unwrap()
        };
        for blob in blobs {
            let path = format!("/v2/acme/app/blobs/{blob}");
            let (status, bytes) = rig.send(&gate, "GET", &path, &rig.token, b"");
            assert_eq!((status, Digest::sha256(&bytes)), (200, blob), "an acknowledged blob");
        }
        let found = rig.check_tag(&gate, "v1");
        let sure = named.or(last);
        assert!(
            found == sure || found == trying,
            "the tag is the last acknowledged or a later one"
        );
        assert_eq!(gate.verify_decisions().unwrap().faults, []);
        last = found;
    }
    eprintln!("{kills} kills, {acknowledged} acknowledged blobs, all there");
    assert!(acknowledged > 0, "every kill came before the first blob");
}
