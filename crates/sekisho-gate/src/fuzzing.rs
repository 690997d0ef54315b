//! What the fuzz targets of `fuzz/` call, for they are not of this crate: no interface of it.
//!
//! Each function takes any bytes, and panics when something does not hold.

mod records;

use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use ring::signature::Ed25519KeyPair;
use sekisho_policy::Identity;
use sekisho_types::RepositoryName;
use serde_json::Value;

pub use records::{decision, decision_seeds, facts, facts_seeds, log, log_seeds};

use crate::auth::exchange::{self, Request};
use crate::auth::identify;
use crate::auth::session::{Permission, Sessions};
use crate::auth::token;
use crate::auth::{Credential, credential};
use crate::config::{Reading, load_issuers};
use crate::decisions::checkpoint::RecordKey;
use crate::mirror::load_mirrored;
use crate::promoter::order;
use crate::protocol::range::{Wanted, content_range, wanted};
use crate::route::{self, Endpoint, Reference};
use crate::{load_users, users_text};

/// A path below `/v2/`.
pub fn path(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok((name, endpoint)) = route::parse(&text) else { return };
    assert!(text.starts_with(name.as_str()), "{name}");
    let written = match &endpoint {
        Endpoint::Tags => format!("{name}/tags/list"),
        Endpoint::Uploads => format!("{name}/blobs/uploads/"),
        Endpoint::Upload(Some(id)) => format!("{name}/blobs/uploads/{id}"),
        Endpoint::Blob(digest) => format!("{name}/blobs/{digest}"),
        Endpoint::Manifest(Reference::Tag(tag)) => format!("{name}/manifests/{tag}"),
        Endpoint::Manifest(Reference::Digest(digest)) => format!("{name}/manifests/{digest}"),
        Endpoint::Referrers(digest) => format!("{name}/referrers/{digest}"),
        // There is nothing behind these.
        Endpoint::Upload(None) | Endpoint::Manifest(Reference::Neither) => return,
    };
    assert_eq!(route::parse(&written).ok(), Some((name, endpoint)), "{written}");
}

/// A size; after a NUL, a `Range` or `Content-Range` header.
pub fn range(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (size, header) = text.split_once('\0').unwrap_or(("10", &text));
    let size = size.parse().unwrap_or(0);
    assert_eq!(wanted(None, size), Wanted::Whole);
    match wanted(Some(header), size) {
        Wanted::Part { first, last } => {
            assert!(first <= last && last < size, "{first}-{last} of {size}");
            let again = wanted(Some(&format!("bytes={first}-{last}")), size);
            assert_eq!(again, Wanted::Part { first, last });
        }
        Wanted::Unsatisfiable => assert!(header.starts_with("bytes="), "{header}"),
        Wanted::Whole => {}
    }
    if let Some((first, last)) = content_range(header) {
        assert!(first <= last, "{first}-{last}");
        assert_eq!(content_range(&format!("bytes {first}-{last}/*")), Some((first, last)));
    }
}

/// What `GOOD` in an input stands for: a session's token.
static GOOD: LazyLock<Option<(Sessions, String)>> = LazyLock::new(|| {
    let sessions = Sessions::of(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).ok()?, "gate");
    let identity = Identity { repository: "acme/app".into(), ..Identity::default() };
    let (token, _) = sessions.session(&identity, Timestamp::UNIX_EPOCH)?;
    Some((sessions, token))
});

/// An `Authorization` header. `PAYLOAD` and `SIGNATURE` are those of a session's token.
pub fn authorization(input: &[u8]) {
    assert!(GOOD.is_some());
    let Some((sessions, good)) = &*GOOD else { return };
    let parts = good.strip_prefix("skg1.").and_then(|rest| rest.split_once('.'));
    let (payload, signature) = parts.unwrap_or_default();
    let text = String::from_utf8_lossy(input);
    let text = text.replace("PAYLOAD", payload).replace("SIGNATURE", signature);
    let Ok(value) = HeaderValue::from_str(&text) else { return };
    let read = |value| credential(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]));
    let shown = match read(value) {
        Err(_) => text,
        Ok(Credential::None) => return,
        Ok(Credential::Bearer(token)) => token,
        Ok(Credential::Basic { user, password }) => {
            assert!(!user.contains(':'), "{user}");
            let again = BASE64_STANDARD.encode(format!("{user}:{password}"));
            let again = HeaderValue::from_str(&format!("Basic {again}"));
            let again = again.ok().and_then(|value| read(value).ok());
            let is_same = |it: Credential| matches!(it, Credential::Basic { user: u, password: p } if (&u, &p) == (&user, &password));
            // What is too long once it is written anew is refused, and that is all.
            assert!(again.is_none_or(is_same), "{user}");
            password
        }
    };
    let verified = sessions.verify(&shown, Timestamp::UNIX_EPOCH);
    assert_eq!(verified.is_ok(), shown == *good, "{shown}");
}

