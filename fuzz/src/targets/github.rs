//! What comes from GitHub, or from who says so: configurations, deliveries, tokens.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use rsa::RsaPrivateKey;
use rsa::pkcs8::EncodePrivateKey as _;
use secrecy::SecretString;
use sekisho_github::jit::{JitConfig, JitError};
use sekisho_github::oidc::{Issuer, Key, KeySet, MAX_TOKEN_BYTES, Subject, TokenError, Unverified};
use sekisho_github::webhook::{Delivery, WebhookError, WebhookEvent, is_signed, sign};
use serde_json::{Value, json};
use url::Url;

use super::{must, parts, text, texts};
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "jit-config",
        reads: "a runner's JIT configuration: the blob, or its three files",
        holds: "only paths below the work folder, only http and https; what is written is read again as the same; errors quote no value",
        seeds: || texts(&[RUNNER_FILES]),
        words: &[
            "\"AgentId\":\"1\"",
            "\"WorkFolder\":\"..\"",
            "\"WorkFolder\":\"/a\"",
            "\"UseV2Flow\":\"false\"",
            "\"ServerUrl\":\"file:///\"",
            "\"Scheme\":",
            "\"Data\":{",
            "\0",
            "{}",
            "null",
            "\"exponent\"",
        ],
        cost: 1,
        run: jit_config,
    },
    Target {
        name: "webhook",
        reads: "a delivery: event, payload, also as a form",
        holds: "unsigned, nothing is read; what is written is read again as the same",
        seeds: || texts(DELIVERIES),
        words: &[
            "workflow_job\0",
            "workflow_run\0",
            "push\0",
            "ping\0",
            "payload=",
            "%7B",
            "\"action\":",
            "\"repository\":{",
            "\"labels\":[",
            "\"steps\":[",
            "\"id\":",
            "null",
            "\"conclusion\":",
        ],
        cost: 1,
        run: webhook,
    },
    Target {
        name: "webhook-signature",
        reads: "the header of a delivery's signature",
        holds: "only the secret's own signature of the very bytes is good, in either letter case",
        seeds: || texts(&["sha256=\0body", "sha256=00\0", "sha1=00\0x"]),
        words: &["sha256=", "SHA256=", "0000000000000000", "\0"],
        cost: 1,
        run: signature,
    },
    Target {
        name: "identity-token",
        reads: "an OIDC token: header, claims, signature",
        holds: "good is only what our key signed with RS256, for us, from our issuer, in its time, with a repository",
        seeds: || {
            let [header, claims] = [header(), claims()].map(|part| part.to_string());
            let raw = [&header, &claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
            texts(&[&format!("{header}\0{claims}"), &format!("{}.{}.AAAA", raw[0], raw[1])])
        },
        words: &[
            "\"alg\":\"none\"",
            "\"alg\":\"HS256\"",
            "\"kid\":\"k\"",
            "\"jku\":",
            "\"crit\":",
            "\"aud\":[",
            "\"exp\":",
            "\"nbf\":",
            "\"sub\":\"repo:",
            "\"repository\":",
            "\"repository_id\":",
            "%3A",
            "\"ref\":\"refs/pull/",
            "\0",
            ".",
            "e30",
        ],
        cost: 1,
        run: identity_token,
    },
    Target {
        name: "key-set",
        reads: "an issuer's keys (JWKS)",
        holds: "at most 32 keys; none signs what it did not",
        seeds: || {
            texts(&[
                r#"{"keys":[{"kty":"RSA","alg":"RS256","use":"sig","kid":"k","n":"AQAB","e":"AQAB"}]}"#,
            ])
        },
        words: &[
            "{\"kty\":\"RSA\",\"kid\":\"k\",\"n\":\"",
            "\"e\":\"",
            "\"alg\":\"PS256\"",
            "\"keys\":[",
        ],
        cost: 1,
        run: key_set,
    },
];

const RUNNER_FILES: &str = "{\"AgentId\":\"23\",\"AgentName\":\"r\",\"PoolId\":\"1\",\"PoolName\":\"Default\",\
    \"DisableUpdate\":\"True\",\"Ephemeral\":\"True\",\"ServerUrl\":\"http://127.0.0.1:1/\",\"GitHubUrl\":\"\",\
    \"WorkFolder\":\"_work\",\"UseV2Flow\":\"True\",\"ServerUrlV2\":\"http://127.0.0.1:1/\"}\0\
    {\"Scheme\":\"OAuth\",\"Data\":{\"ClientId\":\"c\",\"AuthorizationUrl\":\"http://127.0.0.1:1/t\",\
    \"RequireFipsCryptography\":\"True\"}}\0\
    {\"d\":\"AQ==\",\"dp\":\"AQ==\",\"dq\":\"AQ==\",\"exponent\":\"AQAB\",\"inverseQ\":\"AQ==\",\
    \"modulus\":\"AQ==\",\"p\":\"AQ==\",\"q\":\"AQ==\"}";

