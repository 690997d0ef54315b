//! `cache-mode`: what a job may do with caches.

use serde::{Deserialize, Serialize};

use super::read::Reader;
use crate::yaml::Node;

/// What a job may do with caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheMode {
    /// Nothing.
    None,
    /// Find entries.
    Read,
    /// Make entries, without reading any: what it makes cannot depend on them.
    WriteOnly,
    /// Both.
    Write,
}

impl CacheMode {
    const ALL: [Self; 4] = [Self::None, Self::Read, Self::WriteOnly, Self::Write];

    /// As workflow files and runners have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::WriteOnly => "write-only",
            Self::Write => "write",
        }
    }

    /// Whether entries may be found.
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    /// Whether entries may be made.
    pub const fn writes(self) -> bool {
        matches!(self, Self::WriteOnly | Self::Write)
    }

    /// What both allow: a called workflow has no more than its caller.
    #[must_use]
    pub const fn within(self, limit: Self) -> Self {
        match (self.reads() && limit.reads(), self.writes() && limit.writes()) {
            (true, true) => Self::Write,
            (true, false) => Self::Read,
            (false, true) => Self::WriteOnly,
            (false, false) => Self::None,
        }
    }
}

impl Reader {
    /// One of the four words.
    pub(super) fn cache_mode(&mut self, node: &Node) -> Option<CacheMode> {
        let text = self.text(node, "cache-mode")?;
        let mode = CacheMode::ALL.into_iter().find(|mode| mode.as_str() == text);
        if mode.is_none() {
            let message = format!(
                "`cache-mode` must be `none`, `read`, `write-only` or `write`, not `{text}`"
            );
            self.fail(node.at, message);
        }
        mode
    }
}
