//! What each container mode and each runner is made of, the registration's secret, and capacity.

use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;
use sekisho_pods::{Cluster, Given, jit_secret};
use serde_json::{Value, json};

use crate::{pod, try_pod, wire};

fn privileged(mode: &str) -> Value {
    json!({ "container": { "mode": mode }, "security": { "profile": "Privileged" } })
}

fn env(container: &Value, name: &str) -> Value {
    let all = container["env"].as_array().unwrap();
    all.iter().find(|it| it["name"] == name).map_or(Value::Null, |it| it["value"].clone())
}

fn mounts(container: &Value) -> Vec<(&str, &str)> {
    let all = container["volumeMounts"].as_array().into_iter().flatten();
    all.map(|it| (it["name"].as_str().unwrap(), it["mountPath"].as_str().unwrap())).collect()
}

#[test]
fn rootless_has_a_cache_on_the_nodes_disk_and_no_second_container() {
    let pod = wire(json!({}), json!({}));
    let runner = &pod["containers"][0];
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    assert_eq!(pod.get("initContainers"), None);
    assert_eq!(runner["image"], "ghcr.io/actions/actions-runner:2.336.0");
    assert_eq!(env(runner, "SEKISHO_CACHE_DIR"), "/var/cache/sekisho");
    assert_eq!(
        mounts(runner),
        [
            ("sekisho-jit", "/run/sekisho/jit"),
            ("work", "/home/runner/_work"),
            ("cache", "/var/cache/sekisho")
        ]
    );
}

#[test]
fn none_has_no_builder() {
    let pod = wire(json!({ "container": { "mode": "None" } }), json!({}));
    assert_eq!(env(&pod["containers"][0], "SEKISHO_CACHE_DIR"), Value::Null);
    assert_eq!(pod["volumes"].as_array().unwrap().len(), 2);
}

#[test]
fn docker_is_a_native_sidecar_of_the_runners_image() {
    let own = json!({ "containers": [{ "name": "runner", "image": "registry.example/own:2" }] });
    let pod = wire(privileged("DockerSidecar"), own);
    let [externals, docker] = pod["initContainers"].as_array().unwrap().as_slice() else {
        panic!("{}", pod["initContainers"])
    };
    assert_eq!(externals["image"], "registry.example/own:2");
    assert_eq!(
        externals["command"],
        json!(["cp", "-r", "/home/runner/externals/.", "/externals/"])
    );
    assert_eq!(docker["image"], sekisho_pods::DOCKER_IMAGE);
    assert_eq!(docker["restartPolicy"], "Always");
    assert_eq!(docker["securityContext"]["privileged"], true);
    assert_eq!(docker["startupProbe"]["exec"]["command"], json!(["docker", "info"]));
    // What a job's container mounts is what the daemon sees at the same path.
    assert_eq!(
        mounts(docker),
        [
            ("docker", "/var/lib/docker"),
            ("docker-socket", "/run/sekisho/docker"),
            ("work", "/home/runner/_work"),
            ("externals", "/home/runner/externals")
        ]
    );
    let runner = &pod["containers"][0];
    assert_eq!(env(runner, "DOCKER_HOST"), "unix:///run/sekisho/docker/docker.sock");
    assert_eq!(pod["securityContext"]["supplementalGroups"], json!([123]));
    assert_eq!(docker["args"][3], "--group=123");
}

#[test]
fn arguments_for_a_daemon_are_added_to_ours() {
    let more = json!({ "initContainers": [{ "name": "docker", "args": ["--mtu=1400"] }] });
    let pod = wire(privileged("DockerSidecar"), more);
    let args = &pod["initContainers"][1]["args"];
    assert_eq!((&args[0], &args[4]), (&json!("dockerd"), &json!("--mtu=1400")));
    assert_eq!(pod["initContainers"][1]["image"], sekisho_pods::DOCKER_IMAGE);
}

#[test]
fn buildkit_listens_to_the_pod_alone() {
    let pod = wire(privileged("BuildKit"), json!({}));
    let sidecar = &pod["initContainers"][0];
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["args"][1], "tcp://127.0.0.1:1234");
    assert_eq!(sidecar["securityContext"]["runAsUser"], 1000);
    assert_eq!(sidecar["securityContext"].get("privileged"), None);
    assert_eq!(env(&pod["containers"][0], "BUILDKIT_HOST"), "tcp://127.0.0.1:1234");
}

#[test]
fn a_mode_needs_its_profile() {
    for mode in ["DockerSidecar", "BuildKit"] {
        let error = try_pod(&json!({ "container": { "mode": mode } }), json!({})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "RunnerClass: container.mode DockerSidecar and BuildKit need security.profile Privileged"
        );
    }
}

