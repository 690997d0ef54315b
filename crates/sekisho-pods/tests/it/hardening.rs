//! Each control, on every pod that a class can make. Remove one, and its test fails.

use k8s_openapi::api::core::v1::{Container, PodSpec, SecurityContext};
use sekisho_api::TrustZone;
use sekisho_pods::{CONTAINER_RUNNER, JIT_FOLDER};
use serde_json::{Value, json};

use crate::{named, of_env, pod, spec, wire};

/// A class of each mode and of each flavor.
fn classes() -> Vec<(&'static str, Value)> {
    let mode = |mode: &str, profile: &str, flavor: &str| {
        let image = if flavor == "Sekisho" {
            "registry.example/runner:1"
        } else {
            "registry.example/github:1"
        };
        json!({
            "container": { "mode": mode },
            "security": { "profile": profile },
            "runner": { "flavor": flavor, "image": image }
        })
    };
    vec![
        ("rootless", mode("Rootless", "Restricted", "GitHub")),
        ("rootless, Sekisho's", mode("Rootless", "Restricted", "Sekisho")),
        ("none", mode("None", "Restricted", "GitHub")),
        ("baseline", mode("None", "Baseline", "GitHub")),
        ("buildkit", mode("BuildKit", "Privileged", "GitHub")),
        ("docker", mode("DockerSidecar", "Privileged", "GitHub")),
        ("docker, Sekisho's", mode("DockerSidecar", "Privileged", "Sekisho")),
    ]
}

/// With a container and an init container of a template, which are hardened too.
fn with_more() -> Value {
    json!({
        "containers": [{ "name": "db", "image": "registry.example/db:1" }],
        "initContainers": [{ "name": "warm", "image": "registry.example/warm:1" }]
    })
}

#[track_caller]
fn every_pod(check: fn(&str, &PodSpec)) {
    for (name, class) in classes() {
        check(name, &pod(class, with_more()).spec.unwrap());
    }
}

/// All containers but the daemon of the mode, which is what it is.
fn jobs(spec: &PodSpec) -> Vec<&Container> {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.filter(|it| it.name != "docker" && it.name != "buildkit").collect()
}

fn context(container: &Container) -> &SecurityContext {
    container.security_context.as_ref().unwrap()
}

#[track_caller]
fn not_root(name: &str, spec: &PodSpec) {
    let pod = spec.security_context.as_ref().unwrap();
    assert_eq!(pod.run_as_non_root, Some(true), "{name}");
    assert_eq!((pod.run_as_user, pod.run_as_group), (Some(1001), Some(1001)), "{name}");
    for container in jobs(spec) {
        assert_eq!(context(container).run_as_user, None, "{name}: {}", container.name);
    }
}

#[test]
fn nobody_is_root() {
    every_pod(not_root);
}

#[track_caller]
fn no_privilege(name: &str, spec: &PodSpec) {
    for container in jobs(spec) {
        let context = context(container);
        let of = format!("{name}: {}", container.name);
        assert_eq!(context.allow_privilege_escalation, Some(false), "{of}");
        assert_eq!(context.privileged, None, "{of}");
        let capabilities = context.capabilities.as_ref().unwrap();
        assert_eq!(capabilities.drop.as_deref().unwrap(), ["ALL"], "{of}");
        assert_eq!(capabilities.add, None, "{of}");
    }
}

#[test]
fn nobody_gains_privilege() {
    every_pod(no_privilege);
}

