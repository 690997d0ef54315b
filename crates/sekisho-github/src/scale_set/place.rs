//! Where runners are registered: a repository, an organization or an enterprise, by its address.

use std::fmt;

use url::Url;

/// A repository, an organization or an enterprise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `/OWNER/NAME`
    Repository {
        /// Its owner.
        owner: String,
        /// Its name.
        name: String,
    },
    /// `/NAME`
    Organization(String),
    /// `/enterprises/NAME`
    Enterprise(String),
}

/// The address that a user gives, and the API that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    url: Url,
    api: Url,
    scope: Scope,
}

/// Why an address is none of runners.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Not a URL.
    #[error("it is not an http or https URL")]
    Url,
    /// Not one, two or `enterprises` and one segment.
    #[error("its path is not `/OWNER/NAME`, `/ORGANIZATION` or `/enterprises/NAME`")]
    Path,
}

impl Place {
    /// Reads an address: `https://github.com/acme/app`.
    ///
    /// The API of `github.com` and of `*.ghe.com` is at `api.`; of everything else, a port
    /// included, under `/api/v3`, as GitHub's own clients have it.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let mut url = Url::parse(text.trim()).map_err(|_| PlaceError::Url)?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() {
            return Err(PlaceError::Url);
        }
        let host = url.host_str().ok_or(PlaceError::Url)?.to_ascii_lowercase();
        let path = url.path().trim_matches('/').to_owned();
        let scope = match path.split('/').collect::<Vec<_>>().as_slice() {
            ["enterprises", name] => Scope::Enterprise(segment(name)?),
            [owner, name] => Scope::Repository { owner: segment(owner)?, name: segment(name)? },
            [name] => Scope::Organization(segment(name)?),
            _ => return Err(PlaceError::Path),
        };
        url.set_path(&path);
        url.set_query(None);
        url.set_fragment(None);
        let mut api = url.clone();
        let hosted = url.port().is_none()
            && (matches!(host.as_str(), "github.com" | "www.github.com" | "github.localhost")
                || host.ends_with(".ghe.com"));
        if hosted {
            let host = format!("api.{}", host.strip_prefix("www.").unwrap_or(&host));
            api.set_host(Some(&host)).map_err(|_| PlaceError::Url)?;
            api.set_path("/");
        } else {
            api.set_path("/api/v3/");
        }
        Ok(Self { url, api, scope })
    }

    /// The address, without anything after its path.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Where REST begins, with `/` at its end.
    pub fn api(&self) -> &Url {
        &self.api
    }

    /// Whose runners.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// A path of REST under the scope.
    pub(super) fn rest(&self, path: &str) -> Url {
        let scope = match &self.scope {
            Scope::Repository { owner, name } => format!("repos/{owner}/{name}"),
            Scope::Organization(name) => format!("orgs/{name}"),
            Scope::Enterprise(name) => format!("enterprises/{name}"),
        };
        self.global(&format!("{scope}/{path}"))
    }

    /// A path of REST that has no scope.
    pub(super) fn global(&self, path: &str) -> Url {
        let mut url = self.api.clone();
        url.set_path(&format!("{}{path}", self.api.path()));
        url
    }
}

/// A segment that is one: nothing that a URL would take for something else.
fn segment(text: &str) -> Result<String, PlaceError> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let dots = text.chars().all(|c| c == '.');
    if text.is_empty() || dots || !text.chars().all(known) {
        return Err(PlaceError::Path);
    }
    Ok(text.to_owned())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let place = Place::parse(text).unwrap();
        assert_eq!(place.rest("actions/runners").as_str(), want);
    }

    #[test]
    fn every_form_of_address_has_its_api() {
        check(
            "https://github.com/acme/app/",
            "https://api.github.com/repos/acme/app/actions/runners",
        );
        check("https://www.github.com/acme", "https://api.github.com/orgs/acme/actions/runners");
        check("https://corp.ghe.com/acme", "https://api.corp.ghe.com/orgs/acme/actions/runners");
        check(
            "https://ghes.example/enterprises/big?x=1#y",
            "https://ghes.example/api/v3/enterprises/big/actions/runners",
        );
        check(
            "http://127.0.0.1:8080/acme/app",
            "http://127.0.0.1:8080/api/v3/repos/acme/app/actions/runners",
        );
        check("http://github.localhost:80/o", "http://api.github.localhost/orgs/o/actions/runners");
        check(
            "http://github.localhost:81/o",
            "http://github.localhost:81/api/v3/orgs/o/actions/runners",
        );
    }

    #[test]
    fn other_addresses_are_refused() {
        for (text, want) in [
            ("", PlaceError::Url),
            ("github.com/acme", PlaceError::Url),
            ("ftp://github.com/acme", PlaceError::Url),
            ("https://user@github.com/acme", PlaceError::Url),
            ("https://github.com", PlaceError::Path),
            ("https://github.com/a/b/c", PlaceError::Path),
            ("https://github.com/a%2fb", PlaceError::Path),
            ("https://github.com/a//b", PlaceError::Path),
        ] {
            assert_eq!(Place::parse(text), Err(want), "{text}");
        }
    }
}
