//! A credential works where the job runs that it was given to, and nowhere else.
//!
//! A token that leaks out of a job is worth nothing on another machine, as far as the plane knows who
//! runs what: it says so through [`Workers`].

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::Extensions;
use sekisho_policy::Identity;

use super::users;
use crate::gate::Inner;

/// Knows which job runs where.
pub trait Workers: Send + Sync {
    /// Where the job of an identity runs, seen from whoever sends a request; `None` for a connection
    /// whose other end is not known. Called for each request: it must not wait for anything.
    fn place(&self, identity: &Identity, peer: Option<SocketAddr>) -> Place;
}

/// Where a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The request comes from there.
    Here,
    /// It comes from elsewhere, or the job is over.
    Elsewhere,
    /// The plane does not run this job: a hosted runner, another issuer.
    Unknown,
}

/// Who is at the other end, where the server says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(Option<SocketAddr>);

impl Peer {
    pub(crate) fn of(extensions: &Extensions) -> Self {
        Self(extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer))
    }

    pub(crate) fn ip(self) -> Option<IpAddr> {
        self.0.map(|peer| peer.ip().to_canonical())
    }

    pub(crate) fn is_loopback(self) -> bool {
        self.ip().is_some_and(|ip| ip.is_loopback())
    }
}

/// Whether a credential of the identity may be used from there.
pub(crate) fn may_use(gate: &Inner, identity: &Identity, peer: Peer) -> bool {
    if identity.issuer == users::ISSUER {
        // Also one who was a user when the session began.
        return peer.is_loopback() && gate.users.knows(&identity.actor);
    }
    let Some(workers) = &gate.workers else { return true };
    match workers.place(identity, peer.0) {
        Place::Here | Place::Unknown => true,
        Place::Elsewhere => {
            tracing::warn!(
                repository = identity.repository,
                run = identity.run_id,
                "a job's credential was used from elsewhere"
            );
            false
        }
    }
}
