//! What the files of a layer say.

use sekisho_advisory::{Reason, Source};
use serde::{Deserialize, Serialize};

use crate::os::OsRelease;

/// What one file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Facts {
    /// An os-release file.
    OsRelease(OsRelease),
    /// The first line of `debian_version` or `alpine-release`.
    Line(String),
    /// That it is there is all that counts (a C library's loader).
    Present,
    /// Something that is no regular file stands at the path of a package file.
    Absent,
    /// A package file.
    Packages {
        /// In order, without repeats.
        found: Vec<Found>,
        /// What in it could not be read.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        problems: Vec<(Reason, String)>,
    },
}

/// One package in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its source package, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Needed for development only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dev: bool,
    /// Its licence, where the file says so: most often an SPDX expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}
