//! The client of runner scale sets: who starts runners for the jobs of a set speaks with it.
//!
//! ```text
//!  GithubClient ─▶ registration token ─▶ runner-registration ─▶ Tenant (address, admin token)
//!                                                                │ sets, JIT, runners
//!                                                                ▼
//!                         Listener ── poll ─▶ Delivery ── record ─▶ Recorded ── delete
//! ```
//!
//! What to do next is decided apart from doing it: [`life`] for the session, [`jit`] for a name
//! that is taken, [`wanted`] for a set that is there already.
//!
//! A message can be deleted only with a [`Recorded`], and that is had only by recording it: what
//! this process was told of, and lost, is told again.

pub mod jit;
pub mod life;
pub mod wanted;

mod connection;
mod delivery;
mod error;
mod listener;
mod runners;
mod sets;
mod tenant;

pub use delivery::{Delivery, Recorded};
pub use error::ScaleSetError;
pub use listener::{Acquired, Event, Listener, ListenerOptions, POLL_DEADLINE};
pub use tenant::{Tenant, TenantOptions};
