//! Custom resources, as the decisions look at them.

use std::time::Duration;

use kube::ResourceExt as _;
use sekisho_api::{AcquisitionMode, Reason, Runner, RunnerDeployment, condition};
use sekisho_reconcile::replica_set::Counts;
use sekisho_reconcile::runner::Record;
use sekisho_reconcile::why;

/// `namespace/name`.
pub(crate) fn full_name(namespace: Option<String>, name: &str) -> String {
    format!("{}/{name}", namespace.unwrap_or_default())
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// A RunnerDeployment.
pub(crate) fn deployment(seen: &RunnerDeployment) -> why::Deployment {
    let status = seen.status.clone().unwrap_or_default();
    let (spec, runners) = (&seen.spec, status.runners.unwrap_or_default());
    let dropped = status.scale_set.map(|set| set.dropped_labels).unwrap_or_default();
    let max = spec.scaling.as_ref().map_or(spec.replicas.unwrap_or(0), |scaling| scaling.max);
    why::Deployment {
        name: full_name(seen.namespace(), &seen.name_any()),
        labels: spec.labels.iter().filter(|label| !dropped.contains(label)).cloned().collect(),
        registration: spec.acquisition.mode == AcquisitionMode::Registration,
        group: spec.group.clone(),
        ready: condition::told(&status.conditions, condition::READY, Reason::Pending),
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
        record: Record::of(seen.status.as_ref()),
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
