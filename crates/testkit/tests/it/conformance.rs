//! One table of API scenarios: on the double, and on a real API server where there is one.

mod applying;
mod reading;

use std::pin::Pin;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use kube::{Api, Client, ResourceExt as _};
use sekisho_api::{Runner, RunnerDeployment, RunnerReplicaSet};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testkit::{ApiServer, RealServer};

use applying::{apply_and_conflicts, apply_conditions, apply_gives_up_what_it_leaves_out};
use reading::{
    create_and_read, lists_and_pages, metadata_alone, names_and_versions, selectors,
    watch_from_a_version, watch_with_a_selector,
};

type Scenario = fn(Client, String) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        const SCENARIOS: &[(&str, Scenario)] =
            &[$((stringify!($name), |client, namespace| Box::pin($name(client, namespace)))),*];
    };
}

scenarios![
    create_and_read,
    names_and_versions,
    lists_and_pages,
    selectors,
    watch_from_a_version,
    watch_with_a_selector,
    merge_and_json_patch,
    status_is_apart,
    generation,
    scale,
    apply_and_conflicts,
    apply_gives_up_what_it_leaves_out,
    apply_conditions,
    finalizers_and_deletion,
    grace_of_pods,
    bad_objects,
    leases,
    dry_run,
    namespaces_that_end,
    metadata_alone,
];

async fn run(client: Client, whose: &str) {
    let mut failed = Vec::new();
    for (index, (name, scenario)) in SCENARIOS.iter().enumerate() {
        let namespace = format!("conformance-{index}");
        let made = object::<Namespace>(json!({ "metadata": { "name": namespace } }));
        Api::all(client.clone()).create(&PostParams::default(), &made).await.unwrap();
        #[expect(clippy::print_stderr, reason = "which one fails, and where")]
        {
            eprintln!("{whose}: {name}");
        }
        if tokio::spawn(scenario(client.clone(), namespace)).await.is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "{whose}: {failed:?}");
}

#[tokio::test]
async fn on_the_double() {
    run(ApiServer::new().client("test"), "double").await;
}

#[tokio::test]
async fn on_the_double_over_the_network() {
    let served = ApiServer::new().serve("test").await.unwrap();
    run(served.client().unwrap(), "double over loopback").await;
}

#[tokio::test]
async fn cluster_on_a_real_api_server() {
    let Some(server) = RealServer::start().await.unwrap() else { return };
    run(server.client().unwrap(), "real").await;
}

#[track_caller]
fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn config_map(name: &str, data: &Value) -> ConfigMap {
    object(json!({ "metadata": { "name": name, "labels": { "app": name } }, "data": data }))
}

fn runner(name: &str) -> Runner {
    object(json!({
        "apiVersion": "runners.sekisho.dev/v1alpha1",
        "kind": "Runner",
        "metadata": { "name": name },
        "spec": {
            "deployment": "d", "connectionRef": "c", "classRef": "k", "mode": "ScaleSet",
            "group": "Default", "labels": ["x"], "trustZone": "PullRequest"
        }
    }))
}

fn pod(name: &str) -> Pod {
    object(json!({
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "runner", "image": "r" }], "terminationGracePeriodSeconds": 7 }
    }))
}

/// Status and reason of a refusal.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String, String) {
    match result.unwrap_err() {
        kube::Error::Api(status) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("{other}"),
    }
}

#[track_caller]
fn check_refused<T: std::fmt::Debug>(result: kube::Result<T>, code: u16, reason: &str) {
    let (got, why, message) = refused(result);
    assert_eq!((got, why.as_str()), (code, reason), "{message}");
}

async fn merge_and_json_patch(client: Client, namespace: String) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let map = config_map("a", &json!({ "x": "1", "y": "2" }));
    let made = api.create(&PostParams::default(), &map).await.unwrap();
    let params = PatchParams::default();
    let patch = Patch::Merge(json!({ "data": { "x": null, "z": "3" } }));
    let merged = api.patch("a", &params, &patch).await.unwrap();
    assert_eq!(json!(merged.data), json!({ "y": "2", "z": "3" }));
    let version = made.resource_version();
    let stale = Patch::Merge(json!({ "metadata": { "resourceVersion": version }, "data": {} }));
    check_refused(api.patch("a", &params, &stale).await, 409, "Conflict");
    let json_patch = |operations: Value| -> Patch<Value> {
        Patch::Json(serde_json::from_value(operations).unwrap())
    };
    let patch: Patch<Value> = json_patch(json!([
        { "op": "test", "path": "/data/y", "value": "2" },
        { "op": "replace", "path": "/data/y", "value": "4" }
    ]));
    assert_eq!(json!(api.patch("a", &params, &patch).await.unwrap().data)["y"], json!("4"));
    check_refused(api.patch("a", &params, &patch).await, 422, "Invalid");
    check_refused(api.patch("none", &params, &stale).await, 404, "NotFound");
}

