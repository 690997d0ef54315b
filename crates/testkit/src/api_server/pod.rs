//! What the server knows about pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::apply;
use super::error::ApiError;
use super::request::Request;
use super::resource::{Resource, Resources};
use super::store::{Key, Store};
use super::write::{find, now};

/// Fields of the spec of a pod that may change.
const MUTABLE: [&str; 3] =
    ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"];

/// What a new pod has if nothing is said.
pub(crate) fn defaults(pod: &mut Value) {
    let spec = &mut pod["spec"];
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
    ] {
        if spec[field].is_null() {
            spec[field] = value;
        }
    }
    if spec["securityContext"].is_null() {
        spec["securityContext"] = json!({});
    }
    pod["status"] = json!({ "phase": "Pending", "qosClass": "BestEffort" });
}

/// Says what is wrong with a pod.
pub(crate) fn check(pod: &Value, wrong: &mut Vec<String>) {
    if let Err(error) = serde_json::from_value::<Pod>(pod.clone()) {
        return wrong.push(error.to_string());
    }
    let containers = pod["spec"]["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if containers.is_empty() {
        wrong.push("spec.containers: Required value".to_owned());
    }
    for (index, container) in containers.iter().enumerate() {
        for field in ["name", "image"] {
            if container[field].as_str().unwrap_or_default().is_empty() {
                wrong.push(format!("spec.containers[{index}].{field}: Required value"));
            }
        }
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let is = |volume: &&Value| volume["name"] == mount["name"];
            if !pod["spec"]["volumes"].as_array().into_iter().flatten().any(|volume| is(&volume)) {
                let name = &mount["name"];
                wrong.push(format!("spec.containers[{index}].volumeMounts: Not found: {name}"));
            }
        }
    }
}

/// The spec of a pod stays, but for images and a few fields.
pub(crate) fn immutable(
    resource: &Resource,
    name: &str,
    old: &Value,
    new: &Value,
) -> Result<(), ApiError> {
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        if let Some(fields) = spec.as_object_mut() {
            MUTABLE.iter().for_each(|field| drop(fields.remove(*field)));
        }
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                container["image"] = Value::Null;
            }
            if spec[list].is_null() {
                spec.as_object_mut().map(|fields| fields.remove(list));
            }
        }
        spec
    };
    if fixed(old) == fixed(new) {
        return Ok(());
    }
    let why = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations`";
    Err(ApiError::invalid(resource, name, &[why.to_owned()]))
}

/// Counts a new pod in the quotas of its namespace, or refuses it.
pub(crate) fn quota(
    resources: &Resources,
    store: &mut Store,
    request: &Request,
    pod: &str,
) -> Result<(), ApiError> {
    let Some(resource) = resources.core("resourcequotas") else { return Ok(()) };
    let quotas: Vec<(Key, Arc<Value>)> = store
        .list(&resource, &request.namespace, None)
        .map(|(key, value)| (key.clone(), Arc::clone(value)))
        .collect();
    for (key, quota) in quotas {
        for kind in ["pods", "count/pods"] {
            let number =
                |of: &str| -> Option<u64> { quota["status"][of].get(kind)?.as_str()?.parse().ok() };
            if quota["spec"]["hard"].get(kind).is_none() {
                continue;
            }
            let (Some(hard), Some(used)) = (number("hard"), number("used")) else {
                let why = format!("status unknown for quota: {}, resources: {kind}", key.name);
                return Err(ApiError::forbidden(&request.resource, pod, &why));
            };
            if used >= hard {
                let why = format!(
                    "exceeded quota: {}, requested: {kind}=1, used: {kind}={used}, limited: {kind}={hard}",
                    key.name
                );
                return Err(ApiError::forbidden(&request.resource, pod, &why));
            }
            if !request.dry_run() {
                let mut object = Value::clone(&quota);
                object["status"]["used"][kind] = json!((used + 1).to_string());
                let managers =
                    store.get(&key).map(|it| Arc::clone(&it.managers)).unwrap_or_default();
                store.put(key.clone(), object, managers);
            }
        }
    }
    Ok(())
}

/// `POST …/pods/NAME/binding`: a node for the pod.
pub(crate) fn bind(store: &mut Store, request: &Request, binding: &Value) -> Result<(), ApiError> {
    let (key, live) = find(store, request)?;
    let mut pod = Value::clone(&live.value);
    let bound = pod["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    if bound || pod["metadata"].get("deletionTimestamp").is_some() {
        let why = "pod is already assigned to a node, or being deleted";
        return Err(ApiError::conflict(&request.resource, &request.name, why));
    }
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    let scheduled =
        json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": now() });
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Some(all) = conditions.as_array_mut() {
        all.retain(|condition| condition["type"] != json!("PodScheduled"));
        all.push(scheduled);
    }
    apply::show(&request.resource, &mut pod, &live.managers);
    store.put(key, pod, live.managers);
    Ok(())
}
