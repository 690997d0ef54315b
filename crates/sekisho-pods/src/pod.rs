//! The pod of one runner.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use sekisho_api::{
    ContainerMode, GROUP, LABEL_DEPLOYMENT, LABEL_REVISION, LABEL_TRUST_ZONE, PodTemplate,
    RunnerClassSpec, RunnerFlavor, RunnerSpec, SecurityProfile, VERSION,
};
use serde_json::{Value, json};

use crate::base::CONTAINER_EXTERNALS;
use crate::owned::PATH;
use crate::{
    CONTAINER_BUILDKIT, CONTAINER_DOCKER, CONTAINER_RUNNER, PodError, Reach, base, capacity, merge,
    owned, profile,
};

/// What the cluster can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Whether its API server is of a version that has user namespaces on: 1.33 and later.
    /// <https://kubernetes.io/docs/concepts/workloads/pods/user-namespaces/>
    pub user_namespaces: bool,
}

impl Cluster {
    /// What a version of Kubernetes can do: `major` and `minor` as `/version` tells them, where
    /// providers append a `+` to the second.
    pub fn of_version(major: &str, minor: &str) -> Self {
        let digits = |text: &str| -> u32 {
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            text[..end].parse().unwrap_or(0)
        };
        Self { user_namespaces: (digits(major), digits(minor)) >= (1, 33) }
    }
}

/// What a pod is made of.
#[derive(Clone, Copy, Debug)]
pub struct RunnerPod<'a> {
    /// The name of the Runner, of its registration, of the pod and of its secret.
    pub name: &'a str,
    /// Where it is.
    pub namespace: &'a str,
    /// The uid of the Runner, which owns the pod.
    pub uid: &'a str,
    /// The revision it is of.
    pub revision: &'a str,
    /// The Runner.
    pub spec: &'a RunnerSpec,
    /// Its class.
    pub class: &'a RunnerClassSpec,
    /// What is laid over the pod of the class.
    pub template: &'a PodTemplate,
    /// What the cluster can do.
    pub cluster: Cluster,
    /// How GitHub is reached.
    pub reach: Reach<'a>,
}

/// Makes the pod of a runner. It can be created before the runner is registered: its containers wait
/// for the secret of its name.
///
/// # Errors
/// Where the template is no pod's, or asks for what it may not; with the paths of the fields.
pub fn pod(pod: &RunnerPod<'_>) -> Result<Pod, PodError> {
    class_agrees(pod.class)?;
    let written = written(pod.template)?;
    let owned = owned::violations(pod.template);
    if !owned.is_empty() {
        return Err(PodError::Forbidden(owned));
    }
    let mut spec = base::spec(pod);
    let affinity = spec["affinity"]["nodeAffinity"].clone();
    conflicts(pod.class, &written)?;
    lay_over_runner(&mut spec, &written, pod.class.runner.flavor);
    if !written["affinity"]["nodeAffinity"].is_null() {
        let class = (!affinity.is_null()).then_some(affinity);
        spec["affinity"]["nodeAffinity"] =
            capacity::narrow(class, &written["affinity"]["nodeAffinity"]);
    }
    image_of_externals(&mut spec);
    profile::harden(&mut spec, pod.class);
    let spec: PodSpec = sekisho_api::read_pod_spec(&spec).map_err(PodError::Merged)?;
    let forbidden = profile::violations(&spec, pod.class);
    if !forbidden.is_empty() {
        return Err(PodError::Forbidden(forbidden));
    }
    Ok(Pod { metadata: metadata(pod), spec: Some(spec), status: None })
}

/// A definition of before may let through what today's schema does not.
fn class_agrees(class: &RunnerClassSpec) -> Result<(), PodError> {
    let needs_privilege = match class.container.mode {
        ContainerMode::DockerSidecar | ContainerMode::BuildKit => true,
        ContainerMode::Rootless | ContainerMode::None => false,
    };
    if needs_privilege && class.security.profile != SecurityProfile::Privileged {
        return Err(PodError::Class(
            "container.mode DockerSidecar and BuildKit need security.profile Privileged",
        ));
    }
    if class.runner.flavor == RunnerFlavor::Sekisho && class.runner.image.is_none() {
        return Err(PodError::Class("runner.flavor Sekisho needs runner.image"));
    }
    Ok(())
}

/// The template's spec, of which every field is known to be a pod's.
fn written(template: &PodTemplate) -> Result<Value, PodError> {
    let read = template.pod_spec().map_err(PodError::Template)?;
    let written = template.spec.clone().unwrap_or_else(|| json!({}));
    let read = json!(read);
    match merge::unknown_field(&written, &read, PATH) {
        Some(path) => Err(PodError::UnknownField { path }),
        None => Ok(written),
    }
}

