//! `sekisho migrate arc`: of files, of a chart's values, and of a cluster that has ARC's objects.

use std::process::Stdio;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use testkit::{ApiServer, RealServer};

use crate::cluster::{kubeconfig, until};
use crate::operator::{create, namespaced};
use crate::support::{Said, World};

const LEGACY: &str = "\
apiVersion: actions.summerwind.dev/v1alpha1
kind: RunnerDeployment
metadata: { name: image-build, namespace: ci }
spec:
  template:
    spec:
      organization: acme
      labels: [image]
      dockerEnabled: false
---
apiVersion: actions.summerwind.dev/v1alpha1
kind: HorizontalRunnerAutoscaler
metadata: { name: image-build, namespace: ci }
spec:
  scaleTargetRef: { kind: RunnerDeployment, name: image-build }
  minReplicas: 1
  maxReplicas: 20
";

const SCALE_SET: &str = "\
apiVersion: actions.github.com/v1alpha1
kind: AutoscalingRunnerSet
metadata: { name: gpu, namespace: ci }
spec:
  githubConfigUrl: https://github.com/acme
  githubConfigSecret: app-secret
  maxRunners: 5
  template:
    spec:
      containers: [{ name: runner, image: 'ghcr.io/actions/actions-runner:2.336.0' }]
";

fn kinds(manifests: &Value) -> Vec<(String, String)> {
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let all = manifests.as_array().unwrap().iter();
    all.map(|it| (text(&it["kind"]), text(&it["metadata"]["name"]))).collect()
}

#[track_caller]
fn has(manifests: &Value, kind: &str, name: &str) -> Value {
    let all = manifests.as_array().unwrap();
    let found = all.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} in {:?}", kinds(manifests))).clone()
}

#[test]
fn files_of_both_modes_become_manifests_and_each_field_a_line() {
    let world = World::new();
    for (name, text) in [("legacy.yaml", LEGACY), ("set.yaml", SCALE_SET)] {
        fs_err::write(world.folder.path().join(name), text).unwrap();
    }
    let mut command = world.command(&["migrate", "arc", "--app-id", "7", "-f", "legacy.yaml"]);
    let said = Said::of(command.arg("set.yaml").current_dir(world.folder.path()).output().unwrap());
    let said = said.exits(0);
    for kind in ["RunnerClass", "GitHubConnection", "RunnerDeployment"] {
        assert!(said.stdout.contains(&format!("kind: {kind}\n")), "{}", said.stdout);
    }
    let deployments = said.stdout.matches("kind: RunnerDeployment\n").count();
    assert_eq!(deployments, 2, "{}", said.stdout);
    said.says(&[
        "legacy.yaml:8:7: mapped: RunnerDeployment ci/image-build: `spec.template.spec.labels`: \
         acquisition.mode is Registration",
        "set.yaml:6:3: approximated: AutoscalingRunnerSet ci/gpu: `spec.githubConfigSecret`: the App's number",
        "0 blocked",
    ]);
    // The same of standard input, for a program.
    let mut command = world.command(&["migrate", "arc", "-f", "-", "--output", "json"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), SCALE_SET.as_bytes()).unwrap();
    let answer = Said::of(child.wait_with_output().unwrap()).exits(0).json();
    assert_eq!(answer["schemaVersion"], 1);
    let deployment = has(&answer["manifests"], "RunnerDeployment", "gpu");
    assert_eq!(deployment["spec"]["scaling"], json!({ "max": 5 }));
    let finding = &answer["findings"][0];
    assert_eq!((&finding["path"], &finding["line"].is_u64()), (&json!("-"), &true), "{finding}");
}

