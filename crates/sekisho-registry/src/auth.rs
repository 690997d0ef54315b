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

    /// From the bytes of a Docker `config.json`.
    ///
    /// Credential helpers are not run: asking for a registry that has one is
    /// [`AuthError::Helper`], when the registry is used.
    pub fn from_docker_config(bytes: &[u8]) -> Result<Self, AuthError> {
        let (entries, helpers) = config_json::parse(bytes)?;
        Ok(Self { entries, helpers })
    }

    /// What to use at `registry`.
    pub fn get(&self, registry: &str) -> Result<Auth, AuthError> {
        let registry = config_json::normalise(registry);
        if let Some(helper) = self.helpers.get(&registry) {
            return Err(AuthError::Helper { registry, helper: helper.clone() });
        }
        Ok(self.entries.get(&registry).cloned().unwrap_or_default())
    }
}

/// Reads a secret that may be absent or `null`.
pub(crate) fn secret<'de, D>(deserializer: D) -> Result<Option<SecretString>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}