const DELIVERIES: &[&str] = &[
    "ping\0{\"zen\":\"z\",\"hook_id\":7}",
    "ping\0payload=%7B%22hook_id%22%3A7%7D",
    "push\0{\"ref\":\"refs/heads/main\",\"before\":\"0\",\"after\":\"1\",\"created\":true,\
     \"repository\":{\"id\":1,\"name\":\"r\",\"full_name\":\"o/r\",\"private\":true,\
     \"owner\":{\"login\":\"o\",\"id\":2}},\"sender\":{\"login\":\"ann\",\"id\":3},\"installation\":{\"id\":4}}",
    "workflow_job\0{\"action\":\"queued\",\"workflow_job\":{\"id\":5,\"run_id\":6,\"run_attempt\":1,\
     \"name\":\"build\",\"status\":\"queued\",\"conclusion\":null,\"labels\":[\"a\"],\"steps\":[],\
     \"head_sha\":\"0\",\"head_branch\":\"main\",\"created_at\":\"2030-01-01T00:00:00Z\",\
     \"started_at\":\"2030-01-01T00:00:00Z\",\"completed_at\":null,\"runner_id\":null},\
     \"repository\":{\"id\":1,\"name\":\"r\",\"full_name\":\"o/r\"},\"sender\":{\"login\":\"a\",\"id\":3}}",
    "workflow_run\0{\"action\":\"completed\",\"workflow_run\":{\"id\":6,\"name\":\"w\",\"run_number\":1,\
     \"run_attempt\":1,\"status\":\"completed\",\"conclusion\":\"success\",\"event\":\"push\",\
     \"head_sha\":\"0\",\"head_branch\":\"main\",\"path\":\".github/workflows/f.yml\",\"workflow_id\":9,\
     \"created_at\":\"2030-01-01T00:00:00Z\",\"updated_at\":\"2030-01-01T00:00:00Z\"},\
     \"repository\":{\"id\":1,\"name\":\"r\",\"full_name\":\"o/r\"}}",
];

fn jit_config(input: &[u8]) {
    let blob = if input.contains(&0) {
        let [runner, credentials, key] = parts::<3>(input).map(|part| BASE64_STANDARD.encode(part));
        let files =
            json!({".runner": runner, ".credentials": credentials, ".credentials_rsaparams": key});
        BASE64_STANDARD.encode(files.to_string())
    } else {
        text(input).into_owned()
    };
    let config = match JitConfig::decode(&SecretString::from(blob)) {
        Ok(config) => config,
        Err(error) => return says_little(&error),
    };
    let folder = std::path::Path::new(&config.runner.work_folder);
    let inside = |part| matches!(part, std::path::Component::Normal(_));
    assert!(folder.components().all(inside) && folder.components().count() > 0);
    let server = match config.runner.use_v2_flow {
        true => &config.runner.server_url_v2,
        false => &config.runner.server_url,
    };
    for url in [server, &config.credentials.data.authorization_url] {
        assert!(matches!(must(Url::parse(url), "a URL").scheme(), "http" | "https"), "{url}");
    }
    if let Err(error) = config.private_key() {
        says_little(&error);
    }
    let again = must(JitConfig::decode(&config.encode()), "what is written is read");
    assert_eq!((again.runner, again.credentials), (config.runner, config.credentials));
}

/// A key in the wrong place must not be in an error.
fn says_little(error: &JitError) {
    assert!(error.to_string().len() <= 200, "{error}");
}

fn secrets() -> [SecretString; 2] {
    ["hunter2", "correct horse"].map(SecretString::from)
}

fn webhook(input: &[u8]) {
    let [event, body] = parts::<2>(input);
    let mut headers = HeaderMap::new();
    headers.insert(
        "x-github-delivery",
        HeaderValue::from_static("0b989ba4-242f-11e5-81e1-c7b6966d2516"),
    );
    let Ok(event) = HeaderValue::from_bytes(event) else { return };
    headers.insert("x-github-event", event);
    if body.starts_with(b"payload=") {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert("content-type", form);
    }
    let refused = Delivery::receive(&secrets(), &headers, body);
    assert_eq!(refused, Err(WebhookError::Signature));
    let signature = HeaderValue::from_str(&sign(&secrets()[1], body));
    headers.insert("x-hub-signature-256", must(signature, "a signature is text"));
    let delivery = match Delivery::receive(&secrets(), &headers, body) {
        Ok(delivery) => delivery,
        Err(error) => return assert_ne!(error, WebhookError::Signature),
    };
    let (name, written) = match &delivery.event {
        WebhookEvent::WorkflowJob(event) => ("workflow_job", serde_json::to_vec(event)),
        WebhookEvent::WorkflowRun(event) => ("workflow_run", serde_json::to_vec(event)),
        WebhookEvent::Push(event) => ("push", serde_json::to_vec(event)),
        WebhookEvent::Ping(event) => ("ping", serde_json::to_vec(event)),
        WebhookEvent::Other(name) => return assert!(!name.is_empty() && name.len() <= 64),
    };
    let again = WebhookEvent::parse(name, &must(written, "an event is written"));
    assert_eq!(must(again, "what is written is read"), delivery.event);
}