/// A selector of the template narrows that of the class, and cannot point elsewhere.
fn conflicts(class: &RunnerClassSpec, written: &Value) -> Result<(), PodError> {
    let selector = written["nodeSelector"].as_object().into_iter().flatten();
    let violations: Vec<_> = selector
        .filter(|(key, value)| {
            class.node_selector.get(*key).is_some_and(|ours| value.as_str() != Some(ours))
        })
        .map(|(key, _)| crate::Violation {
            path: format!("{PATH}.nodeSelector[{key}]"),
            sentence: format!("the RunnerClass asks for `{}`", class.node_selector[key]),
        })
        .collect();
    if violations.is_empty() { Ok(()) } else { Err(PodError::Forbidden(violations)) }
}

/// Lays the template over the class's pod. The command that it gives GitHub's runner becomes what is
/// started once the registration is read.
fn lay_over_runner(spec: &mut Value, written: &Value, flavor: RunnerFlavor) {
    let mut written = written.clone();
    if let Some(fields) = written.as_object_mut() {
        fields.entry("containers").or_insert_with(|| json!([]));
    }
    let runner = written["containers"]
        .as_array_mut()
        .and_then(|all| all.iter_mut().find(|container| container["name"] == CONTAINER_RUNNER))
        .and_then(Value::as_object_mut);
    if let (Some(runner), RunnerFlavor::GitHub) = (runner, flavor) {
        let mut list = |name: &str| -> Vec<Value> {
            runner.remove(name).and_then(|value| value.as_array().cloned()).unwrap_or_default()
        };
        let (mut command, args) = (list("command"), list("args"));
        if command.is_empty() && !args.is_empty() {
            command.push(spec["containers"][0]["args"][0].clone());
        }
        command.extend(args);
        if !command.is_empty() {
            runner.insert("args".to_owned(), json!(command));
        }
    }
    add_to_daemon(spec, &mut written);
    merge::lay_over(spec, &written);
}

/// The arguments that a template gives a daemon are more of them: without ours nobody finds it.
fn add_to_daemon(spec: &Value, written: &mut Value) {
    let ours = spec["initContainers"].as_array().into_iter().flatten();
    let daemons = [CONTAINER_DOCKER, CONTAINER_BUILDKIT];
    for ours in ours.filter(|it| daemons.iter().any(|daemon| it["name"] == *daemon)) {
        let theirs = written["initContainers"].as_array_mut().into_iter().flatten();
        for theirs in theirs.filter(|it| it["name"] == ours["name"]) {
            if let (Some(ours), Some(more)) = (ours["args"].as_array(), theirs["args"].as_array()) {
                theirs["args"] = json!([ours.as_slice(), more.as_slice()].concat());
            }
        }
    }
}

/// They come from the same image as the runner, whichever that is by now.
fn image_of_externals(spec: &mut Value) {
    let image = spec["containers"][0]["image"].clone();
    let all = spec["initContainers"].as_array_mut().into_iter().flatten();
    for container in all.filter(|container| container["name"] == CONTAINER_EXTERNALS) {
        container["image"] = image.clone();
    }
}

fn metadata(pod: &RunnerPod<'_>) -> ObjectMeta {
    let template = pod.template.metadata.clone().unwrap_or_default();
    let mut labels = template.labels;
    labels.extend(labels_of(&pod.spec.deployment, pod.spec.trust_zone.label()));
    labels.insert(LABEL_REVISION.to_owned(), pod.revision.to_owned());
    let mut annotations = template.annotations;
    annotations
        .entry("kubectl.kubernetes.io/default-container".to_owned())
        .or_insert_with(|| CONTAINER_RUNNER.to_owned());
    let owner = OwnerReference {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: "Runner".to_owned(),
        name: pod.name.to_owned(),
        uid: pod.uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    ObjectMeta {
        name: Some(pod.name.to_owned()),
        namespace: Some(pod.namespace.to_owned()),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The labels of everything that is made for a RunnerDeployment.
pub(crate) fn labels_of(deployment: &str, zone: &str) -> BTreeMap<String, String> {
    [
        (LABEL_DEPLOYMENT, deployment),
        (LABEL_TRUST_ZONE, zone),
        ("app.kubernetes.io/name", "runner"),
        ("app.kubernetes.io/managed-by", "sekisho"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}
