//! The gate itself: what its parts share, and its router.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::routing::{any, get, post};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use sekisho_policy::{Policies, Verdict};
use sekisho_store::Wal;
use sekisho_types::Digest;

use crate::analysis::Analyses;
use crate::auth::identify::Issuers;
use crate::auth::memo::Memo;
use crate::auth::replay::Exchanged;
use crate::auth::session::Sessions;
use crate::auth::users::Users;
use crate::auth::worker::Workers;
use crate::auth::{exchange, token};
use crate::collect::marks::Marks;
use crate::collect::{Collected, collect, collect_shared};
use crate::config::{Clock, Config, OpenError, Options};
use crate::decisions::checkpoint::{RecordKey, trusted};
use crate::decisions::log::Log;
use crate::decisions::verify::Verified;
use crate::error::{ApiError, ApiResult, Code, OrFail as _};
use crate::evidence::Evidence;
use crate::lease::{GRACE, Held, Leases};
use crate::mirror::Mirror;
use crate::owners::Owners;
use crate::places::{Places, Shared};
use crate::promoter::{Outgoing, Promoters};
use crate::push::flight::Flights;
use crate::push::journal::Journal;
use crate::push::state::{Event, OnFind, on_find};
use crate::push::{self, resume};
use crate::reserve::Reserve;
use crate::staging::Staging;
use crate::upload::Uploads;
use crate::upstream::Upstream;
use crate::{admin, protocol, quarantine};

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
    /// Who may do what, by the policies.
    pub(crate) asked: Memo<Verdict>,
    pub(crate) exchanged: Exchanged,
    pub(crate) owners: Owners,
    pub(crate) users: Users,
    pub(crate) reserve: Reserve,
    pub(crate) staging: Staging,
    pub(crate) uploads: Uploads,
    pub(crate) analyses: Analyses,
    pub(crate) log: Log,
    pub(crate) journal: Journal,
    /// Signs checkpoints and attestations.
    pub(crate) key: Arc<RecordKey>,
    pub(crate) options: Options,
    pub(crate) evidence: Evidence,
    pub(crate) upstream: Upstream,
    pub(crate) promoters: Promoters,
    pub(crate) outgoing: Outgoing,
    pub(crate) flights: Flights,
    pub(crate) leases: Leases,
    /// Of content that goes, where other gates share it.
    marks: Option<Marks>,
    /// Of what is in folders.
    wal: Option<Arc<Wal>>,
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

    /// Keeps content while a push looks at it and promotes it. Blocks.
    pub(crate) fn hold(&self, digests: Vec<Digest>, now: Timestamp) -> ApiResult<Held<'_>> {
        if let Some(marks) = &self.marks
            && !marks.use_all(&digests, now).or_fail("looking for marks")?
        {
            let message = "some of it is being removed at this moment; try again";
            return Err(ApiError::new(Code::Unavailable, message).with_retry_after("5"));
        }
        Ok(self.leases.hold(digests, now))
    }

    /// Remembers that a client is told that content is here; `false` when it is about to go. Blocks.
    pub(crate) fn touch(&self, digest: &Digest, now: Timestamp) -> std::io::Result<bool> {
        self.leases.touch(digest, now);
        let marks = self.marks.as_ref();
        marks.map_or(Ok(true), |marks| marks.use_all(std::slice::from_ref(digest), now))
    }

    fn collect(&self) -> std::io::Result<Collected> {
        let now = self.now();
        let namespace = self.upstream.namespace();
        match &self.marks {
            Some(marks) => collect_shared(namespace, marks, &self.clock),
            None if now.duration_since(self.opened) > GRACE => {
                collect(namespace, &self.leases, now)
            }
            None => Ok(Collected::default()),
        }
    }

    /// Removes what expired. Blocks.
    fn sweep(&self) {
        let now = self.now();
        self.uploads.expire(now);
        for (what, result) in [
            ("staging", self.staging.expire(now)),
            ("tokens", self.exchanged.expire(now)),
            ("uploads", self.uploads.expire_shared(now)),
        ] {
            if let Err(error) = result {
                tracing::warn!("expired {what} not removed: {error}");
            }
        }
        if let Err(error) = self.log.checkpoint(now) {
            tracing::warn!("decisions not signed: {error}");
        }
        if let Some(Err(error)) = self.wal.as_ref().map(|wal| wal.settle()) {
            tracing::warn!("write-ahead log not emptied: {error}");
        }
    }

    /// Goes through the journal: goes on with what a crash cut short, expires, forgets. Blocks.
    fn tidy(&self, begins: bool) -> std::io::Result<()> {
        let now = self.now();
        for push in self.journal.all()? {
            match on_find(&push, begins, now) {
                OnFind::Leave => {}
                OnFind::Forget => self.journal.forget(&push)?,
                OnFind::Expire => self.journal.happened(&push, &[Event::Tick], now).map(drop)?,
                OnFind::Promote => {
                    if let Err(error) = resume(self, &push) {
                        let (repository, digest) = (push.repository, push.digest);
                        tracing::warn!(%repository, %digest, "promotion not resumed: {error:?}");
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes decisions that are old enough, with what they alone rested on; how many. Blocks.
    pub(crate) fn prune(&self, retention: SignedDuration) -> std::io::Result<usize> {
        let before = self.now().checked_sub(retention).unwrap_or(Timestamp::MIN);
        let gone = self.log.prune(before)?;
        let count = gone.len();
        if count > 0 {
            self.evidence.prune(gone, &self.log.facts()?)?;
        }
        Ok(count)
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
        let base_url = base_url(&config)?;
        let bucket = config.options.bucket.as_ref();
        let shared =
            Shared::open(&config.dir, &config.upstream_dir, bucket).map_err(io("folder"))?;
        let upstream = shared.upstream(&config.upstream_dir).map_err(io("upstream"))?;
        let dir = &config.dir;
        fs_err::create_dir_all(dir).map_err(io("folder"))?;
        let policies = match &config.policies {
            Some(text) => Policies::load(text).map_err(OpenError::Policy)?,
            None => Policies::default_set(),
        };
        let places = Places::open(dir, &shared).map_err(io("folder"))?;
        let uploads = config.options.bucket.as_ref().map(|bucket| bucket.below("uploads"));
        let keys = config.options.keys_dir.clone().unwrap_or_else(|| dir.join("keys"));
        let key = Arc::new(RecordKey::open(&keys)?);
        let trusted = trusted(&keys).map_err(io("keys"))?;
        let log = Log::open(places.decisions, Arc::clone(&key), trusted);
        let mirror = config.mirror.map(|mirror| {
            Mirror::open(&dir.join("mirror"), config.options.bucket.as_ref(), mirror)
        });
        let reserve = Reserve::new(dir, config.options.reserve_bytes);
        let inner = Arc::new(Inner {
            policies: policies.with_exceptions(config.exceptions),
            issuers: Issuers::new(config.issuers)?,
            sessions: Sessions::open(&keys, &base_url)?,
            asked: Memo::default(),
            exchanged: Exchanged::new(places.exchanged),
            owners: Owners::new(places.owners),
            users: Users::new(config.users),
            reserve,
            staging: Staging::open(places.staging).map_err(io("staging"))?,
            uploads: Uploads::open(&dir.join("uploads"), uploads).map_err(io("uploads"))?,
            analyses: Analyses::new(&places.analysis, config.inspector).map_err(io("analyses"))?,
            log: log.map_err(io("decisions"))?,
            journal: Journal::new(places.journal),
            key,
            outgoing: Outgoing::new(places.outgoing, config.options.promoter.is_some()),
            promoters: Promoters::new(config.options.promoter.clone()),
            options: config.options,
            evidence: Evidence::new(places.evidence),
            upstream,
            flights: Flights::default(),
            leases: Leases::default(),
            marks: places.condemned.map(Marks::new),
            wal: shared.wal().cloned(),
            opened: config.clock.now(),
            base_url,
            service: config.service,
            admin_token: config.admin_token,
            local_owner: config.local_owner,
            workers: config.workers,
            mirror: mirror.transpose().map_err(io("mirror"))?,
            clock: config.clock,
        });
        // Before anybody is served: a newer push must not meet an older one that is finished late.
        if let Err(error) = inner.tidy(true) {
            tracing::warn!("journal not read: {error}");
        }
        tokio::spawn(keep_sweeping(Arc::downgrade(&inner)));
        if inner.options.promoter.is_some() {
            tokio::spawn(keep_promoting(Arc::downgrade(&inner)));
        }
        Ok(Self { inner })
    }

    /// Checks every decision against its neighbours and the signed checkpoints. Blocks.
    pub fn verify_decisions(&self) -> std::io::Result<Verified> {
        self.inner.log.verify()
    }

    /// Removes upstream content that no manifest names, while pushes go on; the gate does so by
    /// itself every hour.
    ///
    /// In folders nothing goes in its first hour, for what clients were told before that is not known.
    /// In a bucket, which other gates may use, it goes when it was garbage at a look a day ago too and
    /// nobody used it since. Blocks.
    ///
    /// # Errors
    /// The disk's; what was removed until then is gone.
    pub fn collect_garbage(&self) -> std::io::Result<Collected> {
        self.inner.collect()
    }

    /// Has what still waits for it copied on, as the gate does by itself every minute; how many were.
    ///
    /// # Errors
    /// The disk's.
    pub async fn promote_waiting(&self) -> std::io::Result<usize> {
        push::go_on(&self.inner).await
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
            .route("/_gate/v1/decisions/{id}/vsa", get(admin::vsa))
            .route("/_gate/v1/decisions/{id}/promote", post(admin::promote))
            .route("/_gate/v1/outgoing", get(admin::outgoing))
            .route("/_gate/v1/verify", get(admin::verify))
            .route("/_gate/v1/prune", post(admin::prune))
            .route("/_gate/v1/owners/{*repository}", get(admin::owner).delete(admin::release))
            .route("/_gate/v1/quarantine", get(quarantine::list))
            .route("/_gate/v1/quarantine/{id}", get(quarantine::one))
            .route("/_gate/v1/quarantine/{id}/approve", post(quarantine::approve))
            .route("/_gate/v1/quarantine/{id}/reject", post(quarantine::reject))
            .layer(tower_http::catch_panic::CatchPanicLayer::new())
            .with_state(self.clone())
    }
}

/// Makes the keys of a gate in a folder, where they are not: gates on one bucket share them. Blocks.
///
/// # Errors
/// As of [`Gate::open`].
pub fn make_keys(dir: &Path) -> Result<(), OpenError> {
    RecordKey::open(dir)?;
    Sessions::open(dir, "").map(drop)
}

/// How clients reach the gate, with a slash at its end.
fn base_url(config: &Config) -> Result<String, OpenError> {
    let mut url = config.base_url.clone();
    url.set_query(None);
    url.set_fragment(None);
    if url.cannot_be_a_base() {
        return Err(OpenError::BaseUrl(url));
    }
    if !config.users.is_empty() && !is_loopback(&url) {
        return Err(OpenError::Users(url));
    }
    Ok(format!("{}/", url.as_str().trim_end_matches('/')))
}

/// Whether nobody of another machine can mean this gate.
pub(crate) fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Ends when the gate is gone.
async fn keep_promoting(gate: Weak<Inner>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(gate) = gate.upgrade() else { return };
        if let Err(error) = push::go_on(&gate).await {
            tracing::warn!("what waits to be copied on is not known: {error}");
        }
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
            if tick % COLLECT_EVERY == COLLECT_EVERY / 2
                && let Err(error) = gate.tidy(false)
            {
                tracing::warn!("journal not read: {error}");
            }
            if tick % COLLECT_EVERY == COLLECT_EVERY - 1 {
                let retention = gate.options.retention;
                if let Some(Err(error)) = retention.map(|retention| gate.prune(retention)) {
                    tracing::warn!("old decisions not removed: {error}");
                }
                match gate.collect() {
                    Ok(Collected { links, blobs, size_bytes, unreadable }) => {
                        tracing::info!(links, blobs, size_bytes, unreadable, "garbage collected");
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