#[track_caller]
fn filtered(name: &str, spec: &PodSpec) {
    let pod = spec.security_context.as_ref().unwrap();
    assert_eq!(pod.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault", "{name}");
    for container in jobs(spec) {
        assert_eq!(context(container).seccomp_profile, None, "{name}: {}", container.name);
    }
}

#[test]
fn system_calls_are_filtered() {
    every_pod(filtered);
}

#[test]
fn a_profile_of_the_node_is_for_the_runner() {
    let spec = wire(
        json!({ "security": { "localhostSeccompProfile": "sekisho/builder.json" } }),
        with_more(),
    );
    assert_eq!(
        spec["containers"][0]["securityContext"]["seccompProfile"],
        json!({ "type": "Localhost", "localhostProfile": "sekisho/builder.json" })
    );
    assert_eq!(spec["containers"][1]["securityContext"].get("seccompProfile"), None);
}

#[track_caller]
fn no_identity(name: &str, spec: &PodSpec) {
    assert_eq!(spec.automount_service_account_token, Some(false), "{name}");
    assert_eq!(spec.service_account_name, None, "{name}");
    assert_eq!(spec.enable_service_links, Some(false), "{name}");
}

#[test]
fn there_is_no_identity_in_the_cluster() {
    every_pod(no_identity);
}

#[track_caller]
fn no_credentials(name: &str, spec: &PodSpec) {
    let runner = named(&spec.containers, CONTAINER_RUNNER);
    assert_eq!(of_env(runner, "AWS_EC2_METADATA_DISABLED").as_deref(), Some("true"), "{name}");
    assert_eq!(spec.host_network, None, "{name}");
}

#[test]
fn the_machine_gives_no_credentials() {
    every_pod(no_credentials);
}

#[test]
fn a_pod_is_owned_by_its_runner() {
    for (name, class) in classes() {
        let owners = pod(class, json!({})).metadata.owner_references.unwrap();
        assert_eq!(owners.len(), 1, "{name}");
        assert_eq!(owners[0].kind, "Runner");
        assert_eq!(owners[0].api_version, "runners.sekisho.dev/v1alpha1");
        assert_eq!(owners[0].name, "image-build-7c9f-abcde");
        assert_eq!(owners[0].uid, "11111111-2222-3333-4444-555555555555");
        assert_eq!(owners[0].controller, Some(true));
    }
}

#[track_caller]
fn ends(name: &str, spec: &PodSpec) {
    assert_eq!(spec.restart_policy.as_deref(), Some("Never"), "{name}");
    assert_eq!(spec.active_deadline_seconds, Some(600 + 180 + 1800 + 21600 + 90), "{name}");
    assert_eq!(spec.termination_grace_period_seconds, Some(90), "{name}");
}

/// 600 for a node, 180 until GitHub sees it, 1800 without a job, 21600 with one, 90 to stop.
#[test]
fn a_pod_ends_by_itself() {
    every_pod(ends);
    let slow = wire(json!({ "terminationGraceSeconds": 300 }), json!({}));
    assert_eq!(slow["terminationGracePeriodSeconds"], 300);
    assert_eq!(slow["activeDeadlineSeconds"], 600 + 180 + 1800 + 21600 + 300);
}

#[track_caller]
fn bounded_disk(name: &str, spec: &PodSpec) {
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let limits = container.resources.as_ref().unwrap().limits.as_ref().unwrap();
        assert_eq!(limits["ephemeral-storage"].0, "32Gi", "{name}: {}", container.name);
    }
    for volume in spec.volumes.iter().flatten() {
        if let Some(folder) = &volume.empty_dir {
            let limit = folder.size_limit.as_ref().unwrap();
            assert_eq!(limit.0, "32Gi", "{name}: {}", volume.name);
        }
    }
}

#[test]
fn a_job_cannot_fill_the_disk() {
    every_pod(bounded_disk);
    let small = wire(json!({ "limits": { "ephemeral-storage": "5Gi" } }), json!({}));
    assert_eq!(small["containers"][0]["resources"]["limits"]["ephemeral-storage"], "5Gi");
    assert_eq!(small["volumes"][1]["emptyDir"]["sizeLimit"], "5Gi");
}

#[track_caller]
fn own_ids(name: &str, spec: &PodSpec) {
    let own = !name.starts_with("docker") && name != "buildkit";
    assert_eq!(spec.host_users, own.then_some(false), "{name}");
}

/// Where the builder and the runner need none of the node's ids; daemons map ids that a pod's own
/// namespace does not have.
#[test]
fn ids_of_a_pod_are_not_those_of_the_node() {
    every_pod(own_ids);
    let never = wire(json!({ "security": { "userNamespaces": "Never" } }), json!({}));
    assert_eq!(never.get("hostUsers"), None);
}

#[track_caller]
fn read_only_root(name: &str, spec: &PodSpec) {
    let runner = context(named(&spec.containers, CONTAINER_RUNNER));
    let own = name.ends_with("Sekisho's");
    assert_eq!(runner.read_only_root_filesystem, own.then_some(true), "{name}");
}

#[test]
fn the_root_is_read_only_where_the_runner_allows_it() {
    every_pod(read_only_root);
}

#[track_caller]
fn registration_is_apart(name: &str, spec: &PodSpec) {
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let mounts: Vec<_> = container.volume_mounts.iter().flatten().collect();
        let jit = mounts.iter().find(|mount| mount.name == "sekisho-jit");
        assert_eq!(jit.is_some(), container.name == CONTAINER_RUNNER, "{name}");
        if let Some(jit) = jit {
            assert_eq!((jit.mount_path.as_str(), jit.read_only), (JIT_FOLDER, Some(true)));
        }
    }
    let volume = spec.volumes.iter().flatten().find(|it| it.name == "sekisho-jit").unwrap();
    let secret = volume.secret.as_ref().unwrap();
    assert_eq!(secret.secret_name.as_deref(), Some("image-build-7c9f-abcde"), "{name}");
    // Absent until there is a registration: the kubelet waits for what is not optional.
    assert_eq!(secret.optional, None, "{name}");
    assert_eq!(secret.default_mode, Some(0o440), "{name}");
}

/// The registration is in no argument and no variable, and only the runner mounts it.
#[test]
fn the_registration_is_for_the_runner_alone() {
    every_pod(registration_is_apart);
}

#[track_caller]
fn hears_to_stop(name: &str, spec: &PodSpec) {
    let runner = named(&spec.containers, CONTAINER_RUNNER);
    if name.ends_with("Sekisho's") {
        assert_eq!(of_env(runner, "RUNNER_GRACEFUL_STOP_TIMEOUT").as_deref(), Some("75"));
    } else {
        assert_eq!(of_env(runner, "RUNNER_MANUALLY_TRAP_SIG").as_deref(), Some("1"), "{name}");
    }
}

