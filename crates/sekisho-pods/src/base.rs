//! The pod that a class makes, before a template is laid over it.

use sekisho_api::{ContainerMode, RunnerFlavor, UserNamespaces};
use serde_json::{Map, Value, json};

use crate::capacity;
use crate::pod::RunnerPod;
use crate::{
    BUILDKIT_IMAGE, CONTAINER_BUILDKIT, CONTAINER_DOCKER, CONTAINER_RUNNER, DOCKER_IMAGE,
    EPHEMERAL_STORAGE_LIMIT, EPHEMERAL_STORAGE_REQUEST, JIT_FOLDER, JIT_KEY, RUNNER_IMAGE,
    TERMINATION_GRACE_SECONDS, reach, zone,
};

/// The user of GitHub's runner image, and his group. By number: the kubelet cannot tell whether a
/// user with a name is root. <https://github.com/actions/runner/blob/v2.336.0/images/Dockerfile>
const USER: i64 = 1001;
/// The group `docker` of GitHub's runner image (same source).
const DOCKER_GROUP: i64 = 123;
/// The user of BuildKit's rootless image.
const BUILDKIT_USER: i64 = 1000;
/// The home of either runner.
const HOME: &str = "/home/runner";
/// The volume of the registration.
pub(crate) const JIT_VOLUME: &str = "sekisho-jit";
/// The init container that shares what the runner brings for containers of a job.
pub(crate) const CONTAINER_EXTERNALS: &str = "externals";
/// Where the Docker daemon listens for the runner.
const DOCKER_FOLDER: &str = "/run/sekisho/docker";
/// Where BuildKit listens: the containers of a pod share their loopback, and nobody else has it.
const BUILDKIT_ADDRESS: &str = "tcp://127.0.0.1:1234";
/// What the runner needs after its job was cancelled, to send the log's end and the result.
const REPORT_SECONDS: i64 = 15;

/// Reads the registration and becomes the program that it is given, GitHub's runner if none is.
///
/// The official runner takes its inputs from variables of this prefix and removes them:
/// `CommandSettings` in <https://github.com/actions/runner/blob/v2.336.0/src/Runner.Listener/CommandSettings.cs>.
const LAUNCH: &str = "set -eu\n\
    ACTIONS_RUNNER_INPUT_JITCONFIG=\"$(cat \"$SEKISHO_JIT\")\"\n\
    export ACTIONS_RUNNER_INPUT_JITCONFIG\n\
    unset SEKISHO_JIT\n\
    exec \"$@\"";

/// The PodSpec of the class.
pub(crate) fn spec(pod: &RunnerPod<'_>) -> Value {
    let class = pod.class;
    let mut spec = json!({
        "restartPolicy": "Never",
        "activeDeadlineSeconds": active_deadline_seconds(pod),
        "terminationGracePeriodSeconds": grace_seconds(pod),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": user(USER),
        "containers": [runner(pod)],
        "volumes": [
            { "name": JIT_VOLUME, "secret": { "secretName": pod.name, "defaultMode": 0o440 } },
            { "name": "work", "emptyDir": { "sizeLimit": ephemeral_limit(pod) } }
        ]
    });
    if !class.node_selector.is_empty() {
        spec["nodeSelector"] = json!(class.node_selector);
    }
    if !class.tolerations.is_empty() {
        spec["tolerations"] = json!(class.tolerations);
    }
    if let Some(name) = &class.runtime_class_name {
        spec["runtimeClassName"] = json!(name);
    }
    if let Some(name) = &class.priority_class_name {
        spec["priorityClassName"] = json!(name);
    }
    if has_user_namespace(pod) {
        spec["hostUsers"] = json!(false);
    }
    let affinity = [
        ("nodeAffinity", capacity::node_affinity(&class.capacity)),
        ("podAntiAffinity", zone::anti_affinity(pod.spec.trust_zone)),
    ];
    for (name, affinity) in affinity {
        if let Some(affinity) = affinity {
            spec["affinity"][name] = affinity;
        }
    }
    engine(pod, &mut spec);
    spec
}

/// The `securityContext` of a pod whose containers all run as this user, who is not root.
pub fn user(id: i64) -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": id,
        "runAsGroup": id,
        "fsGroup": id,
        "seccompProfile": { "type": "RuntimeDefault" }
    })
}

/// The kubelet's own bound on a pod's life, should everybody else be gone: the most that each state
/// may take, so that it never cuts a job short.
fn active_deadline_seconds(pod: &RunnerPod<'_>) -> i64 {
    let it = &pod.spec.lifecycle;
    let states = [
        it.pending_timeout_seconds,
        it.registration_timeout_seconds,
        it.idle_timeout_seconds,
        it.max_job_seconds,
    ];
    states.iter().map(|seconds| i64::from(*seconds)).sum::<i64>() + grace_seconds(pod)
}

