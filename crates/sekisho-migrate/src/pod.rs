//! The fields of a pod, which both modes have.

use sekisho_workflow::Position;
use sekisho_workflow::yaml::Node;
use serde_json::{Value, json};

use crate::draft::Draft;
use crate::report::Report;
use crate::source::{boolean, fields, get, integer, items, json, text_of};
use crate::table::{POD, RUNNER};

/// The daemon of the chart's `dind` mode, and what goes with it.
const DIND: &str = "dind";
const DIND_INIT: &str = "init-dind-externals";
const DIND_VOLUMES: &[&str] = &["dind-sock", "dind-externals"];
/// Where GitHub's image is, of which others are made.
const GITHUB_IMAGE: &str = "ghcr.io/actions/actions-runner";
/// Images of ARC's own, whose entrypoint is another.
const ARC_IMAGES: &[&str] =
    &["summerwind/actions-runner", "actions-runner-controller/actions-runner"];
/// What the runner is started by anyway.
const RUN: &str = "/home/runner/run.sh";
/// Variables that are the operator's now.
const OWN_VARIABLES: &[&str] =
    &["RUNNER_MANUALLY_TRAP_SIG", "AWS_EC2_METADATA_DISABLED", "SEKISHO_JIT"];
/// Variables of the chart's `dind` mode.
const DIND_VARIABLES: &[&str] = &["DOCKER_HOST", "RUNNER_WAIT_FOR_DOCKER_IN_SECONDS"];
/// Variables of the chart's `kubernetes` modes.
const HOOK_VARIABLES: &[&str] =
    &["ACTIONS_RUNNER_CONTAINER_HOOKS", "ACTIONS_RUNNER_REQUIRE_JOB_CONTAINER"];
/// Variables that ARC's image reads.
const ARC_VARIABLES: &[&str] = &[
    "RUNNER_TOKEN",
    "RUNNER_GRACEFUL_STOP_TIMEOUT",
    "STARTUP_DELAY_IN_SECONDS",
    "DISABLE_WAIT_FOR_DOCKER",
    "WAIT_FOR_DOCKER_SECONDS",
    "UNITTEST",
    "RUNNER_FEATURE_FLAG_EPHEMERAL",
    "RUNNER_FEATURE_FLAG_ONCE",
    "DOCKERD_IN_RUNNER",
    "MTU",
];
/// Bounds of the schema.
const GRACE_SECONDS: (i64, i64) = (20, 3_600);
const JOB_SECONDS: (i64, i64) = (60, 432_000);

/// Says what became of a pod's field.
pub(crate) struct Said<'a> {
    pub(crate) report: &'a mut Report,
    /// What stands before the field: `spec.template.spec`.
    pub(crate) prefix: &'a str,
}

impl Said<'_> {
    fn pod(&mut self, draft: &Draft, rule: &str, field: &str, at: Position, outcome: usize) {
        let called = format!("{}.{field}", self.prefix);
        self.report.say_of(&draft.document, POD, rule, &called, at, outcome);
    }

    fn runner(&mut self, draft: &Draft, rule: &str, field: &str, at: Position, outcome: usize) {
        let called = format!("{}.{field}", self.prefix);
        self.report.say_of(&draft.document, RUNNER, rule, &called, at, outcome);
    }
}

/// Takes over a PodTemplateSpec.
pub(crate) fn template(draft: &mut Draft, node: &Node, said: &mut Said<'_>) {
    for (key, value) in fields(node) {
        match key.text.as_str() {
            "metadata" => metadata(draft, value, said),
            "spec" => {
                let prefix = format!("{}.spec", said.prefix);
                let mut said = Said { report: &mut *said.report, prefix: &prefix };
                for (key, value) in fields(value) {
                    field(draft, &key.text, key.at, value, &mut said);
                }
            }
            _ => unknown(draft, &key.text, key.at, said),
        }
    }
}

