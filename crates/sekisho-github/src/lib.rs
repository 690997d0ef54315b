//! GitHub's wires: types that both ends share, and the client that a runner speaks with.
//!
//! [`wire`] holds what goes between runner and services, [`rest`] what registers runners,
//! [`jit`] the blob a runner is configured with, [`lenient`] the case-insensitive reading that
//! GitHub's own peers rely on, [`runner`] the runner's side of broker, run service and results
//! service, [`oidc`] verifies the tokens of jobs. [`hub_api`] is the embedded hub's own and not GitHub's.
//!
//! What is *sent* is exact; what is *read* is lenient where real peers differ, and nowhere else.

pub mod http;
pub mod hub_api;
pub mod jit;
pub mod lenient;
pub mod oidc;
pub mod probe;
pub mod rest;
pub mod retry;
pub mod runner;
pub mod scale_set;
pub mod secret;
pub mod webhook;
pub mod wire;
