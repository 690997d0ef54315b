//! Which runner a request comes from: the gate asks, and a job's credential works nowhere else.
//!
//! ```text
//!  credential ─▶ job ── hub ──▶ the runner that works on it ┐
//!                                                           ├─ the same? then it comes from there
//!  connection ─▶ socket ─▶ process ── its marker ─▶ runner ─┘
//! ```

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sekisho_gate::{Place, Workers};
use sekisho_hub::{Hub, holders_of, look_often, socket_at};
use sekisho_policy::Identity;

/// Most connections that are remembered; each was looked up in `/proc` once.
const MAX_KNOWN: usize = 1024;

/// The runners of this machine.
#[derive(Debug)]
pub(super) struct Runners {
    /// The hub's, as its tokens name it.
    issuer: String,
    hub: Hub,
    folder: PathBuf,
    /// Whose the socket at an address is. The socket's number is compared each time, for another one
    /// may have the address since.
    known: Mutex<HashMap<SocketAddr, (u64, Option<String>)>>,
}

impl Runners {
    /// Of this hub, in this folder of runners.
    pub(super) fn new(issuer: String, hub: Hub, folder: PathBuf) -> Self {
        Self { issuer, hub, folder, known: Mutex::default() }
    }

    /// The runner whose process is at the other end; `None` for anybody else.
    fn at(&self, peer: SocketAddr) -> std::io::Result<Option<String>> {
        if let Some(known) = look_often(|| self.look(peer))? {
            return Ok(known);
        }
        if let Some(socket) = socket_at(peer)? {
            self.remember(peer, socket, None);
        }
        Ok(None)
    }

    /// The same, looked up once; `None` where it is to be looked up again. A stranger is not remembered yet.
    fn look(&self, peer: SocketAddr) -> std::io::Result<Option<Option<String>>> {
        let Some(socket) = socket_at(peer)? else { return Ok(None) };
        if let Some((seen, runner)) = self.known().get(&peer)
            && *seen == socket
        {
            return Ok(Some(runner.clone()));
        }
        let mut runners = Vec::new();
        for pid in holders_of(socket)? {
            runners.push(sekisho_scheduler::runner_of(pid, &self.folder)?);
        }
        // A socket that several hold is of the runner that all of them are of.
        runners.dedup();
        let runner = if runners.len() == 1 { runners.remove(0) } else { None };
        if runner.is_some() {
            self.remember(peer, socket, runner.clone());
        }
        Ok(runner.map(Some))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<SocketAddr, (u64, Option<String>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, peer: SocketAddr, socket: u64, runner: Option<String>) {
        let mut known = self.known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(peer, (socket, runner));
    }
}

impl Workers for Runners {
    fn place(&self, identity: &Identity, peer: Option<SocketAddr>) -> Place {
        if identity.issuer != self.issuer {
            return Place::Unknown;
        }
        let job = identity.check_run_id.parse().ok();
        let runner = job.and_then(|job| self.hub.runner_of(job));
        let (Some(runner), Some(peer)) = (runner, peer) else { return Place::Elsewhere };
        match self.at(peer) {
            Ok(Some(from)) if from == runner => Place::Here,
            Ok(_) => Place::Elsewhere,
            Err(error) => {
                tracing::warn!("it cannot be told who is at {peer}: {error}");
                Place::Elsewhere
            }
        }
    }
}
