//! `os/architecture[/variant]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::json::null_is_default;

/// What an image runs on, in Go's words (`amd64`, `arm64`).
///
/// Source: OCI image-spec 1.1, image-index.md, "platform".
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, `arm`, `386`, …
    pub architecture: String,
    /// `linux`, `windows`, …
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
    /// `v6`, `v7`, `v8` of Arm; `v2`, `v3` of amd64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is no platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no platform: write `os/architecture` or `os/architecture/variant`")]
pub struct PlatformError(String);

impl Platform {
    /// A platform without a variant.
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self {
            architecture: architecture.into(),
            os: os.into(),
            os_version: None,
            os_features: Vec::new(),
            variant: None,
        }
    }

    /// Linux on the processor that this program was compiled for.
    pub fn host() -> Self {
        Self::new("linux", go_architecture(std::env::consts::ARCH))
    }

    /// How well content for `self` runs where `host` is wanted: `None` not at all, `Some(0)` best.
    ///
    /// An Arm processor also runs lower variants, and amd64 runs lower micro-architecture levels.
    pub fn rank_for(&self, host: &Self) -> Option<u32> {
        if self.os != host.os || self.architecture != host.architecture {
            return None;
        }
        if self.variant == host.variant {
            return Some(0);
        }
        let have = self.variant_level()?;
        let want = host.variant_level()?;
        let lower_runs = matches!(host.architecture.as_str(), "arm" | "amd64");
        if have == want || (lower_runs && have < want) { Some(want - have) } else { None }
    }

    /// The variant as a number, with the defaults that containerd's normalisation uses.
    fn variant_level(&self) -> Option<u32> {
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("arm64", None) => Some(8),
            ("arm", None) => Some(7),
            (_, None | Some("")) => Some(1),
            (_, Some(text)) => text.strip_prefix('v').unwrap_or(text).parse().ok(),
        }
    }
}

fn go_architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let word = |part: &str| {
            // A variant may end up in a path: `..` is none.
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(PlatformError(text.to_owned()));
        }
        match parts.as_slice() {
            [os, architecture] => {
                Ok(Self::new(os.to_ascii_lowercase(), alias(&architecture.to_ascii_lowercase())))
            }
            [os, architecture, variant] => {
                let architecture = alias(&architecture.to_ascii_lowercase()).to_owned();
                let mut platform = Self::new(os.to_ascii_lowercase(), architecture);
                platform.variant = Some(variant.to_ascii_lowercase());
                Ok(platform)
            }
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

/// Other names that people write.
fn alias(architecture: &str) -> &str {
    match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" => "386",
        "armhf" => "arm",
        other => other,
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn rank(have: &str, host: &str, want: Option<u32>) {
        let have: Platform = have.parse().unwrap();
        let host: Platform = host.parse().unwrap();
        assert_eq!(have.rank_for(&host), want, "{have} on {host}");
    }

    #[test]
    fn ranks_variants_as_containerd_does() {
        rank("linux/amd64", "linux/amd64", Some(0));
        rank("linux/x86_64", "linux/amd64/v1", Some(0));
        rank("linux/amd64/v3", "linux/amd64", None);
        rank("linux/amd64", "linux/amd64/v3", Some(2));
        rank("linux/arm64", "linux/arm64/v8", Some(0));
        rank("linux/arm/v6", "linux/arm", Some(1));
        rank("linux/arm/v7", "linux/arm/v6", None);
        rank("linux/riscv64/rva23", "linux/riscv64/rva23", Some(0));
        rank("linux/riscv64/rva23", "linux/riscv64", None);
        rank("windows/amd64", "linux/amd64", None);
        rank("unknown/unknown", "linux/amd64", None);
    }

    #[test]
    fn refuses_what_is_no_platform() {
        for text in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/amd 64", "linux/arm64/.."] {
            assert_eq!(text.parse::<Platform>(), Err(PlatformError(text.to_owned())));
        }
        assert_eq!(Platform::host().os, "linux");
    }
}
