//! Embedded GitHub stand-in: git over HTTP, workflow runs, the runner wire, ID tokens.
//!
//! ```text
//!  git push ──▶ /OWNER/NAME/git-receive-pack ─▶ push ─▶ plan ─▶ State ◀── /_broker  /_run  /twirp
//!                                                                 │         one runner, one job
//!               /_hub/v1 (scheduler, CLI)  ◀──────────────────────┤
//!               /api/v3, /_tenant (REST, scale sets) ◀────────────┴──▶ files: run.json, events, logs
//! ```
//!
//! [`Hub::router`] is to be merged into whatever serves the plane's one loopback port; it owns
//! `/api/v3`, `/_broker`, `/_run`, `/_oauth`, `/_results`, `/twirp`, `/_blobs`,
//! `/_services/token`, `/_tenant`, `/devstoreaccount1`, `/_hub` and `/{owner}/{name}/…` of git. It refuses requests that a web
//! page could have sent.

mod clock;
mod config;
mod event;
pub mod faults;
#[doc(hidden)]
pub mod fuzzing;
mod git;
mod hooks;
mod http;
mod keys;
mod message;
mod names;
mod pull;
mod push;
mod shared;
mod start;
mod state;
mod storage;
mod store;
mod tokens;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use sekisho_github::hub_api::{Run, Status};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::{
    App, Assignment, BuiltinRepository, Config, DEFAULT_SEARCH_PATH, SubjectForm, Webhook,
};

pub use crate::git::peer::{holders_of, look_often, socket_at};

use crate::git::Git;
use crate::hooks::Hooks;
use crate::keys::Keys;
use crate::names::RepoName;
use crate::shared::{Parts, Shared};
use crate::state::{JobRef, ScaleSets, State};
use crate::storage::Storage;
use crate::store::{Journal, Store};

/// How often offers, leases and limits are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often artifacts, cache entries and their uploads are looked at.
const SWEEP: Duration = Duration::from_secs(60);
/// How long a stop waits for pushes that are under way.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the hub cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or folder of the hub.
    #[error("the hub's folder `{dir}` cannot be used")]
    Folder {
        /// The folder.
        dir: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A built-in repository could not be made; without `git` it cannot.
    #[error("the repository {name} cannot be made: {message}")]
    Builtin {
        /// `owner/name`.
        name: String,
        /// Why.
        message: String,
    },
    /// The address of a webhook.
    #[error("`{0}` is no http or https URL for a webhook")]
    Webhook(String),
    /// [`Config::base_url`] is not a plain http or https URL.
    #[error("`{0}` is no base URL for the hub")]
    BaseUrl(String),
}

/// The embedded GitHub stand-in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Arc<Shared>,
}

