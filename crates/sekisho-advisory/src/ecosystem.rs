//! Where a package comes from, in the names of the OSV schema.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::version::Scheme;

/// A package ecosystem, with the release of the distribution where there is one.
///
/// Its text form is OSV's: `Debian:12`, `Alpine:v3.20`, `npm`. Source: OSV schema,
/// "Defined Ecosystems" (<https://ossf.github.io/osv-schema/#defined-ecosystems>).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Ecosystem {
    /// `Debian:12`: the major release.
    Debian(String),
    /// `Ubuntu:24.04:LTS`: the release, with `:LTS` where it is one.
    Ubuntu(String),
    /// `Alpine:v3.20`: the release with its `v`.
    Alpine(String),
    /// Wolfi, which has no releases.
    Wolfi,
    /// Chainguard, which has no releases.
    Chainguard,
    /// The npm registry.
    Npm,
    /// The Python package index. Names are compared in their normal form (PEP 503).
    PyPi,
    /// Any other name, kept as it came; its versions cannot be compared.
    Other(String),
}

impl Ecosystem {
    /// How its versions are ordered; `None` when we do not know the rule.
    pub fn scheme(&self) -> Option<Scheme> {
        match self {
            Self::Debian(_) | Self::Ubuntu(_) => Some(Scheme::Deb),
            Self::Alpine(_) | Self::Wolfi | Self::Chainguard => Some(Scheme::Apk),
            Self::Npm => Some(Scheme::Semver),
            Self::PyPi => Some(Scheme::Pep440),
            Self::Other(_) => None,
        }
    }

    /// Whether advisories name the source package rather than the binary one.
    pub fn matches_on_source(&self) -> bool {
        match self {
            Self::Debian(_) | Self::Ubuntu(_) | Self::Alpine(_) => true,
            Self::Wolfi | Self::Chainguard => true,
            Self::Npm | Self::PyPi | Self::Other(_) => false,
        }
    }

    /// The form in which names of this ecosystem are compared.
    pub fn normal_name(&self, name: &str) -> String {
        if *self != Self::PyPi {
            return name.to_owned();
        }
        // PEP 503: runs of `-`, `_` and `.` are one `-`; case does not count.
        let mut normal = String::with_capacity(name.len());
        for c in name.chars() {
            match c {
                '-' | '_' | '.' if normal.ends_with('-') => {}
                '-' | '_' | '.' => normal.push('-'),
                _ => normal.push(c.to_ascii_lowercase()),
            }
        }
        normal
    }
}

impl fmt::Display for Ecosystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian(release) => write!(f, "Debian:{release}"),
            Self::Ubuntu(release) => write!(f, "Ubuntu:{release}"),
            Self::Alpine(release) => write!(f, "Alpine:{release}"),
            Self::Wolfi => f.write_str("Wolfi"),
            Self::Chainguard => f.write_str("Chainguard"),
            Self::Npm => f.write_str("npm"),
            Self::PyPi => f.write_str("PyPI"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

impl From<String> for Ecosystem {
    fn from(name: String) -> Self {
        match name.split_once(':') {
            Some(("Debian", release)) => Self::Debian(release.to_owned()),
            Some(("Ubuntu", release)) => Self::Ubuntu(release.to_owned()),
            Some(("Alpine", release)) => Self::Alpine(release.to_owned()),
            Some(_) => Self::Other(name),
            None => match name.as_str() {
                "Wolfi" => Self::Wolfi,
                "Chainguard" => Self::Chainguard,
                "npm" => Self::Npm,
                "PyPI" => Self::PyPi,
                _ => Self::Other(name),
            },
        }
    }
}

impl FromStr for Ecosystem {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(Self::from(name.to_owned()))
    }
}

impl From<Ecosystem> for String {
    fn from(ecosystem: Ecosystem) -> Self {
        ecosystem.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (name, want) in [
            ("Debian:12", Ecosystem::Debian("12".into())),
            ("Ubuntu:24.04:LTS", Ecosystem::Ubuntu("24.04:LTS".into())),
            ("Alpine:v3.20", Ecosystem::Alpine("v3.20".into())),
            ("Wolfi", Ecosystem::Wolfi),
            ("npm", Ecosystem::Npm),
            ("PyPI", Ecosystem::PyPi),
            ("Rocky Linux:9", Ecosystem::Other("Rocky Linux:9".into())),
            // Without a release a Debian version means nothing to us.
            ("Debian", Ecosystem::Other("Debian".into())),
        ] {
            assert_eq!(name.parse(), Ok(want.clone()));
            assert_eq!(want.to_string(), name);
        }
    }

    #[test]
    fn python_names_have_one_form() {
        assert_eq!(Ecosystem::PyPi.normal_name("Zope.Interface__x"), "zope-interface-x");
        assert_eq!(Ecosystem::Npm.normal_name("@Scope/A_b"), "@Scope/A_b");
    }
}
