//! The gate over real HTTP: protocol, identity, decisions, real clients.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests may fail the test, and one that is skipped says so"
)]

mod abuse;
mod attacks;
mod beside;
mod clients;
mod conformance;
mod cosign;
mod crash;
mod deletes;
mod docker;
mod facts;
mod full;
mod identity;
mod mirror;
mod promoter;
mod protocol;
mod push;
mod quarantine;
mod referrers;
mod replicas;
mod robust;
mod rules;
mod silent;
mod skopeo;
mod slow;
mod statements;
mod support;
mod tokens;
mod users;
