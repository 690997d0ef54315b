//! From the URL that a user gives to the addresses behind it.
//!
//! | URL | scope | REST prefix |
//! |---|---|---|
//! | `https://github.com/OWNER/REPO` | repository | `/repos/OWNER/REPO` |
//! | `https://github.com/ORG` | organization | `/orgs/ORG` |
//! | `https://github.com/enterprises/ENT` | enterprise | `/enterprises/ENT` |
//!
//! Source: protocol reference 1.1. Scheme and port are kept: a server on a port of its own is a
//! GHES, whatever its name.

use std::fmt;

use url::Url;

/// Longest name of an owner, a repository or an enterprise, in bytes.
const MAX_NAME_BYTES: usize = 100;

/// Longest URL, in bytes.
const MAX_URL_BYTES: usize = 1024;

/// Why a URL is not that of an account or a repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `http` or `https` URL with a host, or one with a password, a query or a fragment.
    #[error("`{0}` is no http or https URL of an account or a repository")]
    Url(String),
    /// Neither one nor two segments.
    #[error(
        "`{0}` names no account or repository: give https://HOST/OWNER/REPOSITORY, \
         https://HOST/ORGANIZATION or https://HOST/enterprises/ENTERPRISE"
    )]
    Path(String),
}

/// Whose runners, runs and tokens are meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One repository.
    Repository(Repository),
    /// An organization.
    Organization(String),
    /// An enterprise.
    Enterprise(String),
}

/// A repository by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// The owner's name.
    pub owner: String,
    /// The name without its owner.
    pub name: String,
}

/// Which of GitHub's products answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosting {
    /// github.com.
    GithubCom,
    /// An enterprise with data residency, `SUBDOMAIN.ghe.com`.
    GheCom,
    /// A server of the user's own; Sekisho's hub too.
    Ghes,
}

/// A URL that a user gave, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    web: Url,
    api: Url,
    hosting: Hosting,
    scope: Scope,
}

impl Address {
    /// Reads a URL. `force_ghes` is what `GITHUB_ACTIONS_FORCE_GHES` says to other programs: every
    /// host is a GHES.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(text: &str, force_ghes: bool) -> Result<Self, AddressError> {
        let bad = || AddressError::Url(text.chars().take(MAX_URL_BYTES).collect());
        if text.len() > MAX_URL_BYTES {
            return Err(bad());
        }
        let url = Url::parse(text).map_err(|_| bad())?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let host = url.host_str().filter(|_| plain).ok_or_else(bad)?.to_owned();
        let scope = scope(url.path()).ok_or_else(|| AddressError::Path(text.to_owned()))?;
        let mut web = url.clone();
        web.set_path("/");
        let (hosting, api) = match hosting(&host, url.port()).filter(|_| !force_ghes) {
            Some(Hosting::GithubCom) if host.ends_with(".com") => {
                (Hosting::GithubCom, "https://api.github.com/".to_owned())
            }
            Some(hosting) => (hosting, format!("{}://api.{host}/", url.scheme())),
            None => (Hosting::Ghes, format!("{web}api/v3/")),
        };
        let api = Url::parse(&api).map_err(|_| bad())?;
        Ok(Self { web, api, hosting, scope })
    }

    /// Where the pages are, with a `/` at the end.
    pub fn web(&self) -> &Url {
        &self.web
    }

    /// Where the REST API is, with a `/` at the end.
    pub fn api(&self) -> &Url {
        &self.api
    }

    /// Who answers.
    pub fn hosting(&self) -> Hosting {
        self.hosting
    }

    /// Whose.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The address of the place itself, as a registration names it.
    pub fn place(&self) -> String {
        format!("{}{}", self.web, self.scope)
    }

    /// The `iss` of the tokens that jobs get there, unless an enterprise chose one of its own.
    ///
    /// Source: protocol reference 7.2.
    pub fn token_issuer(&self) -> String {
        match self.hosting {
            Hosting::GithubCom => "https://token.actions.githubusercontent.com".to_owned(),
            Hosting::GheCom => {
                format!("https://token.actions.{}", self.web.host_str().unwrap_or_default())
            }
            Hosting::Ghes => format!("{}_services/token", self.web),
        }
    }
}

fn hosting(host: &str, port: Option<u16>) -> Option<Hosting> {
    // A host with a port of its own is none of GitHub's.
    if port.is_some() {
        return None;
    }
    match host {
        "github.com" | "www.github.com" | "github.localhost" => Some(Hosting::GithubCom),
        host if host.ends_with(".ghe.com") || host.ends_with(".ghe.localhost") => {
            Some(Hosting::GheCom)
        }
        _ => None,
    }
}

fn scope(path: &str) -> Option<Scope> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    if !parts.iter().all(|part| is_name(part)) {
        return None;
    }
    match parts.as_slice() {
        ["enterprises"] => None,
        ["enterprises", enterprise] => Some(Scope::Enterprise((*enterprise).to_owned())),
        [organization] => Some(Scope::Organization((*organization).to_owned())),
        [owner, name] => Repository::new(owner, name).map(Scope::Repository),
        _ => None,
    }
}

