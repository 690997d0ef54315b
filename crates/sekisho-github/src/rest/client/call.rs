//! One call, before it is sent.

use reqwest::Method;
use serde_json::Value;

use crate::rest::budget::{CORE, Purpose};

/// What is asked, and with what.
pub(in crate::rest) struct Call<'a> {
    /// For errors: `listing the runners`.
    pub(in crate::rest) operation: &'static str,
    pub(in crate::rest) method: Method,
    pub(in crate::rest) path: Vec<&'a str>,
    pub(in crate::rest) query: Vec<(&'static str, String)>,
    pub(in crate::rest) body: Option<Value>,
    /// The permission that it needs.
    pub(in crate::rest) needs: &'static str,
    pub(in crate::rest) resource: &'static str,
    pub(in crate::rest) purpose: Purpose,
}

impl<'a> Call<'a> {
    pub(in crate::rest) fn new(
        operation: &'static str,
        method: Method,
        path: Vec<&'a str>,
    ) -> Self {
        let (query, body, resource) = (Vec::new(), None, CORE);
        let needs = "actions: read";
        Self { operation, method, path, query, body, needs, resource, purpose: Purpose::Ordinary }
    }

    pub(in crate::rest) fn get(operation: &'static str, path: Vec<&'a str>) -> Self {
        Self::new(operation, Method::GET, path)
    }

    pub(in crate::rest) fn needs(mut self, permission: &'static str) -> Self {
        self.needs = permission;
        self
    }

    pub(in crate::rest) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(in crate::rest) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(in crate::rest) fn reserved(mut self) -> Self {
        self.purpose = Purpose::Reserved;
        self
    }

    pub(in crate::rest) fn resource(mut self, resource: &'static str) -> Self {
        self.resource = resource;
        self
    }
}
