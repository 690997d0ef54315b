//! Runs sandbox stages for tests, and nothing else.

fn main() {
    sekisho_sandbox::main_if_sandbox();
}
