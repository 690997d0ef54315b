//! Patching: merge, JSON, and server-side apply.

use std::sync::Arc;

use serde_json::{Value, json};

use super::apply::Apply;
use super::error::ApiError;
use super::request::Request;
use super::resource::Resources;
use super::store::{Key, Store};
use super::write::{create, find, finish, replace, scale};

/// How a patch is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Merge,
    Json,
    Apply,
}

pub(crate) fn patch(
    resources: &Resources,
    store: &mut Store,
    request: &Request,
    kind: PatchKind,
    patch: &Value,
) -> Result<Arc<Value>, ApiError> {
    let resource = &request.resource;
    if kind == PatchKind::Apply {
        return apply_patch(resources, store, request, patch);
    }
    let (key, live) = find(store, request)?;
    let mut object = Value::clone(&live.value);
    match kind {
        PatchKind::Merge => {
            // The version that a patch names is the one that it is for.
            if let Some(version) = patch.pointer("/metadata/resourceVersion")
                && *version != live.value["metadata"]["resourceVersion"]
            {
                return Err(ApiError::modified(resource, &request.name));
            }
            json_patch::merge(&mut object, patch);
        }
        PatchKind::Json | PatchKind::Apply => {
            let operations: json_patch::Patch = serde_json::from_value(patch.clone())
                .map_err(|error| ApiError::bad_request(error.to_string()))?;
            json_patch::patch(&mut object, &operations).map_err(|error| {
                let why = format!(
                    "the server rejected our request due to an error in our request: {error}"
                );
                ApiError::invalid(resource, &request.name, &[why])
            })?;
        }
    }
    object["metadata"]["resourceVersion"] = live.value["metadata"]["resourceVersion"].clone();
    if request.subresource == "scale" {
        return scale(store, request, (key, live), &object);
    }
    replace(store, request, (key, live), object, None)
}

fn apply_patch(
    resources: &Resources,
    store: &mut Store,
    request: &Request,
    config: &Value,
) -> Result<Arc<Value>, ApiError> {
    if request.param("fieldManager").is_empty() {
        return Err(ApiError::bad_request("fieldManager is required for apply patch"));
    }
    let resource = &request.resource;
    let apply = Apply {
        resource,
        manager: request.manager(),
        subresource: &request.subresource,
        force: request.force(),
    };
    let (key, live) = match find(store, request) {
        Ok(found) => found,
        Err(error) if !request.subresource.is_empty() => return Err(error),
        Err(_) => {
            if config.pointer("/metadata/uid").is_some() {
                let why =
                    "Precondition failed: UID in precondition does not match: the object is gone";
                return Err(ApiError::conflict(resource, &request.name, why));
            }
            let mut object = config.clone();
            object["metadata"]["name"] = json!(request.name);
            let created = create(resources, store, request, object)?;
            let (_, managers) = apply.to(&created, &[], config)?;
            let key = Key::new(resource, &request.namespace, &request.name);
            return finish(store, request, key, Value::clone(&created), managers);
        }
    };
    for (field, live) in [
        ("uid", &live.value["metadata"]["uid"]),
        ("resourceVersion", &live.value["metadata"]["resourceVersion"]),
    ] {
        if config["metadata"].get(field).is_some_and(|wanted| wanted != live) {
            return Err(ApiError::modified(resource, &request.name));
        }
    }
    let (object, managers) = apply.to(&live.value, &live.managers, config)?;
    replace(store, request, (key, live), object, Some(managers))
}