/// Labels and annotations of the pods.
pub(crate) fn metadata(draft: &mut Draft, node: &Node, said: &mut Said<'_>) {
    for (key, value) in fields(node) {
        if ["labels", "annotations"].contains(&key.text.as_str()) {
            draft.metadata.insert(key.text.clone(), json(value));
            said.pod(draft, "metadata", &format!("metadata.{}", key.text), key.at, 0);
        }
    }
}

pub(crate) fn unknown(draft: &Draft, field: &str, at: Position, said: &mut Said<'_>) {
    let called = format!("{}.{field}", said.prefix);
    let rule = "unknown field";
    said.report.say_of(&draft.document, crate::table::OBJECT, rule, &called, at, 0);
}

/// Takes over one field of a PodSpec.
pub(crate) fn field(draft: &mut Draft, name: &str, at: Position, node: &Node, said: &mut Said<'_>) {
    let outcome = match name {
        "containers" => return containers(draft, node, said),
        "initContainers" => return init_containers(draft, node, said),
        "volumes" => return volumes(draft, node, said),
        "nodeSelector" | "tolerations" | "priorityClassName" | "runtimeClassName" => {
            draft.class[name] = json(node);
            0
        }
        "terminationGracePeriodSeconds" => {
            let seconds = integer(node).unwrap_or_default();
            let bounded = seconds.clamp(GRACE_SECONDS.0, GRACE_SECONDS.1);
            draft.class["terminationGraceSeconds"] = json!(bounded);
            usize::from(bounded != seconds)
        }
        "activeDeadlineSeconds" => {
            let seconds = integer(node).unwrap_or_default().clamp(JOB_SECONDS.0, JOB_SECONDS.1);
            draft.spec["lifecycle"]["maxJobSeconds"] = json!(seconds);
            0
        }
        "hostUsers" => {
            if boolean(node) == Some(true) {
                draft.class["security"]["userNamespaces"] = json!("Never");
                1
            } else {
                0
            }
        }
        "restartPolicy" => usize::from(text_of(Some(node)).as_deref() != Some("Never")),
        "serviceAccount" | "serviceAccountName" => {
            let account = text_of(Some(node)).unwrap_or_default();
            let own = account.ends_with("-gha-rs-no-permission") || account.ends_with("-kube-mode");
            return said.pod(draft, "serviceAccountName", name, at, usize::from(own));
        }
        "automountServiceAccountToken" | "enableServiceLinks" => {
            usize::from(boolean(node) == Some(true))
        }
        "hostNetwork" | "shareProcessNamespace" => usize::from(boolean(node) == Some(false)),
        "nodeName" | "ephemeralContainers" => 0,
        other => {
            draft.pod.insert(other.to_owned(), json(node));
            return said.pod(draft, "any other field of a pod", other, at, 0);
        }
    };
    said.pod(draft, name, name, at, outcome);
}

fn containers(draft: &mut Draft, node: &Node, said: &mut Said<'_>) {
    for container in items(node) {
        let name = text_of(get(container, "name")).unwrap_or_default();
        match name.as_str() {
            "runner" => {
                for (key, value) in fields(container) {
                    runner_field(draft, &key.text, key.at, value, said);
                }
            }
            DIND => dind(draft, container, "containers", said),
            name => {
                draft.push("containers", json(container));
                said.pod(draft, "containers", &format!("containers[{name}]"), container.at, 0);
            }
        }
    }
}

fn init_containers(draft: &mut Draft, node: &Node, said: &mut Said<'_>) {
    for container in items(node) {
        let name = text_of(get(container, "name")).unwrap_or_default();
        let called = format!("initContainers[{name}]");
        match name.as_str() {
            DIND => dind(draft, container, "initContainers", said),
            DIND_INIT => said.pod(draft, "initContainers", &called, container.at, 2),
            _ => {
                draft.push("initContainers", json(container));
                said.pod(draft, "initContainers", &called, container.at, 0);
            }
        }
    }
}

/// The chart's daemon is the class's; its size is kept.
fn dind(draft: &mut Draft, container: &Node, list: &str, said: &mut Said<'_>) {
    draft.docker();
    if let Some(resources) = get(container, "resources") {
        draft.container("initContainers", "docker")["resources"] = json(resources);
    }
    said.pod(draft, "initContainers", &format!("{list}[{DIND}]"), container.at, 1);
}

