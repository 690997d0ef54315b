//! What the promoter is told: whose orders it takes, and where which image goes.

use std::net::SocketAddr;
use std::path::PathBuf;

use sekisho_registry::Repository;
use sekisho_types::RepositoryName;
use serde::Deserialize;
use url::Url;

use super::ecr;
use crate::config::from_toml;

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
    /// Another address of ECR's API, such as that of an endpoint in a private network.
    pub ecr_endpoint: Option<Url>,
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

    fn check(&self) -> Result<(), String> {
        let pattern = &self.repositories;
        let above = pattern.strip_suffix('*').unwrap_or(pattern);
        let whole = above.is_empty() || above.ends_with('/') || !pattern.ends_with('*');
        if above.contains('*') || !whole || pattern.is_empty() {
            return Err(format!("`repositories` is `{pattern}`: write a name, `acme/*` or `*`"));
        }
        if self.login() == Login::Ecr && self.region().is_none() {
            let registry = &self.registry;
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
        route.check().map_err(|problem| format!("route {} (`[[to]]`): {problem}", at + 1))?;
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
        ] {
            let error = of(&routes).unwrap_err();
            assert!(error.contains(want), "{want}: {error}");
        }
        let bad_gate =
            format!("{LEAST}{}", route("repositories = \"*\"")).replace("https://", "ftp://");
        assert!(load_promoter(&bad_gate).unwrap_err().contains("write it as https://HOST"));
    }
}
