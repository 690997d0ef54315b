//! `hashFiles()`: one SHA-256 over the SHA-256 digests of the files that match.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use regex::Regex;
use sha2::{Digest as _, Sha256};

/// Most entries that are looked at; a workspace has fewer, a mistaken glob may have more.
const MAX_ENTRIES: usize = 500_000;
/// Most files that are hashed.
const MAX_FILES: usize = 100_000;
/// Longest pattern, in bytes.
const MAX_PATTERN_LEN: usize = 4096;
const FOLLOW: &str = "--follow-symbolic-links";

/// The hash of the files in `workspace` that match, in hexadecimal; empty when none does.
///
/// A later pattern overrides an earlier one; `!` excludes. Only regular files inside the workspace
/// count; symbolic links are followed only when the first argument says so.
pub(crate) fn hash_files(workspace: &Path, patterns: &[String]) -> Result<String, String> {
    let follow = patterns.first().is_some_and(|p| p.eq_ignore_ascii_case(FOLLOW));
    // One argument may hold several patterns, one a line, as in a block scalar.
    let lines = patterns.iter().skip(usize::from(follow)).flat_map(|p| p.lines());
    let globs: Vec<Glob> = lines
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| Glob::parse(workspace, line))
        .collect::<Result<_, _>>()?;
    let mut files = BTreeSet::new();
    if globs.iter().any(|glob| !glob.negated) {
        let mut walk = Walk { workspace, globs: &globs, follow, seen: 0, files: &mut files };
        walk.folder(Path::new(""), 0)?;
    }
    let mut outer = Sha256::new();
    for file in &files {
        let digest = digest(&workspace.join(file)).map_err(|error| error.to_string())?;
        outer.update(digest);
    }
    Ok(if files.is_empty() { String::new() } else { hex::encode(outer.finalize()) })
}

fn digest(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut file = fs_err::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&chunk[..read]);
    }
}

struct Glob {
    negated: bool,
    regex: Regex,
}

impl Glob {
    fn parse(workspace: &Path, text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATTERN_LEN {
            return Err(format!("a pattern is longer than {MAX_PATTERN_LEN} bytes"));
        }
        let negated = text.starts_with('!');
        let text = text.strip_prefix('!').unwrap_or(text).trim();
        let workspace = workspace.to_string_lossy();
        let text = text.strip_prefix(&format!("{workspace}/")).unwrap_or(text);
        let text = text.strip_prefix("./").unwrap_or(text);
        if Path::new(text)
            .components()
            .any(|c| !matches!(c, Component::Normal(_) | Component::CurDir))
        {
            return Err(format!("pattern `{text}` leaves the workspace"));
        }
        let regex =
            Regex::new(&translate(text)).map_err(|_| format!("pattern `{text}` is wrong"))?;
        Ok(Self { negated, regex })
    }
}

/// A glob as a regular expression over a relative path. A pattern that names a folder matches
/// all that is in it.
fn translate(glob: &str) -> String {
    let mut regex = "^".to_owned();
    let segments: Vec<&str> = glob.split('/').filter(|s| !s.is_empty() && *s != ".").collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        if *segment == "**" {
            regex.push_str(if last { ".*" } else { "(?:[^/]+/)*" });
            continue;
        }
        let mut chars = segment.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' => regex.push_str("[^/]*"),
                '?' => regex.push_str("[^/]"),
                '[' => {
                    let class: String = chars.by_ref().take_while(|c| *c != ']').collect();
                    let (not, class) = match class.strip_prefix(['!', '^']) {
                        Some(rest) => ("^", rest.to_owned()),
                        None => ("", class),
                    };
                    let class = class.replace('\\', "\\\\").replace('[', "\\[");
                    regex.push_str(&format!(
                        "[{not}{}]",
                        class.replace('^', "\\^").replace('&', "\\&")
                    ));
                }
                '\\' => {
                    let next = chars.next().unwrap_or('\\');
                    regex.push_str(&regex::escape(&next.to_string()));
                }
                other => regex.push_str(&regex::escape(&other.to_string())),
            }
        }
        regex.push_str(if last { "(?:/.*)?" } else { "/" });
    }
    regex.push('$');
    regex
}

