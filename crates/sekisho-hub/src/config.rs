//! What the hub is told when it is opened.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;
use sekisho_github::http::is_loopback;
use url::Url;

/// Where the programs of an ordinary system are: the hub needs `git` and what it calls.
pub const DEFAULT_SEARCH_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the hub is told when it is opened.
#[derive(Clone, Debug)]
pub struct Config {
    /// The hub's folder, made if missing. One process at a time may have it: the caller locks it.
    pub dir: PathBuf,
    /// How clients reach the router, without a slash at the end: `http://127.0.0.1:8080`.
    pub base_url: String,
    /// Bearer of the REST and the hub's own API.
    pub admin_token: SecretString,
    /// The `vars` context of every run.
    pub vars: BTreeMap<String, String>,
    /// Repositories that exist from the start and take no push.
    pub builtin_repositories: Vec<BuiltinRepository>,
    /// `github.actor` of runs started by a push without a user name.
    pub actor: String,
    /// `PATH` of the `git` program.
    pub search_path: String,
    /// How `sub` of an ID token names the repository.
    pub subject: SubjectForm,
    /// How jobs get to the listeners of scale sets.
    pub assignment: Assignment,
    /// Whether the fault switches can be used: for tests, never for work.
    pub fault_switches: bool,
    /// All runners get the same key pair: to measure what asks for them, for a pair takes the hub some
    /// tenths of a second, which GitHub spends on machines of its own. Never where jobs are real.
    pub one_runner_key: bool,
    /// The GitHub App that may ask for tokens.
    pub app: Option<App>,
    /// Who is told of what happens.
    pub webhooks: Vec<Webhook>,
    /// Requests of one credential in an hour; `None` without limit, as on a GHES.
    pub rest_requests_per_hour: Option<u64>,
    /// Bytes of cache entries that are kept of one repository; also the most of one entry.
    pub cache_bytes_max: u64,
}

/// As on GitHub.
const CACHE_BYTES_MAX: u64 = 10 * 1024 * 1024 * 1024;

impl Config {
    /// A configuration with the defaults for everything that has one.
    pub fn new(dir: impl Into<PathBuf>, base_url: impl Into<String>, admin: SecretString) -> Self {
        Self {
            dir: dir.into(),
            base_url: base_url.into(),
            admin_token: admin,
            vars: BTreeMap::new(),
            builtin_repositories: Vec::new(),
            actor: "local".to_owned(),
            search_path: DEFAULT_SEARCH_PATH.to_owned(),
            subject: SubjectForm::Names,
            assignment: Assignment::Automatic,
            fault_switches: false,
            one_runner_key: false,
            app: None,
            webhooks: Vec::new(),
            rest_requests_per_hour: None,
            cache_bytes_max: CACHE_BYTES_MAX,
        }
    }
}

impl Config {
    /// What jobs are told as `github.server_url`.
    ///
    /// GitHub's packages use artifacts v4 and caches v2 only with a server whose name is
    /// `github.com`, ends in `.ghe.com` or ends in `.localhost`. They do not connect to it; git does,
    /// and finds every such name on this machine. All other URLs keep the address.
    pub(crate) fn server_url(&self) -> String {
        let url = Url::parse(&self.base_url).ok();
        let local = |url: &Url| url.scheme() == "http" && is_loopback(url);
        match url.filter(local).and_then(|url| url.port()) {
            Some(port) => format!("http://hub.localhost:{port}"),
            None => self.base_url.clone(),
        }
    }
}

/// How jobs get to the listeners of scale sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assignment {
    /// The hub assigns them, up to the listener's capacity: as github.com.
    #[default]
    Automatic,
    /// The hub announces them, and the listener acquires what it wants: as GHES.
    Explicit,
}

/// A GitHub App, as the hub knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its number.
    pub id: u64,
    /// Its client id, such as `Iv23…`.
    pub client_id: String,
    /// The key that its JWTs are verified with: PEM of an RSA public key.
    pub public_key: String,
    /// What it may do where it is installed: `read` or `write`, by name.
    pub permissions: BTreeMap<String, String>,
    /// Where it is installed: accounts by number.
    pub installations: BTreeMap<u64, String>,
}

/// Somebody who is told of what happens.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where it is told: `http` or `https`.
    pub url: String,
    /// The key of the signature.
    pub secret: SecretString,
    /// `workflow_job`, `workflow_run`, `push`; empty for all.
    pub events: Vec<String>,
}

/// How `sub` of an ID token names the repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubjectForm {
    /// `repo:OWNER/NAME:…`
    #[default]
    Names,
    /// `repo:OWNER@OWNER_ID/NAME@ID:…`, which stays true when a name gets a new owner.
    Immutable,
}

/// A repository that is made from files when the hub opens.
///
/// The commit depends on nothing but the files: the same files give the same sha everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltinRepository {
    /// First part of its name.
    pub owner: String,
    /// Second part of its name.
    pub name: String,
    /// Every ref that is to name the commit, such as `refs/heads/main` and `refs/tags/v1`.
    /// The first branch is the default branch.
    pub refs: Vec<String>,
    /// Path and content of each file; all are ordinary files, not executable.
    pub files: Vec<(String, Vec<u8>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_server() {
        let check = |base: &str, want: &str| {
            let config = Config::new("x", base, String::new().into());
            assert_eq!(config.server_url(), want);
        };
        check("http://127.0.0.1:8080", "http://hub.localhost:8080");
        check("http://[::1]:8080", "http://hub.localhost:8080");
        check("http://localhost:8080", "http://hub.localhost:8080");
        check("http://hub.example:8080", "http://hub.example:8080");
        check("https://127.0.0.1:8080", "https://127.0.0.1:8080");
    }
}
