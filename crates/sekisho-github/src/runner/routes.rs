//! Where a tenant's endpoints are: templates that it gives out, filled in. Pure.

use std::collections::BTreeMap;

use url::Url;
use uuid::Uuid;

use super::error::ClientError;
use crate::wire::tenant::ConnectionData;

/// Most definitions that are kept; a real tenant has some hundreds.
const MAX_ROUTES: usize = 5000;

/// The endpoints of a tenant.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    base: Url,
    templates: BTreeMap<Uuid, String>,
}

impl Routes {
    pub(super) fn new(base: Url, data: ConnectionData) -> Self {
        let definitions = data.location_service_data.service_definitions.into_iter();
        let template = definitions.filter_map(|definition| {
            Some((definition.identifier.parse().ok()?, definition.relative_path))
        });
        Self { base, templates: template.take(MAX_ROUTES).collect() }
    }

    /// The endpoint of a resource; a placeholder without a value vanishes with its slash.
    pub(super) fn url(&self, resource: Uuid, values: &[(&str, &str)]) -> Result<Url, ClientError> {
        let template = self.templates.get(&resource);
        let template = template.ok_or(ClientError::Message { what: "route for a call" })?;
        let mut url = self.base.clone();
        {
            let mut segments = url
                .path_segments_mut()
                .map_err(|()| ClientError::Url { what: "the tenant's URL" })?;
            segments.pop_if_empty();
            for part in template.split('/').filter(|part| !part.is_empty()) {
                let segment = fill(part, values);
                // `.` and `..` would leave the tenant.
                if !matches!(segment.as_str(), "" | "." | "..") {
                    segments.push(&segment);
                }
            }
        }
        Ok(url)
    }
}

/// One segment with its placeholders filled in.
fn fill(part: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut rest = part;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        text.push_str(before);
        let value = values.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        text.push_str(value.map_or("", |(_, value)| value));
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lenient;
    use crate::wire::tenant::resource;

    fn routes(template: &str) -> Routes {
        let data = serde_json::json!({"LocationServiceData": {"serviceDefinitions": [
            {"identifier": "not a guid", "relativePath": null},
            {"identifier": resource::SESSIONS.to_string().to_uppercase(), "relativePath": template},
        ]}});
        let base = "http://127.0.0.1:1/tenant/".parse().unwrap();
        Routes::new(base, lenient::from_value(data).unwrap())
    }

    #[test]
    fn templates_are_filled_in() {
        for (template, want) in [
            ("/_apis/pools/{poolId}/sessions/{sessionId}", "/tenant/_apis/pools/1/sessions"),
            ("_apis/{PoolID}-x/{none}/y", "/tenant/_apis/1-x/y"),
            ("/{poolId}/../../etc", "/tenant/1/etc"),
            ("/a b/{poolId", "/tenant/a%20b/%7BpoolId"),
        ] {
            let url = routes(template).url(resource::SESSIONS, &[("poolId", "1")]).unwrap();
            assert_eq!(url.path(), want, "{template}");
        }
        assert!(routes("x").url(resource::LOGS, &[]).is_err());
    }

    proptest! {
        #[test]
        fn no_template_leaves_the_tenant(template in "[/.{}a-zA-Z?#%@:]{0,30}", value in ".{0,10}") {
            let url = routes(&template).url(resource::SESSIONS, &[("a", &value)]).unwrap();
            prop_assert!(url.as_str().starts_with("http://127.0.0.1:1/tenant"), "{}", url);
            prop_assert!(url.query().is_none() && url.fragment().is_none());
        }
    }
}
