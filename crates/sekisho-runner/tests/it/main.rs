//! Real jobs against a small server that speaks the wire.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail the test, and one that is skipped says so"
)]

mod cable;
mod cancel;
mod checkout;
mod composite;
mod fixture;
mod git;
mod hooks;
mod hub;
mod javascript;
mod lease;
mod masks;
mod matchers;
mod process;
mod server;
mod steps;
mod tenant;
mod tls;
mod volume;
mod wire;
