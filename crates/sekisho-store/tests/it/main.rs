//! The store as its users see it.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

mod bucket;

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use sekisho_store::{Batch, BlobStore, ManifestRecord, Repositories, TagPage, json};
use sekisho_types::{Digest, RepositoryName, Tag};

fn put(store: &BlobStore, bytes: &[u8]) -> Digest {
    let mut writer = store.writer().unwrap();
    writer.write_all(bytes).unwrap();
    writer.commit(store, None).unwrap().digest
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn record(digest: &Digest, subject: Option<&Digest>) -> ManifestRecord {
    ManifestRecord {
        digest: digest.clone(),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        size: 2,
        subject: subject.cloned(),
        artifact_type: Some("text/plain".into()),
        annotations: serde_json::json!({"a": "b"}),
    }
}

#[test]
fn blobs_are_kept_by_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let empty = put(&store, b"");
    let hello = put(&store, b"hello");
    assert_eq!(hello, Digest::sha256(b"hello"));
    assert_eq!(store.size(&hello).unwrap(), Some(5));
    let mut text = String::new();
    let blob = store.open_blob(&hello).unwrap().unwrap();
    blob.reader(0).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    assert_eq!(store.read(&empty, 0).unwrap().unwrap(), b"");
    assert!(store.read(&hello, 4).is_err(), "over the limit");
    let mut both = vec![empty, hello.clone()];
    both.sort();
    assert_eq!(store.list().unwrap(), both);
    assert!(store.delete(&hello).unwrap());
    assert!(!store.delete(&hello).unwrap());
    assert!(store.open_blob(&hello).unwrap().is_none());
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(dir.path()).unwrap();
    let mut writer = store.writer().unwrap();
    writer.write_all(b"half").unwrap();
    drop(writer);
    assert_eq!(fs_err::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(store.list().unwrap(), []);
}

#[test]
fn another_store_adopts_a_blob() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let from = BlobStore::open(from.path()).unwrap();
    let blobs = BlobStore::open(&to.path().join("blobs")).unwrap();
    let to = Repositories::open(&to.path().join("repositories"), blobs).unwrap();
    let (app, digest): (RepositoryName, _) = ("acme/app".parse().unwrap(), put(&from, b"shared"));
    let adopt = |digest: &Digest| {
        let mut batch = Batch::default();
        let is_here = to.adopt_in(&mut batch, &app, digest, &from).unwrap();
        batch.commit().unwrap();
        is_here
    };
    assert!(!adopt(&Digest::sha256(b"absent")));
    assert!(!to.holds(&app, &digest).unwrap());
    assert!(adopt(&digest));
    assert!(adopt(&digest), "a repeat is fine");
    from.delete(&digest).unwrap();
    assert!(to.holds(&app, &digest).unwrap());
    assert_eq!(to.blobs().read(&digest, 6).unwrap().unwrap(), b"shared");
}

#[test]
fn many_threads_put_the_same_blob() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(BlobStore::open(dir.path()).unwrap());
    let bytes = vec![7; 100_000];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(put(&store, &bytes), Digest::sha256(&bytes)));
        }
    });
    assert_eq!(store.list().unwrap(), [Digest::sha256(&bytes)]);
}

#[test]
fn names_never_point_to_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(&dir.path().join("store")).unwrap();
    let repositories = Repositories::open(&dir.path().join("repositories"), store).unwrap();
    let absent = Digest::sha256(b"absent");
    let not_found = |error: std::io::Error| assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    not_found(repositories.link(&name("a/b"), &absent).unwrap_err());
    not_found(repositories.put_manifest(&name("a/b"), &record(&absent, None)).unwrap_err());
    let blob = put(repositories.blobs(), b"{}");
    not_found(repositories.tag(&name("a/b"), &tag("v1"), &blob).unwrap_err());
    assert_eq!(repositories.tags(&name("a/b"), None, 10).unwrap(), None);
}

#[test]
fn a_repository_holds_only_what_it_was_given() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(&dir.path().join("store")).unwrap();
    let repositories = Repositories::open(&dir.path().join("repositories"), store).unwrap();
    let digest = put(repositories.blobs(), b"{}");
    repositories.link(&name("a/b"), &digest).unwrap();
    repositories.link(&name("a/b"), &digest).unwrap();
    assert!(repositories.holds(&name("a/b"), &digest).unwrap());
    for other in ["a", "a/b/c", "b"] {
        assert!(!repositories.holds(&name(other), &digest).unwrap(), "{other}");
    }
    let own = record(&digest, Some(&digest));
    repositories.put_manifest(&name("a/b"), &own).unwrap();
    assert_eq!(repositories.manifest(&name("a/b"), &digest).unwrap(), Some(own.clone()));
    assert_eq!(repositories.manifest(&name("a"), &digest).unwrap(), None);
    let referrers = |repository: &str, last: Option<&str>| -> Vec<_> {
        let found = repositories.referrers(&name(repository), &digest, last).unwrap();
        found.map(Result::unwrap).collect()
    };
    assert_eq!(referrers("a/b", None), std::slice::from_ref(&own));
    assert_eq!(referrers("a/b", Some("sha256:")), [own]);
    assert_eq!(referrers("a/b", Some(&digest.to_string())), []);
    assert_eq!(referrers("a", None), []);
}

#[test]
fn tags_come_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobStore::open(&dir.path().join("store")).unwrap();
    let repositories = Repositories::open(&dir.path().join("repositories"), store).unwrap();
    let (repository, digest) = (name("app"), put(repositories.blobs(), b"{}"));
    repositories.put_manifest(&repository, &record(&digest, None)).unwrap();
    for text in ["v2", "_a", "V1", "v1"] {
        repositories.tag(&repository, &tag(text), &digest).unwrap();
    }
    let page = |last, limit| repositories.tags(&repository, last, limit).unwrap().unwrap();
    let want = |tags: &[&str], more| TagPage { tags: tags.iter().map(|t| tag(t)).collect(), more };
    assert_eq!(page(None, 10), want(&["V1", "_a", "v1", "v2"], false));
    assert_eq!(page(None, 2), want(&["V1", "_a"], true));
    assert_eq!(page(Some("_a"), 2), want(&["v1", "v2"], false));
    assert_eq!(page(None, 0), want(&[], true));
    assert_eq!(repositories.resolve(&repository, &tag("v1")).unwrap(), Some(digest));
    assert_eq!(repositories.resolve(&repository, &tag("v3")).unwrap(), None);
}

#[test]
fn a_damaged_record_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    fs_err::write(&path, "{").unwrap();
    let error = json::read::<String>(&path).unwrap_err();
    assert!(error.to_string().contains("record`"), "{error}");
    assert_eq!(json::read::<String>(&dir.path().join("absent")).unwrap(), None);
}
