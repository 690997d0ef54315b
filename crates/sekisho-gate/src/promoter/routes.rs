//! What the promoter is told: whose orders it takes, and where which image goes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use sekisho_registry::Repository;
use sekisho_types::RepositoryName;
use serde::Deserialize;
use url::Url;

use super::ecr;
use crate::config::from_toml;
use crate::gate::is_loopback;

/// In the name of a route: the repository's name at the gate.
const REPOSITORY: &str = "{repository}";

/// What `promoter.toml` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromoterSettings {
    /// Where it takes orders.
    pub listen: SocketAddr,
    /// Certificate chain and key, as PEM; without them it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Where it reads images: the gate, as this process reaches it.
    pub gate: Url,
    /// Folder with the `.pub` files of the gate's keys: whose orders are taken.
    pub gate_keys: PathBuf,
    /// Docker's config.json, for the gate and for registries that are no ECR.
    pub docker_config: Option<PathBuf>,
    /// Certificates to trust besides the machine's, as PEM.
    #[serde(default)]
    pub ca_files: Vec<PathBuf>,
    /// Another address of ECR's API, such as that of an endpoint in a private network; of one region.
    pub ecr_endpoint: Option<Url>,
    /// Where blobs lie while they are copied.
    pub folder: Option<PathBuf>,
    /// How much may lie there, in MiB; a blob that is larger lies there alone.
    #[serde(default = "spool_mib")]
    pub spool_mib: u32,
    /// The first that is for a repository counts.
    #[serde(rename = "to")]
    pub routes: Vec<Route>,
}

/// Of a server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The chain, as PEM.
    pub certificate: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
}

/// Where the images of some repositories go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// A name at the gate; `acme/*` for all below, `*` for all.
    pub repositories: String,
    /// Host and port, or a URL for one that speaks plain HTTP.
    pub registry: String,
    /// The name there, with `{repository}` for the name at the gate.
    #[serde(default = "same")]
    pub name: String,
    /// How to log in there; by the role of this process at ECR, else with the docker config.
    pub login: Option<Login>,
    /// Of ECR, where the registry's name does not say it.
    pub region: Option<String>,
    /// Whether the gate's own word on an image goes along.
    #[serde(default = "yes")]
    pub attest: bool,
}

/// How to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Login {
    /// At ECR, by the role of this process.
    Ecr,
    /// As the docker config says, or not at all where it says nothing.
    DockerConfig,
}

fn yes() -> bool {
    true
}

fn spool_mib() -> u32 {
    16 * 1024
}

fn same() -> String {
    REPOSITORY.to_owned()
}

impl Route {
    fn is_for(&self, repository: &RepositoryName) -> bool {
        match self.repositories.strip_suffix('*') {
            Some(above) => repository.as_str().starts_with(above),
            None => self.repositories == repository.as_str(),
        }
    }

    /// Where an image of this repository goes.
    fn leads(&self, repository: &RepositoryName) -> Result<Repository, String> {
        let name = self.name.replace(REPOSITORY, repository.as_str());
        let parsed: Result<RepositoryName, _> = name.parse();
        let name = parsed.map_err(|error| format!("`{name}` is no repository's name: {error}"))?;
        Ok(Repository { registry: self.registry.clone(), name })
    }

    /// How it is logged in there.
    pub(super) fn login(&self) -> Login {
        let by_host = match ecr::region(&self.registry) {
            Some(_) => Login::Ecr,
            None => Login::DockerConfig,
        };
        self.login.unwrap_or(by_host)
    }

    /// The region in whose ECR it is, where it is in one.
    pub(super) fn region(&self) -> Option<&str> {
        let region = self.region.as_deref().or_else(|| ecr::region(&self.registry));
        region.filter(|_| self.login() == Login::Ecr)
    }