impl Hub {
    /// Opens the hub on its folder, which is made if it is missing, and ends the runs that an
    /// earlier process left open. Blocking, for some 10 ms; to be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(mut config: Config) -> Result<Self, OpenError> {
        config.base_url = http::check_base_url(&config.base_url)?;
        let dir = config.dir.clone();
        let folder = |source| OpenError::Folder { dir: dir.display().to_string(), source };
        let store = Store::open(&dir).map_err(folder)?;
        let git = Git::open(&dir, &config.search_path).map_err(folder)?;
        let mut repositories = store.load_repositories().map_err(folder)?;
        for builtin in &config.builtin_repositories {
            let name = format!("{}/{}", builtin.owner, builtin.name);
            git.create_builtin(builtin)
                .map_err(|e| OpenError::Builtin { name: name.clone(), message: e.to_string() })?;
            let parsed = name.parse::<RepoName>();
            let parsed = parsed.map_err(|e| OpenError::Builtin { name, message: e.to_string() })?;
            repositories.register(&parsed);
        }
        store.save_repositories(&repositories).map_err(folder)?;
        let ids = store.run_ids().map_err(folder)?;
        let highest = ids.last().copied().unwrap_or(0);
        let recent = ids.iter().rev().take(state::MAX_COMPLETED_IN_MEMORY);
        let runs: Vec<Run> = recent.filter_map(|id| store.load_run(*id)).collect();
        let journal = Journal::open(store.journal_file()).map_err(folder)?;
        let mut state = State::new(runs, highest, repositories);
        state.groups = store.load_groups().map_err(folder)?;
        state.pulls = store.load_pulls().map_err(folder)?;
        state.restore_runners(store.load_runners().map_err(folder)?);
        state.scale_sets = ScaleSets::new(config.assignment, journal.sets());
        let storage = Storage::open(&dir, config.cache_bytes_max, clock::now()).map_err(folder)?;
        let keys = Keys::start(&dir, config.one_runner_key).map_err(folder)?;
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let hooks = Hooks::start(&config.webhooks, &tasks, &stopping)?;
        let parts = Parts { config, git, store, journal, storage, keys, hooks, tasks, stopping };
        let shared = Arc::new(Shared::new(parts, state).map_err(folder)?);
        shared.interrupt_all();
        shared.change(State::end_orphans);
        shared.tasks.spawn(tick(Arc::clone(&shared)));
        shared.tasks.spawn(sweep(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// Everything the hub answers to.
    ///
    /// To be served with `into_make_service_with_connect_info::<SocketAddr>()`: a push or fetch by
    /// another user of the machine, or from a sandbox, is then refused, for its jobs would run as
    /// the plane's user.
    pub fn router(&self) -> axum::Router {
        http::router(Arc::clone(&self.shared))
    }

    /// The paths of everything the hub answers to, as axum writes them: for a test that forgets none.
    pub fn paths(&self) -> Vec<String> {
        http::paths(&self.shared)
    }

    /// Refuses what a web page in the user's browser may have sent to `router`, which is served
    /// beside the hub's own at the same address. The hub's own does so by itself.
    pub fn guard(&self, router: axum::Router) -> axum::Router {
        http::guard(Arc::clone(&self.shared), router)
    }

    /// Sets what is to go wrong from now on; see [`faults`]. Nothing does unless
    /// [`Config::fault_switches`] is set.
    pub fn arm(&self, plan: faults::Plan) {
        self.shared.arm(plan);
    }

    /// What went wrong as it should, in order.
    pub fn struck(&self) -> Vec<faults::Strike> {
        self.shared.struck()
    }

    /// The name of the runner that works on a job; `None` when nobody does, or not any more.
    pub fn runner_of(&self, job: u64) -> Option<String> {
        self.shared.look(|state| {
            let run = state.runs.get(&JobRef::from_job_id(job).run)?;
            let found = run.view.jobs.iter().find(|known| known.id == job)?;
            found.runner_name.clone().filter(|_| found.status == Status::InProgress)
        })
    }

    /// Lets time pass at once for the hub: leases, sessions and tokens age by it.
    pub fn advance(&self, by: SignedDuration) {
        self.shared.advance(by);
    }

    /// Has the hub tell others a wrong time from now on: in tokens, and where theirs are checked.
    pub fn skew(&self, by: SignedDuration) {
        self.shared.clock.skew(by);
    }

    /// Waits until no run is under way, and no runner is there that is for one job.
    pub async fn idle(&self) {
        let mut changes = self.shared.changes();
        loop {
            changes.mark_unchanged();
            let idle = self.shared.look(|state| {
                let over = |run: &state::Run| run.view.status == Status::Completed;
                let lasts = |runner: &state::Runner| runner.life == state::Life::Lasting;
                state.runners.values().all(lasts) && state.runs.values().all(over)
            });
            if idle || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends long polls and streams, lets pushes finish, ends the runs that are open, and writes
    /// everything down. The router answers 503 from then on.
    pub async fn shutdown(&self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(DRAIN, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("a push was still under way after {} s", DRAIN.as_secs());
        }
        self.shared.interrupt_all();
        if let Err(error) = self.shared.saver.flushed().await {
            tracing::error!("{error}");
        }
    }
}

/// The runs of a hub's folder, newest first, whether or not a hub has it open. Blocking.
///
/// # Errors
/// When the folder cannot be read; one that does not exist holds no runs.
pub fn read_runs(dir: &Path) -> io::Result<Vec<Run>> {
    match fs_err::metadata(dir.join("runs")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let store = Store::open(dir)?;
    Ok(store.run_ids()?.into_iter().rev().filter_map(|id| store.load_run(id)).collect())
}

async fn tick(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Both are cancel safe: a tick that is lost comes again.
            () = shared.stopping.cancelled() => return,
            _ = interval.tick() => shared.change(State::expire),
        }
    }
}

async fn sweep(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(SWEEP);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Both are cancel safe: a sweep that is lost comes again.
            () = shared.stopping.cancelled() => return,
            _ = interval.tick() => {
                let shared = Arc::clone(&shared);
                if let Err(error) = tokio::task::spawn_blocking(move || shared.sweep_storage()).await {
                    tracing::error!("artifacts and caches are not swept: {error}");
                }
            }
        }
    }
}
