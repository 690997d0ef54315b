//! The hub against real peers: `git`, and a runner's requests over a real socket.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod buildkit;
mod client;
mod concurrency;
mod credentials;
mod faults;
mod git;
mod go_runner;
mod go_scale_set;
mod hooks;
mod job;
mod probe;
mod pulls;
mod refusals;
mod register;
mod rest;
mod restart;
mod routes;
mod runner;
mod saving;
mod scale_set;
mod storage;
mod toolkit;
mod world;
