//! Runs a build graph.
