//! The hub against real peers: `git`, and a runner's requests over a real socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod client;
mod git;
mod job;
mod refusals;
mod restart;
mod storage;
mod toolkit;
mod world;
