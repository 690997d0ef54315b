use sekisho_registry::{Auth, Keyring, RegistryError};
use sekisho_types::Digest;

use crate::fake::{Fake, Fault, Wants};
use crate::{client, repository, tag};

/// `me:secret`
const BASIC: &str = "Basic bWU6c2VjcmV0";

fn basic() -> Auth {
    Auth::Basic { username: "me".to_owned(), password: "secret".to_owned().into() }
}

#[tokio::test]
async fn a_token_is_fetched_once_for_each_scope() {
    for (proof, auth) in [
        ("", Auth::Anonymous),
        (BASIC, basic()),
        ("refresh-me", Auth::Identity("refresh-me".to_owned().into())),
    ] {
        let fake = Fake::start().await;
        fake.change(|world| world.wants = Wants::Token { proof, expires_in: 300 });
        let client = client(Keyring::anonymous().with(&fake.host, auth));
        let target = repository(&fake.host, "a/b");
        let digest = Digest::sha256(b"x");
        for _ in 0..3 {
            assert_eq!(client.has_blob(&target, &digest).await.unwrap(), None);
        }
        assert_eq!(
            (fake.count("HEAD"), fake.count("GET /token") + fake.count("POST /token")),
            (4, 1)
        );
        client.push_manifest(&target, &tag("v"), b"{}", "x").await.unwrap();
        let log = fake.world.lock().unwrap().log.clone();
        let tokens: Vec<_> = log.iter().filter(|(line, _)| line.contains("/token")).collect();
        assert_eq!(tokens.len(), 2);
        if !proof.starts_with("refresh") {
            let query = tokens[1].0.split_once('?').unwrap().1;
            assert_eq!(query, "service=fake&scope=repository%3Aa%2Fb%3Apull%2Cpush");
        }
        // No secret in an address, and none but the token at the registry itself.
        for (line, authorization) in &log {
            assert!(!line.contains("refresh-me") && !line.contains("secret"), "{line}");
            if !line.contains("/token") {
                let sent = authorization.as_deref();
                assert!(matches!(sent, None | Some("Bearer TOKEN")), "{sent:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_ended_is_renewed() {
    let fake = Fake::start().await;
    fake.change(|world| world.wants = Wants::Token { proof: "", expires_in: 300 });
    let client = client(Keyring::anonymous());
    let target = repository(&fake.host, "a/b");
    let digest = Digest::sha256(b"x");
    client.has_blob(&target, &digest).await.unwrap();
    let challenge = format!(r#"Bearer realm="http://{}/token",service="fake""#, fake.host);
    fake.change(|world| {
        world.faults.push_back(Fault {
            to: "HEAD".to_owned(),
            status: 401,
            headers: vec![("www-authenticate", challenge)],
            body: String::new(),
        });
    });
    assert_eq!(client.has_blob(&target, &digest).await.unwrap(), None);
    assert_eq!(fake.count("GET /token"), 2);
}

#[tokio::test]
async fn basic_and_fixed_tokens() {
    let fake = Fake::start().await;
    fake.change(|world| world.wants = Wants::Basic(BASIC));
    let by_basic = client(Keyring::anonymous().with(&fake.host, basic()));
    by_basic.ping(&fake.host).await.unwrap();
    by_basic.ping(&fake.host).await.unwrap();
    // Asked once, then known.
    assert_eq!(fake.count("GET /v2/"), 3);
    fake.change(|world| world.wants = Wants::Fixed("Bearer fixed"));
    let by_token = Auth::Bearer("fixed".to_owned().into());
    let by_token = client(Keyring::anonymous().with(&fake.host, by_token));
    by_token.ping(&fake.host).await.unwrap();
    assert_eq!(fake.count("GET /v2/"), 4);
}

#[tokio::test]
async fn who_is_not_known_is_told_so_without_secrets() {
    let fake = Fake::start().await;
    fake.change(|world| world.wants = Wants::Token { proof: "other", expires_in: 1 });
    for auth in [Auth::Anonymous, basic(), Auth::Identity("secret".to_owned().into())] {
        let client = client(Keyring::anonymous().with(&fake.host, auth));
        let error = client.ping(&fake.host).await.unwrap_err();
        assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error:?}");
        assert!(!format!("{error:?} {error} {client:?}").contains("secret"));
    }
    fake.change(|world| world.wants = Wants::Basic("other"));
    let by_basic = client(Keyring::anonymous().with(&fake.host, basic()));
    let error = by_basic.ping(&fake.host).await.unwrap_err();
    assert_eq!(error.to_string(), format!("not authorised at `{}`: who are you", fake.host));
}

#[tokio::test]
async fn credentials_stay_at_home() {
    let fake = Fake::start().await;
    let elsewhere = Fake::start().await;
    let blob = b"content";
    let digest = fake.blob(blob);
    elsewhere.change(|world| drop(world.blobs.insert(digest.to_string(), blob.to_vec())));
    fake.change(|world| {
        world.wants = Wants::Basic(BASIC);
        world.redirect_blobs = Some(format!("http://{}/v2/cdn/blobs", elsewhere.host));
    });
    let client = client(Keyring::anonymous().with(&fake.host, basic()));
    let target = repository(&fake.host, "a/b");
    let descriptor = sekisho_oci::Descriptor::of("x", blob);
    let bytes = client.blob_bytes(&target, &descriptor, 100).await.unwrap();
    assert_eq!(bytes, blob);
    let log = elsewhere.world.lock().unwrap().log.clone();
    assert_eq!(log, [(format!("GET /v2/cdn/blobs/{digest}"), None)]);
}

#[tokio::test]
async fn a_helper_is_named() {
    let config = br#"{"credHelpers":{"127.0.0.1:1":"sekisho-absent"}}"#;
    let client = client(Keyring::from_docker_config(config).unwrap());
    let error = client.ping("127.0.0.1:1").await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        source,
        "credential helper `docker-credential-sekisho-absent` for `127.0.0.1:1` cannot be started: No such file or \
         directory (os error 2)"
    );
}
