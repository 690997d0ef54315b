//! Paths of entries.

use std::fmt;

use super::read::AbsolutePaths;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathProblem {
    /// It starts with `/`.
    Absolute,
    /// It has a `..` component.
    Parent,
    /// It holds a NUL byte.
    Nul,
    /// It is empty, or names the root where a file is meant.
    Empty,
    /// It has an empty or `.` component, or `/` at its end.
    NotNormal,
}

impl fmt::Display for PathProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absolute => "is absolute",
            Self::Parent => "leads out of its folder with `..`",
            Self::Nul => "holds a NUL byte",
            Self::Empty => "names the root or nothing",
            Self::NotNormal => "has an empty or `.` component",
        })
    }
}

/// A path without leading, doubled or trailing `/` and without `.`; empty for the root.
pub fn normalise(path: &[u8], absolute: AbsolutePaths) -> Result<Vec<u8>, PathProblem> {
    if path.is_empty() {
        return Err(PathProblem::Empty);
    }
    if path.contains(&0) {
        return Err(PathProblem::Nul);
    }
    if path[0] == b'/' && absolute == AbsolutePaths::Reject {
        return Err(PathProblem::Absolute);
    }
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(PathProblem::Parent),
            _ => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(component);
            }
        }
    }
    Ok(clean)
}

/// Folder and last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// A path for people: what is not UTF-8 is replaced, control characters are escaped.
pub fn display_path(path: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(path).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises() {
        for (path, want) in [
            ("a/b", Ok("a/b")),
            ("./a//b/./c/", Ok("a/b/c")),
            ("./", Ok("")),
            (".", Ok("")),
            ("a/../b", Err(PathProblem::Parent)),
            ("..", Err(PathProblem::Parent)),
            ("a..b/...", Ok("a..b/...")),
            ("/a", Err(PathProblem::Absolute)),
            ("", Err(PathProblem::Empty)),
            ("a\0b", Err(PathProblem::Nul)),
        ] {
            let want = want.map(|text| text.as_bytes().to_vec());
            assert_eq!(normalise(path.as_bytes(), AbsolutePaths::Reject), want, "{path:?}");
        }
        let root = normalise(b"//a", AbsolutePaths::MakeRelative);
        assert_eq!(root, Ok(b"a".to_vec()));
        assert_eq!(display_path(b"a\n\xff"), "a\\n\u{fffd}");
    }
}
