//! The secret that holds a registration.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use secrecy::{ExposeSecret as _, SecretString};

use crate::JIT_KEY;

/// The secret that `pod` waits for: its name, its labels, owned by it, so that it does not outlive it.
///
/// It is immutable: nobody changes a registration, and a kubelet does not watch what cannot change,
/// so the secret can be deleted as soon as the runner is online.
/// <https://kubernetes.io/docs/concepts/configuration/secret/#secret-immutable>
///
/// `None` when `pod` has no name or uid, that is when it was not read from an API server.
pub fn jit_secret(pod: &Pod, jit: &SecretString) -> Option<Secret> {
    let meta = &pod.metadata;
    let (name, uid) = (meta.name.clone()?, meta.uid.clone()?);
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: name.clone(),
        uid,
        controller: Some(true),
        block_owner_deletion: None,
    };
    let value = ByteString(jit.expose_secret().as_bytes().to_vec());
    Some(Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: meta.namespace.clone(),
            labels: meta.labels.clone().map(ours),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(JIT_KEY.to_owned(), value)])),
        immutable: Some(true),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

/// What a template adds to a pod is not for its secret.
fn ours(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.retain(|key, _| {
        key.starts_with(sekisho_api::GROUP) || key.starts_with("app.kubernetes.io/")
    });
    labels
}
