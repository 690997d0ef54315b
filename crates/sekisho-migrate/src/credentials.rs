//! What a secret says of a GitHub App: its number and its installation, never its key.

use std::collections::BTreeMap;

use base64::Engine as _;

use crate::source::{Document, get, text_of};

/// How to sign in, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// `github_app_id`.
    pub(crate) app_id: Option<String>,
    /// `github_app_installation_id`.
    pub(crate) installation_id: Option<String>,
    /// Whether it has a `github_token`.
    pub(crate) token: bool,
}

/// By namespace and name of the secret.
pub(crate) type Known = BTreeMap<(Option<String>, String), Credentials>;

/// Those of the secrets among the files.
pub(crate) fn of(documents: &[Document]) -> Known {
    let secrets = documents.iter().filter(|document| document.kind == "Secret");
    secrets
        .map(|secret| {
            let key = (secret.namespace.clone(), secret.name.clone());
            let value = |name: &str| value(secret, name);
            let credentials = Credentials {
                app_id: value("github_app_id"),
                installation_id: value("github_app_installation_id"),
                token: value("github_token").is_some(),
            };
            (key, credentials)
        })
        .collect()
}

fn value(secret: &Document, name: &str) -> Option<String> {
    let of = |field: &str| get(&secret.node, field).and_then(|data| text_of(get(data, name)));
    of("stringData").or_else(|| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(of("data")?.trim()).ok()?;
        String::from_utf8(bytes).ok()
    })
}
