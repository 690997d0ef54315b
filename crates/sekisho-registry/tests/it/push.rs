use sekisho_oci::Descriptor;
use sekisho_oci::media_type::{OCI_LAYER, OCI_MANIFEST};
use sekisho_registry::{BlobPush, Client, Keyring, Options, Pushed, RegistryError, Standing};
use sekisho_types::Digest;

use crate::fake::{Fake, Fault};
use crate::{client, repository, tag};

#[tokio::test]
async fn blobs_go_in_one_or_in_two_requests() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    let folder = tempfile::tempdir().unwrap();
    for (size, requests) in [
        (0, vec!["HEAD", "POST", "PUT"]),
        (1000, vec!["HEAD", "POST", "PUT"]),
        (1001, vec!["HEAD", "POST", "PATCH", "PUT"]),
        (3_000_000, vec!["HEAD", "POST", "PATCH", "PUT"]),
    ] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| at.to_be_bytes()[3]).collect();
        let digest = Digest::sha256(&bytes);
        let file = folder.path().join("blob");
        std::fs::write(&file, &bytes).unwrap();
        fake.change(|world| world.log.clear());
        let push = client.push_blob(&target, &digest, u64::from(size), &file);
        assert_eq!(push.await.unwrap(), BlobPush::Uploaded);
        let seen = fake.requests();
        let methods: Vec<_> = seen.iter().map(|r| r.split(' ').next().unwrap()).collect();
        assert_eq!(methods, requests, "{size}");
        assert_eq!(fake.world.lock().unwrap().blobs[&digest.to_string()], bytes);
        let again = client.push_blob(&target, &digest, u64::from(size), &file).await.unwrap();
        assert_eq!(again, BlobPush::Existed);
    }
}

/// An address that is no loopback by its name, and that Linux takes to this machine.
#[tokio::test]
async fn a_registry_without_tls_is_spoken_to_when_that_is_said_and_only_then() {
    let fake = Fake::start().await;
    let port = fake.host.rsplit(':').next().unwrap();
    let target = repository(&format!("0.0.0.0:{port}"), "a/b");
    let folder = tempfile::tempdir().unwrap();
    let (file, pulled) = (folder.path().join("blob"), folder.path().join("pulled"));
    // More than goes in one request, so it goes on where the registry says.
    let bytes = vec![7; 5000];
    std::fs::write(&file, &bytes).unwrap();
    let digest = Digest::sha256(&bytes);
    let error = client(Keyring::anonymous()).push_blob(&target, &digest, 5000, &file).await;
    assert!(matches!(error, Err(RegistryError::Transport { .. })), "{error:?}");
    assert_eq!(fake.requests(), [""; 0]);

    let options = Options {
        plain_http: [target.registry.clone()].into(),
        monolithic_bytes_max: 1000,
        attempts_max: 1,
        ..Options::default()
    };
    let plain = Client::with_options(Keyring::anonymous(), options);
    assert_eq!(plain.push_blob(&target, &digest, 5000, &file).await.unwrap(), BlobPush::Uploaded);
    let descriptor = Descriptor::new(OCI_LAYER, digest.clone(), 5000);
    plain.pull_blob(&target, &descriptor, &pulled).await.unwrap();
    assert_eq!(std::fs::read(&pulled).unwrap(), bytes);
    plain.ping(&target.registry).await.unwrap();
    // It may not send on to what else listens here.
    let elsewhere = format!("http://{}/blobs", fake.host);
    fake.change(|world| world.redirect_blobs = Some(elsewhere));
    let error = plain.pull_blob(&target, &descriptor, &pulled).await.unwrap_err();
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error:?}");
}

#[tokio::test]
async fn a_broken_upload_starts_again() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blob");
    let bytes = vec![7; 5000];
    std::fs::write(&file, &bytes).unwrap();
    fake.fault("PATCH", 502, "");
    let digest = Digest::sha256(&bytes);
    assert_eq!(client.push_blob(&target, &digest, 5000, &file).await.unwrap(), BlobPush::Uploaded);
    assert_eq!((fake.count("POST"), fake.count("PATCH"), fake.count("PUT")), (2, 2, 1));
}

#[tokio::test]
async fn a_blob_must_be_what_it_is_said_to_be() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blob");
    std::fs::write(&file, "abc").unwrap();
    let digest = Digest::sha256(b"abc");
    let error = client.push_blob(&target, &digest, 4, &file).await.unwrap_err();
    assert!(matches!(error, RegistryError::File { .. }), "{error}");
    let wrong = Digest::sha256(b"abd");
    let error = client.push_blob(&target, &wrong, 3, &file).await.unwrap_err();
    let RegistryError::Refused { status: 400, code, .. } = error else { panic!("{error}") };
    assert_eq!(code, "DIGEST_INVALID");
    let gone = client.push_blob(&target, &wrong, 3, &folder.path().join("gone")).await;
    assert!(matches!(gone, Err(RegistryError::File { .. })));
}

