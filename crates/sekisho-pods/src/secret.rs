//! The secret that holds a registration, and how GitHub is reached with it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{CA_KEY, JIT_KEY, PROXY_KEY};

/// What a runner is given.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Its registration.
    pub jit: &'a SecretString,
    /// Authorities in PEM, where [`crate::Reach::authorities`] says so.
    pub authorities: Option<&'a str>,
    /// The proxy's address with its user and password, where it has any.
    pub proxy: Option<&'a SecretString>,
}

/// The secret that the pod with this metadata waits for: its name, its labels, and owned by the Runner that owns the pod. It
/// outlives a pod that is lost, for it is the proof that a registration was given away:
/// docs/decisions/0015-pod-first-then-the-registration.md.
///
/// It is immutable: nobody changes a registration, and a kubelet does not watch what cannot change,
/// so the secret can be deleted as soon as the runner is online.
/// <https://kubernetes.io/docs/concepts/configuration/secret/#secret-immutable>
///
/// `None` when it has no name, uid or owner, that is when it was not read from an API server.
pub fn jit_secret(pod: &ObjectMeta, given: &Given<'_>) -> Option<Secret> {
    let (name, _) = (pod.name.clone()?, pod.uid.as_ref()?);
    let owner = pod.owner_references.as_ref()?.first()?.clone();
    let secret = |it: &SecretString| it.expose_secret().as_bytes().to_vec();
    let all = [
        (JIT_KEY, Some(secret(given.jit))),
        (CA_KEY, given.authorities.map(|it| it.as_bytes().to_vec())),
        (PROXY_KEY, given.proxy.map(secret)),
    ];
    let data =
        all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), ByteString(value?))));
    Some(Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pod.namespace.clone(),
            labels: pod.labels.clone().map(ours),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(data.collect::<BTreeMap<_, _>>()),
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
