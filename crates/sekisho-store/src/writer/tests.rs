//! A crash between any two steps leaves the whole blob or nothing.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::atomic::{Step, write_atomic_with};

/// What a killed process leaves: the steps before the crash happened, and no destructor ran.
fn crash_at(stop: Step) -> impl FnMut(Step) -> io::Result<()> {
    move |step| if step == stop { Err(io::Error::other("killed")) } else { Ok(()) }
}

/// Every blob that the store lists is served whole and under its own digest.
#[track_caller]
fn check_intact(store: &BlobStore) {
    for digest in store.list().unwrap() {
        let bytes = store.read(&digest, u64::MAX).unwrap().unwrap();
        let found = match digest.algorithm() {
            Algorithm::Sha256 => Digest::sha256(&bytes),
            Algorithm::Sha512 => Digest::from_sha512(Sha512::digest(&bytes).into()),
        };
        assert_eq!(found, digest);
    }
}

#[test]
fn a_crash_at_any_step_of_a_commit_leaves_all_or_nothing() {
    for stop in Step::ALL {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let mut writer = store.writer().unwrap();
        writer.write_all(b"layer").unwrap();
        // A killed process runs no destructor: what is under a temporary name stays there.
        writer.spilled().unwrap().disable_cleanup(true);
        let result = writer.commit_with(&store, None, &mut Batch::default(), &mut crash_at(stop));
        assert!(matches!(result, Err(CommitError::Io(_))), "{stop:?}");

        let digest = Digest::sha256(b"layer");
        let survives = matches!(stop, Step::Renamed | Step::Durable);
        let left = |store: &BlobStore| fs_err::read_dir(store.dir().join("tmp")).unwrap().count();
        assert_eq!(left(&store), usize::from(!survives), "{stop:?}");

        let store = BlobStore::open(dir.path()).unwrap();
        assert_eq!(store.contains(&digest).unwrap(), survives, "{stop:?}");
        assert_eq!(left(&store), 0, "{stop:?}");
        check_intact(&store);

        // The client comes back: now it is stored, whatever was there.
        let mut writer = store.writer().unwrap();
        writer.write_all(b"layer").unwrap();
        writer.commit(&store, Some(&digest)).unwrap();
        assert_eq!(store.read(&digest, 5).unwrap().unwrap(), b"layer");
    }
}

#[test]
fn a_crash_at_any_step_of_a_record_leaves_the_old_or_the_new_one() {
    for stop in Step::ALL {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/record");
        crate::json::write(&path, "old").unwrap();
        write_atomic_with(&path, b"\"new\"", false, &mut crash_at(stop)).unwrap_err();
        let want = if matches!(stop, Step::Renamed | Step::Durable) { "new" } else { "old" };
        assert_eq!(crate::json::read::<String>(&path).unwrap().unwrap(), want, "{stop:?}");
    }
}

#[test]
fn what_has_another_digest_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    for expected in [Digest::sha256(b"other"), Digest::from_sha512(Sha512::digest(b"x").into())] {
        let mut writer = store.writer().unwrap();
        writer.write_all(b"content").unwrap();
        let error = writer.commit(&store, Some(&expected)).unwrap_err();
        assert!(matches!(error, CommitError::Mismatch { expected: e, .. } if e == expected));
    }
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(fs_err::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[derive(Clone, Debug)]
enum Op {
    Put { content: u8, long: bool, stop: Option<usize> },
    Delete(u8),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..6_u8, any::<bool>(), proptest::option::of(0..4_usize))
            .prop_map(|(content, long, stop)| Op::Put { content, long, stop }),
        1 => (0..6_u8).prop_map(Op::Delete),
        1 => Just(Op::Reopen),
    ]
}

fn digest_of(content: &[u8], long: bool) -> Digest {
    if long { Digest::from_sha512(Sha512::digest(content).into()) } else { Digest::sha256(content) }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_blobs_survive_and_no_other_appears(ops in proptest::collection::vec(op(), 0..24)) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = BlobStore::open(dir.path()).unwrap();
        // What must be there, and what may be there: a crash after the rename is unacknowledged.
        let mut sure: BTreeMap<Digest, Vec<u8>> = BTreeMap::new();
        let mut maybe: BTreeMap<Digest, Vec<u8>> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Put { content, long, stop } => {
                    let bytes = vec![content; usize::from(content) * 1000];
                    let digest = digest_of(&bytes, long);
                    let mut writer = store.writer().unwrap();
                    writer.write_all(&bytes).unwrap();
                    writer.spilled().unwrap().disable_cleanup(stop.is_some());
                    let done = match stop {
                        Some(at) => writer.commit_with(&store, Some(&digest), &mut Batch::default(), &mut crash_at(Step::ALL[at])),
                        None => writer.commit(&store, Some(&digest)),
                    };
                    if done.is_ok() {
                        sure.insert(digest, bytes);
                    } else {
                        maybe.insert(digest, bytes);
                        store = BlobStore::open(dir.path()).unwrap();
                    }
                }
                Op::Delete(content) => {
                    let bytes = vec![content; usize::from(content) * 1000];
                    for long in [false, true] {
                        let digest = digest_of(&bytes, long);
                        store.delete(&digest).unwrap();
                        sure.remove(&digest);
                        maybe.remove(&digest);
                    }
                }
                Op::Reopen => store = BlobStore::open(dir.path()).unwrap(),
            }
            check_intact(&store);
            let listed = store.list().unwrap();
            for digest in sure.keys() {
                prop_assert!(listed.contains(digest));
            }
            for digest in &listed {
                prop_assert!(sure.contains_key(digest) || maybe.contains_key(digest));
            }
        }
    }
}
