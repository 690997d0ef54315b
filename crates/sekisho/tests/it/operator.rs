//! `sekisho operator run` on an API server in memory.

use std::fmt::Debug;
use std::io::{BufRead as _, BufReader};
use std::process::Child;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use sekisho_api::{RunnerClass, RunnerDeployment, condition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::kubeconfig;
use crate::support::{Started, World, signal};

pub(crate) async fn create<K>(api: Api<K>, object: Value)
where
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

pub(crate) fn namespaced<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), namespace)
}

/// A namespace with a deployment whose connection does not exist.
async fn deployment(client: &Client, namespace: &str) {
    create::<Namespace>(Api::all(client.clone()), json!({ "metadata": { "name": namespace } }))
        .await;
    let object = json!({
        "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "RunnerDeployment",
        "metadata": { "name": "images" },
        "spec": {
            "connectionRef": "nowhere", "classRef": "default", "group": "Default",
            "labels": ["images"], "replicas": 1
        }
    });
    create::<RunnerDeployment>(namespaced(client, namespace), object).await;
}

/// Reads its log until a line with this message.
fn log_line(child: &mut Child, message: &str) -> Value {
    let lines = BufReader::new(child.stderr.as_mut().unwrap()).lines();
    for line in lines {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["message"] == message {
            return line;
        }
    }
    panic!("the log ended before `{message}`");
}

/// The reason of `Ready`, once there is one.
async fn reason(deployments: &Api<RunnerDeployment>) -> String {
    loop {
        let found = deployments.get("images").await.unwrap();
        let conditions = found.status.map(|status| status.conditions).unwrap_or_default();
        if let Some(ready) = condition::find(&conditions, condition::READY) {
            return ready.reason.clone();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_works_on_its_namespaces_until_it_is_told_to_stop() {
    // Another test may have done so.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = testkit::ApiServer::new();
    let served = server.serve("operator").await.unwrap();
    let client = server.client("test");
    create::<RunnerClass>(
        Api::all(client.clone()),
        json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "RunnerClass",
            "metadata": { "name": "default" }, "spec": {}
        }),
    )
    .await;
    for namespace in ["ours", "ours-too", "foreign"] {
        deployment(&client, namespace).await;
    }
    let world = World::new();
    let kubeconfig = kubeconfig(&world, "kubeconfig", &served.url(), &json!({}));

    let arguments = "operator run --namespace ours --namespace ours-too --identity one \
                     --listen 127.0.0.1:0 --output json";
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    let mut command = world.command(&arguments);
    let mut running = Started::new(command.env("KUBECONFIG", &kubeconfig));
    let ready = log_line(&mut running, "the operator is ready");
    assert_eq!(ready["identity"], "one");
    let admin = format!("http://{}", ready["admin"].as_str().unwrap());
    let get = async |path: &str| {
        reqwest::get(format!("{admin}{path}")).await.unwrap().text().await.unwrap()
    };
    assert_eq!(get("/readyz").await, "ok");
    assert_eq!(get("/livez").await, "ok");

    for namespace in ["ours", "ours-too"] {
        let reason = reason(&namespaced(&client, namespace)).await;
        assert_eq!(reason, "ConnectionNotFound", "{namespace}");
    }
    assert!(get("/metrics").await.contains("sekisho_"));
    let foreign = namespaced::<RunnerDeployment>(&client, "foreign").get("images").await.unwrap();
    assert_eq!(foreign.status, None);

    signal(&running, "TERM");
    let said = running.finish().exits(0);
    assert_eq!(said.stdout, "");
}

#[test]
fn a_cluster_that_is_not_there_is_said() {
    let world = World::new();
    let said = world.sekisho(&["operator", "run"]).exits(1);
    said.says(&["finding the cluster", "KUBECONFIG"]);
    let said = world.sekisho(&["operator", "run", "--namespace", "Not_A_Name"]).exits(2);
    said.says(&["Not_A_Name"]);
}
