//! The binary as a user has it: the examples, real clients, wrong input, Ctrl-C and kill.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

mod analyser;
mod bad_input;
mod base;
mod bucket;
mod build;
mod cluster;
mod examples;
mod gate;
mod gate_cluster;
mod hub;
mod interrupted;
mod limits;
mod migrate;
mod operator;
mod page;
mod plane;
mod policy;
mod serve;
mod support;
mod threats;
mod walled;
