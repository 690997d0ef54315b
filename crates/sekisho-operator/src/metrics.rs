//! Numbers for Prometheus. Labels are of closed sets: kinds, reasons, outcomes; never names.

use std::collections::BTreeMap;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};
use sekisho_api::condition::Truth;
use sekisho_api::{JobResult, Reason};
use sekisho_reconcile::runner::Record;
use sekisho_reconcile::session::Gate;
use sekisho_reconcile::{At, Failure};

type Labels = [(&'static str, &'static str); 1];
type Pair = [(&'static str, &'static str); 2];

/// All of them.
pub(crate) struct Metrics {
    registry: Registry,
    reconciled: Family<Pair, Counter>,
    reconcile_seconds: Family<Labels, Histogram>,
    failures: Family<Labels, Counter>,
    waiting: Family<Labels, Gauge>,
    pub(crate) ended: Family<Labels, Counter>,
    pub(crate) messages: Counter,
    left_out: Family<Labels, Counter>,
    without_runner: Family<Labels, Counter>,
    pub(crate) webhooks: Family<Labels, Counter>,
    pub(crate) registrations: Counter,
    pub(crate) writes: Family<Labels, Counter>,
    pub(crate) backing_off: Gauge,
    pub(crate) ghosts: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) queue_depth: Gauge,
    pub(crate) leases_lost: Counter,
    pub(crate) lease_failures: Family<Labels, Counter>,
    runners: Family<Labels, Gauge>,
    jobs: Family<Labels, Gauge>,
    withheld: Family<Labels, Gauge>,
    job_start_seconds: Histogram,
}

/// What is there, of the deployments that this replica works on.
#[derive(Default)]
pub(crate) struct Levels {
    /// Runners, by state.
    pub(crate) runners: BTreeMap<&'static str, i64>,
    pub(crate) jobs_waiting: i64,
    pub(crate) jobs_running: i64,
    /// Runners that there may not be, by why.
    pub(crate) withheld: BTreeMap<&'static str, i64>,
}

/// The states of a runner that are shown: one that ended well is gone, one that failed is shown as such.
const STATES: [Reason; 7] = [
    Reason::Pending,
    Reason::Provisioning,
    Reason::Starting,
    Reason::Idle,
    Reason::Busy,
    Reason::Interrupted,
    Reason::Completing,
];
/// The label of a runner that failed, and is kept to be looked at.
pub(crate) const FAILED: &str = "Failed";

/// The label of a gate.
const fn gate(gate: Gate) -> &'static str {
    match gate {
        Gate::Quota => "quota",
        Gate::Backoff => "backoff",
        Gate::Blocked => "blocked",
    }
}

impl Levels {
    /// A runner.
    pub(crate) fn runner(&mut self, record: &Record) {
        let state = match record.truth {
            Truth::False => FAILED,
            Truth::True | Truth::Unknown => record.state.name(),
        };
        *self.runners.entry(state).or_default() += 1;
    }

    /// What a deployment is kept from.
    pub(crate) fn withheld(&mut self, why: Gate, count: u32) {
        *self.withheld.entry(gate(why)).or_default() += i64::from(count);
    }
}

/// Registers a metric.
fn add<M: Metric + Clone>(to: &mut Registry, name: &str, help: &str, metric: M) -> M {
    to.register(name, help, metric.clone());
    metric
}

/// Registers a metric that begins with nothing.
fn new<M: Metric + Clone + Default>(to: &mut Registry, name: &str, help: &str) -> M {
    add(to, name, help, M::default())
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Registry::with_prefix("sekisho_operator");
        let to = &mut all;
        let seconds = Family::<Labels, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 2.0, 14))
        });
        Self {
            reconciled: new(to, "reconciles", "Keys worked on, by kind and outcome"),
            reconcile_seconds: add(to, "reconcile_seconds", "How long it took", seconds),
            failures: new(to, "failures", "Effects that failed, by reason"),
            waiting: new(to, "waiting", "What waits for a change or for its next try, by reason"),
            ended: new(to, "runners_ended", "Runners that failed, by reason"),
            messages: new(to, "messages", "Messages of GitHub that were recorded"),
            left_out: new(to, "message_parts_left_out", "Parts of messages of no use, by why"),
            without_runner: new(to, "jobs_without_runner", "Jobs over before a runner, by result"),
            webhooks: new(to, "webhooks", "Webhooks that came, by what became of them"),
            registrations: new(to, "registrations", "JIT configurations that were made"),
            writes: new(to, "writes", "Writes to the API server, by verb"),
            backing_off: new(to, "backing_off", "Sets whose runners fail before GitHub sees them"),
            ghosts: new(to, "ghosts", "Registrations without a Runner"),
            sessions: new(to, "sessions", "Sessions that are open"),
            queue_depth: new(to, "queue_depth", "Keys that are due"),
            leases_lost: new(to, "leases_lost", "Leases that another took"),
            lease_failures: new(to, "lease_failures", "Leases that could not be had, by step"),
            runners: new(to, "runners", "Runners that are there, by state"),
            jobs: new(to, "jobs", "Jobs that wait for a runner, and that run"),
            withheld: new(to, "capacity_withheld", "Runners that may not be made now, by why"),
            // From half a second to two hours.
            job_start_seconds: add(
                to,
                "job_start_seconds",
                "From a job's queueing until a runner has it, by GitHub's clock",
                Histogram::new(exponential_buckets(0.5, 2.0, 15)),
            ),
            registry: all,
        }
    }
}

/// The label of a failure.
fn reason(failure: &Failure) -> &'static str {
    failure.reason().map_or("Passing", sekisho_api::Reason::name)
}

