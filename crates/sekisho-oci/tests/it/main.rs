//! The layer code beside the `tar` program, and on layers that others made.

mod foreign;
mod tar_program;