#[test]
fn values_of_the_chart_become_the_set_of_their_release() {
    let world = World::new();
    let path = world.folder.path().join("values.yaml");
    let values = "githubConfigUrl: https://github.com/acme\ngithubConfigSecret: app-secret\n\
                  minRunners: 2\ncontainerMode: { type: dind }\n";
    fs_err::write(&path, values).unwrap();
    let path = path.to_str().unwrap();
    let arguments = ["migrate", "arc", "--helm-values", path, "--release", "build", "--output"];
    let answer = world.sekisho(&[&arguments[..], &["json"]].concat()).exits(0).json();
    let deployment = has(&answer["manifests"], "RunnerDeployment", "build");
    assert_eq!(deployment["spec"]["labels"], json!(["build"]));
    assert_eq!(deployment["spec"]["scaling"]["idle"], 2);
}

#[test]
fn what_is_wrong_has_its_exit_code_and_a_sentence() {
    let world = World::new();
    let file = |name: &str, text: &str| {
        let path = world.folder.path().join(name);
        fs_err::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let arc = |arguments: &[&str]| world.sekisho(&[&["migrate", "arc"], arguments].concat());
    let blocked = format!("{SCALE_SET}      hostNetwork: true\n");
    let blocked = file("blocked.yaml", &blocked);
    arc(&["-f", &blocked]).exits(2).says(&["blocked: AutoscalingRunnerSet ci/gpu", "1 blocked"]);
    let other = file("other.yaml", "kind: ConfigMap\nmetadata: { name: a }\n");
    arc(&["-f", &other]).exits(3);
    arc(&["-f", "not-there.yaml"]).exits(1).says(&["not-there.yaml"]);
    let broken = file("broken.yaml", "kind: Runner\nspec: [\n");
    arc(&["-f", &broken]).exits(1).says(&["broken.yaml:"]);
    arc(&[]).exits(2).says(&["--from-cluster"]);
    arc(&["--from-cluster"]).exits(1).says(&["finding the cluster"]);
}

/// A kind of ARC's as its own definition has it, with all its fields and none of its rules.
fn definition(group: &str, plural: &str, kind: &str) -> Value {
    let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": { "plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                       "listKind": format!("{kind}List") },
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": any }
            }]
        }
    })
}

fn api_of(client: &Client, object: &Value) -> (Api<DynamicObject>, DynamicObject) {
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let types = object.types.clone().unwrap();
    let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
    let api = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    };
    (api, object)
}

async fn apply(client: &Client, object: &Value) -> kube::Result<DynamicObject> {
    let (api, name) = api_of(client, object);
    let params = PatchParams::apply("kubectl").force();
    api.patch(&name.name_any(), &params, &Patch::Apply(object)).await
}

/// ARC's objects, as a cluster has them that ran it.
fn objects() -> Vec<Value> {
    let legacy = "actions.summerwind.dev/v1alpha1";
    let owner = json!({
        "apiVersion": legacy, "kind": "RunnerDeployment", "name": "image-build",
        "uid": "11111111-2222-3333-4444-555555555555"
    });
    let pod = json!({ "spec": { "organization": "acme", "labels": ["image"] } });
    let scaled = json!({ "kind": "RunnerDeployment", "name": "image-build" });
    let image = "ghcr.io/actions/actions-runner:2.336.0";
    let containers = json!([{ "name": "runner", "image": image }]);
    let metadata = |name: &str| json!({ "name": name, "namespace": "ci" });
    let mut owned = metadata("image-build-abcde");
    owned["ownerReferences"] = json!([owner]);
    vec![
        json!({ "apiVersion": legacy, "kind": "RunnerDeployment", "metadata": metadata("image-build"),
                "spec": { "template": pod } }),
        json!({ "apiVersion": legacy, "kind": "RunnerReplicaSet", "metadata": owned,
                "spec": { "template": pod } }),
        json!({ "apiVersion": legacy, "kind": "HorizontalRunnerAutoscaler",
                "metadata": metadata("image-build"),
                "spec": { "scaleTargetRef": scaled, "minReplicas": 1, "maxReplicas": 20 } }),
        json!({ "apiVersion": "actions.github.com/v1alpha1", "kind": "AutoscalingRunnerSet",
                "metadata": metadata("gpu"),
                "spec": { "githubConfigUrl": "https://github.com/acme", "maxRunners": 5,
                          "githubConfigSecret": "app-secret",
                          "template": { "spec": { "containers": containers } } } }),
    ]
}

