//! Embedded GitHub stand-in.