fn grace_seconds(pod: &RunnerPod<'_>) -> i64 {
    pod.class.termination_grace_seconds.unwrap_or(TERMINATION_GRACE_SECONDS)
}

fn ephemeral_limit<'a>(pod: &RunnerPod<'a>) -> &'a str {
    pod.class.limits.get("ephemeral-storage").map_or(EPHEMERAL_STORAGE_LIMIT, String::as_str)
}

/// Daemons map ids that a pod's own namespace does not have, so only pods without one get it.
fn has_user_namespace(pod: &RunnerPod<'_>) -> bool {
    let fits = match pod.class.container.mode {
        ContainerMode::Rootless | ContainerMode::None => true,
        ContainerMode::BuildKit | ContainerMode::DockerSidecar => false,
    };
    let wanted = match pod.class.security.user_namespaces {
        UserNamespaces::WhenAvailable => pod.cluster.user_namespaces,
        UserNamespaces::Never => false,
    };
    fits && wanted
}

fn runner(pod: &RunnerPod<'_>) -> Value {
    let class = pod.class;
    let mut container = json!({
        "name": CONTAINER_RUNNER,
        "image": class.runner.image.as_deref().unwrap_or(RUNNER_IMAGE),
        "env": [
            // The second of two mechanisms; the first is the network policy.
            { "name": "AWS_EC2_METADATA_DISABLED", "value": "true" }
        ],
        "volumeMounts": [{ "name": JIT_VOLUME, "mountPath": JIT_FOLDER, "readOnly": true }],
        "resources": resources(pod),
        "securityContext": {}
    });
    let file = format!("{JIT_FOLDER}/{JIT_KEY}");
    match class.runner.flavor {
        RunnerFlavor::GitHub => {
            container["command"] = json!(["/bin/bash", "-c", LAUNCH, CONTAINER_RUNNER]);
            container["args"] = json!([format!("{HOME}/run.sh")]);
            mount(&mut container, "work", &format!("{HOME}/_work"));
            env(&mut container, "SEKISHO_JIT", &file);
            // Without it the image's shell ignores SIGTERM, and a stopped job hangs until GitHub gives it up.
            env(&mut container, "RUNNER_MANUALLY_TRAP_SIG", "1");
            // Else a runner that GitHub finds too old ends as if it were done.
            env(&mut container, "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", "1");
        }
        RunnerFlavor::Sekisho => {
            container["workingDir"] = json!(HOME);
            container["securityContext"]["readOnlyRootFilesystem"] = json!(true);
            mount(&mut container, "work", HOME);
            mount(&mut container, "tmp", "/tmp");
            env(&mut container, "HOME", HOME);
            env(&mut container, "ACTIONS_RUNNER_INPUT_JITCONFIG_FILE", &file);
            let stop = (grace_seconds(pod) - REPORT_SECONDS).max(1);
            env(&mut container, "RUNNER_GRACEFUL_STOP_TIMEOUT", &stop.to_string());
        }
    }
    reach::tell(pod.reach, pod.name, &mut container);
    if let Some(profile) = &class.security.localhost_seccomp_profile {
        container["securityContext"]["seccompProfile"] =
            json!({ "type": "Localhost", "localhostProfile": profile });
    }
    container
}

fn resources(pod: &RunnerPod<'_>) -> Value {
    let map = |of: &std::collections::BTreeMap<String, String>| -> Map<String, Value> {
        of.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    };
    let (mut requests, mut limits) = (map(&pod.class.requests), map(&pod.class.limits));
    if !limits.contains_key("ephemeral-storage") {
        requests.entry("ephemeral-storage").or_insert_with(|| json!(EPHEMERAL_STORAGE_REQUEST));
        limits.insert("ephemeral-storage".to_owned(), json!(EPHEMERAL_STORAGE_LIMIT));
    }
    if requests.is_empty() {
        return json!({ "limits": limits });
    }
    json!({ "requests": requests, "limits": limits })
}

