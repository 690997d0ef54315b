//! Runner: observe, decide, act.

mod create;
mod register;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource as _, ResourceExt as _};
use sekisho_api::{ANNOTATION_STOP_NOW, FINALIZER_REGISTRATION, JobResult, Runner};
use sekisho_github::rest::{Repository, RunJobs, RunStatus};
use sekisho_reconcile::runner::{self, AtGitHub, Container, Effect, Fate, Node, Observed, Record};
use sekisho_reconcile::{At, Failure};
use serde_json::json;

use crate::context::{Context, Name};
use crate::github::Account;
use crate::lean::{self, Metadata, Pod};
use crate::queue::Key;
use crate::record::{self, ANNOTATION_POD, ANNOTATION_REGISTRATION};
use crate::{demand, failure, record::at};

/// A Runner that is worked on.
struct Work<'a> {
    context: &'a Context,
    runner: Arc<Runner>,
    name: Name,
    key: Key,
    pod: Option<Arc<Pod>>,
}

/// Whether it goes and its deployment is gone already, and the lease with it: every replica may see
/// it off then, for two that do so do no harm.
fn is_left(context: &Context, runner: &Runner, deployment: &Name) -> bool {
    let reference = ObjectRef::new(&deployment.1).within(&deployment.0);
    runner.metadata.deletion_timestamp.is_some()
        && context.stores.deployments.get(&reference).is_none()
}

/// Works on a Runner; when to look again.
pub(crate) async fn reconcile(context: &Context, name: Name) -> Option<Duration> {
    let key = Key::Runner(name.0.clone(), name.1.clone());
    let reference = ObjectRef::new(&name.1).within(&name.0);
    let Some(runner) = context.stores.runners.get(&reference) else {
        forget(context, &name, &key);
        return None;
    };
    let deployment = (name.0.clone(), runner.spec.deployment.clone());
    if !context.holds(&deployment) && !is_left(context, &runner, &deployment) {
        return None;
    }
    let mut work = Work { context, runner, name, key: key.clone(), pod: None };
    let seen = match work.observe().await {
        Ok(seen) => seen,
        Err(failure) => {
            let trouble = context.failed(&key, failure);
            return Some(context.now().until(trouble.next).max(Duration::from_millis(100)));
        }
    };
    let plan = runner::decide(&seen);
    let mut after = plan.requeue_after;
    for effect in &plan.effects {
        match work.act(effect, &seen).await {
            Ok(()) => {}
            Err(failure) => {
                tracing::info!(runner = work.name.1, "{failure}");
                let trouble = context.failed(&key, failure);
                if matches!(trouble.failure, Failure::Quota { .. }) {
                    work.room(Some(&trouble));
                }
                // Whether a pod that was refused is its runner's end is decided at once.
                let next = match effect {
                    Effect::CreatePod => Duration::ZERO,
                    _ => context.now().until(trouble.next),
                };
                let next = next.max(Duration::from_millis(100));
                return Some(after.map_or(next, |known| known.min(next)));
            }
        }
        // No watch tells of what GitHub said.
        if matches!(effect, Effect::AskGitHub | Effect::ReadFate { .. }) {
            after = Some(Duration::ZERO);
        }
    }
    // That a trouble was written down does not end it.
    if plan.effects.iter().any(|effect| !matches!(effect, Effect::WriteStatus(_))) {
        context.memory().trouble.remove(&key);
    }
    after
}

fn forget(context: &Context, name: &Name, key: &Key) {
    let mut memory = context.memory();
    memory.trouble.remove(key);
    memory.github.remove(name);
    memory.fates.remove(name);
    memory.secrets.remove(name);
}

