//! The pod of a runner, and what its set is told when there is no room for it.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::PostParams;
use kube::runtime::reflector::ObjectRef;
use sekisho_api::LABEL_REVISION;
use sekisho_pods::{NodeView, Reach, ids_can_be_mapped};
use sekisho_reconcile::Failure;
use sekisho_reconcile::failure::{QUOTA_PAUSE, Trouble};

use super::Work;
use crate::failure;
use crate::owned::controller;
use crate::queue::Key;

impl Work<'_> {
    /// Makes the pod; that ours is there already is as good.
    pub(super) async fn create_pod(&self) -> Result<(), Failure> {
        let (context, runner) = (self.context, &self.runner);
        let (namespace, name) = (self.name.0.as_str(), self.name.1.as_str());
        let class = &runner.spec.class_ref;
        let class = context
            .stores
            .classes
            .get(&ObjectRef::new(class))
            .ok_or_else(|| Failure::ClassNotFound { name: class.clone() })?;
        let set = controller(&runner.metadata)
            .and_then(|it| context.stores.sets.get(&ObjectRef::new(&it.name).within(namespace)));
        // A set that is not shown yet: nothing is made without what it lays over the class's pod.
        let set =
            set.ok_or_else(|| Failure::ApiServer { detail: "its set is not shown".to_owned() })?;
        let connection = &runner.spec.connection_ref;
        let connection = context
            .stores
            .connections
            .get(&ObjectRef::new(connection).within(namespace))
            .ok_or_else(|| Failure::ConnectionNotFound { name: connection.clone() })?;
        let uid = runner.uid().unwrap_or_default();
        let mut pod = sekisho_pods::pod(&sekisho_pods::RunnerPod {
            name,
            namespace,
            uid: &uid,
            revision: runner.labels().get(LABEL_REVISION).map_or("", String::as_str),
            spec: &runner.spec,
            class: &class.spec,
            template: &set.spec.template,
            cluster: context.cluster,
            reach: Reach::of(&connection.spec),
        })
        .map_err(|error| failure::pod(&error))?;
        self.ids_of_its_own(&mut pod);
        context.metrics.wrote("create");
        match context.api::<Pod>(namespace).create(&PostParams::default(), &pod).await {
            Ok(_) => {
                self.room(None);
                Ok(())
            }
            Err(error) if failure::is_conflict(&error) => self.is_ours(&uid).await,
            Err(error) => Err(failure::kube_pod(error)),
        }
    }

    /// Takes the pod's own ids away, where a node that it may land on cannot map any.
    fn ids_of_its_own(&self, pod: &mut Pod) {
        let Some(spec) = pod.spec.as_mut().filter(|spec| spec.host_users == Some(false)) else {
            return;
        };
        let nodes = self.context.stores.nodes.state();
        let views = nodes.iter().map(|node| NodeView {
            labels: node.metadata.labels.as_ref(),
            taints: &node.spec.taints,
            handlers: &node.status.runtime_handlers,
        });
        if !ids_can_be_mapped(spec, views) {
            spec.host_users = None;
        }
    }

    /// Whether the pod that has the name is ours, which the watch will show: one of somebody else it may
    /// never show.
    async fn is_ours(&self, uid: &str) -> Result<(), Failure> {
        let api = self.context.api::<Pod>(&self.name.0);
        let there = api.get_metadata_opt(&self.name.1).await.map_err(failure::kube)?;
        let gone = || "the pod that had its name is gone".to_owned();
        let there = there.ok_or_else(|| Failure::Conflict { detail: gone() })?;
        if controller(&there.metadata).is_some_and(|it| it.uid == uid) {
            return Ok(());
        }
        let detail = "a pod of this name is there, and belongs to somebody else".to_owned();
        Err(Failure::PodForbidden { detail })
    }

    /// Tells the set that a pod was made, or that the quota had no room for one.
    pub(super) fn room(&self, trouble: Option<&Trouble>) {
        let (context, namespace) = (self.context, &self.name.0);
        let deployment = (namespace.clone(), self.runner.spec.deployment.clone());
        let changed = {
            let mut memory = context.memory();
            let entry = memory.deployments.entry(deployment).or_default();
            let changed = entry.refused.is_some() != trouble.is_some();
            entry.refused = trouble.cloned();
            changed
        };
        if let Some(owner) = controller(&self.runner.metadata).filter(|_| changed) {
            let set = Key::ReplicaSet(namespace.clone(), owner.name.clone());
            context.enqueue(set.clone());
            // By then it was tried again, or nobody wants it any more.
            context.queue.add(set, QUOTA_PAUSE * 2);
        }
    }
}
