//! `sekisho logs`.

use clap::Args;
use sekisho_archive::Reader;
use sekisho_github::hub_api::Run;
use serde::Serialize;

use crate::exit::{Exit, hinted};
use crate::printer::Printer;
use crate::settings::DataDir;

/// Show the log of a run
#[derive(Args, Debug)]
#[command(after_help = "Works whether or not a plane is up, and while the run goes on.\n\n\
                        Examples:\n  sekisho logs 12\n  sekisho logs 12 --tail 20\n  \
                        sekisho logs 12 --from 1000")]
pub(crate) struct LogsArgs {
    /// The run, as `sekisho runs` lists it
    run: u64,
    /// Only jobs whose name contains this
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// Only the last lines of each job
    #[arg(long, value_name = "N", conflicts_with = "from")]
    tail: Option<u64>,
    /// From this line of each job on, from 0; what is before is not read
    #[arg(long, value_name = "LINE", default_value_t = 0)]
    from: u64,
}

#[derive(Serialize)]
struct Answer {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    run: u64,
    jobs: Vec<JobLog>,
}

#[derive(Serialize)]
struct JobLog {
    job: String,
    runner: String,
    lines: Vec<String>,
}

/// Reads the archive; no plane needs to be up.
pub(crate) fn run(args: &LogsArgs, data: &DataDir, printer: Printer) -> anyhow::Result<Exit> {
    let run = find(args.run, data)?;
    let mut logs = Vec::new();
    for job in &run.jobs {
        let wanted = args.job.as_ref().is_none_or(|part| job.name.contains(part.as_str()));
        if let Some(runner) = job.runner_name.as_ref().filter(|_| wanted) {
            logs.push((job.name.clone(), runner.clone(), open(args, data, runner)?));
        }
    }
    if logs.is_empty() {
        let why = match &args.job {
            Some(part) => format!("no runner took a job of it whose name has `{part}`"),
            None => "no runner took a job of it".to_owned(),
        };
        printer.note(&format!("run {} has no log: {why}", args.run));
        return Ok(Exit::Nothing);
    }
    if printer.is_json() {
        let mut jobs = Vec::new();
        for (job, runner, mut log) in logs {
            jobs.push(JobLog { job, runner, lines: log.rest()? });
        }
        printer.answer_json(&Answer { schema_version: 1, run: run.id, jobs })?;
        return Ok(Exit::Done);
    }
    let several = logs.len() > 1;
    for (job, _, mut log) in logs {
        if several {
            printer.note(&format!("── {job}"));
        }
        // A block at a time: a log may be larger than the memory.
        while let Some(text) = log.next_text()? {
            if !printer.answer_text(&text)? {
                return Ok(Exit::Done);
            }
        }
    }
    Ok(Exit::Done)
}

fn find(id: u64, data: &DataDir) -> anyhow::Result<Run> {
    let runs = sekisho_hub::read_runs(&data.hub())?;
    runs.into_iter().find(|run| run.id == id).ok_or_else(|| {
        let message = format!("there is no run {id} in `{}`", data.root().display());
        hinted(message, "`sekisho runs` lists them")
    })
}

/// A job's log, at the first line that was asked for.
fn open(args: &LogsArgs, data: &DataDir, runner: &str) -> anyhow::Result<Reader> {
    let mut log = Reader::open(&data.archive().join(format!("{runner}.log.gz")))?;
    match args.tail {
        Some(count) => log.seek_tail(count)?,
        None => log.seek_line(args.from)?,
    }
    Ok(log)
}
