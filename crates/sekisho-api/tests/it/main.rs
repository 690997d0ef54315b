//! The schemas: that the committed files are those of the code, and what they must contain.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

mod previous;
mod schemas;
