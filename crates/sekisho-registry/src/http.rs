//! Requests: addresses, credentials, redirects, deadlines, attempts, errors.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use crate::auth::{Auth, Keyring, Known};
use crate::challenge::{self, Challenge};
use crate::endpoint::{Repository, is_loopback, may_follow, same_origin};
use crate::error::RegistryError;
use crate::helper;
use crate::retry;
use crate::token::{self, Credential, Token};

/// Longest chain of redirects. Registries use one, to their storage.
const REDIRECTS_MAX: usize = 5;

/// Tokens that are kept; one per repository and scope.
const TOKENS_MAX: usize = 1024;

/// How a [`Client`] behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Sent as `User-Agent`.
    pub user_agent: String,
    /// How often a request is sent at most, with pauses between. Default 5.
    pub attempts_max: u32,
    /// For a connection. Default 10 s.
    pub connect_deadline: Duration,
    /// For the answer to a request without a large body, and for each piece of an answer.
    /// Default 30 s.
    pub answer_deadline: Duration,
    /// For the answer to a manifest, on which a registry may decide. Default 120 s.
    pub decision_deadline: Duration,
    /// The slowest upload that is waited for, in bytes a second. Default 64 KiB/s.
    pub upload_rate_min: u64,
    /// Blobs up to this size are pushed in one request after the POST, larger ones by PATCH and PUT.
    /// Default 1 MiB.
    pub monolithic_bytes_max: u64,
    /// Registries that are asked first for the content of another: by its name (`docker.io`), in
    /// order, as `host[:port]` or `http[s]://host[:port]`. What a mirror does not have, or cannot
    /// give, comes from the registry itself; digests are checked either way.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Registries that are spoken to without TLS: by name, `host[:port]`. Those of this machine always are.
    pub plain_http: BTreeSet<String>,
    /// Bundles of PEM certificates that are trusted besides the machine's.
    pub ca_pem: Vec<Vec<u8>>,
    /// Where credential helpers are looked for before the folders of `PATH`.
    pub helpers_dir: Option<PathBuf>,
    /// A blob of more bytes is fetched in several parts at once. Default 32 MiB.
    pub ranged_bytes_min: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            user_agent: concat!("sekisho/", env!("CARGO_PKG_VERSION")).to_owned(),
            attempts_max: 5,
            connect_deadline: Duration::from_secs(10),
            answer_deadline: Duration::from_secs(30),
            decision_deadline: Duration::from_secs(120),
            upload_rate_min: 64 * 1024,
            monolithic_bytes_max: 1024 * 1024,
            mirrors: BTreeMap::new(),
            plain_http: BTreeSet::new(),
            ca_pem: Vec::new(),
            helpers_dir: None,
            ranged_bytes_min: 32 * 1024 * 1024,
        }
    }
}

/// A client of any number of registries.
///
/// # Panics
///
/// The first request panics when the program installed no default rustls provider: `main` does so.
#[derive(Debug)]
pub struct Client {
    keyring: Keyring,
    pub(crate) options: Options,
    /// For this machine: no proxy, no certificates to load.
    local: OnceLock<reqwest::Client>,
    /// For the rest of the world.
    remote: OnceLock<reqwest::Client>,
    challenges: Mutex<HashMap<String, Challenge>>,
    /// What helper programs said.
    helped: Mutex<HashMap<String, Auth>>,
    tokens: Mutex<HashMap<(String, String), Token>>,
}

/// What a request may do, in the words of the token specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope(pub(crate) Vec<String>);

impl Scope {
    pub(crate) fn pull(repository: &Repository) -> Self {
        Self(vec![format!("repository:{}:pull", repository.name)])
    }

    pub(crate) fn push(repository: &Repository) -> Self {
        Self(vec![format!("repository:{}:pull,push", repository.name)])
    }

    fn key(&self) -> String {
        self.0.join(" ")
    }
}

/// Makes a request for an address.
pub(crate) type Build<'a> =
    dyn Fn(&reqwest::Client, Url) -> Result<RequestBuilder, RegistryError> + Sync + 'a;

/// One request, to be built anew for each attempt and redirect.
pub(crate) struct Request<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) scope: &'a Scope,
    pub(crate) url: Url,
    pub(crate) deadline: Duration,
    /// 404 is this.
    pub(crate) what: String,
    pub(crate) build:
        &'a (dyn Fn(&reqwest::Client, Url) -> Result<RequestBuilder, RegistryError> + Sync),
}