impl Work<'_> {
    async fn observe(&mut self) -> Result<Observed, Failure> {
        let (context, runner) = (self.context, &self.runner);
        let (namespace, name) = (&self.name.0, &self.name.1);
        let now = context.now();
        let uid = runner.uid().unwrap_or_default();
        let record = Record::of(runner.status.as_ref());
        let mut secret = context
            .stores
            .secrets
            .get(&ObjectRef::new(name).within(namespace))
            .map(|it| read_secret(&it.metadata))
            .or_else(|| context.memory().secrets.get(&self.name).cloned());
        let mut pod = context.stores.pods.get(&ObjectRef::new(name).within(namespace));
        let goes = runner.metadata.deletion_timestamp.is_some() || record.ended.is_some();
        let placed = pod.as_ref().is_some_and(|pod| pod.spec.node_name.is_some());
        // A cache is behind, and what it does not show may be there. A secret is looked for before a pod is
        // made, and before a registration is: a registration of its name would be removed. A pod is looked
        // for before it is taken for lost, or left alone for good; to make one fails where there is one.
        if secret.is_none() && record.online.is_none() && (pod.is_none() || placed || goes) {
            let live = context.api::<Metadata<Secret>>(namespace).get_opt(name).await;
            secret = live.map_err(failure::kube)?.map(|it| read_secret(&it.metadata));
        }
        if pod.is_none() && (goes || secret.is_some() || record.pod.is_some()) {
            let live = context.api::<Pod>(namespace).get_opt(name).await.map_err(failure::kube)?;
            pod = live.map(Arc::new);
        }
        // A node that the cache does not show may just have been added: it is gone only where it is not
        // there live, and then what became of its pod is read after that.
        let bound = pod.as_ref().and_then(|pod| pod.spec.node_name.clone());
        let bound = bound.or_else(|| record.pod.as_ref().and_then(|pod| pod.node.clone()));
        let mut node = None;
        if let Some(bound) = &bound {
            node = context.stores.nodes.get(&ObjectRef::new(bound));
            if node.is_none() {
                let nodes = Api::<lean::Node>::all(context.client.clone());
                node = nodes.get_opt(bound).await.map_err(failure::kube)?.map(Arc::new);
                let pods = context.api::<Pod>(namespace);
                pod = pods.get_opt(name).await.map_err(failure::kube)?.map(Arc::new);
            }
        }
        self.pod.clone_from(&pod);
        let deployment = context
            .stores
            .deployments
            .get(&ObjectRef::new(&runner.spec.deployment).within(namespace));
        let stop = |annotations: &std::collections::BTreeMap<String, String>| {
            annotations.get(ANNOTATION_STOP_NOW).is_some_and(|value| value == "true")
        };
        let terminating = context.terminating(namespace);
        let mut memory = context.memory();
        let pod = pod.map(|pod| record::pod(&pod, &uid, &mut memory.pulls, now));
        let node = bound.map_or(Node::Unknown, |_| record::node(node.as_deref(), now));
        Ok(Observed {
            now,
            name: name.clone(),
            created: runner.creation_timestamp().as_ref().map(at).unwrap_or_default(),
            deleting: runner.metadata.deletion_timestamp.as_ref().map(at),
            finalizer: runner.finalizers().iter().any(|it| it == FINALIZER_REGISTRATION),
            stop_now: stop(runner.annotations())
                || deployment.is_some_and(|it| stop(it.annotations())),
            namespace_terminating: terminating,
            lifecycle: runner.spec.lifecycle.clone(),
            record,
            pod,
            node,
            secret,
            github: memory.github.get(&self.name).copied(),
            fate: memory.fates.get(&self.name).copied(),
            trouble: memory.trouble.get(&self.key).cloned(),
        })
    }

    async fn act(&self, effect: &Effect, seen: &Observed) -> Result<(), Failure> {
        let context = self.context;
        let (namespace, name) = (self.name.0.as_str(), self.name.1.as_str());
        match effect {
            Effect::AddFinalizer => {
                self.finalizers(|all| all.push(FINALIZER_REGISTRATION.to_owned())).await
            }
            Effect::RemoveFinalizer => {
                self.finalizers(|all| all.retain(|it| it != FINALIZER_REGISTRATION)).await
            }
            Effect::CreatePod => self.create_pod().await,
            Effect::Register { pod_uid } => self.register(pod_uid).await,
            Effect::DeleteSecret { uid } => {
                context.memory().secrets.remove(&self.name);
                context.metrics.wrote("delete");
                gone(context.api::<Secret>(namespace).delete(name, &by_uid(uid, None)).await)
            }
            Effect::DeletePod { uid, at_once } => {
                context.metrics.wrote("delete");
                let seen = self.pod.as_ref().filter(|pod| pod.uid().as_ref() == Some(uid));
                let mut params = by_uid(uid, seen.and_then(|pod| pod.resource_version()));
                params.grace_period_seconds = at_once.then_some(0);
                gone(context.api::<Pod>(namespace).delete(name, &params).await)
            }
            Effect::Deregister { id } => {
                let Some(account) = self.account() else { return Err(self.no_account()) };
                let result = account.deregister(self.runner.spec.mode, *id, name).await;
                if result == Err(Failure::RunnerBusy) {
                    self.saw(account.ask(name).await?);
                }
                if result.is_ok() {
                    self.saw(runner::Registration::Absent { sweeps: 1 });
                }
                result
            }
            Effect::AskGitHub => {
                let Some(account) = self.account() else { return Err(self.no_account()) };
                self.saw(account.ask(name).await?);
                Ok(())
            }
            Effect::JobOver => {
                self.job_over(JobResult::Other, seen);
                Ok(())
            }
            Effect::ReadFate { run_id } => self.read_fate(*run_id, seen).await,
            Effect::WriteStatus(record) => self.write_status(record, seen.now).await,
            Effect::DeleteRunner => {
                delete(context, namespace, name, &self.runner.uid().unwrap_or_default(), None).await
            }
            Effect::Event { reason, message } => {
                let deployment = ObjectRef::new(&self.runner.spec.deployment).within(namespace);
                if let Some(deployment) = context.stores.deployments.get(&deployment) {
                    let message = format!("runner {name}: {message}");
                    context.event(&deployment.object_ref(&()), *reason, message).await;
                }
                Ok(())
            }
        }
    }

    fn account(&self) -> Option<Arc<Account>> {
        self.context.account(&self.name.0, &self.runner.spec.connection_ref)
    }

    fn no_account(&self) -> Failure {
        let name = self.runner.spec.connection_ref.clone();
        Failure::ConnectionNotReady { name, detail: "it was not checked yet".to_owned() }
    }

    fn saw(&self, seen: runner::Registration) {
        let at = AtGitHub { at: self.context.now(), seen };
        self.context.memory().github.insert(self.name.clone(), at);
    }

    async fn finalizers(&self, change: impl FnOnce(&mut Vec<String>)) -> Result<(), Failure> {
        let mut all = self.runner.finalizers().to_vec();
        change(&mut all);
        let patch = json!({ "metadata": {
            "uid": self.runner.uid(),
            "resourceVersion": self.runner.resource_version(),
            "finalizers": all
        } });
        self.context.metrics.wrote("patch");
        let api = self.context.api::<Runner>(&self.name.0);
        gone(api.patch_metadata(&self.name.1, &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    async fn write_status(&self, record: &Record, now: At) -> Result<(), Failure> {
        if record.ended.is_some() {
            self.context.metrics.ended.get_or_create(&[("reason", record.state.name())]).inc();
        }
        write_record(self.context, &self.runner, record, now).await
    }

    /// How GitHub concluded the job.
    async fn read_fate(&self, run_id: i64, seen: &Observed) -> Result<(), Failure> {
        let Some(account) = self.account() else { return Err(self.no_account()) };
        let job = seen.record.job.as_ref();
        let repository = job.and_then(|job| {
            let (owner, name) = job.repository.split_once('/')?;
            Repository::new(owner, name)
        });
        let mut result = None;
        if let Some(repository) = repository {
            let run = u64::try_from(run_id).unwrap_or_default();
            let jobs = account.rest.jobs(&repository, run, RunJobs::All).await;
            let jobs = jobs.map_err(|error| failure::rest(&error))?;
            let ours =
                jobs.into_iter().find(|it| it.runner_name.as_deref() == Some(self.name.1.as_str()));
            result = ours
                .filter(|job| job.status == RunStatus::Completed)
                .map(|job| record::job_result(job.conclusion));
        }
        match result {
            Some(result) => self.job_over(result, seen),
            None => {
                let fate = Fate { at: self.context.now(), result: None };
                self.context.memory().fates.insert(self.name.clone(), fate);
            }
        }
        Ok(())
    }

    fn job_over(&self, result: JobResult, seen: &Observed) {
        let fate = Fate { at: self.context.now(), result: Some(result) };
        let ended = match seen.pod.as_ref().map(|pod| pod.runner) {
            Some(Container::Ended { at, .. }) => at,
            _ => seen.now,
        };
        demand::job_over(self.context, &self.name, &self.runner.spec.deployment, fate, ended);
    }
}

/// Replaces the status of a Runner, of the version that was read.
pub(crate) async fn write_record(
    context: &Context,
    runner: &Runner,
    record: &Record,
    now: At,
) -> Result<(), Failure> {
    let mut next = runner.clone();
    let generation = runner.metadata.generation.unwrap_or_default();
    next.status = Some(record::status(record, runner.status.as_ref(), generation, now));
    next.metadata.managed_fields = None;
    let api = context.api::<Runner>(&runner.namespace().unwrap_or_default());
    context.metrics.wrote("update");
    let written = api.replace_status(&runner.name_any(), &PostParams::default(), &next).await;
    written.map(drop).map_err(failure::kube)
}

fn read_secret(secret: &ObjectMeta) -> runner::Secret {
    let annotations = secret.annotations.as_ref();
    let text = |name: &str| annotations.and_then(|all| all.get(name)).cloned().unwrap_or_default();
    runner::Secret {
        uid: secret.uid.clone().unwrap_or_default(),
        pod_uid: text(ANNOTATION_POD),
        registration: text(ANNOTATION_REGISTRATION).parse().unwrap_or_default(),
    }
}

/// Deletes only the object that was seen; with a `version`, only if it is still as it was.
pub(crate) fn by_uid(uid: &str, version: Option<String>) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: version };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() }
}

/// Tells a Runner to go, once: its set, its own controller and a message of GitHub's may all have decided
/// so before the watch shows that it goes. With a `version`, only if it is the one that was seen.
pub(crate) async fn delete(
    context: &Context,
    namespace: &str,
    name: &str,
    uid: &str,
    version: Option<String>,
) -> Result<(), Failure> {
    if !context.memory().leaving.insert(uid.to_owned()) {
        return Ok(());
    }
    context.metrics.wrote("delete");
    let params = by_uid(uid, version);
    let told = gone(context.api::<Runner>(namespace).delete(name, &params).await);
    if told.is_err() {
        context.memory().leaving.remove(uid);
    }
    told
}

/// That it is gone is as good.
pub(crate) fn gone<T>(result: kube::Result<T>) -> Result<(), Failure> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if failure::is_gone(&error) => Ok(()),
        Err(error) => Err(failure::kube(error)),
    }
}
