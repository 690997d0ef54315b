//! The manifests: that the committed files are those of the code, what the operator may do, and that
//! it is hardened as it hardens others.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

mod deploy;
mod render;
