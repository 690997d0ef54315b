//! Dockerfile to build graph, cache keys.