    /// The registry's address; `None` where that is more than a host, or less.
    fn url(&self) -> Option<Url> {
        let registry = self.registry.as_str();
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
        let (scheme, host) = registry.split_once("://").unwrap_or(("https", registry));
        let is_host =
            !host.is_empty() && host.bytes().all(is_plain) && !host.contains(['/', '@', '?', '#']);
        let url = Url::parse(&format!("{scheme}://{host}")).ok().filter(|_| is_host);
        url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    }

    /// What all names begin with that it leads to, and whether there is more behind it.
    fn above(&self) -> (String, bool) {
        let above = self.repositories.strip_suffix('*');
        let name = self.name.replace(REPOSITORY, above.unwrap_or(&self.repositories));
        (name, above.is_some())
    }

    /// Whether another repository's images may go by the same name.
    fn meets(&self, other: &Self) -> bool {
        let host = |route: &Self| route.url().map(|url| url.authority().to_owned());
        if host(self) != host(other) || self.name == other.name {
            return false;
        }
        match (self.above(), other.above()) {
            ((one, false), (other, false)) => one == other,
            ((one, false), (above, true)) | ((above, true), (one, false)) => {
                one.starts_with(&above)
            }
            ((one, true), (other, true)) => one.starts_with(&other) || other.starts_with(&one),
        }
    }

    fn check(&self) -> Result<(), String> {
        let pattern = &self.repositories;
        let above = pattern.strip_suffix('*').unwrap_or(pattern);
        let whole = above.is_empty() || above.ends_with('/') || !pattern.ends_with('*');
        if above.contains('*') || !whole || pattern.is_empty() {
            return Err(format!("`repositories` is `{pattern}`: write a name, `acme/*` or `*`"));
        }
        let registry = &self.registry;
        let Some(url) = self.url() else {
            return Err(format!("`{registry}` is no registry: write it as HOST[:PORT]"));
        };
        if self.login() == Login::Ecr && url.scheme() == "http" && !is_loopback(&url) {
            return Err(format!("`{registry}`: a password does not go in the clear"));
        }
        if pattern.ends_with('*') && !self.name.contains(REPOSITORY) {
            let name = &self.name;
            return Err(format!(
                "`name` is `{name}` for all of `{pattern}`: they would overwrite each other; write `{REPOSITORY}` into \
                 it"
            ));
        }
        if self.login() == Login::Ecr && self.region().is_none() {
            return Err(format!(
                "`{registry}` is not named as ECR's are, ACCOUNT.dkr.ecr.REGION.amazonaws.com: say its `region`"
            ));
        }
        let example: Result<RepositoryName, _> = "a/b".parse();
        example.map_err(|error| error.to_string()).and_then(|it| self.leads(&it)).map(drop)
    }
}

impl PromoterSettings {
    /// The route of a repository and where it leads; `None`: the image stays where it is.
    pub(super) fn route(
        &self,
        repository: &RepositoryName,
    ) -> Result<Option<(&Route, Repository)>, String> {
        let Some(route) = self.routes.iter().find(|route| route.is_for(repository)) else {
            return Ok(None);
        };
        Ok(Some((route, route.leads(repository)?)))
    }
}