async fn status_is_apart(client: Client, namespace: String) {
    let api: Api<Runner> = Api::namespaced(client, &namespace);
    let mut new = runner("r");
    new.status = Some(object(json!({ "pod": { "uid": "u" } })));
    let made = api.create(&PostParams::default(), &new).await.unwrap();
    assert_eq!(made.status, None);
    let both = json!({
        "metadata": { "labels": { "a": "b" } },
        "spec": { "deployment": "other" },
        "status": { "registration": { "id": 7 } }
    });
    let written =
        api.patch_status("r", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!(written.spec, made.spec);
    assert!(written.metadata.labels.is_none());
    assert_eq!(written.status.unwrap().registration.unwrap().id, 7);
    let labels = json!({ "metadata": { "labels": { "a": "b" } }, "status": { "registration": { "id": 8 } } });
    let written = api.patch("r", &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
    assert_eq!(written.labels()["a"], "b");
    assert_eq!(written.status.unwrap().registration.unwrap().id, 7);
    let missing = api.patch_status("q", &PatchParams::default(), &Patch::Merge(&both)).await;
    check_refused(missing, 404, "NotFound");
}

fn replica_set(name: &str) -> RunnerReplicaSet {
    object(json!({
        "apiVersion": "runners.sekisho.dev/v1alpha1",
        "kind": "RunnerReplicaSet",
        "metadata": { "name": name },
        "spec": { "replicas": 1, "revision": "one", "runner": runner("r").spec }
    }))
}

async fn generation(client: Client, namespace: String) {
    let api: Api<RunnerReplicaSet> = Api::namespaced(client, &namespace);
    let made = api.create(&PostParams::default(), &replica_set("s")).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    let params = PatchParams::default();
    let status = Patch::Merge(json!({ "status": { "nextNumber": 3 } }));
    let written = api.patch_status("s", &params, &status).await.unwrap();
    assert_eq!(written.metadata.generation, Some(1));
    let label = Patch::Merge(json!({ "metadata": { "labels": { "a": "b" } } }));
    assert_eq!(api.patch("s", &params, &label).await.unwrap().metadata.generation, Some(1));
    let spec = Patch::Merge(json!({ "spec": { "replicas": 2 } }));
    assert_eq!(api.patch("s", &params, &spec).await.unwrap().metadata.generation, Some(2));
    // The schema's defaults are filled in.
    assert_eq!(made.spec.runner.lifecycle.pending_timeout_seconds, 600);
}

async fn scale(client: Client, namespace: String) {
    let api: Api<RunnerReplicaSet> = Api::namespaced(client, &namespace);
    api.create(&PostParams::default(), &replica_set("s")).await.unwrap();
    let status = json!({ "status": { "selector": "a=b", "runners": { "live": 5 } } });
    let params = PatchParams::default();
    api.patch_status("s", &params, &Patch::Merge(status)).await.unwrap();
    let patch = Patch::Merge(json!({ "spec": { "replicas": 4 } }));
    let scaled = api.patch_scale("s", &params, &patch).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(4));
    let shown = api.get_scale("s").await.unwrap();
    let status = shown.status.unwrap();
    assert_eq!((status.replicas, status.selector.as_deref()), (5, Some("a=b")));
    let set = api.get("s").await.unwrap();
    assert_eq!((set.spec.replicas, set.metadata.generation), (4, Some(2)));
}

async fn finalizers_and_deletion(client: Client, namespace: String) {
    let api: Api<Runner> = Api::namespaced(client, &namespace);
    let mut new = runner("r");
    new.metadata.finalizers = Some(vec!["a.example/one".to_owned(), "a.example/two".to_owned()]);
    let made = api.create(&PostParams::default(), &new).await.unwrap();
    let other = Preconditions { uid: Some("other".to_owned()), resource_version: None };
    let params = DeleteParams { preconditions: Some(other), ..Default::default() };
    check_refused(api.delete("r", &params).await, 409, "Conflict");
    let deleted = api.delete("r", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert!(deleted.metadata.deletion_timestamp.is_some());
    assert_eq!(deleted.metadata.generation, Some(2));
    let again = api.delete("r", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(again.metadata.deletion_timestamp, deleted.metadata.deletion_timestamp);
    let finalizers = |list: &[&str]| Patch::Merge(json!({ "metadata": { "finalizers": list } }));
    let patch = PatchParams::default();
    let more = finalizers(&["a.example/one", "a.example/two", "a.example/three"]);
    check_refused(api.patch("r", &patch, &more).await, 422, "Invalid");
    api.patch("r", &patch, &finalizers(&["a.example/one"])).await.unwrap();
    assert!(api.get_opt("r").await.unwrap().is_some());
    let last = api.patch("r", &patch, &finalizers(&[])).await.unwrap();
    assert_eq!(last.uid(), made.uid());
    assert!(api.get_opt("r").await.unwrap().is_none());
    check_refused(api.delete("r", &DeleteParams::default()).await, 404, "NotFound");
    api.create(&PostParams::default(), &runner("r")).await.unwrap();
    let status = api.delete("r", &DeleteParams::default()).await.unwrap().right().unwrap();
    assert!(status.is_success());
}

async fn grace_of_pods(client: Client, namespace: String) {
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let params = PostParams::default();
    // Without a node it is gone at once.
    api.create(&params, &pod("unbound")).await.unwrap();
    api.delete("unbound", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("unbound").await.unwrap().is_none());
    api.create(&params, &pod("a")).await.unwrap();
    let binding = object::<k8s_openapi::api::core::v1::Binding>(
        json!({ "metadata": { "name": "a" }, "target": { "kind": "Node", "name": "n" } }),
    );
    let bound: Value = api.create_subresource("binding", "a", &params, &binding).await.unwrap();
    assert_eq!(bound["status"], json!("Success"));
    let again: kube::Result<Value> =
        api.create_subresource("binding", "a", &params, &binding).await;
    check_refused(again, 409, "Conflict");
    assert_eq!(api.get("a").await.unwrap().spec.unwrap().node_name.as_deref(), Some("n"));
    let going = api.delete("a", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(going.metadata.deletion_grace_period_seconds, Some(7));
    let sooner = api.delete("a", &DeleteParams::default().grace_period(3)).await.unwrap();
    assert_eq!(sooner.left().unwrap().metadata.deletion_grace_period_seconds, Some(3));
    let later = api.delete("a", &DeleteParams::default().grace_period(60)).await.unwrap();
    assert_eq!(later.left().unwrap().metadata.deletion_grace_period_seconds, Some(3));
    let uid = going.uid();
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid, resource_version: None }),
        ..Default::default()
    };
    api.delete("a", &params).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

async fn bad_objects(client: Client, namespace: String) {
    let params = PostParams::default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let mut bad = pod("a");
    if let Some(spec) = &mut bad.spec {
        spec.containers[0].image = None;
    }
    check_refused(pods.create(&params, &bad).await, 422, "Invalid");
    let made = pods.create(&params, &pod("a")).await.unwrap();
    let moved = Patch::Merge(json!({ "spec": { "restartPolicy": "Never" } }));
    check_refused(pods.patch("a", &PatchParams::default(), &moved).await, 422, "Invalid");
    assert_eq!(made.spec.unwrap().restart_policy.as_deref(), Some("Always"));
    let kind = ApiResource::erase::<RunnerDeployment>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &kind);
    let deployment = |spec: Value| -> DynamicObject {
        object(
            json!({ "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "RunnerDeployment", "metadata": { "name": "d" }, "spec": spec }),
        )
    };
    for (spec, about) in [
        (json!({ "connectionRef": "c", "classRef": "k", "replicas": 1 }), "spec.labels"),
        (
            json!({ "connectionRef": 7, "classRef": "k", "labels": ["x"], "replicas": 1 }),
            "spec.connectionRef",
        ),
        (
            json!({ "connectionRef": "c", "classRef": "k", "labels": ["x"], "replicas": -1 }),
            "spec.replicas",
        ),
        (
            json!({ "connectionRef": "c", "classRef": "k", "labels": [], "replicas": 1 }),
            "spec.labels",
        ),
        (
            json!({ "connectionRef": "c", "classRef": "k", "labels": ["x"], "replicas": 1, "trustZone": "None" }),
            "spec.trustZone",
        ),
    ] {
        let (code, reason, message) = refused(api.create(&params, &deployment(spec)).await);
        assert_eq!((code, reason.as_str()), (422, "Invalid"));
        assert!(message.contains(about), "{message}");
    }
    let spec = json!({ "connectionRef": "c", "classRef": "k", "labels": ["x"], "replicas": 1, "unknown": 1 });
    let made = api.create(&params, &deployment(spec)).await.unwrap();
    assert_eq!(made.data["spec"].get("unknown"), None);
    assert_eq!(made.data["spec"]["group"], json!("Default"));
}

async fn leases(client: Client, namespace: String) {
    let api: Api<Lease> = Api::namespaced(client, &namespace);
    let lease = |holder: &str| -> Lease {
        object(
            json!({ "metadata": { "name": "l" }, "spec": { "holderIdentity": holder, "leaseDurationSeconds": 10 } }),
        )
    };
    let params = PostParams::default();
    let made = api.create(&params, &lease("one")).await.unwrap();
    let mut mine = made.clone();
    mine.spec = lease("two").spec;
    api.replace("l", &params, &mine).await.unwrap();
    check_refused(api.replace("l", &params, &mine).await, 409, "Conflict");
}

async fn dry_run(client: Client, namespace: String) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let params = PostParams { dry_run: true, ..Default::default() };
    api.create(&params, &config_map("a", &json!({}))).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

async fn namespaces_that_end(client: Client, namespace: String) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    let going = namespaces.get(&namespace).await.unwrap();
    assert_eq!(going.status.unwrap().phase.as_deref(), Some("Terminating"));
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let refusal = api.create(&PostParams::default(), &config_map("a", &json!({}))).await;
    let kube::Error::Api(status) = refusal.unwrap_err() else { panic!() };
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    let causes = status.details.unwrap().causes;
    assert!(causes.iter().any(|cause| cause.reason == "NamespaceTerminating"));
}
