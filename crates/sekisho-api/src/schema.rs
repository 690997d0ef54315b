//! The CustomResourceDefinitions as files.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::{GitHubConnection, Runner, RunnerClass, RunnerDeployment, RunnerReplicaSet};

/// All kinds, in the order in which a user meets them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut all = vec![
        GitHubConnection::crd(),
        RunnerClass::crd(),
        RunnerDeployment::crd(),
        RunnerReplicaSet::crd(),
        Runner::crd(),
    ];
    for version in all.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(root) = version.schema.as_mut().and_then(|it| it.open_api_v3_schema.as_mut()) {
            known_formats(root);
        }
    }
    all
}

/// Rust's unsigned numbers are formats that the API server does not know and warns about; their
/// bounds are in the schema.
fn known_formats(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.properties.iter_mut().flatten().for_each(|(_, field)| known_formats(field));
    if let Some(JSONSchemaPropsOrBool::Schema(field)) = &mut schema.additional_properties {
        known_formats(field);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &mut schema.items {
        known_formats(item);
    }
}

/// Labels, as Kubernetes bounds them.
pub(crate) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 63 },
        "x-kubernetes-validations": [{
            "rule": "self.all(key, size(key) <= 317)",
            "message": "the key of a label has at most 317 characters"
        }]
    })
}

/// Annotations, each of at most 4 KiB.
pub(crate) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 4096 }
    })
}

/// A definition that cannot be written down.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{name}` as YAML: {source}")]
pub struct RenderError {
    /// Which one.
    pub name: String,
    /// Why.
    #[source]
    pub source: serde_saphyr::ser::Error,
}

/// The file name and the content of each definition.
///
/// # Errors
/// Never for the kinds of this crate; a test renders all of them.
pub fn files() -> Result<Vec<(String, String)>, RenderError> {
    crds()
        .into_iter()
        .map(|crd| {
            let name = crd.spec.names.plural.clone();
            let text = serde_saphyr::to_string(&crd)
                .map_err(|source| RenderError { name: name.clone(), source })?;
            Ok((format!("{name}.yaml"), format!("# Made by `cargo xtask crds`.\n{text}")))
        })
        .collect()
}
