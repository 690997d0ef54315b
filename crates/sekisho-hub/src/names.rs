//! Names that come from outside and end up in paths and arguments: checked once, here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest owner or repository name, in characters, as on GitHub.
const MAX_PART: usize = 100;
/// Longest ref that is accepted, in bytes.
const MAX_REF: usize = 1024;
/// First path segments that belong to other endpoints of the plane.
const RESERVED_OWNERS: [&str; 8] =
    ["actions", "api", "devstoreaccount1", "enterprises", "oidc", "token", "twirp", "v2"];

/// The name of a repository, `owner/name`, safe to be used as a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct RepoName {
    owner: String,
    name: String,
}

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NameError(String);

impl RepoName {
    /// From the two segments of a URL; `.git` at the end of the second is cut.
    pub(crate) fn new(owner: &str, name: &str) -> Result<Self, NameError> {
        let name = name.strip_suffix(".git").unwrap_or(name);
        check_part("owner", owner)?;
        check_part("repository", name)?;
        if RESERVED_OWNERS.iter().any(|reserved| owner.eq_ignore_ascii_case(reserved)) {
            return Err(NameError(format!("the owner name `{owner}` is reserved")));
        }
        Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
    }

    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Names compare ignoring case, as on GitHub: this is what to compare.
    pub(crate) fn key(&self) -> String {
        self.to_string().to_ascii_lowercase()
    }
}

fn check_part(what: &str, part: &str) -> Result<(), NameError> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let starts_well = part.starts_with(|c: char| c.is_ascii_alphanumeric());
    let ends_badly = [".git", ".lock", "."].iter().any(|end| part.ends_with(end));
    let plain = !part.contains("..") && part.chars().all(known);
    if part.len() <= MAX_PART && starts_well && !ends_badly && plain {
        return Ok(());
    }
    let shown: String = part.chars().take(MAX_PART).collect();
    Err(NameError(format!(
        "bad {what} name {shown:?}: letters, digits, `.`, `_` and `-`, beginning with a letter or digit, \
         without `..`, not ending in `.git`, `.lock` or `.`, at most {MAX_PART} long"
    )))
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl FromStr for RepoName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (owner, name) =
            text.split_once('/').ok_or_else(|| NameError("expected `owner/name`".to_owned()))?;
        Self::new(owner, name)
    }
}

impl TryFrom<String> for RepoName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<RepoName> for String {
    fn from(name: RepoName) -> Self {
        name.to_string()
    }
}

/// Whether `text` is a full object id: 40 lower-case hex digits.
pub(crate) fn is_sha(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether `text` may stand for a ref or its short form: the rules of git-check-ref-format(1)
/// that matter for an argument, and no leading dash.
pub(crate) fn is_plain_ref(text: &str) -> bool {
    let bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    !text.is_empty()
        && text.len() <= MAX_REF
        && !text.starts_with(['-', '/', '.'])
        && !text.ends_with(['/', '.'])
        && !text.ends_with(".lock")
        && !text.contains("..")
        && !text.contains("//")
        && !text.contains("@{")
        && !text.contains("/.")
        && !text.chars().any(bad)
}

/// Whether `path` is a relative path inside a repository without any trick in it.
pub(crate) fn is_plain_path(path: &str) -> bool {
    path.len() <= MAX_REF
        && !path.is_empty()
        && !path.chars().any(|c| c.is_control() || matches!(c, '"' | '\\'))
        && path.split('/').all(|part| {
            !part.is_empty() && part != "." && part != ".." && !part.eq_ignore_ascii_case(".git")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["acme/app", "a/b.c_d-e", "sekisho/pipeline.git", "1/2"] {
            let name: RepoName = good.parse().unwrap();
            assert_eq!(name.to_string(), good.trim_end_matches(".git"));
        }
        for bad in [
            "", "a", "a/", "/b", "a/..", "../b", "a/.git", "-a/b", "_hub/v1", "api/v3", "V2/x",
            "a/b.lock", "a/b..c", "a/b/c", "a b/c", "a/b\n", "a/b.", "é/b",
        ] {
            assert!(bad.parse::<RepoName>().is_err(), "{bad:?}");
        }
        assert!(RepoName::new("a", &"x".repeat(101)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_a_name_is_a_plain_path_and_ref(
            text in "([._a-zA-Z0-9/-]|[.]git|[.]lock|[.][.]|\\PC){0,12}",
        ) {
            if let Ok(name) = text.parse::<RepoName>() {
                let shown = name.to_string();
                proptest::prop_assert!(is_plain_path(&shown) && is_plain_ref(&shown), "{}", shown);
                proptest::prop_assert_eq!(shown.parse::<RepoName>().unwrap(), name);
            }
        }

        #[test]
        fn what_is_plain_stays_inside(text in "([./a~^:@{*-]|[.]git|\\PC|\\pC){0,12}") {
            use std::path::{Component, Path};

            let inside = |text: &str| {
                Path::new(text).components().all(|part| matches!(part, Component::Normal(_)))
            };
            if is_plain_path(&text) {
                proptest::prop_assert!(inside(&text) && !text.contains(char::is_control));
            }
            if is_plain_ref(&text) {
                proptest::prop_assert!(inside(&text) && !text.starts_with('-'));
            }
        }
    }

    #[test]
    fn refs_and_paths() {
        assert!(is_plain_ref("refs/heads/feature/a-b"));
        assert!(is_plain_ref("v1"));
        for bad in ["", "-x", "a..b", "a b", "a^{}", "/a", "a.lock", "x@{1}", "a\0"] {
            assert!(!is_plain_ref(bad), "{bad:?}");
        }
        assert!(is_plain_path(".github/workflows/a.yml"));
        for bad in ["", "/a", "a//b", "../a", "a/./b", "a\nb", ".git/config", "\"a"] {
            assert!(!is_plain_path(bad), "{bad:?}");
        }
        assert!(is_sha(&"0f".repeat(20)));
        assert!(!is_sha(&"0F".repeat(20)));
    }
}
