//! The double against the real thing.

mod cluster;
mod conformance;
mod faults;
