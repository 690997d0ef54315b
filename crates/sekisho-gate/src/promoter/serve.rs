//! The promoter's own endpoint: takes an order, and answers when it is carried out.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::StatusCode;
use secrecy::SecretString;
use sekisho_registry::{Auth, Client, Keyring, Options, Repository};
use sekisho_types::causes;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore};

use super::copy::{Side, Spool, Wanted, copy};
use super::ecr::Ecr;
use super::failure::Failure;
use super::order::{self, Order};
use super::routes::{PromoterSettings, Route};
use super::{Promoted, PromotedState};
use crate::config::Clock;
use crate::decisions::checkpoint::{PublicKey, trusted};

/// Largest order: a decision without its findings, in base64.
const MAX_ORDER_BYTES: usize = 1024 * 1024;

/// Orders that are carried out at once; the others wait.
const AT_ONCE: usize = 8;

/// Orders that are here at once, those that wait among them.
const MAX_ORDERS: usize = 256;

/// How long an order may take, its waiting included: less than a gate waits for it.
const DEADLINE: Duration = Duration::from_secs(25 * 60);

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
    /// Where blobs lie while they are copied; what an earlier promoter left there goes when this one opens.
    pub folder: PathBuf,
    /// Variables of the environment, of which [`aws_environment`](super::aws_environment) are looked at.
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
    /// By what is written: who writes has it.
    turns: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    seats: Semaphore,
    places: Semaphore,
    spool: Spool,
}

impl Promoter {
    /// Reads the keys whose orders are taken.
    ///
    /// # Errors
    /// As a sentence: there is no key, no folder for blobs, or no way to log in at ECR.
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
        let spool = Spool::open(&config.folder, config.settings.spool_mib);
        let spool = spool.map_err(|error| format!("using a folder for blobs: {error}"))?;
        let (seats, places) = (Semaphore::new(AT_ONCE), Semaphore::new(MAX_ORDERS));
        let turns = Mutex::default();
        let inner = Inner { config, keys, ecr, turns, seats, places, spool };
        Ok(Self { inner: Arc::new(inner) })
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

async fn take(State(promoter): State<Promoter>, body: Bytes) -> Response {
    // An order is carried out whether or not somebody still listens.
    let inner = Arc::clone(&promoter.inner);
    let carried = tokio::spawn(async move { inner.take(body).await }).await;
    match carried {
        Ok(Ok(promoted)) => Json(promoted).into_response(),
        Ok(Err(failure)) => {
            tracing::warn!("order not carried out: {}", causes(&failure));
            let again = failure.is_retryable();
            let mut body: Value = json!({ "error": failure.public(), "again": again });
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
    /// Carries out an order, within its time.
    async fn take(&self, body: Bytes) -> Result<Promoted, Failure> {
        let order = order::open(&body, &self.keys, self.config.clock.now())?;
        drop(body);
        let busy = |_| Failure::Busy("too many orders wait");
        let _place = self.places.try_acquire().map_err(busy)?;
        let carried = tokio::time::timeout(DEADLINE, self.carry_out(&order)).await;
        carried.unwrap_or(Err(Failure::Busy("it takes longer than 25 minutes")))
    }

    async fn carry_out(&self, order: &Order) -> Result<Promoted, Failure> {
        let decision = &order.decision;
        let route = self.config.settings.route(&decision.repository).map_err(Failure::Route)?;
        let Some((route, to)) = route else {
            let (state, image, sent_bytes) = (PromotedState::Nowhere, None, 0);
            return Ok(Promoted { schema_version: 1, state, image, sent_bytes });
        };
        // One at a time writes a tag: who comes next sees at the gate what is to be there.
        let turn = self.turn(order, &to).await;
        let _turn = turn.lock().await;
        let seat = self.seats.acquire().await;
        let _seat = seat.map_err(|_| Failure::Busy("the promoter is ending"))?;
        let copied = match route.region().and_then(|region| self.ecr.get(region)) {
            None => self.copy(order, route, &to, None).await?,
            Some(ecr) => self.copy_to_ecr(order, route, &to, ecr).await?,
        };
        let (state, sent_bytes) = match copied {
            Some(sent_bytes) => (PromotedState::Promoted, sent_bytes),
            None => (PromotedState::Overtaken, 0),
        };
        let tag = decision.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let image = format!("{to}{tag}@{}", decision.digest);
        tracing::info!(decision = decision.id, image, sent_bytes, ?state, "order carried out");
        Ok(Promoted { schema_version: 1, state, image: Some(image), sent_bytes })
    }

    async fn turn(&self, order: &Order, to: &Repository) -> Arc<Mutex<()>> {
        let what = match &order.decision.tag {
            Some(tag) => format!("{to}:{tag}"),
            None => format!("{to}@{}", order.decision.digest),
        };
        let mut turns = self.turns.lock().await;
        // Those that somebody has or waits for.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(what).or_default())
    }

    /// As [`Self::copy`], with ECR's password; once more where that may have been taken back before its time.
    async fn copy_to_ecr(
        &self,
        order: &Order,
        route: &Route,
        to: &Repository,
        ecr: &Ecr,
    ) -> Result<Option<u64>, Failure> {
        let login = ecr.login(self.config.clock.now()).await?;
        match self.copy(order, route, to, Some(login.clone())).await {
            Err(failure) if failure.may_be_the_password() => {
                ecr.forget(&login.1).await;
                let login = ecr.login(self.config.clock.now()).await?;
                self.copy(order, route, to, Some(login)).await
            }
            copied => copied,
        }
    }

    /// Copies it; how many bytes of blobs were sent. `None`: the gate's tag names another image by now.
    async fn copy(
        &self,
        order: &Order,
        route: &Route,
        to: &Repository,
        login: Option<(String, SecretString)>,
    ) -> Result<Option<u64>, Failure> {
        let config = &self.config;
        let mut keyring = config.keyring.clone();
        if let Some((username, password)) = login {
            keyring = keyring.with(&route.registry, Auth::Basic { username, password });
        }
        let client = Client::with_options(keyring, config.registry.clone());
        let gate = Repository {
            registry: config.settings.gate.as_str().trim_end_matches('/').to_owned(),
            name: order.decision.repository.clone(),
        };
        let wanted = Wanted {
            root: &order.decision.digest,
            attestation: order.attestation.as_ref().filter(|_| route.attest),
            tag: order.decision.tag.as_ref(),
        };
        let (from, to) =
            (Side { client: &client, repository: &gate }, Side { client: &client, repository: to });
        Ok(copy(&from, &to, &wanted, &self.spool).await?)
    }
}

#[cfg(test)]
mod tests;
