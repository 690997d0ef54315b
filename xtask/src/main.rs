//! Chores of this repository: `cargo xtask <chore>`.

mod bench;
mod crds;
mod deploy;
mod tables;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::bail;

use self::bench::build::Scope;

const HELP: &str =
    "usage: cargo xtask bench [--fresh-clone | runner | hub | operator [--quick] | gate [--quick | --uploads] | build [--quick | --only W]]
                   | crds | deploy | tables

  bench                 measures this checkout, and writes docs/benchmarks.md
  bench --fresh-clone   also measures the way from a fresh clone to the first result; takes minutes
  bench runner          measures the runner alone, and writes its section
  bench hub             measures the hub alone, and writes its section
  bench operator        measures the operator on testkit's API server, and on a real one where
                        KUBEBUILDER_ASSETS names it, and writes its section
  bench operator --quick  a tenth of that, of the everyday build, to the terminal
  bench gate            measures the gate beside docker-registry, and writes its section; its 100 uploads at
                        once are of 1 GiB where half of the free disk holds that, which takes minutes
                        (SEKISHO_BENCH_UPLOADS_IN names another folder for them, which may lie in
                        compressed memory; SEKISHO_BENCH_UPLOAD_MIB says another size)
  bench gate --quick    a little of that, of the everyday build, to the terminal
  bench gate --uploads  those uploads alone, to the terminal
  bench build           measures the builder beside buildah and BuildKit, and writes its section
  bench build --quick   a little of that, of the everyday build, to the terminal
  bench build --only W  one of its workloads, w1 to w4, to the terminal
  (SEKISHO_BENCH_PROGRAM names the program for `gate` and `build` when it is built already)
  crds                  writes the custom resource definitions into deploy/crds
  deploy                writes the operator's manifests and the classes into deploy
  tables                writes the tables of docs that are made of the code";

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
        ["bench", "gate", "--uploads"] => bench::run_gate_uploads(),
        ["bench", "build"] => bench::run_build(Scope::All),
        ["bench", "build", "--quick"] => bench::run_build(Scope::Quick),
        ["bench", "build", "--only", name] => Scope::only(name).and_then(bench::run_build),
        ["bench", "hub"] => bench::hub::run(),
        ["bench", "operator"] => bench::operator::run(false),
        ["bench", "operator", "--quick"] => bench::operator::run(true),
        ["crds"] => crds::run(),
        ["deploy"] => deploy::run(),
        ["tables"] => tables::run(),
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

/// Cargo, as if a terminal called it: what it said to us of our own package would be news to the build script
/// of a dependency, and nearly everything would be built once more.
fn cargo() -> Command {
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Writes `text` into `file`; one that is right already is left alone.
fn write_changed(file: &Path, text: &str) -> anyhow::Result<()> {
    if fs_err::read_to_string(file).ok().as_deref() != Some(text) {
        if let Some(folder) = file.parent() {
            fs_err::create_dir_all(folder)?;
        }
        fs_err::write(file, text)?;
    }
    Ok(())
}
