//! The plane: hub, gate and scheduler behind one loopback port, on one data folder.
//!
//! A plane holds `plane.lock` while it lives and tells others in `plane.json` how to reach it. Who
//! finds the lock held uses that plane; the kernel frees the lock of one that was killed.

pub(crate) mod files;
mod workers;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use sekisho_gate::{Gate, Issuer, Patience, Reading, TokenPasswords, serve};
use sekisho_hub::{Assignment, BuiltinRepository, Hub};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::exit::hinted;
use crate::gate::{self, Who};
use crate::settings::DataDir;
use crate::signals::Signals;

pub(crate) use files::Address;

/// Where `sekisho up` listens, unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 7350;

/// How long a second program waits for the first to say where it listens, or to be gone.
const HANDOVER: Duration = Duration::from_secs(30);

/// How often it looks.
const HANDOVER_PAUSE: Duration = Duration::from_millis(20);

/// How long open connections get when the plane stops.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// The central pipeline, served as a repository of its own.
const PIPELINE: &str = include_str!("../pipeline/.github/workflows/image.yml");

/// The owner whose images have bare names: `local/hello` is pushed as `hello`.
pub(crate) const LOCAL_OWNER: &str = "local";

/// Which port to listen on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Port {
    /// This one; an error when it is taken.
    Exactly(u16),
    /// This one, or any free one when it is taken.
    Rather(u16),
}

/// What is set of the hub for tests of clients: see `docs/protocol.md`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HubOptions {
    /// How jobs get to the listeners of scale sets.
    pub(crate) assignment: Assignment,
    /// Whether it can be told to do wrong.
    pub(crate) fault_switches: bool,
}

/// How a plane is started.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where it listens.
    pub(crate) port: Port,
    /// Most runners at once.
    pub(crate) capacity: usize,
    /// The hub's.
    pub(crate) hub: HubOptions,
    /// Settings of the builder, as variables of every runner.
    pub(crate) build_settings: Vec<(&'static str, String)>,
}

/// What was found on the data folder.
pub(crate) enum Found {
    /// Nothing was up: this is a plane of our own, to be stopped by us.
    Own(Plane),
    /// Another program's plane is up.
    Up(Address),
}

/// A plane that runs in this process.
pub(crate) struct Plane {
    /// How to reach it.
    pub(crate) address: Address,
    data: DataDir,
    stop_scheduler: CancellationToken,
    kill_runners: CancellationToken,
    scheduler: JoinHandle<()>,
    stop_server: CancellationToken,
    server: JoinHandle<()>,
    hub: Hub,
    // Last: the lock is freed when all else is.
    _lock: files::Lock,
}

/// Uses the plane that is up on the data folder, or starts one.
pub(crate) async fn find_or_start(data: &DataDir, options: Options) -> anyhow::Result<Found> {
    data.create()?;
    let deadline = tokio::time::Instant::now() + HANDOVER;
    loop {
        if let Some(lock) = files::Lock::try_take(data)? {
            return Plane::start(data.clone(), lock, options).await.map(Found::Own);
        }
        // Held, but silent: it is starting, or about to be gone.
        if let Some(address) = Address::read(data)? {
            return Ok(Found::Up(address));
        }
        if tokio::time::Instant::now() > deadline {
            return Err(hinted(
                format!(
                    "another program holds the data folder `{}` but does not say where it listens",
                    data.root().display()
                ),
                "end the program that holds `plane.lock`, or name another folder with `--data-dir`",
            ));
        }
        tokio::time::sleep(HANDOVER_PAUSE).await;
    }
}

/// How to reach the plane that is up, if one says so.
pub(crate) fn up(data: &DataDir) -> anyhow::Result<Option<Address>> {
    Address::read(data)
}

