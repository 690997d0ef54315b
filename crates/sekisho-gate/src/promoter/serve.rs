//! The promoter's own endpoint: takes an order, and answers when it is carried out.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use sekisho_registry::{Auth, Client, Keyring, Options, RegistryError, Repository};
use sekisho_types::Hint as _;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};

use super::copy::{CopyError, Side, Wanted, copy};
use super::ecr::{self, Ecr, EcrError};
use super::order::{self, Order};
use super::routes::{PromoterSettings, Route};
use super::{Promoted, PromotedState};
use crate::config::Clock;
use crate::decisions::checkpoint::{PublicKey, trusted};

/// Largest order: a decision with its findings, in base64.
const MAX_ORDER_BYTES: usize = 32 * 1024 * 1024;

/// Orders that are carried out at once; the others wait.
const AT_ONCE: usize = 8;

/// Tags that are remembered with the decision that they were last written by.
const MAX_REMEMBERED: usize = 10_000;

/// Where orders are sent, below the promoter's address.
pub(super) const PATH: &str = "/v1/promotions";

/// What a promoter is told when it opens.
#[derive(Debug)]
pub struct PromoterConfig {
    /// What its file says.
    pub settings: PromoterSettings,
    /// Logins that are no ECR's.
    pub keyring: Keyring,
    /// How registries are spoken to.
    pub registry: Options,
    /// Where blobs lie while they are copied; nothing stays there.
    pub folder: PathBuf,
    /// Variables of the environment, of which [`AWS_ENVIRONMENT`](super::AWS_ENVIRONMENT) are looked at.
    pub identity: Vec<(String, String)>,
    /// Where the time comes from.
    pub clock: Clock,
}

/// Copies what a gate orders. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Promoter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: PromoterConfig,
    keys: Vec<PublicKey>,
    /// By region.
    ecr: BTreeMap<String, Ecr>,
    /// By what is written: who writes has it, with the number of the decision that was carried out last.
    turns: Mutex<HashMap<String, Arc<Mutex<String>>>>,
    seats: Semaphore,
}

impl Promoter {
    /// Reads the keys whose orders are taken.
    ///
    /// # Errors
    /// As a sentence: there is no key, or no way to log in at ECR.
    pub fn open(config: PromoterConfig) -> Result<Self, String> {
        let folder = &config.settings.gate_keys;
        let keys = trusted(folder);
        let keys = keys.map_err(|error| format!("reading the gate's keys: {error}"))?;
        if keys.is_empty() {
            return Err(format!(
                "`{}` holds no key of a gate: put its `.pub` files there",
                folder.display()
            ));
        }
        let PromoterSettings { ecr_endpoint, .. } = &config.settings;
        let mut ecr = BTreeMap::new();
        for region in config.settings.routes.iter().filter_map(Route::region) {
            let login =
                Ecr::new(region, ecr_endpoint.clone(), config.identity.iter().cloned(), false);
            ecr.insert(region.to_owned(), login.map_err(|error| error.to_string())?);
        }
        let (turns, seats) = (Mutex::default(), Semaphore::new(AT_ONCE));
        Ok(Self { inner: Arc::new(Inner { config, keys, ecr, turns, seats }) })
    }

    /// `POST /v1/promotions`, and `GET /healthz`.
    pub fn router(&self) -> Router {
        Router::new()
            .route(PATH, post(take))
            .layer(DefaultBodyLimit::max(MAX_ORDER_BYTES))
            .route("/healthz", get(|| async { "alive\n" }))
            .with_state(self.clone())
    }
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Refused(#[from] order::Refused),
    #[error("{0}")]
    Route(String),
    #[error(transparent)]
    Login(#[from] EcrError),
    #[error(transparent)]
    Copy(#[from] CopyError),
}

impl Failure {
    /// Whether the same may succeed a little later.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Route(_) => false,
            Self::Login(error) => error.is_temporary(),
            Self::Copy(error) => error.is_retryable(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Refused(_) => StatusCode::FORBIDDEN,
            _ if self.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// The next step.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Copy(CopyError::Target { to, source: RegistryError::NotFound { .. } }) => {
                let name = to.split_once('/').map_or(to.as_str(), |(_, name)| name);
                Some(match ecr::region(to.split('/').next().unwrap_or_default()) {
                    Some(region) => format!(
                        "make the repository, or a template that makes it: `aws ecr create-repository \
                         --region {region} --repository-name {name}`"
                    ),
                    None => format!("make the repository `{name}` there"),
                })
            }
            Self::Copy(CopyError::Source(source) | CopyError::Target { source, .. }) => {
                source.hint()
            }
            _ => None,
        }
    }

    fn is_unauthorized(&self) -> bool {
        let source = match self {
            Self::Copy(CopyError::Target { source, .. }) => source,
            _ => return false,
        };
        matches!(source, RegistryError::Unauthorized { .. })
    }
}

/// With all that it was caused by.
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}

