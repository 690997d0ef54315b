//! The player of the cluster, on the double and on a real API server.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota, Secret};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use testkit::{ApiServer, Cluster, ClusterOptions, Containers, Ending, PodRun, RealServer};

/// Ends with the code that its secret holds; without one, when it is told to stop.
struct Echo;

impl Containers for Echo {
    fn run(&self, run: PodRun) -> std::pin::Pin<Box<dyn Future<Output = Ending> + Send>> {
        Box::pin(async move {
            if let Some(code) = run.env.get("CODE") {
                return Ending::Exit(code.parse().unwrap());
            }
            run.stop.cancelled().await;
            Ending::Exit(0)
        })
    }
}

fn pod(name: &str, secret: Option<&str>, owner: Option<Value>) -> Pod {
    let env = secret.map(|name| json!([{ "name": "CODE", "valueFrom": { "secretKeyRef": { "name": name, "key": "code" } } }]));
    serde_json::from_value(json!({
        "metadata": { "name": name, "ownerReferences": owner.map(|it| vec![it]) },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "runner", "image": "r", "env": env }] }
    }))
    .unwrap()
}

async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    for _ in 0..1200 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not happen");
}

async fn phase(api: &Api<Pod>, name: &str, want: &str) -> Pod {
    until(&format!("{name} {want}"), || async {
        let pod = api.get_opt(name).await.unwrap()?;
        let is = pod.status.as_ref().unwrap().phase.as_deref() == Some(want);
        is.then_some(pod)
    })
    .await
}

async fn gone(api: &Api<Pod>, name: &str) {
    until(&format!("the end of {name}"), || async {
        api.get_opt(name).await.unwrap().is_none().then_some(())
    })
    .await;
}

async fn play(client: Client) {
    let cluster =
        Cluster::start(client.clone(), ClusterOptions::default(), Arc::new(Echo)).await.unwrap();
    let params = PostParams::default();
    let namespace = Namespace {
        metadata: kube::api::ObjectMeta { name: Some("play".into()), ..Default::default() },
        ..Default::default()
    };
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&params, &namespace).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "play");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "play");

    // A pod waits for its secret, runs, and ends.
    pods.create(&params, &pod("waits", Some("late"), None)).await.unwrap();
    pods.create(&params, &pod("runs", None, None)).await.unwrap();
    let runs = phase(&pods, "runs", "Running").await;
    assert_eq!(pods.get("waits").await.unwrap().status.unwrap().phase.as_deref(), Some("Pending"));
    let secret: Secret = serde_json::from_value(
        json!({ "metadata": { "name": "late" }, "stringData": { "code": "3" } }),
    )
    .unwrap();
    secrets.create(&params, &secret).await.unwrap();
    let ended = phase(&pods, "waits", "Failed").await.status.unwrap().container_statuses.unwrap();
    let state = ended[0].state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((state.exit_code, state.reason.as_deref()), (3, Some("Error")));

    // What it owned goes with it, and it is told to stop first.
    let owner = json!({ "apiVersion": "v1", "kind": "Pod", "name": "runs", "uid": runs.uid() });
    pods.create(&params, &pod("owned", None, Some(owner))).await.unwrap();
    phase(&pods, "owned", "Running").await;
    pods.delete("runs", &DeleteParams::default()).await.unwrap();
    gone(&pods, "runs").await;
    gone(&pods, "owned").await;

    // A node that is lost keeps its pods until it is removed.
    pods.create(&params, &pod("lost", None, None)).await.unwrap();
    let lost = phase(&pods, "lost", "Running").await;
    let node = lost.spec.unwrap().node_name.unwrap();
    cluster.lose_node(&node).await.unwrap();
    let marked = pods.get("lost").await.unwrap();
    assert!(marked.metadata.deletion_timestamp.is_some());
    cluster.remove_node(&node).await.unwrap();
    gone(&pods, "lost").await;

    quota_and_end(&client, &pods).await;
    assert_eq!(cluster.running(), [""; 0]);
}

async fn quota_and_end(client: &Client, pods: &Api<Pod>) {
    let params = PostParams::default();
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), "play");
    let quota: ResourceQuota = serde_json::from_value(
        json!({ "metadata": { "name": "q" }, "spec": { "hard": { "pods": "1" } } }),
    )
    .unwrap();
    quotas.create(&params, &quota).await.unwrap();
    // Until the quota is counted, nothing is admitted; then one pod is.
    until("one pod within the quota", || async {
        pods.create(&params, &pod("first", None, None)).await.ok()
    })
    .await;
    // A real server admits by a copy of the quota that may be a moment old.
    let refusal = until("a refusal", || async {
        match pods.create(&params, &pod("second", None, None)).await {
            Err(kube::Error::Api(status)) if status.code == 403 => Some(status.message.clone()),
            _ => {
                drop(pods.delete("second", &DeleteParams::default().grace_period(0)).await);
                None
            }
        }
    })
    .await;
    assert!(refusal.contains("exceeded quota: q"), "{refusal}");
    phase(pods, "first", "Running").await;
    pods.delete("first", &DeleteParams::default()).await.unwrap();
    until("room in the quota", || async {
        pods.create(&params, &pod("second", None, None)).await.ok()
    })
    .await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete("play", &DeleteParams::default()).await.unwrap();
    until("the end of the namespace", || async {
        namespaces.get_opt("play").await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(pods.get_opt("second").await.unwrap().is_none());
}

#[tokio::test]
async fn a_cluster_on_the_double() {
    Box::pin(play(ApiServer::new().client("test"))).await;
}

#[tokio::test]
async fn cluster_on_a_real_api_server() {
    let Some(server) = RealServer::start().await.unwrap() else { return };
    Box::pin(play(server.client().unwrap())).await;
}
