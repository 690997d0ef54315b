//! Names of git repositories, as ADD and build contexts take them.
//!
//! ```text
//! https://host/path.git[#ref[:folder]]     git://host/path     ssh://user@host/path
//! git@host:path.git[#ref[:folder]]         …?branch=b&subdir=d&keep-git-dir=true
//! ```
//!
//! Source: "Adding files from a Git repository" of the Dockerfile reference; BuildKit's `dfgitutil`.

/// A git repository, and what of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitRef {
    /// What git is to fetch from, without fragment and query.
    pub remote: String,
    /// A branch, tag, full reference or commit; the remote's HEAD without.
    pub reference: Option<String>,
    /// A folder in it, without slashes at its ends; the root without.
    pub subdir: Option<String>,
    /// The commit that the reference must be, in full.
    pub checksum: Option<String>,
    /// Whether `.git` comes along.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched; they are without.
    pub submodules: Option<bool>,
}

/// Protocols of repositories, with whether the path must end with `.git` to tell it from a file.
const SCHEMES: [(&str, bool); 4] =
    [("https://", true), ("http://", true), ("git://", false), ("ssh://", false)];

impl GitRef {
    /// Reads a name; `None` when it names no git repository.
    ///
    /// # Errors
    /// It names one, and what it says of it cannot be meant: which, in a clause.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let (rest, fragment) = match text.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (text, None),
        };
        let (remote, query) = match rest.split_once('?') {
            Some((remote, query)) => (remote, Some(query)),
            None => (rest, None),
        };
        if !is_git(remote) {
            return Ok(None);
        }
        let mut git = Self { remote: remote.to_owned(), ..Self::default() };
        if let Some(fragment) = fragment {
            let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
            git.reference = some(reference);
            git.subdir = some(subdir.trim_matches('/'));
        }
        if let Some(query) = query {
            git.query(query)?;
        }
        git.check()?;
        Ok(Some(git))
    }

    fn query(&mut self, query: &str) -> Result<(), String> {
        let mut seen: Vec<&str> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&key) {
                return Err(format!("`{key}` stands twice in the query"));
            }
            seen.push(key);
            let value = decode(value).ok_or_else(|| format!("`{key}` is badly encoded"))?;
            let switch = match value.as_str() {
                "" | "1" | "true" | "TRUE" | "True" | "t" | "T" => Some(true),
                "0" | "false" | "FALSE" | "False" | "f" | "F" => Some(false),
                _ => None,
            };
            let bad = || format!("`{key}` is `{value}`, not true or false");
            match key {
                "keep-git-dir" => self.keep_git_dir = Some(switch.ok_or_else(bad)?),
                "submodules" => self.submodules = Some(switch.ok_or_else(bad)?),
                // Asked for anyway: a full commit is fetched by itself.
                "fetch-by-commit" => drop(switch.ok_or_else(bad)?),
                _ if value.is_empty() => return Err(format!("`{key}` has no value")),
                "ref" => same(&mut self.reference, value, "ref")?,
                "tag" => same(&mut self.reference, full("refs/tags/", &value), "ref")?,
                "branch" => same(&mut self.reference, full("refs/heads/", &value), "ref")?,
                "subdir" => same(&mut self.subdir, value.trim_matches('/').to_owned(), "subdir")?,
                "checksum" | "commit" => same(&mut self.checksum, value, "checksum")?,
                other => return Err(format!("`{other}` is not known in the query of a git URL")),
            }
        }
        Ok(())
    }

    /// Nothing may look like an option to git, or lead out of the checkout.
    fn check(&self) -> Result<(), String> {
        let bad_ref = |text: &String| {
            text.starts_with('-')
                || text.contains("..")
                || text.contains([' ', ':', '~', '^', '\\'])
                || text.contains(char::is_control)
        };
        if let Some(reference) = self.reference.as_ref().filter(|text| bad_ref(text)) {
            return Err(format!("`{reference}` is no name of a branch, tag or commit"));
        }
        if let Some(subdir) = &self.subdir
            && (subdir.split('/').any(|part| part == ".." || part == ".git")
                || subdir.contains(char::is_control))
        {
            return Err(format!("the folder `{subdir}` leads out of the checkout"));
        }
        match &self.checksum {
            Some(sum) if sum.len() < 7 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Err(format!("`{sum}` is no commit: write its hexadecimal digits"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the reference is a commit in full, which never means another one.
    pub fn is_pinned(&self) -> bool {
        self.reference.as_deref().is_some_and(is_commit)
    }
}

/// Forty digits of SHA-1, or sixty-four of SHA-256.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_git(remote: &str) -> bool {
    if remote.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return false;
    }
    for (scheme, needs_suffix) in SCHEMES {
        if let Some(rest) = remote.strip_prefix(scheme) {
            // A host that begins with a dash is an option to ssh: CVE-2017-1000117.
            let host = rest.split('/').next().and_then(|authority| authority.rsplit('@').next());
            let plain = host.is_some_and(|host| !host.is_empty() && !host.starts_with('-'));
            return plain && !rest.starts_with('-') && (!needs_suffix || rest.ends_with(".git"));
        }
    }
    // `user@host:path`, as scp writes it; with `://` in it, it is an address of something else.
    if remote.contains("://") {
        return false;
    }
    let Some((user, rest)) = remote.split_once('@') else { return false };
    let name = |text: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !text.is_empty() && !text.starts_with('-') && text.bytes().all(fits)
    };
    let Some((host, path)) = rest.split_once(':') else { return false };
    name(user) && name(host) && !path.is_empty() && !path.starts_with('-')
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn full(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

fn same(slot: &mut Option<String>, value: String, what: &str) -> Result<(), String> {
    match slot {
        Some(known) if *known != value => {
            Err(format!("`{what}` is said twice: `{known}` and `{value}`"))
        }
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// Percent-encoding, and `+` for a blank.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        bytes.push(match first {
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                rest = &rest[2..];
                u8::from_str_radix(digits, 16).ok()?
            }
            b'+' => b' ',
            byte => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn git(remote: &str) -> GitRef {
        GitRef { remote: remote.to_owned(), ..GitRef::default() }
    }

    #[test]
    fn names_of_repositories() {
        let some = |text: &str| Some(text.to_owned());
        for (text, want) in [
            ("https://h/a/b.git", git("https://h/a/b.git")),
            (
                "https://h/b.git#v1:sub/dir",
                GitRef { reference: some("v1"), subdir: some("sub/dir"), ..git("https://h/b.git") },
            ),
            ("git@h:a/b.git#:docs", GitRef { subdir: some("docs"), ..git("git@h:a/b.git") }),
            ("git://h/b", git("git://h/b")),
            ("ssh://git@h:22/b#x", GitRef { reference: some("x"), ..git("ssh://git@h:22/b") }),
            (
                "http://h/b.git?tag=v1&subdir=/d/&keep-git-dir=true&submodules=0&commit=abcdef1",
                GitRef {
                    reference: some("refs/tags/v1"),
                    subdir: some("d"),
                    checksum: some("abcdef1"),
                    keep_git_dir: Some(true),
                    submodules: Some(false),
                    ..git("http://h/b.git")
                },
            ),
            (
                "https://h/b.git?branch=feature%2Fx",
                GitRef { reference: some("refs/heads/feature/x"), ..git("https://h/b.git") },
            ),
            (
                "https://h/b.git?keep-git-dir",
                GitRef { keep_git_dir: Some(true), ..git("https://h/b.git") },
            ),
        ] {
            assert_eq!(GitRef::parse(text), Ok(Some(want)), "{text}");
        }
        for text in [
            "https://h/file.tar.gz",
            "b.git",
            "./x@y:z",
            "a/b",
            "",
            "@h:x",
            "u@-h:x",
            "ssh://-oX=y/b",
            "ssh://u@-oX=y/b",
            "git://h/a\nb",
            "u@h://o/b",
        ] {
            assert_eq!(GitRef::parse(text), Ok(None), "{text}");
        }
        assert!(GitRef { reference: some(&"a".repeat(40)), ..git("x") }.is_pinned());
        assert!(!GitRef { reference: some("main"), ..git("x") }.is_pinned());
    }

    #[test]
    fn what_cannot_be_meant() {
        for (text, want) in [
            ("https://h/b.git?ref=a#b", "`ref` is said twice: `b` and `a`"),
            ("https://h/b.git?tag=a&branch=a", "`ref` is said twice"),
            ("https://h/b.git?nope=1", "`nope` is not known in the query of a git URL"),
            ("https://h/b.git?ref=", "`ref` has no value"),
            ("https://h/b.git?ref=a&ref=a", "`ref` stands twice in the query"),
            ("https://h/b.git?submodules=x", "`submodules` is `x`, not true or false"),
            ("https://h/b.git#--upload-pack=x", "`--upload-pack=x` is no name"),
            ("https://h/b.git#a:../x", "the folder `../x` leads out of the checkout"),
            ("https://h/b.git?checksum=xyz", "`xyz` is no commit"),
            ("https://h/b.git?ref=a%0ab", "`a\nb` is no name"),
            ("https://h/b.git?subdir=a%00b", "the folder `a\0b` leads out"),
        ] {
            let error = GitRef::parse(text).unwrap_err();
            assert!(error.starts_with(want), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(https://h/b\\.git|git@h:p|ssh://h)?[#?&=:%a-z0-9./@+-]{0,24}") {
            let _ = GitRef::parse(&text);
        }
    }
}
