//! The just-in-time configuration: one blob that makes a process a runner.
//!
//! ```text
//! base64( { ".runner": base64(json), ".credentials": base64(json),
//!           ".credentials_rsaparams": base64(json) } )
//! ```
//!
//! All scalars inside are written as strings, which is what existing runners expect. The blob is
//! the runner's only credential and is used once. Reading accepts exactly the three files and the
//! fields listed here: a blob with anything else was not made for us, and files of unknown names
//! are how a hostile blob would write where it should not.

mod key;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::RsaPrivateKey;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

pub use key::{KEY_BITS, RsaParameters};

use crate::lenient::{self, scalar};

/// Largest blob that is read, in bytes: a 4096-bit key makes one of about 7 KiB.
pub const MAX_BLOB_LEN: usize = 64 * 1024;

/// Entries of the outer object that are looked at: three are right.
const MAX_FILES: usize = 16;
/// Longest foreign name that an error shows, in bytes.
const MAX_SHOWN_LEN: usize = 32;

const RUNNER: &str = ".runner";
const CREDENTIALS: &str = ".credentials";
const RSA_PARAMS: &str = ".credentials_rsaparams";

/// A runner's whole configuration.
#[derive(Clone, Debug)]
pub struct JitConfig {
    /// Who the runner is and where its services are.
    pub runner: RunnerSettings,
    /// How it gets its token.
    pub credentials: Credentials,
    /// The key it signs with.
    pub key: RsaParameters,
}

/// Content of `.runner`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct RunnerSettings {
    /// Id of the registration.
    #[serde(serialize_with = "scalar::int_as_text", deserialize_with = "scalar::int_or_text")]
    pub agent_id: i64,
    /// Name of the registration.
    pub agent_name: String,
    /// Group.
    #[serde(
        serialize_with = "scalar::int_as_text",
        deserialize_with = "scalar::int_or_text",
        default = "default_pool"
    )]
    pub pool_id: i64,
    /// Name of the group.
    #[serde(default)]
    pub pool_name: String,
    /// Always true here: the runner does not update itself.
    #[serde(
        serialize_with = "scalar::bool_as_text",
        deserialize_with = "scalar::bool_or_text",
        default
    )]
    pub disable_update: bool,
    /// One job only.
    #[serde(
        serialize_with = "scalar::bool_as_text",
        deserialize_with = "scalar::bool_or_text",
        default
    )]
    pub ephemeral: bool,
    /// Base of the old service; not looked at where there is a broker.
    #[serde(default)]
    pub server_url: String,
    /// Empty.
    #[serde(default)]
    pub git_hub_url: String,
    /// One relative path, under the runner's root.
    #[serde(default = "default_work_folder")]
    pub work_folder: String,
    /// Whether `server_url_v2` is spoken, or else `server_url`.
    #[serde(
        serialize_with = "scalar::bool_as_text",
        deserialize_with = "scalar::bool_or_text",
        default
    )]
    pub use_v2_flow: bool,
    /// Base of the broker; ends with `/`.
    #[serde(default)]
    pub server_url_v2: String,
    /// Known to other runners; not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_session_recover: Option<String>,
    /// Known to other runners; not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor_socket_address: Option<String>,
    /// Known to other runners; not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_runner_admin_flow: Option<String>,
    /// Known to other runners; not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_hosted_server: Option<String>,
}

fn default_pool() -> i64 {
    1
}

fn default_work_folder() -> String {
    "_work".to_owned()
}

/// Content of `.credentials`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Credentials {
    /// `OAuth`.
    pub scheme: String,
    /// How to get a token.
    pub data: CredentialData,
}

/// `Data` of `.credentials`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct CredentialData {
    /// Issuer and subject of the assertion.
    pub client_id: String,
    /// The token endpoint; also the assertion's audience.
    pub authorization_url: String,
    /// PS256 instead of RS256.
    #[serde(
        serialize_with = "scalar::bool_as_text",
        deserialize_with = "scalar::bool_or_text",
        default
    )]
    pub require_fips_cryptography: bool,
    /// Known to other runners; not looked at.
    #[serde(default, rename = "OAuthEndpointUrl", skip_serializing_if = "Option::is_none")]
    pub oauth_endpoint_url: Option<String>,
    /// Known to other runners; not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_url_v2: Option<String>,
    /// Known to other runners; not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_auth_migration_by_default: Option<String>,
}

