//! `sekisho runs`.

use clap::Args;
use sekisho_github::hub_api::{Run, Status};
use serde::Serialize;

use crate::exit::Exit;
use crate::printer::Printer;
use crate::settings::DataDir;

/// List the runs of this data folder
#[derive(Args, Debug)]
#[command(after_help = "Works whether or not a plane is up.\n\nExamples:\n  sekisho runs\n  \
                        sekisho runs --limit 5 --output json")]
pub(crate) struct RunsArgs {
    /// How many, newest first
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    runs: &'a [Run],
}

/// Reads the records; no plane needs to be up.
pub(crate) fn run(args: &RunsArgs, data: &DataDir, printer: Printer) -> anyhow::Result<Exit> {
    let mut runs = sekisho_hub::read_runs(&data.hub())?;
    runs.truncate(args.limit);
    if printer.is_json() {
        printer.answer_json(&Answer { schema_version: 1, runs: &runs })?;
        return Ok(Exit::Done);
    }
    if runs.is_empty() {
        printer.note(&format!("no runs in `{}`", data.root().display()));
        return Ok(Exit::Nothing);
    }
    for run in &runs {
        printer.answer(&line(run))?;
    }
    Ok(Exit::Done)
}

fn line(run: &Run) -> String {
    let state = match run.conclusion {
        Some(conclusion) => conclusion.as_str(),
        None => run.status.as_str(),
    };
    let took = match (run.status, run.completed_at) {
        (Status::Completed, Some(end)) => {
            format!("{:.1} s", end.duration_since(run.created_at).as_secs_f64())
        }
        _ => "-".to_owned(),
    };
    let when = run.created_at.strftime("%Y-%m-%d %H:%M:%SZ");
    let sha = run.sha.get(..12).unwrap_or(&run.sha);
    format!("{:>5}  {state:<11}  {when}  {took:>8}  {sha}  {}", run.id, run.repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_one_line() {
        let run: Run = serde_json::from_value(serde_json::json!({
            "id": 12, "repository": "local/hello", "ref": "refs/heads/main",
            "sha": "0123456789abcdef0123456789abcdef01234567", "event": "push",
            "workflow_name": "image", "workflow_path": ".github/workflows/image.yml",
            "run_number": 1, "run_attempt": 1, "status": "completed", "conclusion": "success",
            "created_at": "2026-01-02T03:04:05Z", "started_at": null,
            "completed_at": "2026-01-02T03:04:07.25Z", "jobs": [],
        }))
        .unwrap();
        assert_eq!(
            line(&run),
            "   12  success      2026-01-02 03:04:05Z     2.2 s  0123456789ab  local/hello"
        );
    }
}
