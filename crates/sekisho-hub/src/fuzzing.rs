//! What the fuzz targets of `fuzz/` call, for they are not of this crate: no interface of it.
//!
//! Each function takes any bytes, and panics when something does not hold.

use std::path::{Component, Path};
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use sekisho_github::lenient;
use sekisho_github::wire::register::{RegisterRunner, rsa_key_value};

use crate::git::{HoldLastFlush, read_commits};
use crate::http::{basic, bearer, is_local, register};
use crate::names::{RepoName, is_plain_path, is_plain_ref};
use crate::state::{Life, Owner};
use crate::tokens::{
    BlobClaims, GithubClaims, InstallationClaims, JobClaims, Kind, LogClaims, QueueClaims,
    RegistrationClaims, RunLogClaims, RunnerClaims, StorageClaims, TenantClaims, Tokens,
};

/// A name of a repository, a ref or a path.
pub fn names(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let inside =
        |text: &str| Path::new(text).components().all(|part| matches!(part, Component::Normal(_)));
    if let Ok(name) = text.parse::<RepoName>() {
        let shown = name.to_string();
        assert!(is_plain_path(&shown) && is_plain_ref(&shown) && inside(&shown), "{shown}");
        assert_eq!(shown.parse::<RepoName>().as_ref(), Ok(&name));
    }
    if is_plain_path(&text) {
        assert!(inside(&text) && !text.contains(char::is_control) && !text.starts_with('/'));
    }
    if is_plain_ref(&text) {
        assert!(inside(&text) && !text.starts_with('-') && !text.contains(char::is_control));
    }
}

/// A `Host` header.
pub fn host_header(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let Ok(host) = value.to_str() else { return };
    if !is_local("http://hub.example:80", host) || host.eq_ignore_ascii_case("hub.example:80") {
        return;
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    assert!(host.chars().all(plain), "{host}");
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.to_ascii_lowercase();
    // Numbers in all their forms are an address, which is looked at as one.
    let is_address = name.starts_with('[') || name.starts_with(|c: char| c.is_ascii_digit());
    assert!(is_address || name == "localhost" || name.ends_with(".localhost"), "{name}");
}

/// What `HEADER`, `CLAIMS` and `SIGNATURE` of an input stand for: those of a token that is good.
static GOOD: LazyLock<(Tokens, String)> = LazyLock::new(|| {
    let tokens = Tokens::new(Arc::default());
    let token = tokens.runner(7, crate::clock::now()).unwrap_or_default();
    (tokens, token)
});

/// `Authorization` headers to begin with.
pub fn authorizations() -> Vec<Vec<u8>> {
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    [
        "Bearer HEADER.CLAIMS.SIGNATURE".to_owned(),
        format!("token {none}.CLAIMS."),
        format!("Basic {}", STANDARD.encode("x-access-token:HEADER.CLAIMS.SIGNATURE")),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// An `Authorization` header.
pub fn authorization(input: &[u8]) {
    let (tokens, good) = &*GOOD;
    let mut parts = good.split('.');
    let mut text = String::from_utf8_lossy(input).into_owned();
    for name in ["HEADER", "CLAIMS", "SIGNATURE"] {
        text = text.replace(name, parts.next().unwrap_or_default());
    }
    let Ok(value) = HeaderValue::from_str(&text) else { return };
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let token = bearer(&headers).unwrap_or(&text);
    assert_eq!(tokens.read::<RunnerClaims>(token).is_some(), token == good, "{token}");
    others(tokens, token);
    if let Some((user, password)) = basic(&headers) {
        assert!(!user.contains(':') && bearer(&headers).is_none());
        let again = STANDARD.encode(format!("{user}:{password}"));
        let again = HeaderValue::from_str(&format!("Basic {again}"));
        let again =
            again.ok().and_then(|value| basic(&HeaderMap::from_iter([(AUTHORIZATION, value)])));
        assert_eq!(again, Some((user, password)));
    }
}

/// A runner's token is none of another kind.
fn others(tokens: &Tokens, token: &str) {
    fn is<T: Kind>(tokens: &Tokens, token: &str) -> bool {
        tokens.read::<T>(token).is_some()
    }
    let any = [
        is::<JobClaims>,
        is::<GithubClaims>,
        is::<RegistrationClaims>,
        is::<TenantClaims>,
        is::<QueueClaims>,
        is::<InstallationClaims>,
        is::<LogClaims>,
        is::<RunLogClaims>,
        is::<BlobClaims>,
        is::<StorageClaims>,
    ];
    assert!(!any.iter().any(|is| is(tokens, token)), "{token}");
}

/// What a runner registers with.
pub fn registration(input: &[u8]) {
    let Ok(request) = lenient::from_slice::<RegisterRunner>(input) else { return };
    let (key, life) = (rsa_key_value(&request.public_key).ok(), request.ephemeral);
    let Ok(runner) = register::read(Owner::from("acme/app"), request) else { return };
    let plain = |text: &String| {
        (1..=256).contains(&text.chars().count()) && !text.contains(char::is_control)
    };
    assert!(plain(&runner.name) && !runner.name.contains('/'), "{}", runner.name);
    assert!(runner.labels.len() <= 100 && runner.labels.iter().all(plain), "{:?}", runner.labels);
    assert!(runner.custom_labels.iter().all(|label| runner.labels.contains(label)));
    assert_eq!(Some(runner.public_key), key);
    assert_eq!(runner.life, if life { Life::Ephemeral } else { Life::Lasting });
}

/// Frames of git's answer.
pub fn git_frames(input: &[u8]) {
    for size in [input.len(), 1, 3, 7] {
        let mut hold = HoldLastFlush::default();
        let mut out: Vec<u8> = Vec::new();
        for piece in input.chunks(size.max(1)) {
            out.extend(hold.push(piece));
        }
        if hold.holds_flush() {
            assert!(input.ends_with(b"0000"), "{}", input.escape_ascii());
        }
        out.extend(hold.finish());
        assert_eq!(out, input, "in pieces of {size}");
    }
}

/// What `git log` writes.
pub fn git_commits(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(commits) = read_commits(&text) {
        assert_eq!(commits.len() * 8, text.matches('\0').count());
    }
}
