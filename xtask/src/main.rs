//! Chores of this repository: `cargo xtask <chore>`.

mod bench;
mod crds;

use std::process::ExitCode;

use anyhow::bail;

const HELP: &str = "usage: cargo xtask bench [--fresh-clone | runner | hub | gate [--quick] | build [--quick]] | crds

  bench                 measures this checkout, and writes docs/benchmarks.md
  bench --fresh-clone   also measures the way from a fresh clone to the first result; takes minutes
  bench runner          measures the runner alone, and writes its section
  bench hub             measures the hub alone, and writes its section
  bench gate            measures the gate beside docker-registry, and writes its section
  bench gate --quick    a little of that, of the everyday build, to the terminal
  bench build           measures the builder beside buildah and BuildKit, and writes its section
  bench build --quick   a little of that, of the everyday build, to the terminal
  (SEKISHO_BENCH_PROGRAM names the program for `gate` and `build` when it is built already)
  crds                  writes the custom resource definitions into deploy/crds";

#[expect(clippy::print_stderr, reason = "this is the chore's terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["bench"] => bench::run(false),
        ["bench", "--fresh-clone"] => bench::run(true),
        ["bench", "runner"] => bench::runner::run(),
        ["bench", "gate"] => bench::run_gate(false),
        ["bench", "gate", "--quick"] => bench::run_gate(true),
        ["bench", "build"] => bench::run_build(false),
        ["bench", "build", "--quick"] => bench::run_build(true),
        ["bench", "hub"] => bench::hub::run(),
        ["crds"] => crds::run(),
        ["--help" | "-h"] => {
            eprintln!("{HELP}");
            Ok(())
        }
        other => usage(other),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage(arguments: &[&str]) -> anyhow::Result<()> {
    bail!("no chore `{}`\n\n{HELP}", arguments.join(" "))
}