#[test]
fn sekishos_runner_reads_a_file() {
    let class =
        json!({ "runner": { "flavor": "Sekisho", "image": "registry.example/runner@sha256:0" } });
    let pod = wire(class, json!({}));
    let runner = &pod["containers"][0];
    assert_eq!(runner.get("command"), None);
    assert_eq!(env(runner, "ACTIONS_RUNNER_INPUT_JITCONFIG_FILE"), "/run/sekisho/jit/jitconfig");
    assert_eq!(
        mounts(runner),
        [
            ("sekisho-jit", "/run/sekisho/jit"),
            ("work", "/home/runner"),
            ("tmp", "/tmp"),
            ("cache", "/var/cache/sekisho")
        ]
    );
}

/// The program that GitHub's runner is started by: it reads the file, and the program's arguments say
/// nothing of it.
#[test]
fn the_launcher_reads_the_file_and_hands_it_on() {
    let pod = wire(json!({}), json!({}));
    let runner = &pod["containers"][0];
    assert_eq!(env(runner, "SEKISHO_JIT"), "/run/sekisho/jit/jitconfig");
    let command: Vec<String> = serde_json::from_value(runner["command"].clone()).unwrap();
    assert!(!format!("{}{}", runner["command"], runner["args"]).contains("--jitconfig"));
    let folder = std::env::temp_dir().join(format!("sekisho-pods-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("jitconfig");
    std::fs::write(&file, "the-blob").unwrap();
    let start = |file: &std::path::Path| {
        std::process::Command::new(&command[0])
            .args(&command[1..])
            .args([
                "/bin/sh",
                "-c",
                "echo \"$ACTIONS_RUNNER_INPUT_JITCONFIG|$SEKISHO_JIT|$0|$*\"",
                "zero",
                "one",
            ])
            .env("SEKISHO_JIT", file)
            .output()
            .unwrap()
    };
    assert_eq!(String::from_utf8(start(&file).stdout).unwrap(), "the-blob||zero|one\n");
    // Without a registration nothing is started.
    std::fs::remove_dir_all(&folder).unwrap();
    let output = start(&file);
    assert!(!output.status.success());
    assert_eq!(output.stdout, b"");
}

#[test]
fn the_secret_belongs_to_the_runner_and_cannot_change() {
    let mut pod = pod(json!({}), json!({}));
    let jit = SecretString::from("blob");
    let given = Given { jit: &jit, authorities: None, proxy: None };
    assert_eq!(jit_secret(&pod.metadata, &given), None);
    pod.metadata.uid = Some("pod-uid".to_owned());
    let secret: Secret = jit_secret(&pod.metadata, &given).unwrap();
    assert_eq!(secret.metadata.name.as_deref(), Some("image-build-7c9f-abcde"));
    assert_eq!(secret.metadata.namespace.as_deref(), Some("ci"));
    assert_eq!(secret.immutable, Some(true));
    let data = secret.data.unwrap();
    assert_eq!((data.len(), data["jitconfig"].0.as_slice()), (1, b"blob".as_slice()));
    assert_eq!(secret.metadata.owner_references, pod.metadata.owner_references);
    assert_eq!(secret.metadata.owner_references.unwrap()[0].kind, "Runner");
    assert_eq!(secret.metadata.labels.unwrap()["runners.sekisho.dev/deployment"], "image-build");
}

#[test]
fn spot_is_preferred_in_the_words_of_both() {
    let pod = wire(json!({ "capacity": { "prefer": "Spot" } }), json!({}));
    let terms = &pod["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(
        terms,
        &json!([
            { "weight": 100, "preference": { "matchExpressions": [
                { "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"] }] } },
            { "weight": 99, "preference": { "matchExpressions": [
                { "key": "eks.amazonaws.com/capacityType", "operator": "In", "values": ["SPOT"] }] } }
        ])
    );
    let any = wire(json!({}), json!({}));
    assert_eq!(any.get("affinity"), None);
}

#[test]
fn only_on_demand_is_required_and_a_template_narrows_it() {
    let class = json!({ "capacity": { "prefer": "OnDemand", "only": true } });
    let arm = json!({ "key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"] });
    let pod = wire(
        class,
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [arm] }] } } } }),
    );
    let terms = &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        ["nodeSelectorTerms"];
    assert_eq!(
        terms,
        &json!([
            { "matchExpressions": [
                { "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"] }, arm] },
            { "matchExpressions": [
                { "key": "eks.amazonaws.com/capacityType", "operator": "In", "values": ["ON_DEMAND"] }, arm] }
        ])
    );
}

#[test]
fn user_namespaces_are_on_since_1_33() {
    let has = |minor: &str| Cluster::of_version("1", minor).user_namespaces;
    assert_eq!(
        [has("32"), has("32+"), has("33"), has("34+"), has("")],
        [false, false, true, true, false]
    );
}
