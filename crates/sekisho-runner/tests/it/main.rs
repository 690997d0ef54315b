//! Real jobs against a small server that speaks the wire.

mod cancel;
mod checkout;
mod composite;
mod fixture;
mod git;
mod masks;
mod process;
mod server;
mod steps;
mod volume;
mod wire;
