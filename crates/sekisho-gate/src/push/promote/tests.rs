//! A promotion that is cut short anywhere, any number of times.

use std::io::Write as _;

use proptest::prelude::*;
use sekisho_store::Repositories;
use serde_json::{Value, json};

use super::*;
use crate::upstream::Upstream;

struct World {
    _dir: tempfile::TempDir,
    upstream: Upstream,
    staging: BlobStore,
    repository: RepositoryName,
}

/// Three versions of an image: a shared base layer, a layer of its own, a manifest.
fn version(world: &World, number: u8) -> Item {
    let put = |bytes: &[u8]| {
        let mut writer = world.staging.writer().unwrap();
        writer.write_all(bytes).unwrap();
        writer.commit(&world.staging, None).unwrap().digest
    };
    let blobs = vec![put(b"base"), put(&[number])];
    let manifest = format!("manifest {number}").into_bytes();
    let record = ManifestRecord {
        digest: Digest::sha256(&manifest),
        media_type: "m".into(),
        size: manifest.len() as u64,
        subject: (number == 2).then(|| Digest::sha256(b"subject")),
        artifact_type: None,
        annotations: Value::Null,
    };
    Item { record, bytes: manifest.into(), blobs }
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let blobs = BlobStore::open(&dir.path().join("upstream/content")).unwrap();
    let repositories = dir.path().join("upstream/repositories");
    let upstream = Upstream::on(Repositories::open(&repositories, blobs).unwrap());
    let staging = BlobStore::open(&dir.path().join("staging")).unwrap();
    World { _dir: dir, upstream, staging, repository: "acme/app".parse().unwrap() }
}

fn decision(world: &World, item: &Item, tag: &str, answer: &str) -> Decision {
    serde_json::from_value(json!({
        "id": "000000000001", "at": "2027-01-15T08:00:00Z", "previous": null, "identity": {},
        "repository": world.repository, "tag": tag, "digest": item.record.digest,
        "media_type": "m", "verdict": {"decision": answer, "reasons": []}, "packages": 0,
        "summary": {"images": 1, "layers": 2, "size_bytes": 5, "findings": {}, "not_assessed": 0},
        "policy": Digest::sha256(b""), "inspector": "", "advisories": 0, "newest_advisory": null,
    }))
    .unwrap()
}

/// Promotes, and dies before action number `stop`. How many actions there were.
fn promote(world: &World, number: u8, tag: &str, stop: usize) -> usize {
    let item = version(world, number);
    let decision = decision(world, &item, tag, "allow");
    let items = [item];
    let permit = Permit::of(&decision).unwrap();
    let wanted = Wanted::new(permit, &items, None).unwrap();
    let actions = plan(observe(&world.upstream, wanted).unwrap());
    for action in actions.iter().take(stop) {
        let action = std::slice::from_ref(action);
        assert!(act(&world.upstream, wanted, &world.staging, action).unwrap());
    }
    actions.len()
}

/// Whatever is named is there.
fn check(world: &World) {
    let page = world.upstream.tags(&world.repository, None, 10).unwrap();
    for tag in page.map(|page| page.tags).unwrap_or_default() {
        let digest = world.upstream.resolve(&world.repository, &tag).unwrap().unwrap();
        let (record, bytes) =
            world.upstream.manifest(&world.repository, &digest).unwrap().expect("a manifest");
        assert_eq!(Digest::sha256(&bytes), record.digest);
        let number: u8 = String::from_utf8(bytes).unwrap()[9..].parse().unwrap();
        for blob in version(world, number).blobs {
            assert!(world.upstream.size(&world.repository, &blob).unwrap().is_some());
        }
    }
}

#[test]
fn a_crash_before_any_action_leaves_no_name_without_its_content() {
    let whole = promote(&world(), 1, "v1", 0);
    assert_eq!(whole, 4, "two blobs, manifest, tag");
    for stop in 0..=whole {
        let world = world();
        promote(&world, 1, "v1", stop);
        check(&world);
        let tag = "v1".parse().unwrap();
        let tagged = world.upstream.resolve(&world.repository, &tag).unwrap().is_some();
        assert_eq!(tagged, stop == whole);
        // Again, to the end: only what was missing is done.
        assert_eq!(promote(&world, 1, "v1", usize::MAX), whole - stop);
        assert_eq!(promote(&world, 1, "v1", usize::MAX), 0);
        check(&world);
    }
}

#[test]
fn only_a_decision_that_lets_pass_permits_and_only_its_own_image() {
    let world = world();
    let (one, other) = (version(&world, 1), version(&world, 2));
    for answer in ["deny", "quarantine"] {
        assert!(Permit::of(&decision(&world, &one, "v1", answer)).is_none(), "{answer}");
    }
    for answer in ["allow", "warn"] {
        let decision = decision(&world, &one, "v1", answer);
        let permit = Permit::of(&decision).unwrap();
        assert!(Wanted::new(permit, std::slice::from_ref(&one), None).is_some());
        assert!(Wanted::new(permit, std::slice::from_ref(&other), None).is_none(), "another image");
        assert!(Wanted::new(permit, &[], None).is_none());
    }
}

#[test]
fn a_tag_that_somebody_else_moved_is_looked_at_again() {
    let world = world();
    let item = version(&world, 1);
    let decision = decision(&world, &item, "v1", "allow");
    let items = [item];
    let wanted = Wanted::new(Permit::of(&decision).unwrap(), &items, None).unwrap();
    let actions = plan(observe(&world.upstream, wanted).unwrap());
    // Another replica is faster between the look and the last write.
    promote(&world, 3, "v1", usize::MAX);
    let done = act(&world.upstream, wanted, &world.staging, &actions).unwrap();
    assert!(!done, "the tag is not what was seen");
    let newer = Digest::sha256(b"newer");
    let overtaken =
        super::promote(&world.upstream, wanted, &world.staging, || Ok(Some(newer.clone())));
    assert_eq!(overtaken.unwrap(), Some(newer.clone()));
    let now = || world.upstream.resolve(&world.repository, &"v1".parse().unwrap()).unwrap();
    assert_ne!(now().as_ref(), Some(&items[0].record.digest), "it has its place no more");
    let promoted = super::promote(&world.upstream, wanted, &world.staging, || Ok(None));
    assert_eq!(promoted.unwrap(), None);
    assert_eq!(now().as_ref(), Some(&items[0].record.digest));
    check(&world);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_pushes_and_crashes_keeps_names_true(
        steps in proptest::collection::vec((1..4_u8, 0..2_u8, 0..6_usize), 1..8)
    ) {
        let world = world();
        for (number, tag, stop) in steps {
            promote(&world, number, &format!("v{tag}"), stop);
            check(&world);
        }
    }
}
