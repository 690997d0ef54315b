//! Deleting: grace, finalizers, preconditions, propagation.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::apply;
use super::error::ApiError;
use super::request::Request;
use super::resource::Resource;
use super::store::{Key, Store, Stored};
use super::write::{find, now};

/// The finalizer that the garbage collector removes when nothing is owned any more.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// Whether a deletion has nothing left to wait for.
pub(crate) fn is_over(object: &Value) -> bool {
    let metadata = &object["metadata"];
    metadata.get("deletionTimestamp").is_some()
        && finalizers(object).is_empty()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or_default() == 0
        && object.pointer("/spec/finalizers").and_then(Value::as_array).is_none_or(Vec::is_empty)
}

fn finalizers(object: &Value) -> &[Value] {
    object["metadata"]["finalizers"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// While an object is deleted, finalizers are only removed.
pub(crate) fn check_finalizers(
    resource: &Resource,
    name: &str,
    old: &Value,
    new: &Value,
) -> Result<(), ApiError> {
    if old["metadata"].get("deletionTimestamp").is_none() {
        return Ok(());
    }
    let added: Vec<&Value> =
        finalizers(new).iter().filter(|it| !finalizers(old).contains(it)).collect();
    if added.is_empty() {
        return Ok(());
    }
    let why = format!(
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
    );
    Err(ApiError::invalid(resource, name, &[why]))
}

/// Deletes; what is answered is the object while it is there, else that it is gone.
pub(crate) fn delete(
    store: &mut Store,
    request: &Request,
    options: &Value,
) -> Result<Arc<Value>, ApiError> {
    let (key, live) = find(store, request)?;
    let metadata = &live.value["metadata"];
    for field in ["uid", "resourceVersion"] {
        let wanted = options["preconditions"].get(field).filter(|wanted| !wanted.is_null());
        if let Some(wanted) = wanted
            && *wanted != metadata[field]
        {
            let why = format!(
                "Precondition failed: {field} in precondition: {wanted}, in object meta: {}",
                metadata[field]
            );
            return Err(ApiError::conflict(&request.resource, &request.name, &why));
        }
    }
    if request.dry_run() {
        return Ok(live.value);
    }
    let grace = grace(&request.resource, &live.value, options, request);
    Ok(begin(store, &request.resource, (key, live), grace, options))
}

/// Seconds until the object may be removed.
fn grace(resource: &Resource, object: &Value, options: &Value, request: &Request) -> i64 {
    if resource.plural != "pods" {
        return 0;
    }
    let given = options["gracePeriodSeconds"]
        .as_i64()
        .or_else(|| request.param("gracePeriodSeconds").parse().ok());
    let unassigned = object["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unassigned || ended {
        return 0;
    }
    let own = object["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    given.unwrap_or(own).max(0)
}

fn begin(
    store: &mut Store,
    resource: &Resource,
    (key, live): (Key, Stored),
    grace: i64,
    options: &Value,
) -> Arc<Value> {
    let mut object = Value::clone(&live.value);
    let metadata = &mut object["metadata"];
    if options["propagationPolicy"] == json!("Foreground")
        && metadata.get("deletionTimestamp").is_none()
    {
        let finalizers = &mut metadata["finalizers"];
        if !finalizers.is_array() {
            *finalizers = json!([]);
        }
        if let Some(all) = finalizers.as_array_mut() {
            all.push(json!(FOREGROUND));
        }
    }
    let before = metadata["deletionGracePeriodSeconds"].as_i64();
    // A deletion that is under way can only become shorter.
    let grace = before.map_or(grace, |before| before.min(grace));
    if before.is_none() || before != Some(grace) {
        let at = now().parse::<Timestamp>().ok();
        let at = at.and_then(|at| at.checked_add(SignedDuration::from_secs(grace)).ok());
        metadata["deletionTimestamp"] = json!(at.map(|at| at.to_string()).unwrap_or_default());
        metadata["deletionGracePeriodSeconds"] = json!(grace);
        if let Some(generation) = metadata["generation"].as_i64() {
            metadata["generation"] = json!(generation + 1);
        }
    }
    if resource.plural == "namespaces" {
        object["status"]["phase"] = json!("Terminating");
    }
    if is_over(&object) {
        store.remove(&key);
        return Arc::new(object);
    }
    if object == *live.value {
        return live.value;
    }
    apply::show(resource, &mut object, &live.managers);
    store.put(key, object, live.managers)
}

/// `PUT …/namespaces/NAME/finalize`: its content is gone.
pub(crate) fn finalize(
    store: &mut Store,
    request: &Request,
    given: &Value,
) -> Result<Arc<Value>, ApiError> {
    let (key, live) = find(store, request)?;
    let mut object = Value::clone(&live.value);
    object["spec"]["finalizers"] = given["spec"]["finalizers"].clone();
    if is_over(&object) {
        store.remove(&key);
        return Ok(Arc::new(object));
    }
    Ok(store.put(key, object, live.managers))
}

/// What is answered when an object is gone.
pub(crate) fn gone(resource: &Resource, object: &Value) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {
            "name": object["metadata"]["name"],
            "group": resource.group,
            "kind": resource.plural,
            "uid": object["metadata"]["uid"]
        }
    })
}

/// Whether the object is there under this key.
pub(crate) fn is_there(store: &Store, request: &Request) -> bool {
    store.get(&Key::new(&request.resource, &request.namespace, &request.name)).is_some()
}