/// A cluster with both modes of ARC is read, and takes what is made of it.
async fn a_cluster_is_read_and_takes_what_comes_of_it(client: &Client, url: &str, user: &Value) {
    let world = World::new();
    let config = kubeconfig(&world, "kubeconfig", url, user);
    let arc = async |more: &[&str]| {
        let arguments = [&["migrate", "arc", "--from-cluster", "--output", "json"], more].concat();
        let mut command = world.command(&arguments);
        command.env("KUBECONFIG", &config);
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        Said::of(output.unwrap().unwrap())
    };
    // Where neither mode is installed there is nothing to migrate.
    arc(&[]).await.exits(3);
    for (group, plural, kind) in [
        ("actions.summerwind.dev", "runnerdeployments", "RunnerDeployment"),
        ("actions.summerwind.dev", "runnerreplicasets", "RunnerReplicaSet"),
        ("actions.summerwind.dev", "horizontalrunnerautoscalers", "HorizontalRunnerAutoscaler"),
        ("actions.github.com", "autoscalingrunnersets", "AutoscalingRunnerSet"),
    ] {
        let defined: CustomResourceDefinition =
            serde_json::from_value(definition(group, plural, kind)).unwrap();
        create::<CustomResourceDefinition>(Api::all(client.clone()), json!(defined)).await;
    }
    create::<Namespace>(Api::all(client.clone()), json!({ "metadata": { "name": "ci" } })).await;
    let secret = json!({ "metadata": { "name": "app-secret" }, "stringData": { "k": "the-key" } });
    create::<Secret>(namespaced(client, "ci"), secret).await;
    for object in objects() {
        // A kind is known a moment after it is defined.
        until("an object of ARC's", async || apply(client, &object).await.ok()).await;
    }
    let said = arc(&["--app-id", "7"]).await.exits(0);
    assert!(!said.stdout.contains("the-key"), "no secret is read");
    let answer = said.json();
    let manifests = &answer["manifests"];
    let legacy = has(manifests, "RunnerDeployment", "image-build");
    assert_eq!(legacy["spec"]["acquisition"]["mode"], "Registration");
    assert_eq!(
        (&legacy["spec"]["scaling"]["min"], &legacy["spec"]["scaling"]["max"]),
        (&json!(1), &json!(20))
    );
    let set = has(manifests, "RunnerDeployment", "gpu");
    assert_eq!(set["spec"]["labels"], json!(["gpu"]));
    let made = kinds(manifests).into_iter().filter(|it| it.0 == "RunnerDeployment").count();
    assert_eq!(made, 2, "what ARC made itself is not migrated: {:?}", kinds(manifests));
    let findings = answer["findings"].as_array().unwrap();
    let places: Vec<&str> = findings.iter().map(|it| it["path"].as_str().unwrap()).collect();
    for place in ["runnerdeployments/ci/image-build", "autoscalingrunnersets/ci/gpu"] {
        assert!(places.contains(&place), "{places:?}");
    }
    for manifest in manifests.as_array().unwrap() {
        let taken = apply(client, manifest).await;
        assert!(taken.is_ok(), "{manifest}: {taken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_migrated() {
    // Another test may have done so.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = ApiServer::new();
    let served = server.serve("migrate").await.unwrap();
    let client = server.client("test");
    a_cluster_is_read_and_takes_what_comes_of_it(&client, &served.url(), &json!({})).await;
    let asked = server.calls().into_iter().filter(|call| call.client == "migrate");
    let beyond: Vec<_> =
        asked.filter(|call| call.is_write() || call.resource == "secrets").collect();
    assert!(beyond.is_empty(), "{beyond:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_a_real_one_is_migrated() {
    // Another test may have done so.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Some(server) = RealServer::start().await.unwrap() else { return };
    let (url, token) = server.access();
    let client = server.client().unwrap();
    a_cluster_is_read_and_takes_what_comes_of_it(&client, &url, &json!({ "token": token })).await;
}
