//! What can go wrong at a registry.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sekisho_oci::{ConfigError, ManifestError};
use sekisho_types::{Digest, Hint};

use crate::config_json::AuthError;

/// Why a push failed; the same as [`RegistryError`].
pub type PushError = RegistryError;

/// Why a pull failed; the same as [`RegistryError`].
pub type PullError = RegistryError;

/// Why a registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// 403: the registry knows who asks, and says no. Never tried again.
    #[error("{message}")]
    Denied {
        /// As the server wrote it.
        message: String,
        /// What the server added; `Null` when nothing.
        detail: serde_json::Value,
    },
    /// 401, also with what credentials there are.
    #[error("not authorised at `{registry}`{}", colon(message))]
    Unauthorized {
        /// Host and port.
        registry: String,
        /// As the server wrote it; may be empty.
        message: String,
    },
    /// 404.
    #[error("`{what}` is not there")]
    NotFound {
        /// Repository and reference or digest.
        what: String,
    },
    /// 429, also after waiting.
    #[error("`{registry}` asks to come back later{}", colon(message))]
    TooManyRequests {
        /// Host and port.
        registry: String,
        /// As the server wrote it; may be empty.
        message: String,
        /// When, if the server said so.
        retry_after: Option<Duration>,
    },
    /// 5xx, also after trying again.
    #[error("`{registry}` fails with status {status}{}", colon(message))]
    Unavailable {
        /// Host and port.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// As the server wrote it; may be empty.
        message: String,
    },
    /// Another status that means no.
    #[error("`{registry}` refuses with status {status}{}", colon(message))]
    Refused {
        /// Host and port.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// The code of the first error in the body, such as `MANIFEST_INVALID`; may be empty.
        code: String,
        /// As the server wrote it; may be empty.
        message: String,
    },
    /// No answer: no connection, or a broken one.
    #[error("`{registry}` cannot be reached")]
    Transport {
        /// Host and port.
        registry: String,
        /// Without the address, which may hold a signature.
        #[source]
        source: reqwest::Error,
    },
    /// No answer in time.
    #[error("`{registry}` did not answer within {} s", after.as_secs())]
    Deadline {
        /// Host and port.
        registry: String,
        /// How long was waited.
        after: Duration,
    },
    /// An answer that the specification does not allow.
    #[error("`{registry}` answers against the specification: {problem}")]
    Protocol {
        /// Host and port.
        registry: String,
        /// What is wrong.
        problem: String,
    },
    /// The host of a reference makes no address.
    #[error("`{registry}` is no registry host")]
    Registry {
        /// As given.
        registry: String,
    },
    /// The bytes are not those of the digest.
    #[error("content of {expected} is damaged: it has {found}")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The content is longer or shorter than its descriptor says.
    #[error("content of {digest} has {found} bytes instead of {expected}")]
    Size {
        /// What was asked for.
        digest: Digest,
        /// In the descriptor, bytes.
        expected: u64,
        /// What came; one more than expected when the rest was not read.
        found: u64,
    },
    /// The bytes are no manifest.
    #[error("manifest of `{what}` is not usable")]
    Manifest {
        /// Repository and reference.
        what: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// The bytes are no image config.
    #[error("config of `{what}` is not usable")]
    Config {
        /// Repository and digest.
        what: String,
        /// What is wrong.
        #[source]
        source: ConfigError,
    },
    /// The index has nothing for the platform.
    #[error("`{what}` has no image for {platform}; it has {}", available.join(", "))]
    Platform {
        /// Repository and reference.
        what: String,
        /// What was asked for.
        platform: String,
        /// What there is.
        available: Vec<String>,
    },
    /// Credentials are configured that cannot be used.
    #[error("credentials for `{registry}` cannot be used")]
    Credentials {
        /// Host and port.
        registry: String,
        /// Why.
        #[source]
        source: AuthError,
    },
    /// A local file.
    #[error("file `{}` cannot be used", path.display())]
    File {
        /// Of the blob.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl RegistryError {
    /// Whether the same request may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::TooManyRequests { .. }
                | Self::Unavailable { .. }
                | Self::Transport { .. }
                | Self::Deadline { .. }
        )
    }
}

impl Hint for RegistryError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unauthorized { registry, .. } => {
                Some(format!("log in to `{registry}`, or check that the repository exists"))
            }
            Self::TooManyRequests { retry_after: Some(after), .. } => {
                Some(format!("try again in {} s", after.as_secs()))
            }
            Self::Transport { registry, .. } => {
                Some(format!("check the name and that `{registry}` runs"))
            }
            Self::Credentials { source, .. } => source.hint(),
            Self::Denied { detail, .. } => {
                detail.get("hint").and_then(|hint| hint.as_str()).map(str::to_owned)
            }
            _ => None,
        }
    }
}

fn colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
