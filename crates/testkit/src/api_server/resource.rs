//! The resources that the server has.

use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};

/// One resource.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    /// Whether `status` is written apart from the rest.
    pub(crate) status: bool,
    /// Where the scale subresource finds its numbers: wanted, present, selector.
    pub(crate) scale: Option<[String; 3]>,
    /// Whether an update must name the version that it changes.
    pub(crate) versioned_updates: bool,
    pub(crate) schema: Option<JSONSchemaProps>,
}

impl Resource {
    /// `runners.runners.sekisho.dev`, `pods`.
    pub(crate) fn full_name(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether it is one of Kubernetes' own.
    pub(crate) fn is_builtin(&self) -> bool {
        self.schema.is_none()
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Resources(Vec<Arc<Resource>>);

/// Kubernetes' own: group, plural, kind, namespaced, status.
const BUILTIN: [(&str, &str, &str, bool, bool); 18] = [
    ("", "namespaces", "Namespace", false, true),
    ("", "nodes", "Node", false, true),
    ("", "pods", "Pod", true, true),
    ("", "secrets", "Secret", true, false),
    ("", "configmaps", "ConfigMap", true, false),
    ("", "services", "Service", true, true),
    ("", "serviceaccounts", "ServiceAccount", true, false),
    ("", "events", "Event", true, false),
    ("", "resourcequotas", "ResourceQuota", true, true),
    ("events.k8s.io", "events", "Event", true, false),
    ("coordination.k8s.io", "leases", "Lease", true, false),
    ("networking.k8s.io", "networkpolicies", "NetworkPolicy", true, false),
    ("apps", "deployments", "Deployment", true, true),
    ("apps", "daemonsets", "DaemonSet", true, true),
    ("rbac.authorization.k8s.io", "roles", "Role", true, false),
    ("rbac.authorization.k8s.io", "clusterroles", "ClusterRole", false, false),
    ("policy", "poddisruptionbudgets", "PodDisruptionBudget", true, true),
    ("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition", false, true),
];

/// A kind of which there is a definition.
fn defined(crd: CustomResourceDefinition) -> Option<Resource> {
    let version = crd.spec.versions.into_iter().next()?;
    let subresources = version.subresources.unwrap_or_default();
    Some(Resource {
        group: crd.spec.group,
        version: version.name,
        plural: crd.spec.names.plural,
        kind: crd.spec.names.kind,
        namespaced: crd.spec.scope == "Namespaced",
        status: subresources.status.is_some(),
        scale: subresources.scale.map(|scale| {
            let selector = scale.label_selector_path.unwrap_or_default();
            [scale.spec_replicas_path, scale.status_replicas_path, selector]
                .map(|path| path.replace('.', "/"))
        }),
        versioned_updates: true,
        schema: version.schema.and_then(|it| it.open_api_v3_schema),
    })
}

impl Resources {
    pub(crate) fn new() -> Self {
        let builtin = BUILTIN.iter().map(|(group, plural, kind, namespaced, status)| Resource {
            group: (*group).to_owned(),
            version: "v1".to_owned(),
            plural: (*plural).to_owned(),
            kind: (*kind).to_owned(),
            namespaced: *namespaced,
            status: *status,
            scale: None,
            versioned_updates: *plural == "leases",
            schema: None,
        });
        let ours = sekisho_api::schema::crds().into_iter().filter_map(defined);
        Self(builtin.chain(ours).map(Arc::new).collect())
    }

    /// With another definition of a kind, in the place of the one before.
    pub(crate) fn with(&self, crd: CustomResourceDefinition) -> Self {
        let mut all = self.0.clone();
        if let Some(new) = defined(crd) {
            all.retain(|it| (&it.group, &it.plural) != (&new.group, &new.plural));
            all.push(Arc::new(new));
        }
        Self(all)
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let is = |known: &&Arc<Resource>| {
            known.group == group && known.version == version && known.plural == plural
        };
        self.0.iter().find(is).cloned()
    }

    /// One of the core group.
    pub(crate) fn core(&self, plural: &str) -> Option<Arc<Resource>> {
        self.find("", "v1", plural)
    }
}
