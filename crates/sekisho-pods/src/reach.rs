//! How a runner reaches GitHub: by the proxy and with the authorities of its connection, as the operator.
//!
//! The variables are those that GitHub's runner, Sekisho's, and what steps start read. A template says
//! otherwise by the same name.

use sekisho_api::{GitHubConnectionSpec, ProxySettings};
use serde_json::{Value, json};

use crate::base::{env, push};
use crate::{CA_KEY, JIT_FOLDER, PROXY_KEY};

/// The authorities that are public, in every image that has any.
const PUBLIC_AUTHORITIES: &str = "/etc/ssl/certs";
/// What no proxy is asked for: the pod itself, and services of the cluster.
const DIRECT: &[&str] = &["localhost", "127.0.0.1", "::1", ".svc", ".cluster.local"];

/// What of a connection is a runner's too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reach<'a> {
    /// The secret of the runner has authorities, which are trusted beside the public ones.
    pub authorities: bool,
    /// The proxy; its credentials are in the secret of the runner.
    pub proxy: Option<&'a ProxySettings>,
}

impl<'a> Reach<'a> {
    /// As a connection says.
    pub fn of(connection: &'a GitHubConnectionSpec) -> Self {
        let authorities = connection.ca_bundle.is_some();
        Self { authorities, proxy: connection.proxy.as_ref() }
    }
}

/// Tells the container `runner`, in the pod whose secret has this name.
pub(crate) fn tell(reach: Reach<'_>, secret: &str, container: &mut Value) {
    if reach.authorities {
        let file = format!("{JIT_FOLDER}/{CA_KEY}");
        // Whoever knows the first two takes both. Node.js and git add their file to what they have.
        env(container, "SSL_CERT_FILE", &file);
        env(container, "SSL_CERT_DIR", PUBLIC_AUTHORITIES);
        env(container, "NODE_EXTRA_CA_CERTS", &file);
        env(container, "GIT_SSL_CAINFO", &file);
    }
    let Some(proxy) = reach.proxy else { return };
    for name in ["https_proxy", "http_proxy"] {
        match &proxy.credentials_secret_ref {
            None => env(container, name, &proxy.url),
            Some(_) => {
                let from = json!({ "secretKeyRef": { "name": secret, "key": PROXY_KEY } });
                push(&mut container["env"], json!({ "name": name, "valueFrom": from }));
            }
        }
    }
    let direct = DIRECT.iter().copied().chain(proxy.no_proxy.iter().map(String::as_str));
    env(container, "no_proxy", &direct.collect::<Vec<_>>().join(","));
}
