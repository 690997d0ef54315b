//! Where a repository is.

use std::fmt;
use std::net::IpAddr;

use url::Url;

use sekisho_types::{Digest, ImageReference, RepositoryName, Tag};

use crate::error::RegistryError;
use crate::http::Client;

/// A repository in a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// Host and, where given, port: `docker.io`, `127.0.0.1:5000`.
    pub registry: String,
    /// The name in that registry.
    pub name: RepositoryName,
}

impl Repository {
    /// The repository of an image.
    pub fn of(image: &ImageReference) -> Self {
        Self { registry: image.registry.clone(), name: image.repository.clone() }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

impl Client {
    /// Where a registry is, by its name and what the options say of it.
    pub(crate) fn home(&self, registry: &str, tail: &str) -> Result<Url, RegistryError> {
        let base = base(registry, self.options.plain_http.contains(registry));
        Url::parse(&format!("{base}{tail}")).map_err(|_| self.no_registry(registry))
    }

    /// `scheme://host/v2/name/tail`. The tail comes from digests, tags and fixed words only.
    pub(crate) fn url(&self, repository: &Repository, tail: &str) -> Result<Url, RegistryError> {
        self.home(&repository.registry, &format!("/v2/{}/{tail}", repository.name))
    }
}

/// A manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// By its tag.
    Tag(Tag),
    /// By its digest.
    Digest(Digest),
}

impl Reference {
    /// What an image reference names: its digest, else its tag.
    pub fn of(image: &ImageReference) -> Option<Self> {
        let digest = image.digest.clone().map(Self::Digest);
        digest.or_else(|| image.tag.clone().map(Self::Tag))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// `https://host`, or `http://host` for this machine and where `plain` says so. Docker's short name is not where
/// it serves.
///
/// A mirror may be named with its scheme.
pub(crate) fn base(registry: &str, plain: bool) -> String {
    if registry.starts_with("http://") || registry.starts_with("https://") {
        return registry.trim_end_matches('/').to_owned();
    }
    let host = match registry {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    };
    let scheme = if plain || is_loopback_registry(registry) { "http" } else { "https" };
    format!("{scheme}://{host}")
}

fn is_loopback_registry(registry: &str) -> bool {
    Url::parse(&format!("http://{registry}")).is_ok_and(|url| is_loopback(&url))
}

/// 127.0.0.0/8, `::1`, `localhost`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(url::Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// Whether a name or address may lead to this machine: also the names below `localhost` (RFC 6761, section
/// 6.3), and the unspecified address, which Linux connects to itself.
pub(crate) fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(url::Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(url::Host::Ipv6(address)) => {
            let address = IpAddr::V6(address).to_canonical();
            address.is_loopback() || address.is_unspecified()
        }
        None => false,
    }
}

/// Whether `to` may be asked because `from` said so: https anywhere; plain http on this machine, if
/// `from` is on this machine too, and where `from` itself is. A registry must not make a client talk to what
/// runs beside it.
pub(crate) fn may_follow(from: &Url, to: &Url) -> bool {
    match to.scheme() {
        "https" => !is_here(to) || is_loopback(from),
        "http" => is_loopback(from) && is_loopback(to) || same_origin(from, to),
        _ => false,
    }
}

/// Whether credentials for `a` may go to `b`.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_plain_http() {
        for (registry, want) in [
            ("docker.io", "https://registry-1.docker.io"),
            ("ghcr.io", "https://ghcr.io"),
            ("localhost:5000", "http://localhost:5000"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("127.9.9.9", "http://127.9.9.9"),
            ("[::1]:80", "http://[::1]:80"),
            ("localhost.example:5000", "https://localhost.example:5000"),
            ("128.0.0.1", "https://128.0.0.1"),
            ("https://localhost:5000/", "https://localhost:5000"),
        ] {
            assert_eq!(base(registry, false), want);
        }
        assert_eq!(base("registry.lan:5000", true), "http://registry.lan:5000");
        let image: ImageReference = "127.0.0.1:5/a/b:c".parse().unwrap();
        let client = Client::new(crate::auth::Keyring::anonymous());
        let url = client.url(&Repository::of(&image), "manifests/c").unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:5/v2/a/b/manifests/c");
        assert_eq!(Reference::of(&image).unwrap().to_string(), "c");
    }

    #[test]
    fn redirects_do_not_lead_inside() {
        for (from, to, want) in [
            ("https://a/", "https://b/", true),
            ("https://a/", "http://a/", false),
            ("https://a/", "http://127.0.0.1/", false),
            ("https://a/", "https://localhost/", false),
            ("https://a/", "https://b.localhost./", false),
            ("https://a/", "https://0.0.0.0/", false),
            ("https://a/", "https://[::]/", false),
            ("https://a/", "https://[::ffff:127.0.0.1]/", false),
            ("http://127.0.0.1:1/", "http://localhost:2/", true),
            ("http://127.0.0.1:1/", "https://b/", true),
            ("https://a/", "file:///etc/passwd", false),
            ("http://a/", "http://a/x", true),
            ("http://a/", "http://a:81/", false),
            ("http://a/", "http://b/", false),
            ("http://a/", "http://127.0.0.1/", false),
            ("http://a/", "https://127.0.0.1/", false),
        ] {
            let (from, to) = (Url::parse(from).unwrap(), Url::parse(to).unwrap());
            assert_eq!(may_follow(&from, &to), want, "{from} {to}");
        }
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(same_origin(&url("https://a/x"), &url("https://a:443/y")));
        assert!(!same_origin(&url("https://a/"), &url("https://a:444/")));
        assert!(!same_origin(&url("https://a/"), &url("http://a:443/")));
    }
}
