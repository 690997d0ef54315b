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
use sekisho_scheduler::Started;

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
        let holders = holders_of(socket)?.into_iter();
        let started = holders.map(|pid| sekisho_scheduler::started(pid, &self.folder));
        let runner = whose(started.collect::<Result<_, _>>()?);
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

/// Whose a socket is that these processes hold: the runner's that started all of them. One that shows nothing of
/// itself says nothing either way: a child between two programs holds its parent's sockets for a moment.
fn whose(holders: Vec<Started>) -> Option<String> {
    let mut runners = holders.into_iter().filter(|it| *it != Started::Unseen);
    match (runners.next()?, runners) {
        (Started::By(runner), mut others) => {
            others.all(|it| matches!(it, Started::By(other) if other == runner)).then_some(runner)
        }
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_the_runners_that_started_all_who_are_seen_to_hold_it() {
        let by = |name: &str| Started::By(name.to_owned());
        let check = |holders: &[Started], want: Option<&str>| {
            assert_eq!(whose(holders.to_vec()).as_deref(), want, "{holders:?}");
        };
        check(&[by("a")], Some("a"));
        check(&[by("a"), by("a")], Some("a"));
        // A child of the runner's that just begins another program.
        check(&[by("a"), Started::Unseen], Some("a"));
        check(&[Started::Unseen, by("a")], Some("a"));
        // Nobody is known, or not everybody is the runner's.
        check(&[], None);
        check(&[Started::Unseen], None);
        check(&[Started::Elsewhere], None);
        check(&[by("a"), Started::Elsewhere], None);
        check(&[Started::Elsewhere, by("a")], None);
        check(&[by("a"), by("b")], None);
    }
}
