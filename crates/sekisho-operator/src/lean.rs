//! The kinds that there are many of, with what is read of them and no more.
//!
//! A pod as the API server tells it is some 10 KiB, and as much again is who wrote which field. What is
//! not named here is skipped where it stands, and takes no memory at all: with ten thousand runners that is
//! most of what the operator would need.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::marker::PhantomData;

use k8s_openapi::api::core::v1::{
    self, ContainerState, NodeCondition, NodeRuntimeHandler, PodCondition, Taint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use sekisho_api::{RunnerSpec, RunnerStatus};
use serde::{Deserialize, Deserializer};

/// The same in a smaller shape is a kind of the API server too.
macro_rules! resource {
    ($lean:ident $(<$kind:ident>)?, $of:ty, $metadata_alone:literal) => {
        impl$(<$kind: Resource<DynamicType = ()>>)? Resource for $lean$(<$kind>)? {
            type DynamicType = ();
            type Scope = <$of as Resource>::Scope;

            fn kind((): &()) -> Cow<'_, str> {
                <$of as Resource>::kind(&())
            }

            fn group((): &()) -> Cow<'_, str> {
                <$of as Resource>::group(&())
            }

            fn version((): &()) -> Cow<'_, str> {
                <$of as Resource>::version(&())
            }

            fn plural((): &()) -> Cow<'_, str> {
                <$of as Resource>::plural(&())
            }

            fn metadata_api() -> bool {
                $metadata_alone
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

/// A pod: where it is, and how its containers do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    #[serde(deserialize_with = "metadata")]
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: PodSpec,
    pub(crate) status: PodStatus,
}

resource!(Pod, v1::Pod, false);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodSpec {
    pub(crate) node_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodStatus {
    pub(crate) phase: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) conditions: Vec<PodCondition>,
    pub(crate) container_statuses: Vec<ContainerStatus>,
    pub(crate) init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    pub(crate) state: ContainerState,
}

/// A node: whether it answers, what keeps pods away, and what its runtimes can do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    #[serde(deserialize_with = "metadata")]
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: NodeSpec,
    pub(crate) status: NodeStatus,
}

resource!(Node, v1::Node, false);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeSpec {
    pub(crate) taints: Vec<Taint>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    pub(crate) conditions: Vec<NodeCondition>,
    pub(crate) runtime_handlers: Vec<NodeRuntimeHandler>,
}

/// The metadata of any kind: nothing else is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Metadata<K> {
    #[serde(deserialize_with = "metadata")]
    pub(crate) metadata: ObjectMeta,
    #[serde(skip)]
    kind: PhantomData<K>,
}

resource!(Metadata<K>, K, true);

/// A Runner as it is read; it is kept as [`sekisho_api::Runner`].
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Runner {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    spec: RunnerSpec,
    status: Option<RunnerStatus>,
}

resource!(Runner, sekisho_api::Runner, false);

impl From<Runner> for sekisho_api::Runner {
    fn from(read: Runner) -> Self {
        Self { metadata: read.metadata, spec: read.spec, status: read.status }
    }
}

/// All of an object's metadata but who wrote which field.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Read {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    finalizers: Option<Vec<String>>,
}

fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let read = Read::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        uid: read.uid,
        resource_version: read.resource_version,
        generation: read.generation,
        creation_timestamp: read.creation_timestamp,
        deletion_timestamp: read.deletion_timestamp,
        deletion_grace_period_seconds: read.deletion_grace_period_seconds,
        labels: read.labels,
        annotations: read.annotations,
        owner_references: read.owner_references,
        finalizers: read.finalizers,
        ..ObjectMeta::default()
    })
}

#[cfg(test)]
mod tests;
