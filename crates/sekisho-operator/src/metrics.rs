//! Numbers for Prometheus. Labels are of closed sets: kinds, reasons, outcomes; never names.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Labels = [(&'static str, &'static str); 1];
type Pair = [(&'static str, &'static str); 2];

/// All of them.
pub(crate) struct Metrics {
    registry: Registry,
    reconciled: Family<Pair, Counter>,
    reconcile_seconds: Family<Labels, Histogram>,
    failures: Family<Labels, Counter>,
    pub(crate) ended: Family<Labels, Counter>,
    pub(crate) messages: Counter,
    pub(crate) registrations: Counter,
    pub(crate) writes: Family<Labels, Counter>,
    pub(crate) backing_off: Gauge,
    pub(crate) ghosts: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) queue_depth: Gauge<i64>,
    pub(crate) leases_lost: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sekisho_operator");
        let reconcile_seconds = Family::<Labels, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 2.0, 14))
        });
        let metrics = Self {
            reconciled: Family::default(),
            reconcile_seconds,
            failures: Family::default(),
            ended: Family::default(),
            messages: Counter::default(),
            registrations: Counter::default(),
            writes: Family::default(),
            backing_off: Gauge::default(),
            ghosts: Gauge::default(),
            sessions: Gauge::default(),
            queue_depth: Gauge::default(),
            leases_lost: Counter::default(),
            registry: Registry::default(),
        };
        registry.register(
            "reconciles",
            "Keys worked on, by kind and outcome",
            metrics.reconciled.clone(),
        );
        registry.register(
            "reconcile_seconds",
            "How long it took",
            metrics.reconcile_seconds.clone(),
        );
        registry.register("failures", "Effects that failed, by reason", metrics.failures.clone());
        registry.register("runners_ended", "Runners that failed, by reason", metrics.ended.clone());
        registry.register(
            "messages",
            "Messages of GitHub that were recorded",
            metrics.messages.clone(),
        );
        registry.register(
            "registrations",
            "JIT configurations that were made",
            metrics.registrations.clone(),
        );
        registry.register("writes", "Writes to the API server, by verb", metrics.writes.clone());
        registry.register(
            "backing_off",
            "Sets whose runners fail before GitHub sees them",
            metrics.backing_off.clone(),
        );
        registry.register("ghosts", "Registrations without a Runner", metrics.ghosts.clone());
        registry.register("sessions", "Sessions that are open", metrics.sessions.clone());
        registry.register("queue_depth", "Keys that are due", metrics.queue_depth.clone());
        registry.register("leases_lost", "Leases that another took", metrics.leases_lost.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// A key was worked on.
    pub(crate) fn reconciled(&self, kind: &'static str, outcome: &'static str, seconds: f64) {
        self.reconciled.get_or_create(&[("kind", kind), ("outcome", outcome)]).inc();
        self.reconcile_seconds.get_or_create(&[("kind", kind)]).observe(seconds);
    }

    /// An effect failed.
    pub(crate) fn failed(&self, failure: &sekisho_reconcile::Failure) {
        let reason = failure.reason().map_or("Passing", sekisho_api::Reason::name);
        self.failures.get_or_create(&[("reason", reason)]).inc();
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