/// A scope of `/token`: `repository:NAME:pull,push`.
pub fn scope(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Some(access) = token::parse(&text) else { return };
    assert!(text.starts_with(&format!("repository:{}:", access.repository)), "{text}");
    let mut seen: Vec<Permission> = Vec::new();
    for permission in access.permissions {
        assert!(!seen.contains(&permission), "{permission:?} twice");
        let word = match permission {
            Permission::Pull => "pull",
            Permission::Push => "push",
            Permission::Delete => "delete",
        };
        assert!(text.contains(word) || text.contains('*'), "{word} was not asked for");
        seen.push(permission);
    }
}

/// A content type; after a NUL, the body of a token exchange.
pub fn exchange(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (kind, body) = input.split_at(at);
    let kind = String::from_utf8_lossy(kind);
    let body = body.get(1..).unwrap_or(input);
    let Some(Request { subject_token }) = exchange::fields(Some(&kind), body) else { return };
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("subject_token", &subject_token)
        .finish();
    let again = exchange::fields::<Request>(None, form.as_bytes());
    assert_eq!(again.map(|it| it.subject_token).as_ref(), Some(&subject_token));
    let json = serde_json::json!({ "subject_token": subject_token }).to_string();
    let again = exchange::fields::<Request>(Some("application/json"), json.as_bytes());
    assert_eq!(again.map(|it| it.subject_token), Some(subject_token));
}

/// A file of issuers; after a NUL, the claims of a token of theirs.
pub fn issuers(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (file, claims) = text.split_once('\0').unwrap_or((&text, "null"));
    let issuers = match load_issuers(Path::new("issuers.toml"), file) {
        Ok(issuers) => issuers,
        Err(error) => {
            assert!(error.line >= 1 && error.line <= file.split('\n').count(), "{error}");
            assert!(error.column >= 1 && !error.message.is_empty(), "{error}");
            return;
        }
    };
    let said: Value = serde_json::from_str(claims).unwrap_or_default();
    let many = issuers.len() > 1;
    let mut prefixes: Vec<String> = Vec::new();
    for issuer in issuers {
        let Reading::Mapped { prefix, claims } = issuer.reading else { continue };
        assert!(!many || !prefix.is_empty());
        assert!(!prefixes.contains(&prefix), "{prefix}");
        if let Ok(verified) = identify::mapped(&prefix, &claims, &said) {
            let name = verified.identity.repository.to_ascii_lowercase();
            assert!(name.parse::<RepositoryName>().is_ok(), "{name}");
            let below = |name: &str| name.strip_prefix(&prefix)?.strip_prefix('/').map(str::len);
            assert!(prefix.is_empty() || below(&name).is_some(), "{name} is not below {prefix}");
            assert!(!verified.jti.is_empty() && !verified.identity.run_id.is_empty());
        }
        prefixes.push(prefix);
    }
}

/// A file of users with passwords.
pub fn users(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(users) = load_users(&text) else { return };
    let written = users_text(&users);
    assert_eq!(written.as_deref().map(load_users), Ok(Ok(users)));
}

/// A file of mirrored registries.
pub fn mirrored(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(mirrored) = load_mirrored(&text) else { return };
    assert!(mirrored.keep_bytes() > 0);
    let mut seen: Vec<&str> = Vec::new();
    for registry in &mirrored.registries {
        let name = registry.name.as_str();
        assert!(!name.contains(['/', '\\']) && name.contains('.') && !name.starts_with('.'));
        assert!(!seen.contains(&name) && !registry.allow.is_empty(), "{name}");
        seen.push(name);
    }
}

/// An order to the promoter: an envelope; after a NUL, what a gate's key signs as one.
pub fn order(input: &[u8]) {
    static KEY: LazyLock<RecordKey> = LazyLock::new(|| {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]);
        RecordKey::of(pair.unwrap_or_else(|_| unreachable!("32 bytes are a seed")))
    });
    let (now, keys) = (Timestamp::UNIX_EPOCH, [KEY.public()]);
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    assert!(order::open(&input[..at], &keys, now).is_err(), "nobody signed it");
    let Ok(wanted) = serde_json::from_slice::<order::Order>(input.get(at + 1..).unwrap_or(b""))
    else {
        return;
    };
    let sealed = order::seal(&wanted, &KEY).unwrap_or_default();
    match order::open(&sealed, &keys, now) {
        Ok(read) => assert!(read == wanted && read.decision.verdict.decision.passes()),
        Err(order::Refused::Stale(at)) => assert_eq!(at, wanted.issued_at),
        Err(order::Refused::Held(id)) => assert_eq!(id, wanted.decision.id),
        Err(other) => unreachable!("what the gate signed is an order: {other}"),
    }
}

/// What a promoter is told.
pub fn promoter(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(settings) = crate::load_promoter(&text) else { return };
    assert!(!settings.routes.is_empty());
}