/// What the container mode adds.
fn engine(pod: &RunnerPod<'_>, spec: &mut Value) {
    let image = pod.class.container.image.as_deref();
    match pod.class.container.mode {
        ContainerMode::None => {}
        ContainerMode::Rootless => {
            // Not the container's own file system: an overlay cannot lie on another.
            mount(&mut spec["containers"][0], "cache", "/var/cache/sekisho");
            env(&mut spec["containers"][0], "SEKISHO_CACHE_DIR", "/var/cache/sekisho");
            volume(pod, spec, "cache");
        }
        ContainerMode::BuildKit => {
            env(&mut spec["containers"][0], "BUILDKIT_HOST", BUILDKIT_ADDRESS);
            volume(pod, spec, "buildkit");
            spec["initContainers"] = json!([buildkit(image.unwrap_or(BUILDKIT_IMAGE))]);
        }
        ContainerMode::DockerSidecar => {
            let socket = format!("unix://{DOCKER_FOLDER}/docker.sock");
            let runner = &mut spec["containers"][0];
            mount(runner, "docker-socket", DOCKER_FOLDER);
            env(runner, "DOCKER_HOST", &socket);
            for name in ["docker", "docker-socket"] {
                volume(pod, spec, name);
            }
            spec["securityContext"]["supplementalGroups"] = json!([DOCKER_GROUP]);
            let mut sidecar = docker(image.unwrap_or(DOCKER_IMAGE), &socket);
            spec["initContainers"] = json!([]);
            if pod.class.runner.flavor == RunnerFlavor::GitHub {
                volume(pod, spec, "externals");
                mount(&mut sidecar, "work", &format!("{HOME}/_work"));
                mount(&mut sidecar, "externals", &format!("{HOME}/externals"));
                push(&mut spec["initContainers"], externals());
            } else {
                mount(&mut sidecar, "work", HOME);
            }
            push(&mut spec["initContainers"], sidecar);
        }
    }
    if pod.class.runner.flavor == RunnerFlavor::Sekisho {
        volume(pod, spec, "tmp");
    }
}

/// A native sidecar: it starts before the runner and does not keep the pod from completing.
/// <https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/>
fn buildkit(image: &str) -> Value {
    json!({
        "name": CONTAINER_BUILDKIT,
        "image": image,
        "restartPolicy": "Always",
        "args": ["--addr", BUILDKIT_ADDRESS, "--oci-worker-no-process-sandbox"],
        "startupProbe": probe(&["buildctl", "--addr", BUILDKIT_ADDRESS, "debug", "workers"]),
        "volumeMounts": [
            { "name": "buildkit", "mountPath": "/home/user/.local/share/buildkit" }
        ],
        // It makes user namespaces with the help of `newuidmap`:
        // https://github.com/moby/buildkit/blob/master/docs/rootless.md
        "securityContext": {
            "runAsUser": BUILDKIT_USER,
            "runAsGroup": BUILDKIT_USER,
            "allowPrivilegeEscalation": true,
            "seccompProfile": { "type": "Unconfined" },
            "appArmorProfile": { "type": "Unconfined" }
        }
    })
}

/// Docker in a container, which is root on its node in all but name.
fn docker(image: &str, socket: &str) -> Value {
    json!({
        "name": CONTAINER_DOCKER,
        "image": image,
        "restartPolicy": "Always",
        // The first is what the runner mounts into the containers of a job, the second its own.
        "args": [
            "dockerd",
            "--host=unix:///var/run/docker.sock",
            format!("--host={socket}"),
            format!("--group={DOCKER_GROUP}")
        ],
        "env": [{ "name": "DOCKER_TLS_CERTDIR", "value": "" }],
        "startupProbe": probe(&["docker", "info"]),
        "volumeMounts": [
            { "name": "docker", "mountPath": "/var/lib/docker" },
            { "name": "docker-socket", "mountPath": DOCKER_FOLDER }
        ],
        "securityContext": { "privileged": true, "runAsNonRoot": false, "runAsUser": 0, "runAsGroup": 0 }
    })
}

/// The containers of a job mount the runner's own Node.js from the daemon's file system.
fn externals() -> Value {
    json!({
        "name": CONTAINER_EXTERNALS,
        "command": ["cp", "-r", format!("{HOME}/externals/."), "/externals/"],
        "volumeMounts": [{ "name": "externals", "mountPath": "/externals" }],
        "securityContext": {}
    })
}

/// Two minutes, and the runner starts within a second of the daemon being there.
fn probe(command: &[&str]) -> Value {
    json!({ "exec": { "command": command }, "periodSeconds": 1, "failureThreshold": 120, "timeoutSeconds": 5 })
}

fn volume(pod: &RunnerPod<'_>, spec: &mut Value, name: &str) {
    let volume = json!({ "name": name, "emptyDir": { "sizeLimit": ephemeral_limit(pod) } });
    push(&mut spec["volumes"], volume);
}

pub(crate) fn env(container: &mut Value, name: &str, value: &str) {
    push(&mut container["env"], json!({ "name": name, "value": value }));
}

fn mount(container: &mut Value, volume: &str, path: &str) {
    push(&mut container["volumeMounts"], json!({ "name": volume, "mountPath": path }));
}

pub(crate) fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}
