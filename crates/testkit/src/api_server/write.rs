//! Creating and updating.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::apply;
use super::delete;
use super::error::ApiError;
use super::fields::Manager;
use super::pod;
use super::request::Request;
use super::resource::{Resource, Resources};
use super::schema;
use super::store::{Key, Store, Stored};

pub(crate) fn now() -> String {
    #[expect(clippy::disallowed_methods, reason = "the server's own clock")]
    let now = Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn uid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Makes a namespace.
pub(crate) fn namespace(resources: &Resources, store: &mut Store, name: &str) {
    if let Some(resource) = resources.core("namespaces") {
        let mut object = json!({ "metadata": { "name": name } });
        prepare(&resource, &mut object);
        store.put(Key::new(&resource, "", name), object, Vec::new());
    }
}

/// What the server fills in of a new object.
fn prepare(resource: &Resource, object: &mut Value) {
    object["apiVersion"] = json!(resource.api_version());
    object["kind"] = json!(resource.kind);
    let metadata = &mut object["metadata"];
    metadata["uid"] = json!(uid());
    metadata["creationTimestamp"] = json!(now());
    if let Some(fields) = metadata.as_object_mut() {
        for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"]
        {
            fields.remove(name);
        }
    }
    if resource.status {
        object["metadata"]["generation"] = json!(1);
    }
    // A node and a definition of ours keep the status that they are created with.
    if resource.status && resource.plural != "nodes" {
        object.as_object_mut().map(|fields| fields.remove("status"));
    }
    match resource.plural.as_str() {
        "namespaces" => {
            object["spec"] = json!({ "finalizers": ["kubernetes"] });
            object["status"] = json!({ "phase": "Active" });
        }
        "pods" => pod::defaults(object),
        "customresourcedefinitions" => {
            let established = json!({ "type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "", "lastTransitionTime": now() });
            object["status"] = json!({ "conditions": [established] });
        }
        _ => {}
    }
}

/// `stringData` is written only.
fn secret(object: &mut Value) {
    use base64::Engine as _;
    let Some(Value::Object(text)) = object.as_object_mut().and_then(|it| it.remove("stringData"))
    else {
        return;
    };
    for (name, value) in text {
        let encoded =
            base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        object["data"][name] = json!(encoded);
    }
}

/// Checks and shapes an object before it is stored.
fn check(resource: &Resource, name: &str, object: &mut Value) -> Result<(), ApiError> {
    let mut wrong = Vec::new();
    if resource.plural == "secrets" {
        secret(object);
    }
    if let Some(known) = &resource.schema {
        schema::shape(known, object, true);
        schema::validate(known, "", object, &mut wrong);
    }
    if resource.plural == "pods" {
        pod::check(object, &mut wrong);
    }
    if wrong.is_empty() { Ok(()) } else { Err(ApiError::invalid(resource, name, &wrong)) }
}

/// Whether something new may come into a namespace.
fn admit(
    resources: &Resources,
    store: &mut Store,
    request: &Request,
    name: &str,
) -> Result<(), ApiError> {
    let resource = &request.resource;
    if !resource.namespaced {
        return Ok(());
    }
    let Some(namespaces) = resources.core("namespaces") else { return Ok(()) };
    let key = Key::new(&namespaces, "", &request.namespace);
    let Some(namespace) = store.get(&key) else {
        return Err(ApiError::not_found(&namespaces, &request.namespace));
    };
    if namespace.value["metadata"].get("deletionTimestamp").is_some() {
        return Err(ApiError::terminating(resource, name, &request.namespace));
    }
    if resource.plural == "pods" {
        pod::quota(resources, store, request, name)?;
    }
    Ok(())
}

pub(crate) fn create(
    resources: &Resources,
    store: &mut Store,
    request: &Request,
    mut object: Value,
) -> Result<Arc<Value>, ApiError> {
    let resource = &request.resource;
    let metadata = object["metadata"].as_object().cloned().unwrap_or_default();
    let text = |name: &str| metadata.get(name).and_then(Value::as_str).unwrap_or_default();
    if !text("resourceVersion").is_empty() {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(ApiError::status(500, why));
    }
    if !matches!(text("namespace"), "") && text("namespace") != request.namespace {
        let why =
            "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(why));
    }
    let name = match (text("name"), text("generateName")) {
        ("", "") => {
            let why =
                ["metadata.name: Required value: name or generateName is required".to_owned()];
            return Err(ApiError::invalid(resource, "", &why));
        }
        ("", prefix) => format!("{prefix}{}", store.suffix()),
        (name, _) => name.to_owned(),
    };
    object["metadata"]["name"] = json!(name);
    if resource.namespaced {
        object["metadata"]["namespace"] = json!(request.namespace);
    }
    let key = Key::new(resource, &request.namespace, &name);
    if store.get(&key).is_some() {
        return Err(ApiError::exists(resource, &name));
    }
    prepare(resource, &mut object);
    check(resource, &name, &mut object)?;
    admit(resources, store, request, &name)?;
    let managers = apply::written(resource, (request.manager(), ""), &[], (&Value::Null, &object));
    finish(store, request, key, object, managers)
}

/// Stores, unless it was only to be tried.
pub(super) fn finish(
    store: &mut Store,
    request: &Request,
    key: Key,
    mut object: Value,
    managers: Vec<Manager>,
) -> Result<Arc<Value>, ApiError> {
    // Of an object whose managers stay, it is shown already.
    if store.get(&key).is_none_or(|live| *live.managers != managers) {
        apply::show(&request.resource, &mut object, &managers);
    }
    if request.dry_run() {
        return Ok(Arc::new(object));
    }
    Ok(store.put(key, object, managers))
}

pub(crate) fn find(store: &Store, request: &Request) -> Result<(Key, Stored), ApiError> {
    let key = Key::new(&request.resource, &request.namespace, &request.name);
    match store.get(&key) {
        Some(stored) => Ok((key, stored.clone())),
        None => Err(ApiError::not_found(&request.resource, &request.name)),
    }
}

pub(crate) fn update(
    store: &mut Store,
    request: &Request,
    object: Value,
) -> Result<Arc<Value>, ApiError> {
    if request.subresource == "finalize" {
        return delete::finalize(store, request, &object);
    }
    let (key, live) = find(store, request)?;
    let resource = &request.resource;
    let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    if version.is_empty() && resource.versioned_updates {
        let why = ["metadata.resourceVersion: Invalid value: 0: must be specified for an update"
            .to_owned()];
        return Err(ApiError::invalid(resource, &request.name, &why));
    }
    replace(store, request, (key, live), object, None)
}

/// Stores `object` in the place of `live`. `managers`: as apply has found them.
pub(crate) fn replace(
    store: &mut Store,
    request: &Request,
    (key, live): (Key, Stored),
    mut object: Value,
    managers: Option<Vec<Manager>>,
) -> Result<Arc<Value>, ApiError> {
    let (resource, name) = (&request.resource, request.name.as_str());
    let old = &live.value;
    let (given, kept) = (&object["metadata"], &old["metadata"]);
    let other = |field: &str| {
        given[field].as_str().is_some_and(|value| !value.is_empty() && given[field] != kept[field])
    };
    if other("uid") {
        let why = "Precondition failed: UID in precondition does not match UID in object meta";
        return Err(ApiError::conflict(resource, name, why));
    }
    if other("resourceVersion") {
        return Err(ApiError::modified(resource, name));
    }
    for field in [
        "uid",
        "name",
        "namespace",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
        "managedFields",
        "generateName",
    ] {
        restore(&mut object["metadata"], &old["metadata"], field);
    }
    for field in ["apiVersion", "kind"] {
        restore(&mut object, old, field);
    }
    if request.subresource == "status" {
        let status = object["status"].take();
        let metadata = object["metadata"].take();
        object = Value::clone(old);
        object["status"] = status;
        if resource.is_builtin() {
            object["metadata"]["labels"] = metadata["labels"].clone();
            object["metadata"]["annotations"] = metadata["annotations"].clone();
        }
    } else if resource.status && request.subresource.is_empty() {
        restore(&mut object, old, "status");
    }
    drop_nulls(&mut object["metadata"]);
    if object["status"].is_null() {
        object.as_object_mut().map(|fields| fields.remove("status"));
    }
    check(resource, name, &mut object)?;
    delete::check_finalizers(resource, name, old, &object)?;
    if resource.plural == "pods" && request.subresource.is_empty() {
        pod::immutable(resource, name, old, &object)?;
    }
    if generation_moves(resource, old, &object) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
        object["metadata"]["generation"] = json!(generation + 1);
    }
    let managers = managers.unwrap_or_else(|| {
        let writer = (request.manager(), request.subresource.as_str());
        apply::written(resource, writer, &live.managers, (old, &object))
    });
    if object == **old && managers == *live.managers {
        return Ok(live.value);
    }
    if delete::is_over(&object) && !request.dry_run() {
        let last = store.put(key.clone(), object, managers);
        store.remove(&key);
        return Ok(last);
    }
    finish(store, request, key, object, managers)
}

fn generation_moves(resource: &Resource, old: &Value, new: &Value) -> bool {
    fn rest(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
        let fields = object.as_object().into_iter().flatten();
        fields.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"))
    }
    let same = |(name, value): (&String, &Value)| new.get(name) == Some(value);
    resource.status && !(rest(old).count() == rest(new).count() && rest(old).all(same))
}

fn restore(object: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => object[field] = value.clone(),
        None => {
            object.as_object_mut().map(|fields| fields.remove(field));
        }
    }
}

fn drop_nulls(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| {
            !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty())
        });
    }
}

/// What the scale subresource shows.
pub(crate) fn shown_scale(resource: &Resource, object: &Value) -> Value {
    let [spec, status, selector] = resource.scale.clone().unwrap_or_default();
    let number = |pointer: &str| object.pointer(pointer).cloned().unwrap_or(json!(0));
    let metadata = &object["metadata"];
    json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"]
        },
        "spec": { "replicas": number(&spec) },
        "status": {
            "replicas": number(&status),
            "selector": object.pointer(&selector).cloned().unwrap_or(json!(""))
        }
    })
}

/// A patch or an update of the scale.
pub(crate) fn scale(
    store: &mut Store,
    request: &Request,
    (key, live): (Key, Stored),
    scale: &Value,
) -> Result<Arc<Value>, ApiError> {
    let [pointer, ..] = request.resource.scale.clone().unwrap_or_default();
    let mut object = Value::clone(&live.value);
    let (parent, field) = pointer.rsplit_once('/').unwrap_or(("", "replicas"));
    if let Some(parent) = object.pointer_mut(parent) {
        parent[field] = scale["spec"]["replicas"].clone();
    }
    let stored = replace(store, request, (key, live), object, None)?;
    Ok(Arc::new(shown_scale(&request.resource, &stored)))
}
