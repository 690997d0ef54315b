//! Which operating system an image holds.
//!
//! Source: os-release(5).

use sekisho_advisory::Ecosystem;
use serde::{Deserialize, Serialize};

/// What os-release says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsRelease {
    /// `ID`, lower case: `debian`.
    pub id: String,
    /// `VERSION_ID`; empty for a release without number (`sid`, rolling).
    pub version_id: String,
    /// `PRETTY_NAME`, or what there is of a name.
    pub name: String,
}

/// The operating system of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Os {
    /// As in os-release: `debian`, `alpine`.
    pub id: String,
    /// As in os-release: `12`, `3.20.3`.
    pub version: String,
    /// For people: `Debian GNU/Linux 12 (bookworm)`.
    pub name: String,
    /// Where advisories about its packages are; `None` when the system is not supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecosystem: Option<Ecosystem>,
}

/// Longest value that is kept, in bytes.
const MAX_VALUE_BYTES: usize = 256;

/// Reads `NAME=value` lines; values may be quoted as in a shell. Other lines are comments.
///
/// Nothing here is refused: a file without an `ID` is an unknown system, and that is said later.
pub(crate) fn parse_os_release(text: &str) -> OsRelease {
    let mut release = OsRelease::default();
    let (mut pretty, mut name) = (String::new(), String::new());
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else { continue };
        let slot = match key {
            "ID" => &mut release.id,
            "VERSION_ID" => &mut release.version_id,
            "PRETTY_NAME" => &mut pretty,
            "NAME" => &mut name,
            _ => continue,
        };
        let value = value.trim();
        let value = ['"', '\'']
            .iter()
            .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
            .unwrap_or(value);
        *slot = value.replace('\\', "").chars().take(MAX_VALUE_BYTES).collect();
    }
    release.id = release.id.to_ascii_lowercase();
    release.name = [pretty, name, release.id.clone()]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_default();
    release
}

impl Os {
    /// Names the system; `debian_version` and `alpine_release` are those files' first lines, used
    /// when os-release is not there or has no version.
    pub(crate) fn of(
        release: Option<&OsRelease>,
        debian_version: Option<&str>,
        alpine_release: Option<&str>,
    ) -> Option<Self> {
        let named = release.filter(|release| !release.id.is_empty());
        let (id, name) = match (named, debian_version, alpine_release) {
            (Some(release), ..) => (release.id.clone(), release.name.clone()),
            (None, _, Some(_)) => ("alpine".to_owned(), "Alpine Linux".to_owned()),
            (None, Some(_), None) => ("debian".to_owned(), "Debian GNU/Linux".to_owned()),
            (None, None, None) => return None,
        };
        let said = named.map(|release| release.version_id.as_str()).filter(|v| !v.is_empty());
        let file = match id.as_str() {
            "debian" => debian_version,
            "alpine" => alpine_release,
            _ => None,
        };
        let version = said.or(file).unwrap_or_default().to_owned();
        let ecosystem = ecosystem_of(&id, &version);
        Some(Self { id, version, name, ecosystem })
    }
}

fn ecosystem_of(id: &str, version: &str) -> Option<Ecosystem> {
    let mut parts = version.split('.');
    let mut number = || {
        let part = parts.next()?;
        let good = !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
        good.then_some(part)
    };
    match id {
        "debian" => Some(Ecosystem::Debian(number()?.to_owned())),
        // `3.21_alpha20240807` is edge, which has no advisories of its own.
        "alpine" => Some(Ecosystem::Alpine(format!("v{}.{}", number()?, number()?))),
        "ubuntu" => {
            let (year, month) = (number()?, number()?);
            let even = year.ends_with(['0', '2', '4', '6', '8']);
            let lts = if even && month == "04" { ":LTS" } else { "" };
            Some(Ecosystem::Ubuntu(format!("{year}.{month}{lts}")))
        }
        "wolfi" => Some(Ecosystem::Wolfi),
        "chainguard" => Some(Ecosystem::Chainguard),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_be_quoted() {
        let release = parse_os_release(
            "# comment\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID='12'\n",
        );
        assert_eq!(
            release,
            OsRelease {
                id: "debian".into(),
                version_id: "12".into(),
                name: "Debian GNU/Linux 12 (bookworm)".into()
            }
        );
        assert_eq!(parse_os_release("junk"), OsRelease::default());
    }

    #[test]
    fn releases_have_their_ecosystem() {
        for (id, version, want) in [
            ("debian", "12", Some("Debian:12")),
            ("debian", "12.5", Some("Debian:12")),
            ("debian", "", None),
            ("debian", "trixie/sid", None),
            ("alpine", "3.20.3", Some("Alpine:v3.20")),
            ("alpine", "3.21_alpha20240807", None),
            ("ubuntu", "24.04", Some("Ubuntu:24.04:LTS")),
            ("ubuntu", "23.04", Some("Ubuntu:23.04")),
            ("ubuntu", "24.10", Some("Ubuntu:24.10")),
            ("wolfi", "20230201", Some("Wolfi")),
            ("kali", "2024.1", None),
        ] {
            let got = ecosystem_of(id, version).map(|ecosystem| ecosystem.to_string());
            assert_eq!(got.as_deref(), want, "{id} {version}");
        }
    }

    #[test]
    fn other_files_stand_in_for_os_release() {
        let os = Os::of(None, Some("12.5"), None).unwrap();
        assert_eq!(
            (os.id.as_str(), os.ecosystem),
            ("debian", Some(Ecosystem::Debian("12".into())))
        );
        assert_eq!(Os::of(Some(&OsRelease::default()), None, None), None);
    }
}
