//! What the fuzz targets of `fuzz/` call, for they are not of this crate: no interface of it.
//!
//! Each function takes any bytes, and panics when something does not hold.

use std::net::IpAddr;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use url::{Host, Url};

use crate::answer::said;
use crate::auth::{Auth, Keyring};
use crate::blob::is_asked;
use crate::challenge::{Challenge, parse};
use crate::endpoint::{base, may_follow, same_origin};
use crate::push::warning;
use crate::token::{LIFETIME_MAX, LIFETIME_MIN, given, service_url};
use crate::{helper, token};

/// Shortest secret whose absence is looked for: shorter ones are in any text.
const TELLING: usize = 8;

/// `WWW-Authenticate` headers, one a line.
pub fn challenge(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Some(Challenge::Bearer { realm, service, scope }) = parse(text.lines()) else { return };
    let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let part = |name: &str, value: &Option<String>| {
        let value = value.as_deref().map(|value| format!(",{name}=\"{}\"", quote(value)));
        value.unwrap_or_default()
    };
    let written = format!("Bearer realm=\"{}\"", quote(&realm));
    let written = written + &part("service", &service) + &part("scope", &scope);
    let again = parse([written.as_str()].into_iter());
    assert_eq!(again, Some(Challenge::Bearer { realm, service, scope }), "{written}");
}

/// A registry; after a NUL, the realm of its challenge, or where it says that an upload goes on.
pub fn followed(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (registry, address) = text.split_once('\0').unwrap_or(("registry.example", &text));
    let Ok(home) = Url::parse(&base(registry, false)) else { return };
    let near = leads_here(&home);
    let check = |to: &Url| {
        let elsewhere = to.scheme() == "https" && !leads_here(to);
        assert!(near || same_origin(&home, to) || elsewhere, "{home} leads to {to}");
    };
    if let Ok(to) = home.join(address).map(Some).map_err(drop)
        && let Some(to) = to.filter(|to| may_follow(&home, to))
    {
        check(&to);
    }
    if let Some(to) = service_url(&home, address) {
        assert!(to.username().is_empty() && to.password().is_none(), "{to}");
        check(&to);
    }
}

/// Whether somebody who connects there speaks to this machine.
fn leads_here(url: &Url) -> bool {
    let own = |address: IpAddr| {
        let address = address.to_canonical();
        address.is_loopback() || address.is_unspecified()
    };
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
        }
        Some(Host::Ipv4(address)) => own(address.into()),
        Some(Host::Ipv6(address)) => own(address.into()),
        None => false,
    }
}

/// The answer of a token service, or of a credential helper.
pub fn tokens(input: &[u8]) {
    if let Some((credential, lifetime)) = given(input) {
        assert!((LIFETIME_MIN..=LIFETIME_MAX).contains(&lifetime), "{lifetime:?}");
        let header = credential.header();
        assert!(header.is_sensitive() && header.as_bytes().starts_with(b"Bearer "));
        assert_eq!(format!("{credential:?} {header:?}"), "Credential Sensitive");
    }
    if let Some(auth) = helper::given(input) {
        // What a password is made of never breaks a header: it is base64, or nothing is sent.
        if let (Auth::Basic { .. }, Some(credential)) = (&auth, token::basic(&auth)) {
            assert!(credential.header().is_sensitive());
        }
        not_shown(&auth, &format!("{auth:?}"));
    }
}

fn not_shown(auth: &Auth, shown: &str) {
    let secret = match auth {
        Auth::Anonymous => return,
        Auth::Basic { username, password } if username.contains(password.expose_secret()) => return,
        Auth::Basic { password: secret, .. } | Auth::Identity(secret) | Auth::Bearer(secret) => {
            secret
        }
    };
    let secret = secret.expose_secret();
    assert!(secret.len() < TELLING || !shown.contains(secret), "{shown}");
}

/// Docker's `config.json`.
pub fn docker_config(input: &[u8]) {
    let value: Value = serde_json::from_slice(input).unwrap_or_default();
    let shown = match Keyring::from_docker_config(input) {
        Ok(keyring) => format!("{keyring:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    let text = value.to_string();
    for (_, entry) in value["auths"].as_object().into_iter().flatten() {
        for field in ["auth", "password", "identitytoken", "registrytoken"] {
            let Some(secret) = entry[field].as_str().filter(|it| it.len() >= TELLING) else {
                continue;
            };
            // One that is also somebody's name may be shown as that.
            let is_only_secret = text.matches(secret).count() == 1;
            assert!(!is_only_secret || !shown.contains(secret), "{shown}");
        }
    }
}

/// The body of an answer that is no success.
pub fn error_body(input: &[u8]) {
    let first = said(input);
    let error = json!({"code": first.code, "message": first.message, "detail": first.detail});
    let written = json!({ "errors": [error] }).to_string();
    assert_eq!(said(written.as_bytes()), first);
    let is_plain = serde_json::from_slice::<Value>(input).is_err();
    assert!(!is_plain || (first.message.len() <= 300 && !first.message.starts_with('<')));
}

/// A `Content-Range` of a download: after a NUL, what was asked for, `start end size`.
pub fn content_range(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (said, asked) = text.split_once('\0').unwrap_or((&text, "0 10 10"));
    let mut numbers = asked.split(' ').map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0_u64);
    let (start, end, size) = (next(), next(), next());
    if is_asked(said, &(start..end), size) {
        assert!(start < end && said.starts_with("bytes "), "{said}");
        let parts = said.split(['-', '/']).nth(1).and_then(|last| last.parse::<u64>().ok());
        assert!(parts.is_some_and(|last| (start..end).contains(&last)), "{said} of {asked}");
    }
}

/// A `Warning` header.
pub fn warning_header(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for text in [warning(&text), Some(text.into_owned())].into_iter().flatten() {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        assert_eq!(warning(&format!("299 - \"{quoted}\"")), Some(text));
    }
}
