//! What an image holds: packages, and what could not be judged.

use std::fmt;

use sekisho_types::Digest;
use serde::{Deserialize, Serialize};

use crate::Ecosystem;

/// One installed or locked package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Package {
    /// Where it comes from.
    pub ecosystem: Ecosystem,
    /// The name in its ecosystem; for a distribution, that of the binary package.
    pub name: String,
    /// As installed, unchanged.
    pub version: String,
    /// The source package it was built from, when that differs from name and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The `diff_id` of the lowest layer that holds it in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
    /// The file that says so, relative to the image's root: `var/lib/dpkg/status`.
    pub path: String,
    /// Needed for development only, says the lock file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dev: bool,
    /// Its licence, where its database says so: most often an SPDX expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

impl Package {
    /// Name and version that advisories of its ecosystem speak of.
    pub fn subject(&self) -> (&str, &str) {
        match &self.source {
            Some(source) if self.ecosystem.matches_on_source() => (&source.name, &source.version),
            _ => (&self.name, &self.version),
        }
    }
}

/// The source package of a distribution's binary package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Its name: `glibc` for `libc6`.
    pub name: String,
    /// Its version, which a rebuild (`+b1`) does not change.
    pub version: String,
}

/// Something in the image that nobody judged, and why. The policy decides what that means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NotAssessed {
    /// The kind of reason.
    pub reason: Reason,
    /// A package (`npm lodash 4.x`), a file, or the operating system's name.
    pub subject: String,
    /// One sentence for people.
    pub detail: String,
    /// The file it stands in, relative to the image's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The `diff_id` of the layer it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
}

impl fmt::Display for NotAssessed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.detail)
    }
}

/// Why something was not assessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// There is a system, but nothing names it.
    UnknownOs,
    /// The system is known by name and not supported.
    UnsupportedOs,
    /// The system is known and its package database is absent.
    MissingDatabase,
    /// A kind of package file that is recognised and not read yet.
    UnsupportedFile,
    /// A package file that is damaged, or a link that leads nowhere.
    UnreadableFile,
    /// A layer's index was made by another version of the analysis.
    StaleIndex,
    /// A limit was reached; what lies beyond was not read.
    OverLimit,
    /// The advisory data holds nothing about this ecosystem.
    NoAdvisoryData,
    /// An advisory names the package, in a form that could not be used.
    UnusableAdvisory,
    /// A version that its ecosystem's rules do not allow.
    UnparsableVersion,
}

impl Reason {
    /// The name in JSON and policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownOs => "unknown_os",
            Self::UnsupportedOs => "unsupported_os",
            Self::MissingDatabase => "missing_database",
            Self::UnsupportedFile => "unsupported_file",
            Self::UnreadableFile => "unreadable_file",
            Self::StaleIndex => "stale_index",
            Self::OverLimit => "over_limit",
            Self::NoAdvisoryData => "no_advisory_data",
            Self::UnusableAdvisory => "unusable_advisory",
            Self::UnparsableVersion => "unparsable_version",
        }
    }
}
