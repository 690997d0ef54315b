//! How a runner reaches GitHub: as its connection does.

use k8s_openapi::api::core::v1::Pod;
use sekisho_api::{GitHubConnectionSpec, PodTemplate, TrustZone};
use sekisho_pods::{Cluster, Given, Reach, RunnerPod, jit_secret};
use serde_json::{Value, json};

use crate::{class, named, of_env, spec};

fn connection(more: &Value) -> GitHubConnectionSpec {
    let mut connection = json!({ "url": "https://ghe.acme.test/acme", "auth": {} });
    connection.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(connection).unwrap()
}

#[track_caller]
fn pod_of(connection: &GitHubConnectionSpec, class_spec: Value, template: Value) -> Pod {
    sekisho_pods::pod(&RunnerPod {
        name: "image-build-7c9f-abcde",
        namespace: "ci",
        uid: "11111111-2222-3333-4444-555555555555",
        revision: "7c9f",
        spec: &spec(TrustZone::PullRequest),
        class: &class(class_spec),
        template: &PodTemplate { metadata: None, spec: Some(template) },
        cluster: Cluster::of_version("1", "34+"),
        reach: Reach::of(connection),
    })
    .unwrap()
}

fn variables(pod: &Pod) -> Vec<(String, Option<String>)> {
    let runner = named(&pod.spec.as_ref().unwrap().containers, "runner");
    let all = runner.env.iter().flatten();
    let told = |name: &str| {
        ["proxy", "SSL_CERT", "CA_CERTS", "CAINFO"].iter().any(|part| name.contains(part))
    };
    all.filter(|it| told(&it.name)).map(|it| (it.name.clone(), it.value.clone())).collect()
}

const FILE: &str = "/run/sekisho/jit/ca.crt";

#[test]
fn a_runner_trusts_and_asks_whom_its_connection_names() {
    let connection = connection(&json!({
        "caBundle": "-----BEGIN CERTIFICATE-----",
        "proxy": { "url": "http://proxy.acme.test:3128", "noProxy": ["acme.test", "10.0.0.0/8"] }
    }));
    let own = json!({ "runner": { "flavor": "Sekisho", "image": "registry.example/runner:1" } });
    let docker = json!({
        "container": { "mode": "DockerSidecar" }, "security": { "profile": "Privileged" }
    });
    for class in [json!({}), own, docker] {
        let pod = pod_of(&connection, class, json!({}));
        let want = [
            ("SSL_CERT_FILE", FILE),
            ("SSL_CERT_DIR", "/etc/ssl/certs"),
            ("NODE_EXTRA_CA_CERTS", FILE),
            ("GIT_SSL_CAINFO", FILE),
            ("https_proxy", "http://proxy.acme.test:3128"),
            ("http_proxy", "http://proxy.acme.test:3128"),
            ("no_proxy", "localhost,127.0.0.1,::1,.svc,.cluster.local,acme.test,10.0.0.0/8"),
        ];
        let want = want.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
        assert_eq!(variables(&pod), want);
    }
}

#[test]
fn a_connection_without_them_says_nothing() {
    let pod = pod_of(&connection(&json!({})), json!({}), json!({}));
    assert_eq!(variables(&pod), []);
}

#[test]
fn a_proxys_password_is_in_the_runners_secret_and_not_in_its_pod() {
    let credentials = json!({ "name": "proxy", "key": "credentials" });
    let connection = connection(&json!({
        "proxy": { "url": "http://proxy.acme.test:3128", "credentialsSecretRef": credentials }
    }));
    let mut pod = pod_of(&connection, json!({}), json!({}));
    let runner = serde_json::to_value(&pod.spec.as_ref().unwrap().containers[0]).unwrap();
    for name in ["https_proxy", "http_proxy"] {
        let all = runner["env"].as_array().unwrap();
        let it = all.iter().find(|it| it["name"] == name).unwrap();
        let from = json!({ "name": "image-build-7c9f-abcde", "key": "proxy" });
        assert_eq!(it["valueFrom"], json!({ "secretKeyRef": from }), "{name}");
        assert_eq!(it.get("value"), None, "{name}");
    }
    pod.metadata.uid = Some("pod-uid".to_owned());
    let (jit, proxy) = ("blob".into(), "http://user:pw@proxy.acme.test:3128/".into());
    let given = Given { jit: &jit, authorities: Some("PEM"), proxy: Some(&proxy) };
    let data = jit_secret(&pod.metadata, &given).unwrap().data.unwrap();
    let data: Vec<(&str, &[u8])> =
        data.iter().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
    let proxy = b"http://user:pw@proxy.acme.test:3128/".as_slice();
    assert_eq!(data, [("ca.crt", b"PEM".as_slice()), ("jitconfig", b"blob"), ("proxy", proxy)]);
}

#[test]
fn a_template_says_otherwise_by_the_same_name() {
    let connection = connection(&json!({
        "caBundle": "-----BEGIN CERTIFICATE-----", "proxy": { "url": "http://proxy:3128" }
    }));
    let other = [("https_proxy", "http://other:1"), ("SSL_CERT_FILE", "/etc/ssl/own.pem")];
    let env = other.map(|(name, value)| json!({ "name": name, "value": value }));
    let template = json!({ "containers": [{ "name": "runner", "env": env }] });
    let pod = pod_of(&connection, json!({}), template);
    let runner = named(&pod.spec.as_ref().unwrap().containers, "runner");
    for (name, value) in other {
        assert_eq!(of_env(runner, name).as_deref(), Some(value));
    }
    assert_eq!(of_env(runner, "http_proxy").as_deref(), Some("http://proxy:3128"));
}