fn signature(input: &[u8]) {
    let [header, body] = parts::<2>(input);
    let header = text(header);
    let [first, second] = secrets();
    let right = [sign(&first, body), sign(&second, body)];
    let is_right = right
        .iter()
        .any(|right| header.starts_with("sha256=") && header.eq_ignore_ascii_case(right));
    assert_eq!(is_signed(&secrets(), &header, body), is_right);
    assert!(right.iter().all(|right| is_signed(&secrets(), right, body)));
    assert!(!is_signed(&[SecretString::from("")], &sign(&SecretString::from(""), body), body));
}

/// When the tokens of the seeds are good.
const NOW: i64 = 1_800_000_000;

fn header() -> Value {
    json!({"alg": "RS256", "typ": "JWT", "kid": "k"})
}

fn claims() -> Value {
    json!({"iss": "https://issuer.example", "aud": "https://gate.example",
        "sub": "repo:acme@99/app@4711:ref:refs/heads/main", "jti": "8f3c",
        "iat": NOW, "nbf": NOW - 600, "exp": NOW + 300,
        "repository": "acme/app", "repository_id": "4711", "repository_owner": "acme",
        "repository_owner_id": "99", "repository_visibility": "private",
        "ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true", "sha": "abc",
        "event_name": "push", "run_id": "12", "run_number": "3", "run_attempt": "1",
        "workflow_ref": "acme/app/.github/workflows/ci.yml@refs/heads/main",
        "job_workflow_ref": "sekisho/pipeline/.github/workflows/image.yml@v1",
        "runner_environment": "self-hosted", "actor": "ann", "actor_id": "7"})
}

/// The issuer's key pair, and its public half as the verifier has it.
static KEYS: LazyLock<(RsaKeyPair, Key)> = LazyLock::new(|| {
    let key = must(RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048), "a key");
    let der = must(key.to_pkcs8_der(), "its form");
    let pair = must(RsaKeyPair::from_pkcs8(der.as_bytes()), "the key is read");
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let public: ring::rsa::PublicKeyComponents<Vec<u8>> = pair.public_key().into();
    let set =
        json!({"keys": [{"kty": "RSA", "kid": "k", "n": part(&public.n), "e": part(&public.e)}]});
    let set = must(KeySet::parse(set.to_string().as_bytes()), "a key set");
    let known = must(set.get("k").cloned().ok_or("none"), "the key");
    (pair, known)
});

fn identity_token(input: &[u8]) {
    let issuer =
        Issuer { url: "https://issuer.example".into(), audience: "https://gate.example".into() };
    let now = must(Timestamp::from_second(NOW), "a time");
    let signs = input.contains(&0);
    let token = if signs {
        let [header, claims] = parts::<2>(input).map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        let signed = format!("{header}.{claims}");
        if Unverified::parse(&format!("{signed}.AAAA")).is_err() {
            return;
        }
        let mut signature = vec![0; KEYS.0.public().modulus_len()];
        let random = SystemRandom::new();
        must(
            KEYS.0.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature),
            "it signs",
        );
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    } else {
        text(input).into_owned()
    };
    let Ok(parsed) = Unverified::parse(&token) else { return };
    assert!(token.len() <= MAX_TOKEN_BYTES && !parsed.key_id().is_empty());
    let verified = parsed.verify(&KEYS.1, &issuer, now);
    if !signs {
        return assert_eq!(verified, Err(TokenError::Signature));
    }
    assert_ne!(verified, Err(TokenError::Signature));
    let Ok(claims) = verified else { return };
    assert_eq!(
        (claims.issuer.as_str(), claims.audience.as_str()),
        ("https://issuer.example", "https://gate.example")
    );
    assert_eq!(claims.repository.matches('/').count(), 1);
    let again = Unverified::parse(&token).and_then(|token| {
        token.verify(&KEYS.1, &Issuer { audience: "https://other.example".into(), ..issuer }, now)
    });
    assert_eq!(again, Err(TokenError::Audience));
}

fn key_set(input: &[u8]) {
    if let Ok(set) = KeySet::parse(input) {
        assert!(set.len() <= 32);
        if let Some(key) = set.get("k") {
            assert!(!key.has_signed(b"content", &[1; 256]));
        }
    }
    let subject = text(input);
    if let Subject::Custom(kept) = Subject::parse(&subject) {
        assert_eq!(kept, subject);
    }
}
