//! The gate itself: what its parts share, and its router.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::routing::{any, get, post};
use jiff::Timestamp;
use secrecy::SecretString;
use sekisho_policy::Policies;

use crate::analysis::Analyses;
use crate::auth::identify::Issuers;
use crate::auth::replay::Exchanged;
use crate::auth::session::Sessions;
use crate::auth::worker::Workers;
use crate::auth::{exchange, token};
use crate::collect::{Collected, collect};
use crate::config::{Clock, Config, OpenError};
use crate::decisions::Log;
use crate::error::{ApiError, ApiResult, Code};
use crate::evidence::Evidence;
use crate::lease::{GRACE, Leases};
use crate::mirror::Mirror;
use crate::push::flight::Flights;
use crate::staging::Staging;
use crate::upload::Uploads;
use crate::upstream::{DiskUpstream, Upstream};
use crate::{admin, protocol};

/// How often what expired is removed.
const SWEEP: Duration = Duration::from_secs(60);

/// Garbage is collected at every so many sweeps.
const COLLECT_EVERY: u64 = 60;

/// An open gate. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// Ends with a slash.
    pub(crate) base_url: String,
    pub(crate) service: String,
    pub(crate) admin_token: SecretString,
    pub(crate) local_owner: Option<String>,
    pub(crate) workers: Option<Arc<dyn Workers>>,
    pub(crate) mirror: Option<Mirror>,
    pub(crate) policies: Policies,
    pub(crate) issuers: Issuers,
    pub(crate) sessions: Sessions,
    pub(crate) exchanged: Exchanged,
    pub(crate) staging: Staging,
    pub(crate) uploads: Uploads,
    pub(crate) analyses: Analyses,
    pub(crate) log: Log,
    pub(crate) evidence: Evidence,
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) flights: Flights,
    pub(crate) leases: Leases,
    opened: Timestamp,
    clock: Clock,
}

impl Inner {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The mirror; an error where nothing is mirrored.
    pub(crate) fn mirror(&self) -> ApiResult<&Mirror> {
        let none = || ApiError::new(Code::NameUnknown, "nothing is mirrored here");
        self.mirror.as_ref().ok_or_else(none)
    }

    fn collect(&self) -> std::io::Result<Collected> {
        let now = self.now();
        match self.upstream.namespace() {
            Some(namespace) if now.duration_since(self.opened) > GRACE => {
                collect(namespace, &self.leases, now)
            }
            _ => Ok(Collected::default()),
        }
    }

    /// Removes what expired. Blocks.
    fn sweep(&self) {
        let now = self.now();
        self.uploads.expire(now);
        for (what, result) in
            [("staging", self.staging.expire(now)), ("tokens", self.exchanged.expire(now))]
        {
            if let Err(error) = result {
                tracing::warn!("expired {what} not removed: {error}");
            }
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("base_url", &self.inner.base_url).finish_non_exhaustive()
    }
}

impl Gate {
    /// Opens the gate on its folders, and removes what an earlier one left half done.
    ///
    /// # Panics
    /// Outside a tokio runtime: what expires is removed by a task, which ends with the gate.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let io = |what| move |source| OpenError::Io { what, source };
        let upstream = DiskUpstream::open(&config.upstream_dir).map_err(io("upstream"))?;
        Self::open_on(config, Arc::new(upstream))
    }

    /// As [`Gate::open`], with another upstream than the folder.
    ///
    /// # Panics
    /// As [`Gate::open`].
    pub fn open_on(config: Config, upstream: Arc<dyn Upstream>) -> Result<Self, OpenError> {
        let io = |what| move |source| OpenError::Io { what, source };
        let dir = &config.dir;
        fs_err::create_dir_all(dir).map_err(io("folder"))?;
        let mut base_url = config.base_url.clone();
        base_url.set_query(None);
        base_url.set_fragment(None);
        if base_url.cannot_be_a_base() {
            return Err(OpenError::BaseUrl(base_url));
        }
        let base_url = format!("{}/", base_url.as_str().trim_end_matches('/'));
        let policies = match &config.policies {
            Some(text) => Policies::load(text).map_err(OpenError::Policy)?,
            None => Policies::default_set(),
        };
        let log = Log::open(&dir.join("decisions")).map_err(io("decisions"))?;
        let mirror = config.mirror.map(|config| Mirror::open(&dir.join("mirror"), config));
        let inner = Arc::new(Inner {
            policies: policies.with_exceptions(config.exceptions),
            issuers: Issuers::new(config.issuers)?,
            sessions: Sessions::open(&dir.join("keys"), &base_url)?,
            exchanged: Exchanged::open(&dir.join("exchanged")).map_err(io("exchanged tokens"))?,
            staging: Staging::open(&dir.join("staging")).map_err(io("staging"))?,
            uploads: Uploads::open(&dir.join("uploads")).map_err(io("uploads"))?,
            analyses: Analyses::new(&dir.join("analysis"), config.inspector),
            log,
            evidence: Evidence::open(&dir.join("evidence")).map_err(io("evidence"))?,
            upstream,
            flights: Flights::default(),
            leases: Leases::default(),
            opened: config.clock.now(),
            base_url,
            service: config.service,
            admin_token: config.admin_token,
            local_owner: config.local_owner,
            workers: config.workers,
            mirror: mirror.transpose().map_err(io("mirror"))?,
            clock: config.clock,
        });
        tokio::spawn(keep_sweeping(Arc::downgrade(&inner)));
        Ok(Self { inner })
    }

    /// Checks the chain of decisions; the file name of the first one that does not follow from the
    /// one before it. Blocks.
    pub fn broken_decision(&self) -> std::io::Result<Option<String>> {
        self.inner.log.broken_link()
    }

    /// Removes upstream content that no manifest names, while pushes go on; the gate does so by
    /// itself every hour. Nothing in its first hour, for what clients were told before that is not
    /// known. Blocks.
    ///
    /// # Errors
    /// The disk's; what was removed until then is gone.
    pub fn collect_garbage(&self) -> std::io::Result<Collected> {
        self.inner.collect()
    }

    /// `/v2/*`, `/token`, `/oidc/exchange`, `/_gate/*`; to be merged with those of other services.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v2", any(protocol::serve))
            .route("/v2/", any(protocol::serve))
            .route("/v2/{*path}", any(protocol::serve))
            .route("/token", get(token::get).post(token::post))
            .route("/oidc/exchange", post(exchange::exchange))
            .route("/_gate/v1/decisions", get(admin::list))
            .route("/_gate/v1/decisions/{id}", get(admin::one))
            .layer(tower_http::catch_panic::CatchPanicLayer::new())
            .with_state(self.clone())
    }
}

/// Ends when the gate is gone.
async fn keep_sweeping(gate: Weak<Inner>) {
    let mut ticks = tokio::time::interval(SWEEP);
    for tick in 0_u64.. {
        ticks.tick().await;
        let Some(gate) = gate.upgrade() else { return };
        let swept = tokio::task::spawn_blocking(move || {
            gate.sweep();
            if tick % COLLECT_EVERY == COLLECT_EVERY - 1 {
                match gate.collect() {
                    Ok(Collected { links, blobs, size_bytes }) => {
                        tracing::info!(links, blobs, size_bytes, "garbage collected");
                    }
                    Err(error) => tracing::warn!("garbage not collected: {error}"),
                }
            }
        });
        let swept = swept.await;
        if let Err(error) = swept {
            tracing::error!("sweeping failed: {error}");
        }
    }
}
