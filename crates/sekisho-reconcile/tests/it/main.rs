//! All decisions at once, in a small world where everything goes wrong: see `simulation`.

#![expect(clippy::print_stdout, reason = "what was played is shown")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a world that is not as it should be fails the test"
)]

mod cluster;
mod connection;
mod dice;
mod github;
mod good_life;
mod invariants;
mod operator;
mod operator_act;
mod operator_observe;
mod operator_session;
mod operator_sets;
mod session;
mod simulation;
mod surplus;
mod world;