/// Reads `promoter.toml`.
///
/// # Errors
/// `line:column: message`, or which route makes no sense.
pub fn load_promoter(text: &str) -> Result<PromoterSettings, String> {
    let settings: PromoterSettings = from_toml(text)?;
    if settings.routes.is_empty() {
        return Err("no `[[to]]` says where images go".to_owned());
    }
    for (at, route) in settings.routes.iter().enumerate() {
        let number = at + 1;
        route.check().map_err(|problem| format!("route {number} (`[[to]]`): {problem}"))?;
        if let Some(before) = settings.routes.iter().take(at).position(|other| route.meets(other)) {
            return Err(format!(
                "routes {} and {number} lead different repositories to one name at `{}`: give each a `name` that the \
                 other cannot have",
                before + 1,
                route.registry
            ));
        }
    }
    let regions: BTreeSet<_> = settings.routes.iter().filter_map(Route::region).collect();
    if settings.ecr_endpoint.is_some() && regions.len() > 1 {
        return Err("`ecr_endpoint` is of one region, and the routes are of several".to_owned());
    }
    if settings.spool_mib == 0 {
        return Err("`spool_mib` is 0".to_owned());
    }
    match (settings.gate.scheme(), settings.gate.host()) {
        ("http" | "https", Some(_)) => Ok(settings),
        _ => Err(format!("`gate` is `{}`: write it as https://HOST", settings.gate)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "listen = \"127.0.0.1:7360\"\ngate = \"https://gate.example.org\"\n\
                         gate_keys = \"/keys\"\n";

    fn of(routes: &str) -> Result<PromoterSettings, String> {
        load_promoter(&format!("{LEAST}{routes}"))
    }

    #[test]
    fn the_first_route_of_a_repository_counts() {
        let settings =
            of("[[to]]\nrepositories = \"acme/app\"\nregistry = \"registry.example.org\"\n\
             [[to]]\nrepositories = \"acme/*\"\nname = \"prod/{repository}\"\n\
             registry = \"123456789012.dkr.ecr.eu-central-1.amazonaws.com\"\n")
            .unwrap();
        let leads = |name: &str| {
            let route = settings.route(&name.parse().unwrap()).unwrap();
            route.map(|(route, to)| (to.to_string(), route.login()))
        };
        let exact = ("registry.example.org/acme/app".to_owned(), Login::DockerConfig);
        assert_eq!(leads("acme/app"), Some(exact));
        let ecr = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/prod/acme/app/x";
        assert_eq!(leads("acme/app/x"), Some((ecr.to_owned(), Login::Ecr)));
        assert_eq!(leads("acmeapp"), None);
        assert_eq!(leads("other/app"), None);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let route = |more: &str| format!("[[to]]\nregistry = \"r.example.org\"\n{more}\n");
        for (routes, want) in [
            (String::new(), "missing field `to`"),
            ("to = []".to_owned(), "no `[[to]]`"),
            (route(""), "missing field `repositories`"),
            (route("repositories = \"acme*\""), "write a name, `acme/*` or `*`"),
            (route("repositories = \"*/x\""), "write a name"),
            (
                route("repositories = \"*\"\nname = \"Prod/{repository}\""),
                "is no repository's name",
            ),
            (route("repositories = \"*\"\nlogin = \"ecr\""), "say its `region`"),
            (route("repositories = \"*\"\nlogin = \"keys\""), "unknown variant `keys`"),
            (route("repositories = \"acme/*\"\nname = \"prod\""), "write `{repository}` into it"),
            (
                route("repositories = \"acme/*\"\nname = \"prod/{repository}\"")
                    + &route("repositories = \"*\""),
                "routes 1 and 2 lead different repositories to one name",
            ),
            (
                route("repositories = \"*\"\nlogin = \"ecr\"\nregion = \"eu-west-1\"")
                    .replace("r.example.org", "http://r.example.org"),
                "does not go in the clear",
            ),
            (
                route("repositories = \"*\"").replace("r.example.org", "r.example.org/x"),
                "is no registry",
            ),
            (
                route("repositories = \"*\"").replace("r.example.org", "R.example.org"),
                "is no registry",
            ),
            (
                "ecr_endpoint = \"https://e\"\n".to_owned()
                    + &route("repositories = \"a/*\"\nlogin = \"ecr\"\nregion = \"eu-west-1\"")
                    + &route("repositories = \"b/*\"\nlogin = \"ecr\"\nregion = \"eu-west-2\""),
                "is of one region",
            ),
        ] {
            let error = of(&routes).unwrap_err();
            assert!(error.contains(want), "{want}: {error}");
        }
        let bad_gate =
            format!("{LEAST}{}", route("repositories = \"*\"")).replace("https://", "ftp://");
        assert!(load_promoter(&bad_gate).unwrap_err().contains("write it as https://HOST"));
    }
}
