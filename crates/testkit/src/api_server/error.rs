//! What is answered when it does not work: a `metav1.Status`.

use serde_json::{Value, json};

use super::resource::Resource;

/// An answer that is none of success.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) details: Value,
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: json!({}) }
    }

    fn about(mut self, resource: &Resource, name: &str) -> Self {
        self.details = json!({ "name": name, "group": resource.group, "kind": resource.plural });
        self
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn no_such_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub(crate) fn method() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message)
    }

    pub(crate) fn media_type(found: &str) -> Self {
        let message = format!("the body of the request was in an unknown format: {found}");
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.full_name());
        Self::new(404, "NotFound", message).about(resource, name)
    }

    pub(crate) fn exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.full_name());
        Self::new(409, "AlreadyExists", message).about(resource, name)
    }

    pub(crate) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let what = resource.full_name();
        let message = format!("Operation cannot be fulfilled on {what} \"{name}\": {why}");
        Self::new(409, "Conflict", message).about(resource, name)
    }

    pub(crate) fn modified(resource: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// A server-side apply that would take fields from others: manager and field of each.
    pub(crate) fn apply_conflict(conflicts: &[(String, String)]) -> Self {
        let each = conflicts.iter().map(|(manager, field)| {
            json!({ "reason": "FieldManagerConflict", "message": format!("conflict with {manager:?}"), "field": field })
        });
        let causes: Vec<Value> = each.collect();
        let named: Vec<String> =
            conflicts.iter().map(|(manager, field)| format!("{manager:?}: {field}")).collect();
        let s = if conflicts.len() == 1 { "" } else { "s" };
        let message = format!(
            "Apply failed with {} conflict{s}: conflict{s} with {}",
            conflicts.len(),
            named.join(", ")
        );
        let mut error = Self::new(409, "Conflict", message);
        error.details = json!({ "causes": causes });
        error
    }

    pub(crate) fn invalid(resource: &Resource, name: &str, why: &[String]) -> Self {
        let message = format!("{} \"{name}\" is invalid: {}", resource.kind, why.join(", "));
        let causes: Vec<Value> = why
            .iter()
            .map(|why| json!({ "reason": "FieldValueInvalid", "message": why }))
            .collect();
        let mut error = Self::new(422, "Invalid", message).about(resource, name);
        error.details["causes"] = json!(causes);
        error
    }

    pub(crate) fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let what = resource.full_name();
        let message = format!("{what} \"{name}\" is forbidden: {why}");
        Self::new(403, "Forbidden", message).about(resource, name)
    }

    pub(crate) fn terminating(resource: &Resource, name: &str, namespace: &str) -> Self {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let mut error = Self::forbidden(resource, name, &why);
        error.details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace"
        }]);
        error
    }

    pub(crate) fn gone() -> Self {
        Self::new(410, "Expired", "too old resource version")
    }

    pub(crate) fn status(code: u16, message: &str) -> Self {
        let reason = match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            409 => "Conflict",
            410 => "Expired",
            429 => "TooManyRequests",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "InternalError",
        };
        Self::new(code, reason, message)
    }

    /// As it goes over the wire.
    pub(crate) fn to_value(&self) -> Value {
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code
        })
    }
}
