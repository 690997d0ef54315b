//! The binary as a user has it: both examples, real clients, wrong input, Ctrl-C and kill.

mod bad_input;
mod examples;
mod interrupted;
mod plane;
mod support;
