//! GitHub wire types and clients.

pub mod hub_api;
pub mod rest;
