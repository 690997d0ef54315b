//! `--mount=` of a RUN.

use super::Span;
use crate::expand::Lookup;

/// `--mount=` of a RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `type=` and what belongs to it.
    pub kind: MountKind,
    /// `target=`, `dst=`, `destination=`: where in the container. Required but for secrets and ssh.
    pub target: Option<String>,
    /// `readonly`, `ro` (true) or `readwrite`, `rw` (false); `None` is the default of the kind.
    pub readonly: Option<bool>,
    /// Where the flag stands.
    pub span: Span,
    /// As written, without its quotes. Where fields hold variables, those above are not known yet:
    /// see [`Mount::expanded`].
    pub raw: String,
}

impl Mount {
    /// The mount with the variables in its fields replaced; `from` and `type` cannot hold any.
    ///
    /// # Errors
    /// What is wrong with the mount, or with a variable in it.
    pub fn expanded(&self, escape: char, lookup: &Lookup<'_>) -> Result<Self, String> {
        crate::parse::expand_mount(self, escape, lookup)
    }
}

/// What a mount is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image. Read-only by default.
    Bind {
        /// A stage or image; the context without.
        from: Option<String>,
        /// A path in it; its root without.
        source: Option<String>,
    },
    /// A folder that outlives the build.
    Cache {
        /// Which; the target without.
        id: Option<String>,
        /// A stage or image to start from.
        from: Option<String>,
        /// A path in it.
        source: Option<String>,
        /// Who may use it at once.
        sharing: CacheSharing,
        /// Of the folder, when it is made.
        mode: Option<u32>,
        /// Of the folder, when it is made.
        uid: Option<u32>,
        /// Of the folder, when it is made.
        gid: Option<u32>,
    },
    /// Memory.
    Tmpfs {
        /// In bytes.
        size_bytes: Option<u64>,
    },
    /// A file or variable that does not stay in the image.
    Secret {
        /// Which; the last component of the target without.
        id: Option<String>,
        /// The variable to put it into.
        env: Option<String>,
        /// Its absence is an error.
        required: bool,
        /// Of the file; 0o400 without.
        mode: Option<u32>,
        /// Of the file.
        uid: Option<u32>,
        /// Of the file.
        gid: Option<u32>,
    },
    /// The socket of an ssh agent.
    Ssh {
        /// Which; `default` without.
        id: Option<String>,
        /// Its absence is an error.
        required: bool,
        /// Of the socket; 0o600 without.
        mode: Option<u32>,
        /// Of the socket.
        uid: Option<u32>,
        /// Of the socket.
        gid: Option<u32>,
    },
}

/// Who may use a cache mount at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheSharing {
    /// All.
    #[default]
    Shared,
    /// Each its own.
    Private,
    /// One after the other.
    Locked,
}
