//! The double against the real thing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

mod cluster;
mod conformance;
mod faults;
