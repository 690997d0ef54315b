//! The operator on an API server, with the hub as GitHub and runners that speak its wire.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

mod jobs;
mod played;
mod troubles;
mod world;
