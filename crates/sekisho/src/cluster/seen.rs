//! Custom resources, as the decisions look at them.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use sekisho_api::condition::{self, Condition, Truth};
use sekisho_api::{AcquisitionMode, Reason, Runner, RunnerDeployment};
use sekisho_reconcile::At;
use sekisho_reconcile::replica_set::Counts;
use sekisho_reconcile::runner::{Job, PodRecord, Record};
use sekisho_reconcile::why;

/// A point in time of the API server.
pub(crate) fn at(time: &Time) -> At {
    At::from_secs(u64::try_from(time.0.as_second()).unwrap_or(0))
}

/// `namespace/name`.
pub(crate) fn full_name(namespace: Option<String>, name: &str) -> String {
    format!("{}/{name}", namespace.unwrap_or_default())
}

/// Whether a condition holds, why, and its message.
pub(crate) fn condition(of: &[Condition], kind: &str, absent: Reason) -> (Truth, Reason, String) {
    let Some(known) = condition::find(of, kind) else {
        return (Truth::Unknown, absent, String::new());
    };
    let truth = match known.status.as_str() {
        "True" => Truth::True,
        "False" => Truth::False,
        _ => Truth::Unknown,
    };
    // One of a later version: what it says is in the message.
    (truth, known.reason.parse().unwrap_or(absent), known.message.clone())
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// A RunnerDeployment.
pub(crate) fn deployment(seen: &RunnerDeployment) -> why::Deployment {
    let status = seen.status.clone().unwrap_or_default();
    let (spec, runners) = (&seen.spec, status.runners.unwrap_or_default());
    let max = spec.scaling.as_ref().map_or(spec.replicas.unwrap_or(0), |scaling| scaling.max);
    why::Deployment {
        name: full_name(seen.namespace(), &seen.name_any()),
        labels: spec.labels.clone(),
        registration: spec.acquisition.mode == AcquisitionMode::Registration,
        group: spec.group.clone(),
        ready: condition(&status.conditions, condition::READY, Reason::Pending),
        max: count(max),
        desired: count(status.desired.unwrap_or(0)),
        waiting: count(status.jobs.unwrap_or_default().waiting),
        runners: Counts {
            live: count(runners.live),
            pending: count(runners.pending),
            idle: count(runners.idle),
            busy: count(runners.busy),
            failed: count(runners.failed),
        },
    }
}

/// A Runner.
pub(crate) fn runner(seen: &Runner) -> why::Runner {
    why::Runner {
        name: seen.name_any(),
        deployment: full_name(seen.namespace(), &seen.spec.deployment),
        record: record(seen),
    }
}

/// What is written down of a Runner.
pub(crate) fn record(seen: &Runner) -> Record {
    let status = seen.status.clone().unwrap_or_default();
    let timeline = status.timeline.unwrap_or_default();
    let (truth, state, message) =
        condition(&status.conditions, condition::SUCCEEDED, Reason::Pending);
    Record {
        state,
        truth,
        message,
        registration: status.registration.map(|it| it.id),
        pod: status.pod.map(|pod| PodRecord { uid: pod.uid, node: pod.node }),
        job: status.job.map(|job| Job {
            id: job.id,
            run_id: job.run_id,
            repository: job.repository,
            display_name: job.display_name,
            workflow_ref: job.workflow_ref,
            started: job.started.as_ref().map(at),
            completed: job.completed.as_ref().map(at),
            result: job.result,
        }),
        pod_created: timeline.pod_created.as_ref().map(at),
        online: timeline.online.as_ref().map(at),
        ended: timeline.ended.as_ref().map(at),
    }
}

/// For people: `42s`, `7m03s`, `2h05m`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes, _) => format!("{hours}h{minutes:02}m"),
    }
}