impl Metrics {
    /// A key was worked on.
    pub(crate) fn reconciled(&self, kind: &'static str, outcome: &'static str, seconds: f64) {
        self.reconciled.get_or_create(&[("kind", kind), ("outcome", outcome)]).inc();
        self.reconcile_seconds.get_or_create(&[("kind", kind)]).observe(seconds);
    }

    /// An effect failed.
    pub(crate) fn failed(&self, failure: &Failure) {
        self.failures.get_or_create(&[("reason", reason(failure))]).inc();
    }

    /// What waits now, each with why.
    pub(crate) fn waits<'a>(&self, all: impl IntoIterator<Item = &'a Failure>) {
        let mut counts: BTreeMap<&'static str, i64> = BTreeMap::new();
        all.into_iter().for_each(|failure| *counts.entry(reason(failure)).or_default() += 1);
        self.waiting.clear();
        for (reason, count) in counts {
            self.waiting.get_or_create(&[("reason", reason)]).set(count);
        }
    }

    /// What is there now.
    pub(crate) fn levels(&self, levels: &Levels) {
        for state in STATES.map(Reason::name).into_iter().chain([FAILED]) {
            let count = levels.runners.get(state).copied().unwrap_or_default();
            self.runners.get_or_create(&[("state", state)]).set(count);
        }
        for (state, count) in [("waiting", levels.jobs_waiting), ("running", levels.jobs_running)] {
            self.jobs.get_or_create(&[("state", state)]).set(count);
        }
        for why in [Gate::Quota, Gate::Backoff, Gate::Blocked].map(gate) {
            let count = levels.withheld.get(why).copied().unwrap_or_default();
            self.withheld.get_or_create(&[("gate", why)]).set(count);
        }
    }

    /// A runner has a job.
    pub(crate) fn job_started(&self, queued: At, started: At) {
        self.job_start_seconds.observe(started.since(queued).as_secs_f64());
    }

    /// What a recorded message told that is recorded on no Runner.
    pub(crate) fn left_out(&self, without_runner: &[JobResult], foreign: u32, unreadable: u32) {
        for result in without_runner {
            let result = match result {
                JobResult::Succeeded => "succeeded",
                JobResult::Failed => "failed",
                JobResult::Cancelled => "cancelled",
                JobResult::Other => "other",
            };
            self.without_runner.get_or_create(&[("result", result)]).inc();
        }
        for (why, count) in [("foreign", foreign), ("unreadable", unreadable)] {
            self.left_out.get_or_create(&[("why", why)]).inc_by(count.into());
        }
    }

    /// Something was written.
    pub(crate) fn wrote(&self, verb: &'static str) {
        self.writes.get_or_create(&[("verb", verb)]).inc();
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
    }

    #[test]
    fn what_is_there_is_shown_by_closed_sets_and_forgotten_when_it_goes() {
        let metrics = Metrics::default();
        let mut levels = Levels { jobs_waiting: 3, jobs_running: 2, ..Levels::default() };
        let record = |state, truth| Record { state, truth, ..Record::default() };
        levels.runner(&record(Reason::Busy, Truth::Unknown));
        levels.runner(&record(Reason::Busy, Truth::Unknown));
        levels.runner(&record(Reason::PodLost, Truth::False));
        levels.withheld(Gate::Quota, 4);
        levels.withheld(Gate::Quota, 1);
        metrics.levels(&levels);
        let text = metrics.text();
        for line in [
            "sekisho_operator_runners{state=\"Busy\"} 2",
            "sekisho_operator_runners{state=\"Failed\"} 1",
            "sekisho_operator_runners{state=\"Idle\"} 0",
            "sekisho_operator_jobs{state=\"waiting\"} 3",
            "sekisho_operator_jobs{state=\"running\"} 2",
            "sekisho_operator_capacity_withheld{gate=\"quota\"} 5",
            "sekisho_operator_capacity_withheld{gate=\"backoff\"} 0",
        ] {
            has(&text, line);
        }
        metrics.levels(&Levels::default());
        has(&metrics.text(), "sekisho_operator_runners{state=\"Busy\"} 0");
        has(&metrics.text(), "sekisho_operator_capacity_withheld{gate=\"quota\"} 0");
    }

    #[test]
    fn how_long_a_job_waited_is_in_a_histogram() {
        let metrics = Metrics::default();
        metrics.job_started(At::from_secs(100), At::from_secs(107));
        // Two clocks: it did not wait for less than no time.
        metrics.job_started(At::from_secs(100), At::from_secs(99));
        let text = metrics.text();
        has(&text, "sekisho_operator_job_start_seconds_sum 7.0");
        has(&text, "sekisho_operator_job_start_seconds_bucket{le=\"0.5\"} 1");
        has(&text, "sekisho_operator_job_start_seconds_bucket{le=\"8.0\"} 2");
        has(&text, "sekisho_operator_job_start_seconds_bucket{le=\"8192.0\"} 2");
    }

    #[test]
    fn what_is_recorded_on_no_runner_is_counted() {
        let metrics = Metrics::default();
        metrics.left_out(&[JobResult::Cancelled, JobResult::Cancelled, JobResult::Failed], 2, 1);
        metrics.left_out(&[], 0, 3);
        let text = metrics.text();
        for line in [
            "sekisho_operator_jobs_without_runner_total{result=\"cancelled\"} 2",
            "sekisho_operator_jobs_without_runner_total{result=\"failed\"} 1",
            "sekisho_operator_message_parts_left_out_total{why=\"foreign\"} 2",
            "sekisho_operator_message_parts_left_out_total{why=\"unreadable\"} 4",
        ] {
            has(&text, line);
        }
    }
}