impl Client {
    /// A client with default options.
    pub fn new(keyring: Keyring) -> Self {
        Self::with_options(keyring, Options::default())
    }

    /// A client with options of its own.
    pub fn with_options(keyring: Keyring, options: Options) -> Self {
        Self {
            keyring,
            options,
            local: OnceLock::new(),
            remote: OnceLock::new(),
            challenges: Mutex::default(),
            helped: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// Asks whether the registry is there and takes the credentials.
    pub async fn ping(&self, registry: &str) -> Result<(), RegistryError> {
        let name = "ping".parse().map_err(|_| self.no_registry(registry))?;
        let repository = Repository { registry: registry.to_owned(), name };
        let url = self.home(registry, "/v2/")?;
        let request = Request {
            repository: &repository,
            scope: &Scope(Vec::new()),
            url,
            deadline: self.options.answer_deadline,
            what: format!("{registry}/v2/"),
            build: &|http, url| Ok(http.get(url)),
        };
        self.send(request).await.map(drop)
    }

    pub(crate) fn no_registry(&self, registry: &str) -> RegistryError {
        RegistryError::Registry { registry: registry.to_owned() }
    }

    /// Sends a request, again where that may help; the answer has a status of success.
    pub(crate) async fn send(&self, request: Request<'_>) -> Result<Response, RegistryError> {
        let mut attempt = 1;
        loop {
            let error = match self.send_once(&request).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            self.pause(error, attempt).await?;
            attempt += 1;
        }
    }

    /// Waits before another attempt, or gives the error back when there is to be none.
    pub(crate) async fn pause(
        &self,
        error: RegistryError,
        attempt: u32,
    ) -> Result<(), RegistryError> {
        match retry::decide(&error, attempt, self.options.attempts_max, retry::random()) {
            None => Err(error),
            Some(pause) => {
                tracing::debug!(%error, attempt, pause_ms = pause.as_millis(), "trying again");
                tokio::time::sleep(pause).await;
                Ok(())
            }
        }
    }

    /// One attempt; with a new token when the registry asks for one.
    pub(crate) async fn send_once(&self, request: &Request<'_>) -> Result<Response, RegistryError> {
        let registry = &request.repository.registry;
        let mut credential = self.credential(registry, request.scope).await?;
        for renewed in [false, true] {
            let response = self.follow(request, credential.as_ref()).await?;
            if response.status() != StatusCode::UNAUTHORIZED || renewed {
                return self.check(request, response).await;
            }
            let headers = response.headers().get_all(WWW_AUTHENTICATE);
            let challenge = challenge::parse(headers.iter().filter_map(|v| v.to_str().ok()));
            let Some(challenge) = challenge else {
                return self.check(request, response).await;
            };
            lock(&self.challenges).insert(registry.clone(), challenge);
            lock(&self.tokens).remove(&(registry.clone(), request.scope.key()));
            match self.credential(registry, request.scope).await? {
                Some(new) => credential = Some(new),
                None => return self.check(request, response).await,
            }
        }
        Err(self.protocol(registry, "it asks for credentials for ever"))
    }

    /// Who one is at a registry; a helper program is asked once.
    async fn auth(&self, registry: &str) -> Result<Auth, RegistryError> {
        let (helper, required) = match self.keyring.find(registry) {
            Known::Auth(auth) => return Ok(auth),
            Known::Helper { helper, required } => (helper, required),
        };
        if let Some(auth) = lock(&self.helped).get(registry) {
            return Ok(auth.clone());
        }
        let folder = self.options.helpers_dir.as_deref();
        let auth = match helper::get(&helper, folder, registry, self.options.answer_deadline).await
        {
            Ok(auth) => auth,
            Err(source) if required => {
                let registry = registry.to_owned();
                return Err(RegistryError::Credentials { registry, source });
            }
            // The default store need not be there for a registry that nobody logged in to.
            Err(error) => {
                tracing::debug!(%error, registry, "no credentials");
                Auth::Anonymous
            }
        };
        lock(&self.helped).insert(registry.to_owned(), auth.clone());
        Ok(auth)
    }

    /// What to send as `Authorization`, as far as it is known what the registry wants.
    async fn credential(
        &self,
        registry: &str,
        scope: &Scope,
    ) -> Result<Option<Credential>, RegistryError> {
        let auth = self.auth(registry).await?;
        if let Some(fixed) = token::fixed(&auth) {
            return Ok(Some(fixed));
        }
        let challenge = lock(&self.challenges).get(registry).cloned();
        let (realm, service) = match challenge {
            None => return Ok(None),
            Some(Challenge::Basic) => return Ok(token::basic(&auth)),
            Some(Challenge::Bearer { realm, service, .. }) => (realm, service),
        };
        let key = (registry.to_owned(), scope.key());
        if let Some(token) = lock(&self.tokens).get(&key).filter(|token| token.is_fresh()) {
            return Ok(Some(token.credential()));
        }
        let token = self.fetch_token(registry, &realm, service.as_deref(), scope, &auth).await?;
        let credential = token.credential();
        let mut tokens = lock(&self.tokens);
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, token| token.is_fresh());
        }
        if tokens.len() < TOKENS_MAX {
            tokens.insert(key, token);
        }
        Ok(Some(credential))
    }