async fn take(State(promoter): State<Promoter>, body: Bytes) -> Response {
    // An order is carried out whether or not somebody still listens.
    let inner = Arc::clone(&promoter.inner);
    let carried = tokio::spawn(async move { inner.carry_out(&body).await }).await;
    match carried {
        Ok(Ok(promoted)) => Json(promoted).into_response(),
        Ok(Err(failure)) => {
            let message = sentence(&failure);
            tracing::warn!("order not carried out: {message}");
            let mut body: Value = json!({ "error": message, "again": failure.is_retryable() });
            if let Some(hint) = failure.hint() {
                body["next"] = hint.into();
            }
            (failure.status(), Json(body)).into_response()
        }
        Err(error) => {
            tracing::error!("carrying out an order: {error}");
            let body = json!({ "error": "the promoter failed; its log knows more", "again": true });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

impl Inner {
    async fn carry_out(&self, body: &[u8]) -> Result<Promoted, Failure> {
        let order = order::open(body, &self.keys, self.config.clock.now())?;
        let repository = &order.decision.repository;
        let route = self.config.settings.route(repository).map_err(Failure::Route)?;
        let Some((route, to)) = route else {
            let (state, image, sent_bytes) = (PromotedState::Nowhere, None, 0);
            return Ok(Promoted { schema_version: 1, state, image, sent_bytes });
        };
        // One at a time writes a tag, and none after one that was decided later.
        let turn = self.turn(&order, &to).await;
        let mut last = turn.lock().await;
        let Ok(_seat) = self.seats.acquire().await else {
            return Err(Failure::Route("the promoter is ending".to_owned()));
        };
        let (state, sent_bytes) = if order.decision.tag.is_some() && *last > order.decision.id {
            (PromotedState::Overtaken, 0)
        } else {
            let mut copied = self.copy(&order, route, &to).await;
            if let (Err(failure), Some(ecr)) = (&copied, self.ecr(route))
                && failure.is_unauthorized()
            {
                // A password that was taken back before its time.
                ecr.forget().await;
                copied = self.copy(&order, route, &to).await;
            }
            let sent = copied?;
            last.clone_from(&order.decision.id);
            (PromotedState::Promoted, sent)
        };
        let tag = order.decision.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let image = format!("{to}{tag}@{}", order.decision.digest);
        let decision = order.decision.id;
        tracing::info!(decision, image, sent_bytes, ?state, "order carried out");
        Ok(Promoted { schema_version: 1, state, image: Some(image), sent_bytes })
    }

    async fn turn(&self, order: &Order, to: &Repository) -> Arc<Mutex<String>> {
        let what = match &order.decision.tag {
            Some(tag) => format!("{to}:{tag}"),
            None => format!("{to}@{}", order.decision.digest),
        };
        let mut turns = self.turns.lock().await;
        if turns.len() >= MAX_REMEMBERED {
            // Those that nobody waits for; a later decision of theirs was minutes ago, when orders are stale.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(turns.entry(what).or_default())
    }

    async fn copy(&self, order: &Order, route: &Route, to: &Repository) -> Result<u64, Failure> {
        let config = &self.config;
        let mut keyring = config.keyring.clone();
        if let Some(ecr) = self.ecr(route) {
            let (username, password) = ecr.login(config.clock.now()).await?;
            keyring = keyring.with(&route.registry, Auth::Basic { username, password });
        }
        let client = Client::with_options(keyring, config.registry.clone());
        let gate = Repository {
            registry: config.settings.gate.as_str().trim_end_matches('/').to_owned(),
            name: order.decision.repository.clone(),
        };
        let wanted = Wanted {
            root: &order.decision.digest,
            attestation: order.attestation.as_ref(),
            tag: order.decision.tag.as_ref(),
        };
        let folder: &Path = &config.folder;
        let (from, to) =
            (Side { client: &client, repository: &gate }, Side { client: &client, repository: to });
        Ok(copy(&from, &to, &wanted, folder).await?)
    }

    /// Where the password for a route comes from, if it is ECR's.
    fn ecr(&self, route: &Route) -> Option<&Ecr> {
        route.region().and_then(|region| self.ecr.get(region))
    }
}

#[cfg(test)]
mod tests;
