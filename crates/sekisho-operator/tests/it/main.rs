//! The operator on an API server, with the hub as GitHub and runners that speak its wire.

mod jobs;
mod troubles;
mod world;