/// Why a blob was refused. No variant carries any of its content but names.
#[derive(Debug, thiserror::Error)]
pub enum JitError {
    /// Longer than [`MAX_BLOB_LEN`].
    #[error("the JIT configuration is longer than {MAX_BLOB_LEN} bytes")]
    TooLong,
    /// The blob, or one of its files, is not base64.
    #[error("{what} of the JIT configuration is not base64")]
    Base64 {
        /// The blob or a file of it.
        what: &'static str,
    },
    /// The blob is base64 of something else.
    #[error("the JIT configuration is not a JSON object of files")]
    NotAMap,
    /// A file that we do not know.
    #[error("the JIT configuration holds an unknown file `{name}`")]
    UnknownFile {
        /// Its name, or how long it is.
        name: String,
    },
    /// A file that is there twice: which one is meant?
    #[error("the JIT configuration holds a file twice")]
    RepeatedFile,
    /// A file that must be there.
    #[error("the JIT configuration lacks the file `{name}`")]
    MissingFile {
        /// Its name.
        name: &'static str,
    },
    /// A file's JSON is wrong: a field unknown, missing, or of another type.
    #[error("file `{name}` of the JIT configuration is not valid: {reason}")]
    File {
        /// Its name.
        name: &'static str,
        /// What serde said; it names fields, and values are not quoted.
        reason: String,
    },
    /// A field's value cannot be used.
    #[error("`{field}` in the JIT configuration {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The RSA key is not one.
    #[error("the RSA key in the JIT configuration is not valid: {reason}")]
    Key {
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl sekisho_types::Hint for JitError {
    fn hint(&self) -> Option<String> {
        Some(
            "register the runner again and pass the new blob unchanged; it is used once".to_owned(),
        )
    }
}

impl JitConfig {
    /// Makes the blob.
    ///
    /// # Panics
    /// Never: the types are plain strings, which always serialize.
    pub fn encode(&self) -> SecretString {
        #[expect(clippy::expect_used, reason = "structs of strings always serialize")]
        fn file(content: &impl Serialize) -> String {
            STANDARD.encode(serde_json::to_vec(content).expect("strings serialize"))
        }
        let files = BTreeMap::from([
            (RUNNER, file(&self.runner)),
            (CREDENTIALS, file(&self.credentials)),
            (RSA_PARAMS, file(&self.key)),
        ]);
        #[expect(clippy::expect_used, reason = "a map of strings always serializes")]
        let json = serde_json::to_vec(&files).expect("strings serialize");
        STANDARD.encode(json).into()
    }

    /// Reads a blob, strictly.
    ///
    /// # Errors
    /// See [`JitError`]. The RSA key is checked by [`Self::private_key`].
    pub fn decode(blob: &SecretString) -> Result<Self, JitError> {
        let blob = blob.expose_secret().trim();
        if blob.len() > MAX_BLOB_LEN {
            return Err(JitError::TooLong);
        }
        let json = STANDARD.decode(blob).map_err(|_| JitError::Base64 { what: "the text" })?;
        let Files(files) = serde_json::from_slice(&json).map_err(|_| JitError::NotAMap)?;
        let known = |name: &String| [RUNNER, CREDENTIALS, RSA_PARAMS].contains(&name.as_str());
        if let Some((name, _)) = files.iter().find(|(name, _)| !known(name)) {
            return Err(JitError::UnknownFile { name: shown(name) });
        }
        let count = files.len();
        let mut files: BTreeMap<String, String> = files.into_iter().collect();
        if files.len() < count {
            return Err(JitError::RepeatedFile);
        }
        let config = Self {
            runner: take(&mut files, RUNNER)?,
            credentials: take(&mut files, CREDENTIALS)?,
            key: take(&mut files, RSA_PARAMS)?,
        };
        config.check()?;
        Ok(config)
    }

    /// The runner's key.
    ///
    /// # Errors
    /// [`JitError::Key`] when the integers do not make a key of [`KEY_BITS`].
    pub fn private_key(&self) -> Result<RsaPrivateKey, JitError> {
        self.key.to_key()
    }

    fn check(&self) -> Result<(), JitError> {
        let field = |field, reason| Err(JitError::Field { field, reason });
        if !self.credentials.scheme.eq_ignore_ascii_case("OAuth") {
            return field("Scheme", "is not `OAuth`");
        }
        let folder = Path::new(&self.runner.work_folder);
        let inside = folder.components().all(|c| matches!(c, Component::Normal(_)));
        if self.runner.work_folder.is_empty() || !inside {
            return field("WorkFolder", "is not a relative path without `..`");
        }
        let runner = &self.runner;
        if runner.use_v2_flow && !is_http(&runner.server_url_v2) {
            return field("ServerUrlV2", "is not an http or https URL");
        }
        if !runner.use_v2_flow && !is_http(&runner.server_url) {
            return field("ServerUrl", "is not an http or https URL, and `UseV2Flow` is not true");
        }
        if !is_http(&self.credentials.data.authorization_url) {
            return field("AuthorizationUrl", "is not an http or https URL");
        }
        Ok(())
    }
}

fn is_http(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

fn take<T: serde::de::DeserializeOwned>(
    files: &mut BTreeMap<String, String>,
    name: &'static str,
) -> Result<T, JitError> {
    let content = files.remove(name).ok_or(JitError::MissingFile { name })?;
    let json = STANDARD.decode(content.trim()).map_err(|_| JitError::Base64 { what: name })?;
    lenient::from_slice(&json).map_err(|error| JitError::File { name, reason: reason(&error) })
}

/// What serde says without the value it met: a misplaced key must not end up in a log.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let kind = ["unknown field", "missing field", "duplicate field"];
    let kind = kind.into_iter().find(|kind| text.starts_with(kind));
    match (kind, error.classify()) {
        (Some(kind), _) => {
            let name = text.split('`').nth(1).unwrap_or_default();
            format!("{kind} `{}`", shown(name))
        }
        (None, serde_json::error::Category::Data) => "a field has the wrong type".to_owned(),
        (None, _) => "not JSON".to_owned(),
    }
}

/// A foreign name as it may be shown: one that is longer than any of ours is a value in the wrong
/// place, perhaps a key.
fn shown(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/ ".contains(c);
    if name.len() <= MAX_SHOWN_LEN && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("a name of {} characters", name.chars().count())
}

/// The outer object, with every entry: a map would keep the last of two with one name.
struct Files(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> serde::de::Visitor<'de> for Entries {
            type Value = Files;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of files")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Files, A::Error> {
                let mut files = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    if files.len() >= MAX_FILES {
                        return Err(serde::de::Error::custom("too many files"));
                    }
                    files.push(entry);
                }
                Ok(Files(files))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl fmt::Display for RunnerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runner {} ({})", self.agent_name, self.agent_id)
    }
}

#[cfg(test)]
mod tests;
