//! Whether a pod may have ids of its own on the nodes where it may land.
//!
//! The API server takes `hostUsers: false` as soon as its version knows it. A node whose runtime cannot map
//! ids (containerd before 2.0) then never starts the pod, and says so in an event alone. So it is asked for
//! only where the nodes say that they can.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeRuntimeHandler, PodSpec, Taint, Toleration};

/// Taints that say how a node is just now, and not whom it is for.
const PASSING: &str = "node.kubernetes.io/";

/// What is looked at of a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeView<'a> {
    /// `metadata.labels`.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// `spec.taints`.
    pub taints: &'a [Taint],
    /// `status.runtimeHandlers`.
    pub handlers: &'a [NodeRuntimeHandler],
}

/// Whether ids can be mapped on every node where the pod may land. Where there is none yet, the others tell
/// how nodes of this cluster are; where there are none at all, nothing is known, and it is not asked for.
pub fn ids_can_be_mapped<'a>(
    spec: &PodSpec,
    nodes: impl Iterator<Item = NodeView<'a>> + Clone,
) -> bool {
    // The runtime's own name of a handler is that of its class, as a rule; where it is not, nothing is known.
    let handler = spec.runtime_class_name.as_deref().unwrap_or_default();
    let linux = nodes.filter(|node| label(node, "kubernetes.io/os").is_none_or(|os| os == "linux"));
    let here = all_map(linux.clone().filter(|node| may_land(spec, node)), handler);
    here.or_else(|| all_map(linux, handler)).unwrap_or(false)
}

/// Of no node, nothing.
fn all_map<'a>(mut nodes: impl Iterator<Item = NodeView<'a>>, handler: &str) -> Option<bool> {
    let first = nodes.next()?;
    Some(maps(&first, handler) && nodes.all(|node| maps(&node, handler)))
}

fn label<'a>(node: &NodeView<'a>, key: &str) -> Option<&'a str> {
    node.labels?.get(key).map(String::as_str)
}

fn maps(node: &NodeView<'_>, handler: &str) -> bool {
    let named = |it: &&NodeRuntimeHandler| it.name.as_deref().unwrap_or_default() == handler;
    let features = node.handlers.iter().find(named).and_then(|it| it.features.as_ref());
    features.and_then(|it| it.user_namespaces) == Some(true)
}

/// By labels and taints; an affinity is not looked at, so more nodes count than need to.
fn may_land(spec: &PodSpec, node: &NodeView<'_>) -> bool {
    let wanted = spec.node_selector.iter().flatten();
    let mut kept_away = node
        .taints
        .iter()
        .filter(|taint| taint.effect != "PreferNoSchedule" && !taint.key.starts_with(PASSING));
    wanted.into_iter().all(|(key, value)| label(node, key) == Some(value))
        && kept_away.all(|taint| spec.tolerations.iter().flatten().any(|it| endures(it, taint)))
}

/// <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>
fn endures(toleration: &Toleration, taint: &Taint) -> bool {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let exists = toleration.operator.as_deref() == Some("Exists");
    let same_value = toleration.value.as_deref().unwrap_or_default()
        == taint.value.as_deref().unwrap_or_default();
    set(&toleration.effect).is_none_or(|effect| effect == taint.effect)
        && match set(&toleration.key) {
            Some(key) => key == taint.key && (exists || same_value),
            None => exists,
        }
}
