//! Which registries are mirrored, and what of them.

use std::sync::Arc;

use jiff::SignedDuration;
use sekisho_registry::Client;
use sekisho_types::RepositoryName;
use serde::Deserialize;

use super::decide::Ages;
use crate::config::from_toml;

/// A registry that is mirrored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirroredRegistry {
    /// What clients call it, the first part of a name at the gate: `docker.io`.
    pub name: String,
    /// Where it is, host and port; `None`: at its name.
    #[serde(default)]
    pub address: Option<String>,
    /// Which repositories: `library/debian`, or `library/*` for all below.
    pub allow: Vec<String>,
    /// How long a tag is served without asking, in minutes.
    #[serde(default = "fresh_minutes")]
    pub fresh_minutes: u32,
    /// How old a tag may be that is served when the registry cannot be asked, in hours; 0: never.
    #[serde(default = "stale_hours")]
    pub stale_hours: u32,
}

const fn fresh_minutes() -> u32 {
    60
}

const fn stale_hours() -> u32 {
    168
}

/// What a gate mirrors, and with what it asks.
#[derive(Clone, Debug)]
pub struct MirrorConfig {
    /// The registries.
    pub registries: Vec<MirroredRegistry>,
    /// How many bytes of them are kept; what was not used for longest goes first.
    pub keep_bytes: u64,
    /// Asks them; its keyring has the credentials.
    pub client: Arc<Client>,
}

/// What the file of a mirror says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirrored {
    /// How much is kept, in GiB.
    #[serde(default = "keep_gib")]
    pub keep_gib: u32,
    /// The registries.
    #[serde(default, rename = "registry")]
    pub registries: Vec<MirroredRegistry>,
}

const fn keep_gib() -> u32 {
    64
}

impl Mirrored {
    /// How much is kept, in bytes.
    pub fn keep_bytes(&self) -> u64 {
        u64::from(self.keep_gib) << 30
    }
}

/// Reads a file of mirrored registries: `keep_gib`, and `[[registry]]` with the fields of
/// [`MirroredRegistry`].
///
/// # Errors
/// `line:column: message`: no TOML, an unknown or missing field, a name that cannot stand in a path.
pub fn load_mirrored(text: &str) -> Result<Mirrored, String> {
    let raw: Mirrored = from_toml(text)?;
    if raw.keep_gib == 0 {
        return Err("`keep_gib` is 0: nothing could be served".to_owned());
    }
    check(&raw.registries)?;
    Ok(raw)
}

pub(super) fn check(registries: &[MirroredRegistry]) -> Result<(), String> {
    for (position, registry) in registries.iter().enumerate() {
        let name = &registry.name;
        if name.contains('/') || name.parse::<RepositoryName>().is_err() || !name.contains('.') {
            return Err(format!("`{name}` is no host name that can stand in a path"));
        }
        if registries[..position].iter().any(|earlier| earlier.name == *name) {
            return Err(format!("`{name}` stands there twice"));
        }
        if registry.allow.is_empty() {
            return Err(format!("`{name}` allows no repository; say which: `library/*`"));
        }
    }
    Ok(())
}

impl MirroredRegistry {
    pub(super) fn ages(&self) -> Ages {
        Ages {
            fresh: SignedDuration::from_mins(self.fresh_minutes.into()),
            stale: SignedDuration::from_hours(self.stale_hours.into()),
        }
    }
}

/// `library/debian` allows itself, `library/*` all below, `*` everything.
pub(super) fn allows(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(above) if above.ends_with('/') => name.starts_with(above),
        _ => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_or_refused_with_its_place() {
        let good = "[[registry]]\nname = \"docker.io\"\nallow = [\"library/*\"]\n";
        let read = load_mirrored(good).unwrap();
        let registry = &read.registries[0];
        assert_eq!((registry.fresh_minutes, registry.stale_hours), (60, 168));
        assert_eq!(read.keep_bytes(), 64 << 30);
        assert_eq!(load_mirrored(&format!("keep_gib = 2\n{good}")).unwrap().keep_bytes(), 2 << 30);
        for (text, want) in [
            (good.replace("allow", "alow"), "3:1: unknown field `alow`"),
            (good.replace("\"library/*\"", ""), "`docker.io` allows no repository"),
            (good.replace("docker.io", "docker.io/x"), "`docker.io/x` is no host name"),
            (good.replace("docker.io", "docker"), "`docker` is no host name"),
            (good.replace("docker.io", "127.0.0.1:5000"), "`127.0.0.1:5000` is no host name"),
            (format!("keep_gib = 0\n{good}"), "`keep_gib` is 0"),
            (format!("{good}{good}"), "`docker.io` stands there twice"),
        ] {
            let error = load_mirrored(&text).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn patterns_allow_whole_parts() {
        for (pattern, name, want) in [
            ("library/debian", "library/debian", true),
            ("library/debian", "library/debian-evil", false),
            ("library/debian", "library/debian/x", false),
            ("library/*", "library/debian", true),
            ("library/*", "library2/debian", false),
            ("library/*", "library", false),
            ("lib*", "library/debian", false),
            ("*", "a/b", true),
        ] {
            assert_eq!(allows(pattern, name), want, "{pattern} {name}");
        }
    }
}
