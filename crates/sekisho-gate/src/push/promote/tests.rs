//! A promotion that is cut short anywhere, any number of times.

use std::io::Write as _;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::upstream::DiskUpstream;

struct World {
    _dir: tempfile::TempDir,
    upstream: DiskUpstream,
    staging: BlobStore,
    repository: RepositoryName,
}

/// Three versions of an image: a shared base layer, a layer of its own, a manifest.
fn version(world: &World, number: u8) -> (Vec<Digest>, ManifestRecord, Vec<u8>) {
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
    (blobs, record, manifest)
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let upstream = DiskUpstream::open(&dir.path().join("upstream")).unwrap();
    let staging = BlobStore::open(&dir.path().join("staging")).unwrap();
    World { _dir: dir, upstream, staging, repository: "acme/app".parse().unwrap() }
}

/// Promotes, and dies before action number `stop`. How many actions there were.
fn promote(world: &World, number: u8, tag: &str, stop: usize) -> usize {
    let (blobs, record, manifest) = version(world, number);
    let tag = Some(tag.parse().unwrap());
    let observed = observe(&world.upstream, &world.repository, blobs, &record, &tag).unwrap();
    let actions = plan(observed);
    for action in actions.iter().take(stop) {
        act(&world.upstream, &world.repository, &world.staging, &manifest, action).unwrap();
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
        for blob in version(world, number).0 {
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
