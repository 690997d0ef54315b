//! Reading objects and lists of them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::error::ApiError;
use super::request::Request;
use super::selector::Selector;
use super::store::{Key, Store};

/// Only `metadata` of an object.
pub(crate) fn partial(object: &Value) -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": object["metadata"]
    })
}

/// A page of a list. The pages of one list are of the moment at which each is read; those of a real
/// server are all of the first one's.
pub(crate) fn list(store: &Store, request: &Request) -> Result<Value, ApiError> {
    let resource = &request.resource;
    let selector =
        Selector::parse(resource, request.param("labelSelector"), request.param("fieldSelector"))?;
    let limit: usize = request.param("limit").parse().unwrap_or_default();
    let after = match request.param("continue") {
        "" => None,
        token => Some(read_token(store, request, token)?),
    };
    let mut found: Vec<(&Key, &Arc<Value>)> = store
        .list(resource, &request.namespace, after.as_ref())
        .filter(|(_, object)| selector.matches(object))
        .collect();
    let rest = if limit > 0 && found.len() > limit { found.split_off(limit).len() } else { 0 };
    let mut metadata = json!({ "resourceVersion": store.version().to_string() });
    if rest > 0
        && let Some((last, _)) = found.last()
    {
        let token = json!([store.version(), last.namespace, last.name]).to_string();
        metadata["continue"] = json!(URL_SAFE_NO_PAD.encode(token));
        metadata["remainingItemCount"] = json!(rest);
    }
    let items: Vec<Value> = found
        .into_iter()
        .map(
            |(_, object)| {
                if request.metadata_only { partial(object) } else { Value::clone(object) }
            },
        )
        .collect();
    let (version, kind) = if request.metadata_only {
        ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned())
    } else {
        (resource.api_version(), format!("{}List", resource.kind))
    };
    Ok(json!({ "apiVersion": version, "kind": kind, "metadata": metadata, "items": items }))
}

fn read_token(store: &Store, request: &Request, token: &str) -> Result<Key, ApiError> {
    let read = URL_SAFE_NO_PAD.decode(token).ok();
    let read = read.and_then(|bytes| serde_json::from_slice::<(u64, String, String)>(&bytes).ok());
    let Some((version, namespace, name)) = read else {
        return Err(ApiError::bad_request("continue key is not valid"));
    };
    if version < store.compacted() {
        return Err(ApiError::gone());
    }
    Ok(Key::new(&request.resource, &namespace, &name))
}