fn volumes(draft: &mut Draft, node: &Node, said: &mut Said<'_>) {
    for volume in items(node) {
        let name = text_of(get(volume, "name")).unwrap_or_default();
        let value = json(volume);
        // The class has one of that name, as large as its disk.
        let as_it_is = name == "work" && value["emptyDir"] == json!({});
        let dropped = DIND_VOLUMES.contains(&name.as_str()) || as_it_is;
        if !dropped {
            draft.push("volumes", value);
        }
        let called = format!("volumes[{name}]");
        said.pod(draft, "volumes", &called, volume.at, usize::from(dropped));
    }
}

/// Takes over one field of the container that runs the job.
pub(crate) fn runner_field(
    draft: &mut Draft,
    name: &str,
    at: Position,
    node: &Node,
    said: &mut Said<'_>,
) {
    let outcome = match name {
        "name" => return,
        "image" => image(draft, node),
        "command" => {
            let value = json(node);
            let own = value == json!([RUN]);
            if !own {
                draft.container("containers", "runner")["command"] = value;
            }
            usize::from(own)
        }
        "resources" => resources(draft, node),
        "env" => return variables(draft, node, said),
        "volumeMounts" => return mounts(draft, node, said),
        other => {
            draft.container("containers", "runner")[other] = json(node);
            let called = format!("containers[runner].{other}");
            return said.runner(draft, "any other field of a container", &called, at, 0);
        }
    };
    said.runner(draft, name, &format!("containers[runner].{name}"), at, outcome);
}

/// The number of the outcome, of both rules about images.
pub(crate) fn image(draft: &mut Draft, node: &Node) -> usize {
    let image = text_of(Some(node)).unwrap_or_default();
    if ARC_IMAGES.iter().any(|own| image.contains(own)) {
        return 1;
    }
    draft.container("containers", "runner")["image"] = json!(image);
    let name = image.split(['@', ':']).next().unwrap_or_default();
    if name == GITHUB_IMAGE { 0 } else { 2 }
}

/// The number of the outcome.
fn resources(draft: &mut Draft, node: &Node) -> usize {
    let mut all = 0;
    for (key, value) in fields(node) {
        match key.text.as_str() {
            list @ ("requests" | "limits") => {
                for (name, quantity) in fields(value) {
                    let text = text_of(Some(quantity)).unwrap_or_default();
                    draft.class[list][&name.text] = Value::String(text);
                }
            }
            _ => all = 1,
        }
    }
    all
}

fn variables(draft: &mut Draft, node: &Node, said: &mut Said<'_>) {
    for variable in items(node) {
        let name = text_of(get(variable, "name")).unwrap_or_default();
        let is = |list: &[&str]| list.contains(&name.as_str());
        let outcome = if is(HOOK_VARIABLES) {
            2
        } else if is(ARC_VARIABLES) {
            3
        } else if is(OWN_VARIABLES)
            || is(DIND_VARIABLES)
            || name.to_ascii_uppercase().starts_with("ACTIONS_RUNNER_INPUT_")
        {
            1
        } else {
            let runner = draft.container("containers", "runner");
            add(&mut runner["env"], json(variable));
            0
        };
        said.runner(draft, "env", &format!("containers[runner].env[{name}]"), variable.at, outcome);
    }
}

fn mounts(draft: &mut Draft, node: &Node, said: &mut Said<'_>) {
    for mount in items(node) {
        let of = |field: &str| text_of(get(mount, field)).unwrap_or_default();
        let (volume, path) = (of("name"), of("mountPath"));
        let own = DIND_VOLUMES.contains(&volume.as_str())
            || (volume == "work" && path == "/home/runner/_work");
        if !own {
            let runner = draft.container("containers", "runner");
            add(&mut runner["volumeMounts"], json(mount));
        }
        let called = format!("containers[runner].volumeMounts[{path}]");
        said.runner(draft, "volumeMounts", &called, mount.at, usize::from(own));
    }
}

fn add(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = json!([item]),
    }
}
