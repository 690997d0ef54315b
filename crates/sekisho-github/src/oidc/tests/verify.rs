//! The verifier against an issuer on a socket, with real keys.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::http::ClientOptions;

/// Two keys for all tests: making one takes a while.
fn keys() -> &'static [RsaPrivateKey; 2] {
    static KEYS: OnceLock<[RsaPrivateKey; 2]> = OnceLock::new();
    let make = |_| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    KEYS.get_or_init(|| [0, 1].map(make))
}

fn sign(kid: &str, claims: &Value, key: usize) -> String {
    let der = keys()[key].to_pkcs1_der().unwrap();
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(kid.to_owned());
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_rsa_der(der.as_bytes())).unwrap()
}

struct Server {
    url: String,
    /// The status of every answer.
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    /// An issuer whose one key is `k1`; `change` makes its discovery document wrong.
    async fn start(change: impl Fn(&str) -> Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut discovery = json!({"issuer": url, "jwks_uri": format!("{url}/jwks")});
        for (name, value) in change(&url).as_object().unwrap() {
            discovery[name] = value.clone();
        }
        let key = &keys()[0];
        let part = |bytes: Vec<u8>| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let jwks = json!({"keys": [{"kty": "RSA", "kid": "k1", "alg": "RS256", "use": "sig",
            "n": part(key.n().to_bytes_be()), "e": part(key.e().to_bytes_be())}]});
        let (discovery, jwks) = (discovery.to_string(), jwks.to_string());
        let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
        let server = Self { url, status: Arc::clone(&status), asked: Arc::clone(&asked) };
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                let body = match request.starts_with(b"GET /jwks ") {
                    true => &jwks,
                    false => {
                        asked.fetch_add(1, Ordering::Relaxed);
                        &discovery
                    }
                };
                let status = status.load(Ordering::Relaxed);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            }
        });
        server
    }

    fn verifier(&self) -> Verifier {
        let issuer = Issuer { url: self.url.clone(), audience: "https://gate.example".into() };
        Verifier::new(vec![issuer], &ClientOptions::default()).unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn tokens_of_this_issuer_and_of_nobody_else() {
    let server = Server::start(|_| json!({})).await;
    let verifier = server.verifier();
    let good = with(json!({"iss": server.url}));
    let claims = verifier.verify(&sign("k1", &good, 0), at(NOW)).await.unwrap();
    assert_eq!((claims.repository_id, claims.run_id), (4711, 12));
    let check = async |token: String, want: TokenError| {
        let got = verifier.verify(&token, at(NOW)).await;
        assert_eq!(got, Err(VerifyError::Token(want)));
    };
    let tampered = {
        let (token, other) = (
            sign("k1", &good, 0),
            sign("k1", &with(json!({"iss": server.url, "repository_id": "1"})), 0),
        );
        let parts: Vec<&str> = token.split('.').collect();
        format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2])
    };
    check(sign("k1", &good, 1), TokenError::Signature).await;
    check(sign("k2", &good, 0), TokenError::Signature).await;
    check(tampered, TokenError::Signature).await;
    let other = with(json!({"iss": server.url, "aud": "sts.amazonaws.com"}));
    check(sign("k1", &other, 0), TokenError::Audience).await;
    check(sign("k1", &with(json!({})), 0), TokenError::Issuer).await;
    let old = with(json!({"iss": server.url, "exp": NOW - 60}));
    check(sign("k1", &old, 0), TokenError::Expired).await;
    // Unknown keys make it ask once, not once for each.
    for _ in 0..20 {
        check(sign("k3", &good, 0), TokenError::Signature).await;
    }
    assert_eq!(server.asked(), 1);
    // Ten seconds on, once more.
    check(sign("k3", &with(json!({"iss": server.url})), 0), TokenError::Signature).await;
    let later = verifier.verify(&sign("k3", &good, 0), at(NOW + 10)).await;
    assert_eq!(later, Err(VerifyError::Token(TokenError::Signature)));
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn an_issuer_that_fails_is_bridged_for_a_day() {
    let server = Server::start(|_| json!({})).await;
    let verifier = server.verifier();
    let token = |now: i64| {
        let times = json!({"iss": server.url, "iat": now, "nbf": now, "exp": now + 300});
        sign("k1", &with(times), 0)
    };
    server.status.store(503, Ordering::Relaxed);
    assert_eq!(verifier.verify(&token(NOW), at(NOW)).await, Err(VerifyError::Unavailable));
    server.status.store(200, Ordering::Relaxed);
    // Asked a moment ago: not again yet.
    assert_eq!(verifier.verify(&token(NOW), at(NOW + 9)).await, Err(VerifyError::Unavailable));
    let now = NOW + 10;
    assert!(verifier.verify(&token(now), at(now)).await.is_ok());
    server.status.store(500, Ordering::Relaxed);
    for later in [600, 601, 3_600, 86_400] {
        let now = NOW + 10 + later;
        assert!(verifier.verify(&token(now), at(now)).await.is_ok(), "{later}");
    }
    let now = NOW + 10 + 86_401;
    assert_eq!(verifier.verify(&token(now), at(now)).await, Err(VerifyError::Unavailable));
}

#[tokio::test]
async fn many_at_once_make_one_request() {
    let server = Server::start(|_| json!({})).await;
    let (verifier, good) = (Arc::new(server.verifier()), with(json!({"iss": server.url})));
    let token = sign("k1", &good, 0);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (verifier, token) = (Arc::clone(&verifier), token.clone());
        all.spawn(async move { verifier.verify(&token, at(NOW)).await.is_ok() });
    }
    assert!(all.join_all().await.into_iter().all(|ok| ok));
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn keys_from_elsewhere_are_not_used() {
    for change in [
        json!({"issuer": "https://evil.example"}),
        json!({"jwks_uri": "http://127.0.0.1:1/jwks"}),
        json!({"jwks_uri": "nonsense"}),
    ] {
        let server = Server::start(|_| change.clone()).await;
        let token = sign("k1", &with(json!({"iss": server.url})), 0);
        let got = server.verifier().verify(&token, at(NOW)).await;
        assert_eq!(got, Err(VerifyError::Unavailable), "{change}");
    }
    for bad in ["http://issuer.example", "ftp://127.0.0.1", "", "http://localhost.evil"] {
        let issuer = Issuer { url: bad.to_owned(), audience: String::new() };
        let made = Verifier::new(vec![issuer], &ClientOptions::default());
        assert!(matches!(made, Err(IssuerError::Url(url)) if url == bad));
    }
}
