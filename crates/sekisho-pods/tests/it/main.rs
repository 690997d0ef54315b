//! Pods, secrets and network policies: values, and what is refused.

#![expect(clippy::unwrap_used, reason = "a test may fail by it")]

mod docs;
mod hardening;
mod modes;
mod network;
mod reach;
mod template;
mod users;
mod zones;

use k8s_openapi::api::core::v1::{Container, Pod};
use sekisho_api::{
    AcquisitionMode, Lifecycle, PodTemplate, RunnerClassSpec, RunnerSpec, TrustZone,
};
use sekisho_pods::{Cluster, PodError, Reach, RunnerPod};
use serde_json::{Value, json};

/// A class, as it is written in a manifest.
fn class(spec: Value) -> RunnerClassSpec {
    serde_json::from_value(spec).unwrap()
}

fn spec(zone: TrustZone) -> RunnerSpec {
    RunnerSpec {
        deployment: "image-build".to_owned(),
        connection_ref: "acme".to_owned(),
        class_ref: "default".to_owned(),
        mode: AcquisitionMode::ScaleSet,
        group: "Default".to_owned(),
        labels: vec!["image-build".to_owned()],
        trust_zone: zone,
        lifecycle: Lifecycle::default(),
    }
}

/// The pod of a class with a template's `spec` laid over it.
fn try_pod(class: &Value, template: Value) -> Result<Pod, PodError> {
    let template = PodTemplate { metadata: None, spec: Some(template) };
    try_of(class, &template, TrustZone::PullRequest)
}

fn try_of(class_spec: &Value, template: &PodTemplate, zone: TrustZone) -> Result<Pod, PodError> {
    sekisho_pods::pod(&RunnerPod {
        name: "image-build-7c9f-abcde",
        namespace: "ci",
        uid: "11111111-2222-3333-4444-555555555555",
        revision: "7c9f",
        spec: &spec(zone),
        class: &class(class_spec.clone()),
        template,
        cluster: Cluster::of_version("1", "34+"),
        reach: Reach::default(),
    })
}

#[track_caller]
fn pod(class: Value, template: Value) -> Pod {
    try_pod(&class, template).unwrap()
}

/// The PodSpec as it goes over the wire.
#[track_caller]
fn wire(class: Value, template: Value) -> Value {
    serde_json::to_value(pod(class, template).spec.unwrap()).unwrap()
}

fn named<'a>(containers: &'a [Container], name: &str) -> &'a Container {
    containers.iter().find(|container| container.name == name).unwrap()
}

fn of_env(container: &Container, name: &str) -> Option<String> {
    let mut all = container.env.iter().flatten();
    all.find(|variable| variable.name == name).and_then(|variable| variable.value.clone())
}

fn restricted() -> Value {
    json!({})
}
