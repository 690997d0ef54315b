//! The config blob of an image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use sekisho_types::Digest;

use crate::fold::{self, TwoWays};
use crate::json::{self, null_is_default};
use crate::platform::Platform;

/// Largest config that is read, in bytes. Real ones are a few KiB; a thousand history entries with
/// long commands stay below 1 MiB.
pub const MAX_CONFIG_BYTES: usize = 4 * 1024 * 1024;

/// What an image runs, as which user, on which layers.
///
/// Source: OCI image-spec 1.1, config.md. Field order is that of the specification's examples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `linux`, …
    #[serde(default)]
    pub os: String,
    /// Windows build number.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Windows features.
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Defaults for a container.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// The layers by the digest of their uncompressed bytes.
    pub rootfs: RootFs,
    /// One entry per instruction, base first.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// Defaults for a container of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user`, `uid`, `user:group`, `uid:gid`; empty means root.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `port/tcp`, `port/udp`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`, in order.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is run; `None` and an empty list differ for a child image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Arguments of the entrypoint, or what is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Docker's own: BuildKit sets it with every CMD; only Windows looks at it.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub args_escaped: bool,
    /// Folders that hold data of the container.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// Where the process starts.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Free text by key.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What stops the container: `SIGTERM`, `9`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker's own: how to ask whether the container is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker's own: instructions for a child build.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// Docker's own: what shell-form instructions of a child build run with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// The value `{}` of Go's `map[string]struct{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Docker's health check. Durations are nanoseconds; zero means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", args…]` or `["CMD-SHELL", command]`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between two checks, nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    /// Of one check, nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    /// In which failures do not count, nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    /// Between two checks in the start period, nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: u64,
    /// How many failures in a row make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, base first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// What made one layer, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The instruction made no layer.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Why bytes are no image config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Over [`MAX_CONFIG_BYTES`].
    #[error("image config of {bytes} bytes is larger than {MAX_CONFIG_BYTES} bytes")]
    TooLarge {
        /// What was given, in bytes.
        bytes: usize,
    },
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("image config does not parse")]
    Json(#[source] serde_json::Error),
    /// A field that others read as another one.
    #[error("image config is read in two ways: {0}")]
    TwoWays(TwoWays),
    /// `rootfs.type` is something else.
    #[error("image config has rootfs type `{kind}`, not `layers`")]
    RootFs {
        /// What it says.
        kind: String,
    },
}

impl ImageConfig {
    /// A config without layers.
    pub fn new(platform: &Platform) -> Self {
        Self {
            created: None,
            author: None,
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone(),
            os_features: platform.os_features.clone(),
            variant: platform.variant.clone(),
            config: RunConfig::default(),
            rootfs: RootFs::default(),
            history: Vec::new(),
        }
    }

    /// Reads a config blob; unknown fields are tolerated, and dropped, unless other readers take
    /// them for known ones.
    ///
    /// The history may disagree with the layers, as it does in images of some builders: see
    /// [`Self::history_fits`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLarge { bytes: bytes.len() });
        }
        let two_ways = fold::in_two_ways(bytes, fold::CONFIG).map_err(ConfigError::Json)?;
        if let Some(found) = two_ways {
            return Err(ConfigError::TwoWays(found));
        }
        let config: Self = serde_json::from_slice(bytes).map_err(ConfigError::Json)?;
        if config.rootfs.kind != "layers" {
            return Err(ConfigError::RootFs { kind: config.rootfs.kind });
        }
        Ok(config)
    }

    /// Whether the history makes as many layers as there are, so that it says which command made
    /// which.
    pub fn history_fits(&self) -> bool {
        let made = self.history.iter().filter(|entry| !entry.empty_layer).count();
        made == self.rootfs.diff_ids.len()
    }

    /// Compact JSON; equal values give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        json::to_bytes(self)
    }

    /// What the image runs on.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_writes() {
        let digest = Digest::sha256(b"layer");
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","container":"abc","docker_version":"20",
            "config":{{"Hostname":"","Env":["A=b"],"Cmd":null,"Volumes":null,"OnBuild":null,
            "ExposedPorts":{{"80/tcp":{{}}}},"Labels":null,"Entrypoint":[]}},
            "history":[{{"created_by":"x"}},{{"empty_layer":true}}],
            "rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
        );
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config.env, ["A=b"]);
        assert_eq!(config.config.cmd, None);
        assert_eq!(config.config.entrypoint, Some(vec![]));
        assert!(config.config.exposed_ports.contains_key("80/tcp"));
        assert_eq!(config.rootfs.diff_ids, [digest]);
        let again = ImageConfig::parse(&config.to_bytes()).unwrap();
        assert_eq!(again, config);
        assert_eq!(again.to_bytes(), config.to_bytes());
    }

    #[test]
    fn a_new_config_is_small_and_plain() {
        let config = ImageConfig::new(&Platform::new("linux", "amd64"));
        assert_eq!(
            String::from_utf8(config.to_bytes()).unwrap(),
            r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#
        );
    }

    #[test]
    fn tells_whether_the_history_fits() {
        let text =
            r#"{"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"RUN x"}]}"#;
        let mut config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert!(!config.history_fits());
        config.history[0].empty_layer = true;
        assert!(config.history_fits());
        let kind = ImageConfig::parse(br#"{"rootfs":{"type":"x"}}"#).unwrap_err();
        assert!(matches!(kind, ConfigError::RootFs { .. }), "{kind}");
    }
}