fn is_name(part: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&part.len())
        && !matches!(part, "." | "..")
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

impl Repository {
    /// From the two parts of the name; `None` if one is none. `.git` at the end is cut.
    pub fn new(owner: &str, name: &str) -> Option<Self> {
        let name = name.strip_suffix(".git").unwrap_or(name);
        let both = is_name(owner) && is_name(name);
        both.then(|| Self { owner: owner.to_owned(), name: name.to_owned() })
    }
}

impl Scope {
    /// Whether a repository is of it, whichever letter case is used. Which organizations an enterprise has
    /// nobody tells: it is taken to have all.
    pub fn covers(&self, repository: &Repository) -> bool {
        let is = |ours: &str, theirs: &str| ours.eq_ignore_ascii_case(theirs);
        match self {
            Self::Repository(it) => {
                is(&it.owner, &repository.owner) && is(&it.name, &repository.name)
            }
            Self::Organization(owner) => is(owner, &repository.owner),
            Self::Enterprise(_) => true,
        }
    }

    /// The segments of its REST prefix.
    pub fn segments(&self) -> Vec<&str> {
        match self {
            Self::Repository(it) => vec!["repos", &it.owner, &it.name],
            Self::Organization(name) => vec!["orgs", name],
            Self::Enterprise(name) => vec!["enterprises", name],
        }
    }

    /// The permission that a credential needs to look after runners there.
    pub(super) fn runner_permission(&self) -> &'static str {
        match self {
            Self::Repository(_) => "administration: write",
            Self::Organization(_) => "organization_self_hosted_runners: write",
            Self::Enterprise(_) => "manage_runners:enterprise (a personal token)",
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(it) => it.fmt(f),
            Self::Organization(name) => f.write_str(name),
            Self::Enterprise(name) => write!(f, "enterprises/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_its_own_repositories_in_any_letter_case() {
        let app = Repository::new("Acme", "App").unwrap();
        for (text, want) in [
            ("https://github.com/acme/app", true),
            ("https://github.com/acme/web", false),
            ("https://github.com/other/app", false),
            ("https://github.com/ACME", true),
            ("https://github.com/other", false),
            ("https://github.com/enterprises/big", true),
        ] {
            assert_eq!(Address::parse(text, false).unwrap().scope().covers(&app), want, "{text}");
        }
    }

    #[track_caller]
    fn check(text: &str, api: &str, hosting: Hosting, prefix: &str, issuer: &str) {
        let address = Address::parse(text, false).unwrap();
        let got = (
            address.api().as_str(),
            address.hosting(),
            address.scope().segments().join("/"),
            address.token_issuer(),
        );
        assert_eq!(got, (api, hosting, prefix.to_owned(), issuer.to_owned()), "{text}");
    }

    #[test]
    fn the_forms_of_a_url() {
        let github = "https://token.actions.githubusercontent.com";
        let com = "https://api.github.com/";
        check("https://github.com/o/r", com, Hosting::GithubCom, "repos/o/r", github);
        check("https://www.github.com/o/r.git/", com, Hosting::GithubCom, "repos/o/r", github);
        check("http://GitHub.com/Acme", com, Hosting::GithubCom, "orgs/Acme", github);
        check(
            "https://github.com/enterprises/e//",
            com,
            Hosting::GithubCom,
            "enterprises/e",
            github,
        );
        let local = "http://api.github.localhost/";
        check("http://github.localhost/o", local, Hosting::GithubCom, "orgs/o", github);
        let api = "https://api.acme.ghe.com/";
        let issuer = "https://token.actions.acme.ghe.com";
        check("https://acme.ghe.com/o/r", api, Hosting::GheCom, "repos/o/r", issuer);
        // A port makes a GHES of every host.
        for host in
            ["https://ghes.example", "http://127.0.0.1:8080", "http://github.localhost:80801"]
        {
            let host = host.replace("80801", "8081");
            let (api, issuer) = (format!("{host}/api/v3/"), format!("{host}/_services/token"));
            check(&format!("{host}/o/r"), &api, Hosting::Ghes, "repos/o/r", &issuer);
        }
        let forced = Address::parse("https://github.com/o", true).unwrap();
        assert_eq!(forced.api().as_str(), "https://github.com/api/v3/");
    }

    #[test]
    fn what_is_no_address() {
        for bad in [
            "",
            "github.com/o/r",
            "ftp://github.com/o",
            "https://github.com",
            "https://github.com/",
            "https://github.com/a/b/c",
            "https://github.com/enterprises",
            "https://u:p@github.com/o",
            "https://github.com/o?x=1",
            "https://github.com/o#x",
            "https://github.com/o/%2e%2e",
            "https://github.com/o o",
            "https://github.com/é",
        ] {
            assert!(Address::parse(bad, false).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(https?://)?\\PC{0,60}") {
            if let Ok(address) = Address::parse(&text, false) {
                assert!(address.api().path().ends_with('/'));
                assert!(address.scope().segments().iter().all(|part| is_name(part)));
            }
        }
    }
}
