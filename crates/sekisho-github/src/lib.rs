//! GitHub wire types and clients.
