//! A request, read: which resource, which object, what is to be done.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use super::error::ApiError;
use super::resource::{Resource, Resources};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
}

/// A request for an object or for a list.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) verb: Verb,
    pub(crate) resource: Arc<Resource>,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) subresource: String,
    pub(crate) query: BTreeMap<String, String>,
    /// Only `metadata` is wanted.
    pub(crate) metadata_only: bool,
}

impl Request {
    pub(crate) fn parse(
        resources: &Resources,
        method: &Method,
        path: &str,
        query: BTreeMap<String, String>,
    ) -> Result<Self, ApiError> {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(ApiError::no_such_path()),
        };
        let (namespace, rest) = match rest {
            // A namespace itself has these subresources.
            ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, subresource] => (*plural, *name, *subresource),
            _ => return Err(ApiError::no_such_path()),
        };
        let resource = resources.find(group, version, plural).ok_or_else(ApiError::no_such_path)?;
        let has = match subresource {
            "" => true,
            "status" => resource.status,
            "scale" => resource.scale.is_some(),
            "binding" | "eviction" => resource.plural == "pods",
            "finalize" => resource.plural == "namespaces",
            _ => false,
        };
        if !has {
            return Err(ApiError::no_such_path());
        }
        let watched = matches!(query.get("watch").map(String::as_str), Some("true" | "1"));
        let verb = match *method {
            Method::GET if !name.is_empty() => Verb::Get,
            Method::GET if watched => Verb::Watch,
            Method::GET => Verb::List,
            Method::POST => Verb::Create,
            Method::PUT if !name.is_empty() => Verb::Update,
            Method::PATCH if !name.is_empty() => Verb::Patch,
            Method::DELETE => Verb::Delete,
            _ => return Err(ApiError::method()),
        };
        Ok(Self {
            verb,
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            query,
            metadata_only: false,
        })
    }

    pub(crate) fn param(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub(crate) fn dry_run(&self) -> bool {
        self.param("dryRun") == "All"
    }

    pub(crate) fn force(&self) -> bool {
        self.param("force") == "true"
    }

    /// Who writes.
    pub(crate) fn manager(&self) -> &str {
        match self.param("fieldManager") {
            "" => "unknown",
            manager => manager,
        }
    }
}