impl Plane {
    async fn start(data: DataDir, lock: files::Lock, options: Options) -> anyhow::Result<Self> {
        let listener = listen(options.port).await?;
        let bound = listener.local_addr().context("asking for the port")?;
        let url: Url = format!("http://{bound}/").parse().context("naming the plane's address")?;
        let admin_token = files::new_token()?;

        let hub = open_hub(&data, &url, &admin_token, options.hub)?;
        let gate = open_gate(&data, &url, &admin_token, hub.clone())?.router();
        let stop_server = CancellationToken::new();
        let closing = stop_server.clone();
        let router = hub.guard(gate).merge(hub.router());
        // The hub asks who of this machine speaks: a pushed job runs as the plane's user.
        let server = serve(listener, router, Patience::default(), closing);
        let server = tokio::spawn(server);

        let stop_scheduler = CancellationToken::new();
        let config = sekisho_scheduler::Config {
            hub_url: url.clone(),
            admin_token: admin_token.clone(),
            program: std::env::current_exe().context("finding this program")?,
            runners_dir: data.runners(),
            archive_dir: data.archive(),
            cache_dir: data.cache(),
            build_settings: options.build_settings,
            capacity: options.capacity,
        };
        let scheduler = tokio::task::spawn_blocking(|| sekisho_scheduler::Scheduler::new(config))
            .await
            .context("starting the scheduler")??;
        let kill_runners = CancellationToken::new();
        let scheduler = tokio::spawn(scheduler.run(stop_scheduler.clone(), kill_runners.clone()));

        let address = Address { url, pid: std::process::id(), admin_token };
        address.write(&data)?;
        Ok(Self {
            address,
            data,
            stop_scheduler,
            kill_runners,
            scheduler,
            stop_server,
            server,
            hub,
            _lock: lock,
        })
    }

    /// Tells nobody any more where it is: no new client comes, who is here stays.
    pub(crate) fn retire(&self) -> anyhow::Result<()> {
        Address::remove(&self.data)
    }

    /// Ends every runner, then the services, then itself. Runners get no time to end their jobs
    /// when it is to be `at_once`, or as soon as Ctrl-C says so.
    pub(crate) async fn stop(mut self, at_once: bool) -> anyhow::Result<()> {
        self.retire()?;
        self.stop_scheduler.cancel();
        let mut signals = Signals::listen()?;
        let asked = async {
            if !at_once {
                signals.next().await;
            }
        };
        let ended = tokio::select! {
            biased;
            () = asked => {
                self.kill_runners.cancel();
                (&mut self.scheduler).await
            }
            ended = &mut self.scheduler => ended,
        };
        ended.context("the scheduler panicked")?;
        self.hub.shutdown().await;
        self.stop_server.cancel();
        match tokio::time::timeout(CLOSE_DEADLINE, self.server).await {
            // A client that keeps its connection open does not keep the plane.
            Err(_) => Ok(()),
            Ok(ended) => ended.context("the server panicked"),
        }
    }
}

/// How many runners at once: as many as asked for, or as there are processors, but two at least, so
/// that a job which waits for another run's image does not wait for ever.
pub(crate) fn capacity(wanted: Option<NonZeroUsize>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(2, usize::from).max(2);
    wanted.map_or_else(processors, usize::from)
}

fn open_hub(
    data: &DataDir,
    url: &Url,
    admin_token: &SecretString,
    options: HubOptions,
) -> anyhow::Result<Hub> {
    let base_url = url.as_str().trim_end_matches('/');
    let mut config = sekisho_hub::Config::new(data.hub(), base_url, admin_token.clone());
    config.assignment = options.assignment;
    config.fault_switches = options.fault_switches;
    config.vars.insert("SEKISHO_GATE".to_owned(), url.authority().to_owned());
    config.builtin_repositories.push(BuiltinRepository {
        owner: "sekisho".to_owned(),
        name: "pipeline".to_owned(),
        refs: vec!["refs/heads/main".to_owned(), "refs/tags/v1".to_owned()],
        files: vec![(".github/workflows/image.yml".to_owned(), PIPELINE.as_bytes().to_vec())],
    });
    Hub::open(config).context("opening the hub")
}

fn open_gate(
    data: &DataDir,
    url: &Url,
    admin_token: &SecretString,
    hub: Hub,
) -> anyhow::Result<Gate> {
    let issuer = format!("{}/_services/token", url.as_str().trim_end_matches('/'));
    let audience = url.as_str().trim_end_matches('/').to_owned();
    gate::open(
        data,
        Who {
            url: url.clone(),
            admin_token: admin_token.clone(),
            issuers: vec![Issuer { url: issuer.clone(), audience, reading: Reading::GitHub }],
            workers: Some(Arc::new(workers::Runners::new(issuer, hub, data.runners()))),
            local_owner: Some(LOCAL_OWNER.to_owned()),
            token_passwords: TokenPasswords::default(),
            promoter: None,
        },
    )
}

async fn listen(port: Port) -> anyhow::Result<TcpListener> {
    let (wanted, fall_back) = match port {
        Port::Exactly(port) => (port, false),
        Port::Rather(port) => (port, true),
    };
    match TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, wanted))).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && fall_back => {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            TcpListener::bind(any).await.context("finding a free port")
        }
        Err(error) => {
            let hint = "end the program that listens there, or choose another with `--port`";
            Err(hinted(format!("cannot listen on 127.0.0.1:{wanted}: {error}"), hint))
        }
    }
}
