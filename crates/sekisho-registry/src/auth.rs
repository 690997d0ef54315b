//! Who the client is, at which registry.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::{Deserialize as _, Deserializer};

use crate::config_json::{self, AuthError};

/// How to authenticate at one registry. Debug output shows no secret.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// Not at all; a token service may still give a token for public content.
    #[default]
    Anonymous,
    /// Name and password, by Basic, or for a token.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// A refresh token, exchanged for an access token by `grant_type=refresh_token`.
    Identity(SecretString),
    /// An access token that is sent as it is.
    Bearer(SecretString),
}

/// What to use at which registry; anonymous where nothing is known.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    entries: BTreeMap<String, Auth>,
    /// Registries whose credentials lie with a helper program.
    helpers: BTreeMap<String, String>,
    /// The helper for all others.
    store: Option<String>,
}

/// What a keyring knows of a registry.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// This.
    Auth(Auth),
    /// A program to ask.
    Helper {
        /// Its name, without `docker-credential-`.
        helper: String,
        /// Whether its failure is one; the store for all registries may know nothing of this one.
        required: bool,
    },
}

impl Keyring {
    /// Knows nothing.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// Adds or replaces what is used at `registry` (host and port).
    #[must_use]
    pub fn with(mut self, registry: &str, auth: Auth) -> Self {
        let registry = config_json::normalise(registry);
        self.helpers.remove(&registry);
        self.entries.insert(registry, auth);
        self
    }

    /// From the bytes of a Docker `config.json`. Helper programs are run when their registry is used.
    ///
    /// # Errors
    /// [`AuthError::Json`] and [`AuthError::Malformed`].
    pub fn from_docker_config(bytes: &[u8]) -> Result<Self, AuthError> {
        let config_json::Parsed { entries, helpers, store } = config_json::parse(bytes)?;
        Ok(Self { entries, helpers, store })
    }

    /// What is known of `registry`.
    pub(crate) fn find(&self, registry: &str) -> Known {
        let registry = config_json::normalise(registry);
        if let Some(helper) = self.helpers.get(&registry) {
            return Known::Helper { helper: helper.clone(), required: true };
        }
        match (self.entries.get(&registry), &self.store) {
            (Some(auth), _) => Known::Auth(auth.clone()),
            (None, Some(helper)) => Known::Helper { helper: helper.clone(), required: false },
            (None, None) => Known::Auth(Auth::Anonymous),
        }
    }
}

/// Reads a secret that may be absent or `null`.
pub(crate) fn secret<'de, D>(deserializer: D) -> Result<Option<SecretString>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}
