//! Jobs on runners on a cluster: how many at once, how soon they are gone, and what a lost operator costs.
//!
//! The hub, the API server (testkit's double; and the real one where `KUBEBUILDER_ASSETS` names it) and
//! each operator are processes of their own, this program started again. Kubelets and runners are played
//! here. Before a time is told it is checked that each job ran once and that nothing is left: no Runner, pod
//! or secret, no registration. The answer is one line of JSON. `--quick` measures a tenth; `--runners 2000` nothing but the
//! memory for so many.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the answer, and how far it is")]

mod measure;
#[path = "../../tests/it/played.rs"]
mod played;
mod process;
mod seen;
mod world;

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::measure::Scale;
use crate::played::Failure;

/// How long anything may take in all, on one API server: a real one writes to a disk.
const DEADLINE: Duration = Duration::from_secs(1800);

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match arguments.as_slice() {
        ["hub", dir] => return runtime.block_on(process::hub(Path::new(dir))),
        ["api"] => return runtime.block_on(process::api()),
        ["operator", identity, url, token] => {
            return runtime.block_on(process::operator(identity, url, token));
        }
        _ => {}
    }
    let of = |flag| arguments.iter().skip_while(|it| **it != flag).nth(1).map(|it| it.parse());
    if let Some(runners) = of("--runners") {
        let runners = runners?;
        let memory = async { tokio::time::timeout(DEADLINE, measure::memory(runners)).await };
        let bytes = runtime.block_on(memory).map_err(|_| "it took too long")??;
        println!("{}", json!({ "runners": runners, "resident_bytes": bytes }));
        return Ok(());
    }
    let scale = if arguments.contains(&"--quick") { Scale::quick() } else { Scale::full() };
    let mut answers = Vec::new();
    for real in [false, true] {
        let measured = async { tokio::time::timeout(DEADLINE, measure::run(real, &scale)).await };
        answers.extend(runtime.block_on(measured).map_err(|_| "it took too long")??);
    }
    println!("{}", json!({ "servers": answers }));
    Ok(())
}