    /// Sends to where redirects lead; credentials stay at home.
    async fn follow(
        &self,
        request: &Request<'_>,
        credential: Option<&Credential>,
    ) -> Result<Response, RegistryError> {
        let registry = &request.repository.registry;
        let home = self.home(registry, "")?;
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut builder = (request.build)(self.http(&url)?, url.clone())?;
            if let Some(credential) = credential.filter(|_| same_origin(&home, &url)) {
                builder = builder.header(AUTHORIZATION, credential.header());
            }
            let response = self.answer(registry, request.deadline, builder).await?;
            let status = response.status();
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let next = location(&response, &url)
                .ok_or_else(|| self.protocol(registry, "a redirect has no usable `Location`"))?;
            if !may_follow(&url, &next) {
                let host = next.host_str().unwrap_or_default();
                let problem = format!("it redirects to {} at `{host}`", next.scheme());
                return Err(self.protocol(registry, problem));
            }
            url = next;
        }
        Err(self.protocol(registry, "it redirects without end"))
    }

    /// Sends one HTTP request, and waits for the head of its answer.
    pub(crate) async fn answer(
        &self,
        registry: &str,
        deadline: Duration,
        builder: RequestBuilder,
    ) -> Result<Response, RegistryError> {
        match timeout(deadline, builder.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(transport(registry, error)),
            Err(_) => {
                Err(RegistryError::Deadline { registry: registry.to_owned(), after: deadline })
            }
        }
    }

    /// The HTTP client for an address; it follows no redirect by itself.
    pub(crate) fn http(&self, url: &Url) -> Result<&reqwest::Client, RegistryError> {
        let local = is_loopback(url);
        let slot = if local { &self.local } else { &self.remote };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let host = url.host_str().unwrap_or_default();
        let mut trusted = Vec::new();
        for pem in &self.options.ca_pem {
            let bundle = reqwest::Certificate::from_pem_bundle(pem);
            trusted.extend(bundle.map_err(|error| transport(host, error))?);
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(&self.options.user_agent)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(self.options.connect_deadline);
        if local {
            // A proxy of the environment must not see what goes to this machine, and a machine
            // without certificates can talk to itself all the same.
            builder = builder.no_proxy().tls_certs_only(trusted);
        } else if !trusted.is_empty() {
            builder = builder.tls_certs_merge(trusted);
        }
        let client = builder.build().map_err(|error| transport(host, error))?;
        Ok(slot.get_or_init(|| client))
    }

    pub(crate) fn protocol(&self, registry: &str, problem: impl Into<String>) -> RegistryError {
        RegistryError::Protocol { registry: registry.to_owned(), problem: problem.into() }
    }

    /// A whole body of `limit` bytes at most.
    pub(crate) async fn body(
        &self,
        registry: &str,
        mut response: Response,
        limit: usize,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(registry, &mut response).await? {
            if body.len() + chunk.len() > limit {
                return Err(self.protocol(registry, format!("its answer has over {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The next piece of a body, in time.
    pub(crate) async fn chunk(
        &self,
        registry: &str,
        response: &mut Response,
    ) -> Result<Option<bytes::Bytes>, RegistryError> {
        let after = self.options.answer_deadline;
        match timeout(after, response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(transport(registry, error)),
            Err(_) => Err(RegistryError::Deadline { registry: registry.to_owned(), after }),
        }
    }
}

/// No task panics while it holds one of these locks, and none is held across an await.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn transport(registry: &str, error: reqwest::Error) -> RegistryError {
    RegistryError::Transport { registry: registry.to_owned(), source: error.without_url() }
}

/// The address in `Location`, which may be relative.
pub(crate) fn location(response: &Response, from: &Url) -> Option<Url> {
    from.join(response.headers().get(LOCATION)?.to_str().ok()?).ok()
}
