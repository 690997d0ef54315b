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
use std::sync::{Mutex, PoisonError};

use sekisho_gate::{Place, Workers};
use sekisho_hub::{Hub, holders_of, socket_at};
use sekisho_policy::Identity;

/// Most connections that are remembered; each was looked up in `/proc` once.
const MAX_KNOWN: usize = 1024;

/// How often a connection is looked up before it is nobody's: the kernel's lists are no snapshot, and a
/// process that just ends, or begins another program, shows no marker.
const LOOKS: usize = 5;

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
        for look in 1..=LOOKS {
            let runner = self.look(peer, look == LOOKS)?;
            if runner.is_some() {
                return Ok(runner);
            }
            std::thread::yield_now();
        }
        Ok(None)
    }

    /// The same, looked up once; only the `last` time it is remembered that it is nobody's.
    fn look(&self, peer: SocketAddr, last: bool) -> std::io::Result<Option<String>> {
        let Some(socket) = socket_at(peer)? else { return Ok(None) };
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, runner)) = known().get(&peer)
            && *seen == socket
        {
            return Ok(runner.clone());
        }
        let mut runners = Vec::new();
        for pid in holders_of(socket)? {
            runners.push(sekisho_scheduler::runner_of(pid, &self.folder)?);
        }
        // A socket that several hold is of the runner that all of them are of.
        runners.dedup();
        let runner = if runners.len() == 1 { runners.remove(0) } else { None };
        if runner.is_none() && !last {
            return Ok(None);
        }
        let mut known = known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(peer, (socket, runner.clone()));
        Ok(runner)
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
