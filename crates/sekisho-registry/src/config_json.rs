//! Docker's `config.json`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use secrecy::SecretString;
use serde::Deserialize;

use sekisho_types::Hint;

use crate::auth::{Auth, secret};

/// Largest `config.json` that is read, in bytes.
pub const MAX_CONFIG_JSON_BYTES: usize = 1024 * 1024;

/// Why credentials cannot be used. No message holds one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthError {
    /// Over [`MAX_CONFIG_JSON_BYTES`], or not JSON of the expected form.
    #[error("docker config does not parse, at line {line}, column {column}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// `auth` is not base64 of `name:password`.
    #[error("docker config has a malformed `auth` for `{registry}`")]
    Malformed {
        /// Host and port.
        registry: String,
    },
    /// The program that has the credentials does not give them.
    #[error("credential helper `docker-credential-{helper}` for `{registry}` {problem}")]
    Helper {
        /// Host and port.
        registry: String,
        /// Its name, without `docker-credential-`.
        helper: String,
        /// What is wrong, in a clause; nothing of what it wrote.
        problem: String,
    },
}

impl Hint for AuthError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Helper { registry, helper, .. } => Some(format!(
                "see what `echo {registry} | docker-credential-{helper} get` says, or log in anew"
            )),
            Self::Json { .. } | Self::Malformed { .. } => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    auths: BTreeMap<String, RawAuth>,
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAuth {
    auth: Option<String>,
    username: Option<String>,
    #[serde(deserialize_with = "secret")]
    password: Option<SecretString>,
    #[serde(deserialize_with = "secret")]
    identitytoken: Option<SecretString>,
    #[serde(deserialize_with = "secret")]
    registrytoken: Option<SecretString>,
}

/// What a `config.json` says.
pub(crate) struct Parsed {
    pub(crate) entries: BTreeMap<String, Auth>,
    /// Helpers by registry.
    pub(crate) helpers: BTreeMap<String, String>,
    /// The helper for all other registries.
    pub(crate) store: Option<String>,
}

/// The credentials by registry, and the helpers by registry.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, AuthError> {
    if bytes.len() > MAX_CONFIG_JSON_BYTES {
        return Err(AuthError::Json { line: 1, column: 1 });
    }
    // The message of serde may quote the text, and with it a secret; the position does not.
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|error| AuthError::Json { line: error.line(), column: error.column() })?;
    let mut entries = BTreeMap::new();
    let mut helpers = BTreeMap::new();
    for (registry, raw_auth) in raw.auths {
        let registry = normalise(&registry);
        match (auth(&registry, raw_auth)?, &raw.creds_store) {
            (Some(auth), _) => {
                entries.insert(registry, auth);
            }
            // An empty entry says that the store has it.
            (None, Some(store)) => {
                helpers.insert(registry, store.clone());
            }
            (None, None) => {}
        }
    }
    for (registry, helper) in raw.cred_helpers {
        let registry = normalise(&registry);
        entries.remove(&registry);
        helpers.insert(registry, helper);
    }
    Ok(Parsed { entries, helpers, store: raw.creds_store.filter(|store| !store.is_empty()) })
}

fn auth(registry: &str, raw: RawAuth) -> Result<Option<Auth>, AuthError> {
    let some = |secret: Option<SecretString>| {
        secret.filter(|secret| !secrecy::ExposeSecret::expose_secret(secret).is_empty())
    };
    if let Some(token) = some(raw.identitytoken) {
        return Ok(Some(Auth::Identity(token)));
    }
    if let Some(token) = some(raw.registrytoken) {
        return Ok(Some(Auth::Bearer(token)));
    }
    if let Some(text) = raw.auth.filter(|text| !text.is_empty()) {
        let malformed = || AuthError::Malformed { registry: registry.to_owned() };
        let bytes = STANDARD
            .decode(&text)
            .or_else(|_| STANDARD_NO_PAD.decode(&text))
            .map_err(|_| malformed())?;
        let text = String::from_utf8(bytes).map_err(|_| malformed())?;
        let (username, password) = text.split_once(':').ok_or_else(malformed)?;
        // Old Docker versions pad the password with NULs.
        let password = password.trim_end_matches('\0').to_owned().into();
        return Ok(Some(Auth::Basic { username: username.to_owned(), password }));
    }
    match (raw.username.filter(|name| !name.is_empty()), some(raw.password)) {
        (Some(username), Some(password)) => Ok(Some(Auth::Basic { username, password })),
        _ => Ok(None),
    }
}

/// `https://index.docker.io/v1/` is `docker.io`, `https://host/path` is `host`.
pub(crate) fn normalise(registry: &str) -> String {
    let rest = registry.split_once("://").map_or(registry, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::auth::{Keyring, Known};

    const CONFIG: &str = r#"{
        "auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6cGFzczp3b3Jk"},
            "gate.example:5000": {"auth": "MDAwOg==", "identitytoken": "idtoken"},
            "bearer.example": {"registrytoken": "regtoken"},
            "plain.example": {"username": "a", "password": "plainpass"},
            "stored.example": {}
        },
        "credsStore": "desktop",
        "credHelpers": {"1234.dkr.ecr.eu-west-1.amazonaws.com": "ecr-login"},
        "HttpHeaders": {"x": "y"}
    }"#;

    #[test]
    fn reads_what_docker_writes() {
        let keyring = Keyring::from_docker_config(CONFIG.as_bytes()).unwrap();
        let get = |registry: &str| match keyring.find(registry) {
            Known::Auth(auth) => auth,
            Known::Helper { helper, .. } => panic!("{helper}"),
        };
        let Auth::Basic { username, password } = get("docker.io") else { panic!() };
        assert_eq!((username.as_str(), password.expose_secret()), ("me", "pass:word"));
        let Auth::Identity(token) = get("gate.example:5000") else { panic!() };
        assert_eq!(token.expose_secret(), "idtoken");
        assert!(matches!(get("bearer.example"), Auth::Bearer(_)));
        assert!(matches!(get("plain.example"), Auth::Basic { .. }));
        for (registry, want, must) in [
            ("stored.example", "desktop", true),
            ("1234.dkr.ecr.eu-west-1.amazonaws.com", "ecr-login", true),
            ("unknown.example", "desktop", false),
        ] {
            let Known::Helper { helper, required } = keyring.find(registry) else { panic!() };
            assert_eq!((helper.as_str(), required), (want, must), "{registry}");
        }
        let none = Keyring::from_docker_config(b"{}").unwrap();
        assert!(matches!(none.find("unknown.example"), Known::Auth(Auth::Anonymous)));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let keyring = Keyring::from_docker_config(CONFIG.as_bytes()).unwrap();
        let text = format!("{keyring:?}");
        for secret in ["pass:word", "idtoken", "regtoken", "plainpass", "bWU6"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn errors_hold_no_secret() {
        for (text, want) in [
            (
                r#"{"auths":{"a":{"auth":["secret"]}}}"#,
                "docker config does not parse, at line 1, column 22",
            ),
            (
                r#"{"auths":{"a":{"auth":"!secret"}}}"#,
                "docker config has a malformed `auth` for `a`",
            ),
            (
                r#"{"auths":{"a":{"auth":"c2VjcmV0"}}}"#,
                "docker config has a malformed `auth` for `a`",
            ),
        ] {
            let error = Keyring::from_docker_config(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), want);
            assert!(!format!("{error:?}").contains("secret"));
        }
    }
}
