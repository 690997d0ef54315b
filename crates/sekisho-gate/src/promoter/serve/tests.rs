use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use http::Request;
use jiff::Timestamp;
use tower::ServiceExt as _;

use super::super::order::seal;
use super::super::routes::load_promoter;
use super::*;
use crate::decisions::checkpoint::RecordKey;
use crate::decisions::{Decision, example};

const NOW: i64 = 1_800_000_000;

struct World {
    promoter: Promoter,
    key: RecordKey,
    clock: Arc<AtomicI64>,
    _dir: tempfile::TempDir,
}

/// A promoter whose registry answers nobody.
fn world() -> World {
    // A client needs one; another test may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let key = RecordKey::open(dir.path()).unwrap();
    let clock = Arc::new(AtomicI64::new(NOW));
    let now = Arc::clone(&clock);
    let text = format!(
        "listen = \"127.0.0.1:1\"\ngate = \"http://127.0.0.1:1\"\ngate_keys = \"{}\"\n\
         [[to]]\nrepositories = \"acme/*\"\nregistry = \"127.0.0.1:1\"\n",
        dir.path().display()
    );
    let promoter = Promoter::open(PromoterConfig {
        settings: load_promoter(&text).unwrap(),
        keyring: Keyring::anonymous(),
        registry: Options { attempts_max: 1, ..Options::default() },
        folder: dir.path().to_owned(),
        identity: Vec::new(),
        clock: Clock::new(move || Timestamp::from_second(now.load(Ordering::SeqCst)).unwrap()),
    });
    World { promoter: promoter.unwrap(), key, clock, _dir: dir }
}

impl World {
    fn order(&self, id: u32, repository: &str) -> Vec<u8> {
        let (id, repository) = (format!("{id:012}"), repository.parse().unwrap());
        let decision = Decision { id, repository, ..example("allow") };
        let order =
            Order { issued_at: Timestamp::from_second(NOW).unwrap(), decision, attestation: None };
        seal(&order, &self.key).unwrap()
    }

    async fn ask(&self, body: Vec<u8>) -> (u16, Value) {
        let request = Request::post(PATH).body(Body::from(body)).unwrap();
        let response = self.promoter.router().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

#[tokio::test]
async fn what_is_no_order_is_refused_and_says_nothing_of_registries() {
    let world = world();
    let mut changed = world.order(1, "acme/app");
    let at = changed.windows(10).position(|it| it == b"\"payload\":").unwrap() + 20;
    changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
    for body in [Vec::new(), b"{}".to_vec(), changed] {
        let (status, said) = world.ask(body).await;
        assert_eq!((status, &said["again"]), (403, &json!(false)), "{said}");
    }
    let order = world.order(1, "acme/app");
    world.clock.fetch_add(61, Ordering::SeqCst);
    let (status, said) = world.ask(order).await;
    assert_eq!((status, &said["again"]), (403, &json!(true)), "the clocks may meet again");
    assert!(said["error"].as_str().unwrap().contains("signed at"), "{said}");
}

#[tokio::test]
async fn what_no_route_is_for_goes_nowhere() {
    let world = world();
    let (status, said) = world.ask(world.order(1, "other/app")).await;
    assert_eq!(
        (status, said),
        (200, json!({"schemaVersion": 1, "state": "nowhere", "sentBytes": 0}))
    );
}

#[tokio::test]
async fn a_gate_that_is_away_is_come_back_for() {
    let world = world();
    let (status, said) = world.ask(world.order(42, "acme/app")).await;
    assert_eq!((status, &said["again"]), (503, &json!(true)), "{said}");
    assert!(said["error"].as_str().unwrap().starts_with("the gate does not give the image"));
    assert_eq!(world.promoter.inner.turns.lock().await.len(), 1);
    world.ask(world.order(43, "acme/other")).await;
    assert_eq!(world.promoter.inner.turns.lock().await.len(), 1, "nobody has the first one");
}

#[tokio::test]
async fn more_orders_than_are_bearable_are_sent_away() {
    let world = world();
    let _all = world.promoter.inner.places.acquire_many(MAX_ORDERS as u32).await.unwrap();
    let (status, said) = world.ask(world.order(1, "acme/app")).await;
    assert_eq!((status, &said["error"]), (503, &json!("too many orders wait")));
    assert_eq!(world.ask(Vec::new()).await.0, 403, "what is none waits for nothing");
}

fn open_at(text: &str, folder: &std::path::Path) -> Result<Promoter, String> {
    Promoter::open(PromoterConfig {
        settings: load_promoter(text).unwrap(),
        keyring: Keyring::anonymous(),
        registry: Options::default(),
        folder: folder.to_owned(),
        identity: Vec::new(),
        clock: Clock::default(),
    })
}

#[test]
fn without_a_key_nobodys_orders_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "listen = \"127.0.0.1:1\"\ngate = \"http://127.0.0.1:1\"\ngate_keys = \"{}\"\n\
         [[to]]\nrepositories = \"*\"\nregistry = \"127.0.0.1:1\"\n",
        dir.path().display()
    );
    let open = |text: &str| open_at(text, dir.path()).map(drop);
    assert!(open(&text).unwrap_err().contains("holds no key of a gate"));
    // What a promoter left that was killed goes, and two do not share a folder.
    let key = RecordKey::open(dir.path()).unwrap();
    fs_err::create_dir(dir.path().join("blob-left")).unwrap();
    fs_err::write(dir.path().join("blob-left/data"), "half").unwrap();
    let one = open_at(&text, dir.path()).unwrap();
    assert!(!dir.path().join("blob-left").exists());
    assert!(open(&text).unwrap_err().contains("another promoter holds"));
    drop((one, key));
    let nowhere = text.replace(&dir.path().display().to_string(), "/nowhere");
    assert!(open(&nowhere).unwrap_err().contains("/nowhere"));
}
