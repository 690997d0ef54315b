//! The lease of a deployment: taken, renewed, given back; and what is told when it cannot be had.

use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use sekisho_api::RunnerDeployment;
use sekisho_api::condition::{self, Claim};
use sekisho_reconcile::failure::CHANGE_PAUSE;
use sekisho_reconcile::{At, Failure};
use serde_json::json;

use super::Work;
use crate::lease::{self, Step};
use crate::runner::{by_uid, gone};
use crate::{failure, watch};

/// A lease that can be neither read nor written.
pub(super) struct Unheld {
    /// Since when.
    since: At,
    /// When the deployment was last told.
    told: Option<At>,
}

impl Work {
    fn lease_name(&self) -> String {
        format!("sekisho-{}", self.name.1)
    }

    /// Takes or renews the lease when it is time, and writes the session down in it.
    pub(super) async fn renew(&mut self, object: &RunnerDeployment) {
        let now = self.context.now();
        let session = self.listening.as_ref().and_then(|it| it.state().session);
        let session = session.map(|it| it.to_string());
        let written = self.lease.as_ref().and_then(lease::session);
        let fresh = self
            .watched
            .held_until
            .is_some_and(|until| now.until(until) > lease::DURATION - lease::RENEW_EVERY);
        let noted = session.is_none() || session == written;
        if fresh && noted {
            return;
        }
        let api = self.context.api::<Lease>(&self.name.0);
        let name = self.lease_name();
        let found = match api.get_opt(&name).await {
            Ok(found) => found,
            Err(error) => {
                self.tell(now);
                return self.refused("read", error, object).await;
            }
        };
        let me = self.context.settings.identity.clone();
        let step = lease::decide(&mut self.watched, (&name, &me), found.as_ref(), now);
        let put = |lease: Lease| match &session {
            Some(session) => lease::with_session(lease, Some(session.clone())),
            None => lease,
        };
        let params = PostParams::default();
        let written = match step {
            Step::Wait => None,
            Step::Create(lease) => Some(api.create(&params, &put(*lease)).await),
            Step::Replace(lease) => Some(api.replace(&name, &params, &put(*lease)).await),
        };
        let refused = match written {
            Some(Ok(lease)) => {
                self.watched.held_until = Some(now + lease::DURATION);
                self.lease = Some(lease);
                None
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        self.tell(now);
        match refused {
            Some(error) => self.refused("write", error, object).await,
            None => self.heard(),
        }
    }

    /// The lease is ours, or another's: in either case somebody works on the deployment.
    fn heard(&mut self) {
        if self.unheld.take().is_some() {
            tracing::info!(deployment = self.name.1, "its lease can be read and written again");
            self.remember(None);
        }
    }

    fn remember(&self, unheld: Option<Failure>) {
        let mut memory = self.context.memory();
        memory.deployments.entry(self.name.clone()).or_default().unheld = unheld;
    }

    /// The lease could not be read or written. Once it would have run out nobody works on the deployment,
    /// and that is told where people look, without the lease: nobody is there who would tell otherwise.
    async fn refused(&mut self, step: &'static str, error: kube::Error, object: &RunnerDeployment) {
        let failure = failure::kube(error);
        if matches!(failure, Failure::Conflict { .. }) || self.context.terminating(&self.name.0) {
            // Somebody was faster; or there is nothing to be had any more.
            return;
        }
        self.context.metrics.lease_failures.get_or_create(&[("step", step)]).inc();
        let (now, deployment) = (self.context.now(), &self.name.1);
        let first = self.unheld.is_none();
        let unheld = self.unheld.get_or_insert(Unheld { since: now, told: None });
        if first {
            tracing::warn!(deployment, step, "its lease: {failure}");
        } else {
            tracing::debug!(deployment, step, "its lease: {failure}");
        }
        if self.watched.holds(now) || !now.is_past(unheld.since, lease::DURATION) {
            return;
        }
        let told = unheld.told;
        let failure = Failure::LeaseNotTaken { detail: failure.to_string() };
        self.remember(Some(failure.clone()));
        // If another holds it after all he says otherwise, and is not contradicted all the time.
        if told.is_none_or(|told| now.is_past(told, CHANGE_PAUSE))
            && let Some(claim) = failure.claim()
            && self.write_claim(&claim, object, now).await
            && let Some(unheld) = &mut self.unheld
        {
            unheld.told = Some(now);
        }
    }

    /// Whether the deployment says it now.
    async fn write_claim(&self, claim: &Claim, object: &RunnerDeployment, now: At) -> bool {
        let mut conditions = object.status.clone().unwrap_or_default().conditions;
        let generation = object.metadata.generation.unwrap_or_default();
        if !condition::set(&mut conditions, claim, generation, crate::record::time(now).0) {
            return true;
        }
        let patch = json!({
            "metadata": { "uid": object.uid(), "resourceVersion": object.resource_version() },
            "status": { "conditions": conditions }
        });
        tracing::warn!(deployment = self.name.1, "{}", claim.message);
        self.context.metrics.wrote("patch");
        let api = self.context.api::<RunnerDeployment>(&self.name.0);
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let written = api.patch_status(&self.name.1, &params, &patch).await;
        written.inspect_err(|error| tracing::debug!("it could not be told: {error}")).is_ok()
    }

    /// Others see whether we hold the lease.
    fn tell(&self, now: At) {
        let held = self.watched.held_until.filter(|until| now < *until);
        let mut memory = self.context.memory();
        let entry = memory.deployments.entry(self.name.clone()).or_default();
        let before = entry.held_until.is_some_and(|until| now < until);
        entry.held_until = held;
        let missed = held.is_some() && std::mem::take(&mut entry.missed);
        if held.is_none() {
            // Whoever holds it knows better.
            (entry.session, entry.demand, entry.growth) = (None, None, None);
            (entry.settled, entry.running, entry.reckoned) = (None, None, None);
        }
        drop(memory);
        if lease::looks_again(before, held.is_some(), missed) {
            watch::everything(&self.context);
        }
        if before && held.is_none() {
            self.context.metrics.leases_lost.inc();
        }
    }

    /// The deployment is gone: its lease is of no use to anybody.
    pub(super) async fn remove_lease(&mut self) {
        let Some(uid) = self.lease.take().and_then(|lease| lease.uid()) else { return };
        let (api, name) = (self.context.api::<Lease>(&self.name.0), self.lease_name());
        if let Err(error) = gone(api.delete(&name, &by_uid(&uid, None)).await) {
            tracing::debug!("the lease {name} could not be removed: {error}");
        }
    }

    /// Gives the lease back, for another to take it at once.
    pub(super) async fn release(&mut self) {
        if !self.watched.holds(self.context.now()) {
            return;
        }
        let Some(lease) = self.lease.take() else { return };
        let (api, name) = (self.context.api::<Lease>(&self.name.0), self.lease_name());
        let free = lease::with_session(lease::released(lease), None);
        if let Err(error) = api.replace(&name, &PostParams::default(), &free).await {
            tracing::debug!("the lease {name} could not be given back: {error}");
        }
    }
}
