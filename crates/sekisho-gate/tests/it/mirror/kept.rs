//! What a mirror keeps: parts of it, a bound on it, and one bucket for several gates.

use sekisho_gate::MirrorConfig;
use sekisho_types::Digest;
use serde_json::json;

use super::{Fake, LAYER, TAG, base, mirror, world};
use crate::replicas::{Moto, memory};
use crate::support::{Options, World};

fn layer() -> String {
    format!("/v2/docker.io/library/debian/blobs/{}", Digest::sha256(LAYER))
}

#[tokio::test]
async fn a_part_of_a_layer_is_a_part_of_what_was_fetched_whole() {
    let fake = Fake::start().await;
    let world = world(fake.host()).await;
    for (range, status, want) in [
        ("bytes=3-9", 206, &LAYER[3..10]),
        ("bytes=-4", 206, &LAYER[LAYER.len() - 4..]),
        ("bytes=0-", 206, LAYER),
        ("bytes=4000-", 416, b"".as_slice()),
    ] {
        let request = world.request("GET", &layer(), "").header("range", range);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{range}");
        if status == 206 {
            assert_eq!(response.bytes().await.unwrap(), want, "{range}");
        }
    }
    assert_eq!(fake.counts(), [0, 0, 1], "fetched once, whole");
}

#[tokio::test]
async fn what_was_not_used_lately_goes_when_more_is_kept_than_may_be() {
    let fake = Fake::start().await;
    let small = MirrorConfig { keep_bytes: LAYER.len() as u64, ..mirror(fake.host()) };
    let world = World::open(Options { mirror: Some(small), ..Options::default() }).await;
    let config = format!("/v2/docker.io/library/debian/blobs/{}", Digest::sha256(&base().0));
    let get = async |path: &str| {
        let response = world.send("GET", path, "").await;
        assert_eq!(response.status(), 200, "{path}");
        response.bytes().await.unwrap()
    };
    assert_eq!(get(&layer()).await, LAYER);
    assert_eq!(get(&config).await, base().0);
    assert_eq!(get(&layer()).await, LAYER, "too much, but all of it is in use");
    assert_eq!(fake.counts()[2], 2);
    // An hour later something else is fetched, and makes room.
    world.pass(3600);
    assert_eq!(get(TAG).await, fake.manifest());
    let before = fake.counts()[2];
    assert_eq!(get(&layer()).await, LAYER, "still there: a manifest alone makes no room");
    assert_eq!(fake.counts()[2], before);
    world.pass(3600);
    let other = format!("/v2/docker.io/library/other/blobs/{}", Digest::sha256(&base().0));
    assert_eq!(get(&other).await, base().0);
    assert_eq!(get(&layer()).await, LAYER);
    assert_eq!(
        fake.counts()[2],
        before + 1,
        "it had gone; the other one is here, and was only asked for"
    );
}

#[tokio::test]
async fn gates_on_one_bucket_fetch_for_each_other() {
    shared(memory()).await;
    let Some(moto) = Moto::start() else { return };
    shared(moto.bucket().await).await;
}

async fn shared(bucket: sekisho_store::Bucket) {
    let fake = Fake::start().await;
    let mut options = Options { mirror: Some(mirror(fake.host())), ..Options::default() };
    options.gate.keys_dir = Some(options.dir.path().join("keys"));
    options.gate.bucket = Some(bucket);
    let policies = "@id(\"permit\") permit (principal, action, resource);\n\
         @id(\"approved-base\") @mode(\"enforce\") @message(\"no approved base\") @fix(\"f\") @docs(\"d\")\n\
         forbid (principal, action == Action::\"ship\", resource) unless { resource.base_known };";
    options.policies = Some(policies.to_owned());
    let one = World::open(options).await;
    let two = one.replica().await;
    for world in [&one, &two] {
        assert_eq!(world.send("GET", TAG, "").await.bytes().await.unwrap(), fake.manifest());
        let request = world.request("GET", &layer(), "").header("range", "bytes=3-9");
        let part = request.send().await.unwrap();
        assert_eq!(
            (part.status().as_u16(), part.bytes().await.unwrap().as_ref()),
            (206, &LAYER[3..10])
        );
    }
    assert_eq!(fake.counts(), [0, 1, 2], "one manifest, one config, one layer for both");
    // A base that one gate served is known to the other one.
    let token = one.session(json!({})).await;
    let layers = [std::str::from_utf8(LAYER).unwrap(), "LAYER\npkg app 1 fine"];
    assert_eq!(two.push("acme/app:v1", &token, &layers).await.status(), 201);
}
