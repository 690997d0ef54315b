//! What a job's token may do.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Every key of `permissions`.
pub const PERMISSION_KEYS: [&str; 17] = [
    "actions",
    "artifact-metadata",
    "attestations",
    "checks",
    "contents",
    "deployments",
    "discussions",
    "id-token",
    "issues",
    "models",
    "packages",
    "pages",
    "pull-requests",
    "repository-projects",
    "security-events",
    "statuses",
    "vulnerability-alerts",
];

/// How much of one permission: none < read < write.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Nothing.
    #[default]
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

/// The values a key takes: `id-token` knows no `read`, two others no `write`.
pub(super) fn allowed(key: &str) -> &'static [Access] {
    match key {
        "id-token" => &[Access::None, Access::Write],
        "models" | "vulnerability-alerts" => &[Access::None, Access::Read],
        _ => &[Access::None, Access::Read, Access::Write],
    }
}

/// A set of permissions. What is not in it is [`Access::None`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permissions {
    granted: BTreeMap<String, Access>,
}

impl Permissions {
    /// No permission at all: `permissions: {}`.
    pub fn none() -> Self {
        Self::default()
    }

    /// What a job gets when no file says anything: contents and packages, to read.
    pub fn restricted() -> Self {
        Self::none().with("contents", Access::Read).with("packages", Access::Read)
    }

    /// `read-all`.
    pub fn read_all() -> Self {
        Self::up_to(Access::Read)
    }

    /// `write-all`.
    pub fn write_all() -> Self {
        Self::up_to(Access::Write)
    }

    fn up_to(most: Access) -> Self {
        PERMISSION_KEYS.iter().fold(Self::none(), |all, key| {
            let access = allowed(key).iter().copied().filter(|access| *access <= most).max();
            all.with(key, access.unwrap_or_default())
        })
    }

    /// The same with `key` set.
    #[must_use]
    pub fn with(mut self, key: &str, access: Access) -> Self {
        if access == Access::None {
            self.granted.remove(key);
        } else {
            self.granted.insert(key.to_owned(), access);
        }
        self
    }

    /// What is left where nothing may be written: a key that knows no `read` is gone.
    #[must_use]
    pub fn read_only(&self) -> Self {
        self.iter().fold(Self::none(), |left, (key, access)| {
            let most = access.min(Access::Read);
            if allowed(key).contains(&most) { left.with(key, most) } else { left }
        })
    }

    /// How much of `key` is granted.
    pub fn get(&self, key: &str) -> Access {
        self.granted.get(key).copied().unwrap_or_default()
    }

    /// What is granted, by name; never [`Access::None`].
    pub fn iter(&self) -> impl Iterator<Item = (&str, Access)> {
        self.granted.iter().map(|(key, access)| (key.as_str(), *access))
    }

    /// What this set grants beyond `limit`, by name.
    pub fn beyond<'a>(&'a self, limit: &'a Self) -> impl Iterator<Item = (&'a str, Access)> {
        self.iter().filter(|(key, access)| *access > limit.get(key))
    }
}
