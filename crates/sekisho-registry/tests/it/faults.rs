use std::time::Duration;

use sekisho_registry::{Client, Keyring, Options, RegistryError};
use sekisho_types::Digest;

use crate::fake::{Fake, Fault};
use crate::{client, repository, tag};

#[tokio::test]
async fn what_may_help_is_tried_again() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    fake.fault("PUT", 503, "");
    fake.change(|world| {
        world.faults.push_back(Fault {
            to: "PUT".to_owned(),
            status: 429,
            headers: vec![("retry-after", "0".to_owned())],
            body: String::new(),
        });
    });
    client.push_manifest(&target, &tag("v"), b"{}", "x").await.unwrap();
    assert_eq!(fake.count("PUT"), 3);
}

#[tokio::test]
async fn patience_ends() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    for _ in 0..3 {
        fake.fault("PUT", 500, r#"{"errors":[{"code":"UNKNOWN","message":"disk"}]}"#);
    }
    let error = client.push_manifest(&target, &tag("v"), b"{}", "x").await.unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` fails with status 500: disk", fake.host));
    assert_eq!(fake.count("PUT"), 3);
    fake.fault("PUT", 400, r#"{"errors":[{"code":"MANIFEST_INVALID","message":"no"}]}"#);
    let error = client.push_manifest(&target, &tag("v"), b"{}", "x").await.unwrap_err();
    assert_eq!(error.to_string(), format!("`{}` refuses with status 400: no", fake.host));
    assert_eq!(fake.count("PUT"), 4);
}

#[tokio::test]
async fn silence_has_a_deadline() {
    let fake = Fake::start().await;
    fake.change(|world| world.silent = Some("/blobs/"));
    drop(client(Keyring::anonymous()));
    let options = Options {
        attempts_max: 1,
        answer_deadline: Duration::from_millis(50),
        ..Options::default()
    };
    let client = Client::with_options(Keyring::anonymous(), options);
    let target = repository(&fake.host, "a/b");
    let error = client.has_blob(&target, &Digest::sha256(b"")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Deadline { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_is_said_plainly() {
    // A port that was free a moment ago.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = client(Keyring::anonymous()).ping(&host).await.unwrap_err();
    assert_eq!(error.to_string(), format!("`{host}` cannot be reached"));
    let nonsense = client(Keyring::anonymous()).ping("a b").await.unwrap_err();
    assert_eq!(nonsense.to_string(), "`a b` is no registry host");
}

#[tokio::test]
async fn redirects_lead_nowhere_bad() {
    let fake = Fake::start().await;
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    let digest = Digest::sha256(b"");
    for (to, want) in [
        ("http://192.0.2.1/x", "it redirects to http at `192.0.2.1`"),
        ("file:///etc/passwd", "it redirects to file at ``"),
    ] {
        fake.change(|world| world.redirect_blobs = Some(to.to_owned()));
        let error = client.has_blob(&target, &digest).await.unwrap_err();
        assert!(error.to_string().ends_with(want), "{error}");
    }
    let round = format!("http://{}/v2/a/b/blobs", fake.host);
    fake.change(|world| world.redirect_blobs = Some(round));
    let error = client.has_blob(&target, &digest).await.unwrap_err();
    assert!(error.to_string().ends_with("it redirects without end"), "{error}");
}
