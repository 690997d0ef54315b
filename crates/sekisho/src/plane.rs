//! The plane: hub, gate and scheduler behind one loopback port, on one data folder.
//!
//! A plane holds `plane.lock` while it lives and tells others in `plane.json` how to reach it. Who
//! finds the lock held uses that plane; the kernel frees the lock of one that was killed.

mod files;
mod inspector;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::exit::hinted;
use crate::settings::DataDir;

pub(crate) use files::Address;

/// Where `sekisho up` listens, unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 7350;

/// How long a second program waits for the first to say where it listens, or to be gone.
const HANDOVER: Duration = Duration::from_secs(30);

/// How often it looks.
const HANDOVER_PAUSE: Duration = Duration::from_millis(20);

/// How long open connections get when the plane stops.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// The release of the central pipeline that callers name behind the `@`.
const PIPELINE_TAG: &str = "v1";

/// Which port to listen on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Port {
    /// This one; an error when it is taken.
    Exactly(u16),
    /// This one, or any free one when it is taken.
    Rather(u16),
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
    scheduler: JoinHandle<()>,
    stop_server: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    hub: Arc<sekisho_hub::Hub>,
    // Last: the lock is freed when all else is.
    _lock: files::Lock,
}

/// Uses the plane that is up on the data folder, or starts one.
pub(crate) async fn find_or_start(
    data: &DataDir,
    port: Port,
    capacity: usize,
) -> anyhow::Result<Found> {
    data.create()?;
    let deadline = tokio::time::Instant::now() + HANDOVER;
    loop {
        if let Some(lock) = files::Lock::try_take(data)? {
            return Plane::start(data.clone(), lock, port, capacity).await.map(Found::Own);
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

impl Plane {
    async fn start(
        data: DataDir,
        lock: files::Lock,
        port: Port,
        capacity: usize,
    ) -> anyhow::Result<Self> {
        let listener = listen(port).await?;
        let bound = listener.local_addr().context("asking for the port")?;
        let url: Url = format!("http://{bound}/").parse().context("naming the plane's address")?;
        let admin_token = files::new_token()?;

        let hub = open_hub(&data, &url, &admin_token)?;
        let gate = open_gate(&data, &url, &admin_token)?;
        let stop_server = CancellationToken::new();
        let closing = stop_server.clone();
        let router = gate.merge(hub.router());
        let server = tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(async move { closing.cancelled().await })
                .await
        });

        let stop_scheduler = CancellationToken::new();
        let config = sekisho_scheduler::Config {
            hub_url: url.clone(),
            admin_token: admin_token.clone(),
            program: std::env::current_exe().context("finding this program")?,
            runners_dir: data.runners(),
            archive_dir: data.archive(),
            cache_dir: data.cache(),
            capacity,
        };
        let scheduler = tokio::task::spawn_blocking(|| sekisho_scheduler::Scheduler::new(config))
            .await
            .context("starting the scheduler")??;
        let scheduler = tokio::spawn(scheduler.run(stop_scheduler.clone()));

        let address = Address { url, pid: std::process::id(), admin_token };
        address.write(&data)?;
        Ok(Self {
            address,
            data,
            stop_scheduler,
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

    /// Ends every runner, then the services, then itself.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.retire()?;
        self.stop_scheduler.cancel();
        self.scheduler.await.context("the scheduler panicked")?;
        self.hub.shutdown().await;
        self.stop_server.cancel();
        match tokio::time::timeout(CLOSE_DEADLINE, self.server).await {
            // A client that keeps its connection open does not keep the plane.
            Err(_) => Ok(()),
            Ok(ended) => ended.context("the server panicked")?.context("serving"),
        }
    }
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
