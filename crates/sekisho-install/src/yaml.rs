//! Manifests as YAML, and the files of `deploy/`.

use serde_json::{Value, json};

use crate::{Install, NAMESPACE, RunnerNamespace, classes, manifests, without_definitions};

/// A manifest that cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// As JSON.
    #[error("cannot write a definition: {0}")]
    Json(#[source] serde_json::Error),
    /// As YAML.
    #[error("cannot write a manifest as YAML: {0}")]
    Yaml(#[source] serde_saphyr::ser::Error),
}

/// Several manifests as one YAML stream, which `kubectl apply -f -` reads.
///
/// # Errors
/// Never for those of this crate.
pub fn stream(manifests: &[Value]) -> Result<String, RenderError> {
    let mut text = String::new();
    for manifest in manifests {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(manifest).map_err(RenderError::Yaml)?);
    }
    Ok(text)
}

/// A file of `deploy/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Below `deploy/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// The image in the kustomize base, which who installs it replaces.
const IMAGE: &str = "sekisho";
const MADE: &str = "# Made by `cargo xtask deploy`.\n";

/// The files of `deploy/` that are made: the kustomize base, and the classes. The definitions are
/// `sekisho-api`'s.
///
/// # Errors
/// As [`stream`].
pub fn files() -> Result<Vec<File>, RenderError> {
    let install = Install {
        namespace: NAMESPACE.to_owned(),
        image: IMAGE.to_owned(),
        replicas: 2,
        webhooks: false,
        node_profile: true,
        egress_ports: Vec::new(),
        runners: vec![RunnerNamespace::default()],
    };
    let namespaces = 2 + install.runners.len();
    let mut base = manifests(&install)?;
    base.truncate(namespaces);
    base.extend(without_definitions(&install));
    let crds = sekisho_api::schema::crds();
    let crds: Vec<String> =
        crds.iter().map(|crd| format!("{}.yaml", crd.spec.names.plural)).collect();
    let mut files = vec![
        file("base/operator.yaml", &base)?,
        file("base/kustomization.yaml", &[kustomization(&["../crds", "operator.yaml"])])?,
        file("crds/kustomization.yaml", &[kustomization(&crds)])?,
    ];
    let mut names = vec![];
    for class in classes() {
        let name = format!("{}.yaml", class["metadata"]["name"].as_str().unwrap_or_default());
        files.push(file(&format!("classes/{name}"), &[class])?);
        names.push(name);
    }
    files.push(file("classes/kustomization.yaml", &[kustomization(&names)])?);
    Ok(files)
}

fn kustomization(resources: &[impl AsRef<str>]) -> Value {
    let resources: Vec<&str> = resources.iter().map(AsRef::as_ref).collect();
    json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": resources
    })
}

fn file(path: &str, manifests: &[Value]) -> Result<File, RenderError> {
    Ok(File { path: path.to_owned(), text: format!("{MADE}{}", stream(manifests)?) })
}
