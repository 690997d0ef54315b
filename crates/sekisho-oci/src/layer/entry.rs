//! One entry of a layer.

use std::collections::BTreeMap;

use super::path;

/// A file whose name starts so removes its sibling of the rest of the name.
///
/// Source: OCI image-spec 1.1, layer.md, "Whiteouts".
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// A file of this name hides what lower layers have in its folder.
pub const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// One file, folder, link or device of a layer, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From the root of the image, without a leading or trailing `/`, without `.` and `..`; empty
    /// for the root itself. Bytes, for Linux names need not be UTF-8.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permissions, with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Last change, seconds since 1970 UTC. Fractions are dropped while reading.
    pub mtime: i64,
    /// Extended attributes: `user.x`, `security.capability`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Length of its data, in bytes.
        size: u64,
    },
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink {
        /// As it stands in the link; may be absolute, and may lead anywhere.
        target: Vec<u8>,
    },
    /// Another name of a file that came earlier, in this layer or a lower one.
    HardLink {
        /// In the form of [`Entry::path`].
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Driver.
        major: u32,
        /// Unit.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Driver.
        major: u32,
        /// Unit.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// What a whiteout takes away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whiteout {
    /// All that lower layers have in this folder; what this layer has stays.
    Opaque {
        /// In the form of [`Entry::path`].
        directory: Vec<u8>,
    },
    /// This path and all below it, in lower layers.
    Removed {
        /// In the form of [`Entry::path`].
        path: Vec<u8>,
    },
}

impl Entry {
    /// An entry of root's, without xattrs, from the epoch; `0o755` for a folder, else `0o644`.
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind) -> Self {
        let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
        Self { path: path.into(), kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
    }

    /// A regular file of `size` bytes.
    pub fn file(path: impl Into<Vec<u8>>, size: u64) -> Self {
        Self::new(path, EntryKind::File { size })
    }

    /// A folder.
    pub fn directory(path: impl Into<Vec<u8>>) -> Self {
        Self::new(path, EntryKind::Directory)
    }

    /// How many bytes of data follow.
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size } => size,
            _ => 0,
        }
    }

    /// The last component; empty for the root.
    pub fn file_name(&self) -> &[u8] {
        path::split(&self.path).1
    }

    /// The path for people: what is not UTF-8 is replaced.
    pub fn display_path(&self) -> String {
        path::display_path(&self.path)
    }

    /// What the entry removes, if it is a whiteout.
    ///
    /// A name of `.wh.` alone, and other names that start with `.wh..wh.`, are files of old aufs
    /// and name nothing: they give `None`, and are to be ignored, not unpacked.
    pub fn whiteout(&self) -> Option<Whiteout> {
        let (directory, name) = path::split(&self.path);
        if name == OPAQUE_MARKER {
            return Some(Whiteout::Opaque { directory: directory.to_vec() });
        }
        let hidden = name.strip_prefix(WHITEOUT_PREFIX)?;
        if hidden.is_empty() || hidden.starts_with(WHITEOUT_PREFIX) {
            return None;
        }
        Some(Whiteout::Removed { path: path::join(directory, hidden) })
    }

    /// Whether the name starts with [`WHITEOUT_PREFIX`]: such a file is never part of the image.
    pub fn is_whiteout_name(&self) -> bool {
        self.file_name().starts_with(WHITEOUT_PREFIX)
    }
}

/// The entry path that removes `path`.
pub fn whiteout(path: &[u8]) -> Vec<u8> {
    let (directory, name) = path::split(path);
    path::join(directory, &[WHITEOUT_PREFIX, name].concat())
}

/// The entry path that makes `directory` opaque.
pub fn opaque(directory: &[u8]) -> Vec<u8> {
    path::join(directory, OPAQUE_MARKER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_name_what_they_remove() {
        let removed = |text: &str| Some(Whiteout::Removed { path: text.into() });
        for (path, want) in [
            ("etc/.wh.profile", removed("etc/profile")),
            (".wh.b", removed("b")),
            ("a/.wh..wh..opq", Some(Whiteout::Opaque { directory: "a".into() })),
            (".wh..wh..opq", Some(Whiteout::Opaque { directory: "".into() })),
            ("b/not.a.wh..wh..opq", None),
            ("b/.wh.", None),
            ("b/.wh..wh.plnk", None),
            ("b/.wh.a/c", None),
        ] {
            assert_eq!(Entry::file(path, 0).whiteout(), want, "{path}");
        }
        assert_eq!(whiteout(b"a/b"), b"a/.wh.b");
        assert_eq!(whiteout(b"b"), b".wh.b");
        assert_eq!(opaque(b"a/b"), b"a/b/.wh..wh..opq");
        assert_eq!(opaque(b""), b".wh..wh..opq");
    }
}
