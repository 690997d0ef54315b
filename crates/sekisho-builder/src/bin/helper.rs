//! Runs sandbox stages for tests, and tests in worse places than this one.

use std::process::ExitCode;

fn main() -> ExitCode {
    sekisho_sandbox::main_if_sandbox();
    sekisho_sandbox::main_if_placed().unwrap_or_default()
}