#[tokio::test]
async fn a_blob_is_mounted_where_that_works() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    let from = "base/image".parse().unwrap();
    let digest = Digest::sha256(b"x");
    assert!(!client.mount(&target, &digest, &from).await.unwrap());
    // The upload that the registry began instead is given up.
    assert_eq!(fake.count("DELETE"), 1);
    fake.change(|world| world.mounts = true);
    assert!(client.mount(&target, &digest, &from).await.unwrap());
    let log = fake.world.lock().unwrap().log.clone();
    let query = log[0].0.split_once('?').unwrap().1;
    assert_eq!(query, format!("mount=sha256%3A{}&from=base%2Fimage", digest.hex()));
}

#[tokio::test]
async fn what_another_repository_has_is_not_sent() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    let from = "base/image".parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blob");
    let digest = Digest::sha256(b"abc");
    // Shared: there need not even be a file.
    fake.change(|world| world.mounts = true);
    let pushed = client.push_blob_of(&target, &digest, 3, &file, Some(&from)).await.unwrap();
    assert_eq!(pushed, BlobPush::Existed);
    assert_eq!((fake.count("POST"), fake.count("PUT")), (1, 0));
    // A registry that shares nothing gets it.
    fake.change(|world| world.mounts = false);
    std::fs::write(&file, "abc").unwrap();
    let pushed = client.push_blob_of(&target, &digest, 3, &file, Some(&from)).await.unwrap();
    assert_eq!(pushed, BlobPush::Uploaded);
    assert_eq!(fake.world.lock().unwrap().blobs[&digest.to_string()], b"abc");
}

#[tokio::test]
async fn a_refused_manifest_is_told_in_the_words_of_the_registry() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    let message = "image/critical-finding: CVE-1 in zlib 1.2 -> 1.3\nand 3 more";
    let body = serde_json::json!({"errors": [{
        "code": "DENIED", "message": message, "detail": {"hint": "upgrade zlib", "n": 1}
    }]});
    fake.fault("PUT", 403, &body.to_string());
    let error = client.push_manifest(&target, &tag("v1"), b"{}", OCI_MANIFEST).await.unwrap_err();
    assert_eq!(error.to_string(), message);
    assert_eq!(sekisho_types::Hint::hint(&error).as_deref(), Some("upgrade zlib"));
    let RegistryError::Denied { detail, .. } = error else { panic!("{error}") };
    assert_eq!(detail["n"], 1);
    assert_eq!(fake.count("PUT"), 1);
}

#[tokio::test]
async fn manifests_and_warnings() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    fake.change(|world| world.warn = Some("allowed for 6 days"));
    let bytes = br#"{"schemaVersion":2}"#;
    let pushed = client.push_manifest(&target, &tag("v1"), bytes, OCI_MANIFEST).await.unwrap();
    let digest = Digest::sha256(bytes);
    let warnings = vec!["allowed for 6 days".to_owned()];
    assert_eq!(pushed, Pushed { digest, warnings });
    let stored = fake.world.lock().unwrap().manifests["a/b/v1"].clone();
    assert_eq!(stored, (OCI_MANIFEST.to_owned(), bytes.to_vec()));
    let other = sekisho_registry::Reference::Digest(Digest::sha256(b"other"));
    let error = client.push_manifest(&target, &other, bytes, OCI_MANIFEST).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
}

#[tokio::test]
async fn what_a_name_leads_to_is_told_and_whether_a_push_would_tell_more() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    assert_eq!(client.standing(&target, &tag("v1")).await.unwrap(), None);
    let bytes = br#"{"schemaVersion":2}"#;
    let digest = Digest::sha256(bytes);
    client.push_manifest(&target, &tag("v1"), bytes, OCI_MANIFEST).await.unwrap();
    let standing = Standing { digest: digest.clone(), decides: false };
    assert_eq!(client.standing(&target, &tag("v1")).await.unwrap(), Some(standing));
    let headers = vec![
        ("docker-content-digest", digest.to_string()),
        ("sekisho-decides", "every-push".to_owned()),
    ];
    let to = "HEAD /v2/a/b/manifests/v1".to_owned();
    let fault = Fault { to, status: 200, headers, body: String::new() };
    fake.change(|world| world.faults.push_back(fault));
    let standing = Standing { digest, decides: true };
    assert_eq!(client.standing(&target, &tag("v1")).await.unwrap(), Some(standing));
}

/// Others spawn these futures.
#[test]
fn futures_may_move_between_threads() {
    fn check<T: Send>(_: T) {}
    let client = client(Keyring::anonymous());
    let target = repository("localhost", "a");
    let digest = Digest::sha256(b"");
    let file = std::path::Path::new("x");
    let descriptor = sekisho_oci::Descriptor::of("x", b"");
    check(client.push_blob(&target, &digest, 0, file));
    check(client.push_manifest(&target, &tag("a"), b"", ""));
    check(client.pull_blob(&target, &descriptor, file));
    check(client.mount(&target, &digest, &target.name));
}
