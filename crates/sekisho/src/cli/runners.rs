//! `sekisho runners`.

use clap::{Args, Subcommand};
use sekisho_api::{Reason, Runner, RunnerDeployment};
use sekisho_reconcile::At;
use sekisho_reconcile::why;
use serde::Serialize;

use crate::cluster::{self, seen};
use crate::exit::Exit;
use crate::printer::Printer;

/// Look at the runners of a cluster
#[derive(Args, Debug)]
pub(crate) struct RunnersArgs {
    #[command(subcommand)]
    command: RunnersCommand,
}

#[derive(Debug, Subcommand)]
enum RunnersCommand {
    /// Show the sets, and what their runners do now
    Top(TopArgs),
}

/// Show the sets, and what their runners do now
#[derive(Args, Debug)]
#[command(
    after_help = "The cluster is that of the current context, as kubectl finds it.\n\nExamples:\n  \
                        sekisho runners top\n  sekisho runners top --namespace ci --output json"
)]
struct TopArgs {
    /// Only in this namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Top {
    schema_version: u32,
    sets: Vec<Set>,
    runners: Vec<Row>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Set {
    name: String,
    reason: String,
    waiting: u32,
    desired: u32,
    pending: u32,
    idle: u32,
    busy: u32,
    failed: u32,
    max: u32,
    message: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    set: String,
    state: String,
    /// Since the state that is shown began, where that is known.
    since_seconds: Option<u64>,
    node: String,
    repository: String,
    job: String,
    message: String,
}

/// Asks the cluster.
pub(crate) async fn run(args: &RunnersArgs, printer: Printer) -> anyhow::Result<Exit> {
    let RunnersCommand::Top(args) = &args.command;
    let client = cluster::client().await?;
    let namespace = args.namespace.as_deref();
    let deployments: Vec<RunnerDeployment> = cluster::list(&client, namespace).await?;
    let runners: Vec<Runner> = cluster::list(&client, namespace).await?;
    let deployments: Vec<_> = deployments.iter().map(seen::deployment).collect();
    let runners: Vec<_> = runners.iter().map(seen::runner).collect();
    let top = top(&deployments, &runners, cluster::now());
    if printer.is_json() {
        printer.answer_json(&top)?;
    } else if top.sets.is_empty() {
        printer.note("there are no RunnerDeployments");
    } else {
        printer.answer_text(&shown(&top))?;
    }
    Ok(if top.sets.is_empty() { Exit::Nothing } else { Exit::Done })
}

/// Those with jobs that wait stand first, and the runner that has been busy the longest.
fn top(deployments: &[why::Deployment], runners: &[why::Runner], now: At) -> Top {
    let mut sets: Vec<Set> = deployments
        .iter()
        .map(|it| Set {
            name: it.name.clone(),
            reason: it.ready.1.to_string(),
            waiting: it.waiting,
            desired: it.desired,
            pending: it.runners.pending,
            idle: it.runners.idle,
            busy: it.runners.busy,
            failed: it.runners.failed,
            max: it.max,
            message: it.ready.2.clone(),
        })
        .collect();
    sets.sort_by(|a, b| (b.waiting, &a.name).cmp(&(a.waiting, &b.name)));
    let mut runners: Vec<&why::Runner> = runners.iter().collect();
    runners.sort_by_key(|runner| (rank(runner.record.state), since(runner), runner.name.clone()));
    let runners = runners.into_iter().map(|runner| row(runner, now)).collect();
    Top { schema_version: 1, sets, runners }
}

fn rank(state: Reason) -> u8 {
    match state {
        Reason::Busy | Reason::Interrupted => 0,
        Reason::Completing => 1,
        Reason::Starting | Reason::Provisioning | Reason::Pending => 2,
        Reason::Idle => 3,
        _ => 4,
    }
}

fn since(runner: &why::Runner) -> Option<At> {
    let record = &runner.record;
    let job = record.job.as_ref().and_then(|job| job.started);
    record.ended.or(job).or(record.online).or(record.pod_created)
}

fn row(runner: &why::Runner, now: At) -> Row {
    let record = &runner.record;
    let job = record.job.clone();
    Row {
        name: runner.name.clone(),
        set: runner.deployment.clone(),
        state: record.state.to_string(),
        since_seconds: since(runner).map(|at| now.since(at).as_secs()),
        node: record.pod.as_ref().and_then(|pod| pod.node.clone()).unwrap_or_default(),
        repository: job.as_ref().map(|job| job.repository.clone()).unwrap_or_default(),
        job: job.map(|job| job.display_name).unwrap_or_default(),
        message: record.message.clone(),
    }
}

fn shown(top: &Top) -> String {
    let number = |number: u32| number.to_string();
    let mut sets = vec![
        ["SET", "REASON", "WAITING", "DESIRED", "PENDING", "IDLE", "BUSY", "FAILED", "MAX"]
            .map(str::to_owned)
            .to_vec(),
    ];
    sets.extend(top.sets.iter().map(|set| {
        let counts =
            [set.waiting, set.desired, set.pending, set.idle, set.busy, set.failed, set.max];
        [set.name.clone(), set.reason.clone()].into_iter().chain(counts.map(number)).collect()
    }));
    let mut text = table(&sets);
    if !top.runners.is_empty() {
        let mut rows = vec![
            ["RUNNER", "STATE", "FOR", "NODE", "REPOSITORY", "JOB"].map(str::to_owned).to_vec(),
        ];
        rows.extend(top.runners.iter().map(|row| {
            let since = row.since_seconds.map(std::time::Duration::from_secs).map(seen::span);
            let dash = |text: &String| if text.is_empty() { "-".to_owned() } else { text.clone() };
            vec![
                row.name.clone(),
                row.state.clone(),
                since.unwrap_or_else(|| "-".to_owned()),
                dash(&row.node),
                dash(&row.repository),
                dash(&row.job),
            ]
        }));
        text.push('\n');
        text.push_str(&table(&rows));
    }
    text
}

/// Columns as wide as their widest.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of<T: serde::de::DeserializeOwned>(kind: &str, name: &str, spec: Value, status: Value) -> T {
        serde_json::from_value(json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": kind,
            "metadata": { "name": name, "namespace": "ci" }, "spec": spec, "status": status
        }))
        .unwrap()
    }

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!([{ "type": kind, "status": status, "reason": reason, "message": "",
                 "lastTransitionTime": "2026-01-01T00:00:00Z" }])
    }

    fn runner(name: &str, state: &str, more: Value) -> why::Runner {
        let spec = json!({ "deployment": "build", "connectionRef": "a", "classRef": "default",
            "mode": "ScaleSet", "group": "Default", "labels": ["build"], "trustZone": "PullRequest" });
        let mut status = json!({ "conditions": condition("Succeeded", "Unknown", state) });
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        seen::runner(&of("Runner", name, spec, status))
    }

    #[test]
    fn what_waits_and_what_runs_longest_stands_first() {
        let deployment = |name: &str, waiting: i32| {
            let spec = json!({ "connectionRef": "a", "classRef": "default", "labels": [name],
                               "scaling": { "max": 20 } });
            let status = json!({ "desired": 3, "jobs": { "waiting": waiting, "running": 1 },
                "runners": { "live": 3, "pending": 1, "idle": 1, "busy": 1, "failed": 2 },
                "conditions": condition("Ready", "True", "Scaling") });
            seen::deployment(&of("RunnerDeployment", name, spec, status))
        };
        let job = |started: &str| {
            json!({ "pod": { "uid": "u", "node": "n1" },
                "job": { "id": "1", "runId": 7, "repository": "acme/app", "displayName": "image",
                         "started": started } })
        };
        let runners = [
            runner("r-idle", "Idle", json!({ "timeline": { "online": "2026-01-01T00:59:18Z" } })),
            runner("r-young", "Busy", job("2026-01-01T00:59:00Z")),
            runner("r-old", "Busy", job("2025-12-31T22:55:00Z")),
            runner("r-new", "Pending", json!({})),
        ];
        let now = At::from_secs(1_767_229_200); // 2026-01-01T01:00:00Z
        let top = top(&[deployment("build", 0), deployment("test", 4)], &runners, now);
        assert_eq!(
            shown(&top),
            "\
SET       REASON   WAITING  DESIRED  PENDING  IDLE  BUSY  FAILED  MAX
ci/test   Scaling  4        3        1        1     1     2       20
ci/build  Scaling  0        3        1        1     1     2       20

RUNNER   STATE    FOR    NODE  REPOSITORY  JOB
r-old    Busy     2h05m  n1    acme/app    image
r-young  Busy     1m00s  n1    acme/app    image
r-new    Pending  -      -     -           -
r-idle   Idle     42s    -     -           -
"
        );
    }
}