/// A stopped job is reported before the machine is gone.
#[test]
fn a_runner_hears_that_it_is_to_stop() {
    every_pod(hears_to_stop);
}

#[test]
fn zones_are_on_the_pod() {
    for zone in [TrustZone::ForkPullRequest, TrustZone::PullRequest, TrustZone::ProtectedBranch] {
        let pod = crate::try_of(&json!({}), &sekisho_api::PodTemplate::default(), zone).unwrap();
        let labels = pod.metadata.labels.unwrap();
        assert_eq!(labels["runners.sekisho.dev/trust-zone"], spec(zone).trust_zone.label());
        assert_eq!(labels["runners.sekisho.dev/deployment"], "image-build");
        assert_eq!(labels["runners.sekisho.dev/revision"], "7c9f");
    }
}

/// A control, and what takes it away: the place, and what stands there then.
type Sabotage = (&'static str, Value);
type Control = (&'static str, fn(&str, &PodSpec), Vec<Sabotage>);

#[expect(clippy::too_many_lines, reason = "one table")]
fn controls() -> Vec<Control> {
    let gone = Value::Null;
    vec![
        (
            "not root",
            not_root,
            vec![
                ("/securityContext/runAsNonRoot", gone.clone()),
                ("/securityContext/runAsNonRoot", json!(false)),
                ("/securityContext/runAsUser", json!(0)),
                ("/containers/0/securityContext/runAsUser", json!(0)),
            ],
        ),
        (
            "no privilege",
            no_privilege,
            vec![
                ("/containers/0/securityContext/allowPrivilegeEscalation", gone.clone()),
                ("/containers/0/securityContext/privileged", json!(true)),
                ("/containers/0/securityContext/capabilities", gone.clone()),
                ("/containers/0/securityContext/capabilities/add", json!(["NET_ADMIN"])),
                ("/initContainers/0/securityContext/allowPrivilegeEscalation", gone.clone()),
            ],
        ),
        (
            "system calls",
            filtered,
            vec![
                ("/securityContext/seccompProfile", gone.clone()),
                ("/containers/0/securityContext/seccompProfile", json!({ "type": "Unconfined" })),
            ],
        ),
        (
            "no identity",
            no_identity,
            vec![
                ("/automountServiceAccountToken", gone.clone()),
                ("/serviceAccountName", json!("default")),
                ("/enableServiceLinks", gone.clone()),
            ],
        ),
        (
            "no machine's credentials",
            no_credentials,
            vec![("/containers/0/env", json!([])), ("/hostNetwork", json!(true))],
        ),
        (
            "an end",
            ends,
            vec![
                ("/activeDeadlineSeconds", gone.clone()),
                ("/restartPolicy", json!("Always")),
                ("/terminationGracePeriodSeconds", gone.clone()),
            ],
        ),
        (
            "a bounded disk",
            bounded_disk,
            vec![
                ("/containers/0/resources/limits/ephemeral-storage", gone.clone()),
                ("/volumes/1/emptyDir/sizeLimit", gone.clone()),
            ],
        ),
        ("own ids", own_ids, vec![("/hostUsers", gone.clone())]),
        (
            "a read-only root",
            |_, spec| read_only_root("Sekisho's", spec),
            vec![("/containers/0/securityContext/readOnlyRootFilesystem", gone.clone())],
        ),
        (
            "the registration apart",
            registration_is_apart,
            vec![
                (
                    "/containers/1/volumeMounts",
                    json!([{ "name": "sekisho-jit", "mountPath": "/j" }]),
                ),
                ("/volumes/0/secret/defaultMode", json!(0o444)),
            ],
        ),
        ("a stop that is heard", hears_to_stop, vec![("/containers/0/env", json!([]))]),
    ]
}

/// The tests above are worth something: take one control away, and its test fails.
#[test]
fn each_test_misses_its_control() {
    let class = json!({
        "container": { "mode": "None" },
        "runner": { "flavor": "Sekisho", "image": "registry.example/runner:1" }
    });
    let whole = serde_json::to_value(pod(class, with_more()).spec.unwrap()).unwrap();
    let passes = |check: fn(&str, &PodSpec), spec: &Value| {
        let spec: PodSpec = serde_json::from_value(spec.clone()).unwrap();
        std::panic::catch_unwind(|| check("none, Sekisho's", &spec)).is_ok()
    };
    for (name, check, sabotages) in controls() {
        assert!(passes(check, &whole), "{name}");
        for (place, value) in sabotages {
            let mut spec = whole.clone();
            let (parent, field) = place.rsplit_once('/').unwrap();
            let parent = spec.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            match &value {
                Value::Null => assert!(parent.remove(field).is_some(), "{place} is not there"),
                value => drop(parent.insert(field.to_owned(), value.clone())),
            }
            assert!(!passes(check, &spec), "{name}: nobody misses {place}, which is {value}");
        }
    }
}