struct Walk<'a> {
    workspace: &'a Path,
    globs: &'a [Glob],
    follow: bool,
    seen: usize,
    files: &'a mut BTreeSet<PathBuf>,
}

impl Walk<'_> {
    fn folder(&mut self, relative: &Path, depth: usize) -> Result<(), String> {
        const MAX_DEPTH: usize = 100;
        if depth > MAX_DEPTH {
            return Err(format!("folders are nested deeper than {MAX_DEPTH}"));
        }
        let entries = fs_err::read_dir(self.workspace.join(relative)).map_err(|e| e.to_string())?;
        for entry in entries {
            let entry = entry.map_err(|error| error.to_string())?;
            self.seen += 1;
            if self.seen > MAX_ENTRIES || self.files.len() > MAX_FILES {
                return Err("there are too many files to look at".to_owned());
            }
            let path = relative.join(entry.file_name());
            let mut kind = entry.file_type().map_err(|error| error.to_string())?;
            if kind.is_symlink() {
                if !self.follow || !self.is_inside(&path) {
                    continue;
                }
                let Ok(meta) = fs_err::metadata(self.workspace.join(&path)) else { continue };
                kind = meta.file_type();
            }
            if kind.is_dir() {
                self.folder(&path, depth + 1)?;
            } else if kind.is_file() && self.matches(&path) {
                self.files.insert(path);
            }
        }
        Ok(())
    }

    /// Whether what a link leads to is in the workspace.
    fn is_inside(&self, path: &Path) -> bool {
        let real = |path: &Path| fs_err::canonicalize(path).ok();
        match (real(self.workspace), real(&self.workspace.join(path))) {
            (Some(workspace), Some(target)) => target.starts_with(workspace),
            _ => false,
        }
    }

    fn matches(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        let last = self.globs.iter().rev().find(|glob| glob.regex.is_match(&text));
        last.is_some_and(|glob| !glob.negated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        for (path, text) in
            [("a.lock", "1"), ("b/c.lock", "2"), ("b/d/e.lock", "3"), ("b/x.txt", "4"), (".h", "5")]
        {
            let path = temp.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        temp
    }

    fn of(texts: &[&str]) -> String {
        let mut outer = Sha256::new();
        for text in texts {
            outer.update(Sha256::digest(text.as_bytes()));
        }
        hex::encode(outer.finalize())
    }

    #[test]
    fn globs_choose_files() {
        let temp = workspace();
        let table: [(&[&str], &[&str]); 9] = [
            (&["a.lock"], &["1"]),
            (&["*.lock"], &["1"]),
            (&["**/*.lock"], &["1", "2", "3"]),
            (&["b/**"], &["2", "3", "4"]),
            (&["b"], &["2", "3", "4"]),
            (&["**/*.lock", "!b/d/**"], &["1", "2"]),
            (&["**/*.lock\n!a.lock"], &["2", "3"]),
            (&["b/[cx].*"], &["2", "4"]),
            (&["b/?.lock", ".h"], &["5", "2"]),
        ];
        for (patterns, want) in table {
            let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
            assert_eq!(hash_files(temp.path(), &patterns), Ok(of(want)), "{patterns:?}");
        }
        assert_eq!(hash_files(temp.path(), &["nope".to_owned()]), Ok(String::new()));
        assert!(hash_files(temp.path(), &["../x".to_owned()]).is_err());
    }

    #[test]
    fn links_are_followed_only_on_demand_and_inside() {
        let temp = workspace();
        let link = |to: &Path, name: &str| {
            fs_err::os::unix::fs::symlink(to, temp.path().join(name)).unwrap();
        };
        link(Path::new("a.lock"), "l.lock");
        link(Path::new("/etc/hostname"), "o.lock");
        let patterns = |all: &[&str]| all.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        assert_eq!(hash_files(temp.path(), &patterns(&["[lo].lock"])), Ok(String::new()));
        assert_eq!(hash_files(temp.path(), &patterns(&[FOLLOW, "[lo].lock"])), Ok(of(&["1"])));
    }

    proptest::proptest! {
        #[test]
        fn any_pattern_is_translated(pattern in ".{0,40}") {
            let _ = hash_files(Path::new("/nonexistent"), &[pattern]);
        }
    }
}
