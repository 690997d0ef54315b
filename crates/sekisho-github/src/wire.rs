//! What goes over the wire, one module per service.
//!
//! Field names are GitHub's. Read bodies with [`crate::lenient`] where a foreign peer wrote them;
//! what is serialized here has the exact names and cases that peers compare.

pub mod artifact;
pub mod azure;
pub mod cache;
pub mod context;
pub mod error;
pub mod feed;
pub mod job;
pub mod launch;
pub mod message;
pub mod oauth;
pub mod oidc;
pub mod proto;
pub mod register;
pub mod results;
pub mod run_service;
pub mod scale_set;
pub mod session;
pub mod tenant;
