//! GitHubConnection: where GitHub is, and how to sign in there.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;

/// Where GitHub is, and how to sign in.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "runners.sekisho.dev",
    version = "v1alpha1",
    kind = "GitHubConnection",
    plural = "githubconnections",
    namespaced,
    status = "GitHubConnectionStatus",
    derive = "PartialEq",
    shortname = "ghc",
    category = "sekisho",
    doc = "Where GitHub is, and how to sign in.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct GitHubConnectionSpec {
    /// The organization, repository or enterprise whose jobs are taken, as in a browser:
    /// `https://github.com/acme`, `https://github.com/acme/app`,
    /// `https://github.com/enterprises/acme`, or the same on a GitHub Enterprise Server.
    #[schemars(length(min = 10, max = 512))]
    #[x_kube(
        validation = Rule::new("self.startsWith('https://') || self.matches('^http://(127[.]0[.]0[.]1|localhost|[a-z0-9.-]+[.]svc([.]cluster[.]local)?)(:[0-9]+)?/')").message("url must begin with https://; http:// is for loopback and for services of this cluster (`name.namespace.svc`)"),
        validation = Rule::new("self.matches('^https?://[^/?#@]+/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$')").message("url must name an organization, a repository or an enterprise: https://github.com/acme, https://github.com/acme/app or https://github.com/enterprises/acme; without credentials, query or a slash at its end"),
        validation = Rule::new("self == oldSelf").message("url cannot be changed: runners are registered there; create another GitHubConnection")
    )]
    pub url: String,
    /// How to sign in.
    pub auth: Auth,
    /// GitHub's webhooks for it, which have the queue of runners that are registered one by one read at
    /// once. Without them it is polled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// Authorities that are trusted beside the public ones, in PEM: those of a GitHub Enterprise Server with
    /// certificates of its own, or of a proxy that opens TLS. The operator trusts them, and so do the runners:
    /// see `docs/operator.md`, "Behind a proxy".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144))]
    #[x_kube(validation = Rule::new("self.contains('-----BEGIN CERTIFICATE-----')").message("caBundle must be certificates in PEM: -----BEGIN CERTIFICATE-----"))]
    pub ca_bundle: Option<String>,
    /// The proxy by which the operator and the runners reach GitHub; without it, what the operator's environment
    /// says, and nothing for runners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxySettings>,
}

/// A proxy.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxySettings {
    /// Where it is: `http://proxy.acme.test:3128`.
    #[schemars(length(min = 8, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^https?://[^/?#@]+/?$')").message("proxy.url must be http://HOST:PORT or https://HOST:PORT; a user and a password belong into the secret of proxy.credentialsSecretRef"))]
    pub url: String,
    /// Where user and password are, where it asks for them: `user:password` under one key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretKeyRef>,
    /// Hosts that are reached without it: names, each with those below it, addresses and networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new("self.all(host, !host.contains(','))").message("proxy.noProxy has one host in each entry"))]
    pub no_proxy: Vec<String>,
}

/// Webhooks that GitHub sends to the operator: `POST /webhooks/NAMESPACE/CONNECTION`.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Where the secret is that GitHub signs them with.
    pub secret_ref: SecretKeyRef,
}

/// How to sign in: exactly one of its fields.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.app) != has(self.token)").message("auth must have exactly one of `app` and `token`"))]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// As a GitHub App; its tokens live for an hour and have only the App's permissions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<AppAuth>,
    /// With a token of a person, where no App can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenAuth>,
}

/// A GitHub App.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppAuth {
    /// The App's client id (`Iv23li...`) or its number.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub client_id: String,
    /// The installation; found by the account of `url` when it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub installation_id: Option<i64>,
    /// Where its private key is, in PEM.
    pub private_key_secret_ref: SecretKeyRef,
}

/// A token of a person.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenAuth {
    /// Where the token is.
    pub secret_ref: SecretKeyRef,
}

/// One key of a secret in the same namespace.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What the operator found out about a connection.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GitHubConnectionStatus {
    /// The generation of the spec that the conditions are about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::condition::schema")]
    pub conditions: Vec<Condition>,
}
