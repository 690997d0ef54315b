//! Image references: `[registry/]repository[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, DigestError};

/// Longest repository name, in bytes. The distribution-spec asks clients to keep `host/name`
/// within 255 bytes.
pub const MAX_REPOSITORY_LEN: usize = 255;

/// Longest tag, in bytes: distribution-spec 1.1, "Pulling manifests".
pub const MAX_TAG_LEN: usize = 128;

/// The registry that a short name like `debian` means.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Why a text is no image reference, or no part of one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// Empty, too long, or with a character that is not allowed there.
    #[error("`{0}` is no repository name: use lower-case letters, digits, `.`, `_`, `-` and `/`")]
    Repository(String),
    /// Empty, too long, or with a character that is not allowed there.
    #[error("`{0}` is no tag: use up to 128 letters, digits, `.`, `_` and `-`")]
    Tag(String),
    /// In front of the first `/` stands what looks like a registry and is no host.
    #[error("`{0}` is no registry: write `host` or `host:port`")]
    Registry(String),
    /// What follows `@` is no digest.
    #[error("image reference `{reference}` has a bad digest")]
    Digest {
        /// The whole text.
        reference: String,
        /// What is wrong with the digest.
        #[source]
        source: DigestError,
    },
}

/// A repository name, such as `acme/app`.
///
/// Source: distribution-spec 1.1, "Pulling manifests":
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`. Such a name has no
/// empty, `.` or `..` component, so it is safe as a relative path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName(String);

impl RepositoryName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn component_is_valid(component: &str) -> bool {
    let alnum = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().is_some_and(|b| alnum(*b)) || !bytes.last().is_some_and(|b| alnum(*b)) {
        return false;
    }
    // Between two alphanumerics stands one of: `.`, `_`, `__`, one or more `-`.
    bytes
        .split(|b| alnum(*b))
        .filter(|run| !run.is_empty())
        .all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-'))
}

impl FromStr for RepositoryName {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > MAX_REPOSITORY_LEN || !text.split('/').all(component_is_valid) {
            return Err(ReferenceError::Repository(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A tag, such as `v1.2`: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let good = text.len() <= MAX_TAG_LEN
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
        if good { Ok(Self(text.to_owned())) } else { Err(ReferenceError::Tag(text.to_owned())) }
    }
}

macro_rules! text_like {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ReferenceError;

            fn try_from(text: String) -> Result<Self, ReferenceError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

text_like!(RepositoryName);
text_like!(Tag);

/// Where an image is: `[registry/]repository[:tag][@digest]`.
///
/// A first component with a `.` or `:`, or `localhost`, is the registry; without one the registry
/// is `docker.io`, and a name of one component there gets `library/` in front, as Docker does.
/// With neither tag nor digest the tag is `latest`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    /// Host and, where given, port: `docker.io`, `127.0.0.1:5000`.
    pub registry: String,
    /// The repository in that registry.
    pub repository: RepositoryName,
    /// `None` only when there is a digest.
    pub tag: Option<Tag>,
    /// Wins over the tag when both are given.
    pub digest: Option<Digest>,
}

/// A name or an address, and a port where there is one. Source: the grammar of `domain` in
/// distribution's `reference` package, and underscores, which some networks have in names.
fn is_host(registry: &str) -> bool {
    let is_port =
        |port: &str| port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = registry.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else { return false };
        let has_port = after.strip_prefix(':').is_some_and(is_port);
        return address.parse::<std::net::Ipv6Addr>().is_ok() && (after.is_empty() || has_port);
    }
    let (host, port) = match registry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_part = |part: &str| {
        let ends = [part.bytes().next(), part.bytes().last()];
        ends.iter().all(|end| end.is_some_and(word)) && part.bytes().all(|b| word(b) || b == b'-')
    };
    host.split('.').all(is_part) && port.is_none_or(is_port)
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let parsed = digest.parse().map_err(|source| ReferenceError::Digest {
                    reference: text.to_owned(),
                    source,
                })?;
                (rest, Some(parsed))
            }
        };
        let is_registry =
            |first: &str| first == "localhost" || first.contains('.') || first.contains(':');
        let (registry, path) = match rest.split_once('/') {
            Some((first, path)) if is_registry(first) => (first, path),
            _ => (DEFAULT_REGISTRY, rest),
        };
        if !is_host(registry) {
            return Err(ReferenceError::Registry(registry.to_owned()));
        }
        let (name, tag) = match path.rsplit_once(':') {
            Some((name, tag)) => (name, Some(tag.parse()?)),
            None => (path, None),
        };
        let repository = if registry == DEFAULT_REGISTRY && !name.contains('/') {
            format!("library/{name}").parse()
        } else {
            name.parse()
        };
        let repository = repository.map_err(|_| ReferenceError::Repository(name.to_owned()))?;
        let tag = match (tag, &digest) {
            (None, None) => Some(Tag("latest".to_owned())),
            (tag, _) => tag,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let parsed: ImageReference = text.parse().unwrap();
        assert_eq!(parsed.to_string(), want, "{text}");
        assert_eq!(parsed.to_string().parse(), Ok(parsed));
    }

    #[test]
    fn short_names_mean_what_docker_means() {
        let digest = Digest::sha256(b"").to_string();
        check("debian", "docker.io/library/debian:latest");
        check("acme/app:v1", "docker.io/acme/app:v1");
        check("127.0.0.1:5000/hello", "127.0.0.1:5000/hello:latest");
        check("localhost/a/b:c", "localhost/a/b:c");
        check("sekisho.local/debian:bookworm", "sekisho.local/debian:bookworm");
        check(&format!("ghcr.io/a/b@{digest}"), &format!("ghcr.io/a/b@{digest}"));
        check(&format!("ghcr.io/a/b:t@{digest}"), &format!("ghcr.io/a/b:t@{digest}"));
    }

    #[test]
    fn repository_names_follow_the_spec() {
        for good in ["a", "a/b", "a.b", "a_b", "a__b", "a---b", "blobs/uploads", "0"] {
            assert_eq!(good.parse::<RepositoryName>().map(String::from), Ok(good.to_owned()));
        }
        let long = "a".repeat(MAX_REPOSITORY_LEN + 1);
        for bad in ["", "/", "a/", "/a", "A", "a..b", "a._b", "a___b", "-a", "a/../b", "ü", &long]
        {
            assert_eq!(
                bad.parse::<RepositoryName>(),
                Err(ReferenceError::Repository(bad.into())),
                "{bad}"
            );
        }
    }

    #[test]
    fn bad_references_say_what_is_bad() {
        assert_eq!("a:b c".parse::<ImageReference>(), Err(ReferenceError::Tag("b c".into())));
        assert_eq!("".parse::<ImageReference>(), Err(ReferenceError::Repository("".into())));
        assert!(matches!(
            "a@sha256:1".parse::<ImageReference>(),
            Err(ReferenceError::Digest { .. })
        ));
        for bad in ["..", "a b.c", "a:b", "a..b", "-a.b", ".", "a:99999", "[::1", "[::1]x"] {
            let want = Err(ReferenceError::Registry(bad.into()));
            assert_eq!(format!("{bad}/app").parse::<ImageReference>(), want, "{bad}");
        }
        check("[::1]:5000/a", "[::1]:5000/a:latest");
        let long = "t".repeat(MAX_TAG_LEN + 1);
        assert_eq!(long.parse::<Tag>(), Err(ReferenceError::Tag(long.clone())));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in "[a-zA-Z0-9.:/@_-]{0,40}") {
            if let Ok(reference) = text.parse::<ImageReference>() {
                prop_assert_eq!(reference.to_string().parse(), Ok(reference));
            }
        }
    }
}
