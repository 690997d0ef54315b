//! What a template cannot have, whatever the class: it is the operator's, the class's or GitHub's.

use sekisho_api::{GROUP, PodTemplate};
use serde_json::{Value, json};

use crate::base::{CONTAINER_EXTERNALS, JIT_VOLUME};
use crate::{CONTAINER_RUNNER, JIT_FOLDER, Violation};

/// Fields of the template's `spec`; whose they are; and the one value that says what is so anyway.
const FIELDS: &[(&str, Option<bool>, &str)] = &[
    ("activeDeadlineSeconds", None, "it is made of `spec.lifecycle`: set `maxJobSeconds` there"),
    (
        "automountServiceAccountToken",
        Some(false),
        "a job has no identity in the cluster: the gate takes the job's own OIDC token",
    ),
    ("enableServiceLinks", Some(false), "a job is not told which services there are"),
    ("ephemeralContainers", None, "a pod is not created with ephemeral containers"),
    (
        "hostNetwork",
        Some(false),
        "no network policy applies to the node's network, so the job would reach the cloud's credentials",
    ),
    ("hostUsers", None, "set `security.userNamespaces` of the RunnerClass"),
    (
        "nodeName",
        None,
        "the scheduler chooses the node, so that capacity and trust zones are heeded: use nodeSelector",
    ),
    ("priority", None, "set `priorityClassName` of the RunnerClass"),
    ("priorityClassName", None, "set it in the RunnerClass: it decides whose pods give way"),
    ("runtimeClassName", None, "set it in the RunnerClass"),
    (
        "serviceAccount",
        None,
        "a job has no identity in the cluster: the gate takes the job's own OIDC token",
    ),
    (
        "serviceAccountName",
        None,
        "a job has no identity in the cluster: the gate takes the job's own OIDC token",
    ),
    (
        "shareProcessNamespace",
        Some(false),
        "the steps of a job would see the processes beside them",
    ),
    ("terminationGracePeriodSeconds", None, "set `terminationGraceSeconds` of the RunnerClass"),
    ("tolerations", None, "set them in the RunnerClass: they decide which nodes are open to a job"),
];

/// Variables of the container `runner` that are not a template's.
const VARIABLES: &[(&str, &str)] = &[
    ("AWS_EC2_METADATA_DISABLED", "a job gets no credentials from the machine it runs on"),
    ("RUNNER_MANUALLY_TRAP_SIG", "without it a job that is stopped hangs until GitHub gives it up"),
    ("SEKISHO_JIT", "it names the file of the registration"),
];
/// Inputs of the runner, its registration among them.
const VARIABLE_PREFIX: &str = "ACTIONS_RUNNER_INPUT_";

/// Where the template is.
pub(crate) const PATH: &str = "spec.template.spec";

/// Everything in `template` that is not a template's to say.
pub(crate) fn violations(template: &PodTemplate) -> Vec<Violation> {
    let mut found = metadata(template);
    let Some(spec) = &template.spec else { return found };
    let mut add = |path: String, sentence: &str| {
        found.push(Violation { path, sentence: sentence.to_owned() });
    };
    for (name, harmless, sentence) in FIELDS {
        let value = &spec[*name];
        let says_nothing =
            value.is_null() || harmless.is_some_and(|harmless| *value == json!(harmless));
        if !says_nothing {
            add(format!("{PATH}.{name}"), sentence);
        }
    }
    if spec["restartPolicy"].as_str().is_some_and(|policy| policy != "Never") {
        add(
            format!("{PATH}.restartPolicy"),
            "a registration is used once, so the pod is never restarted: leave it out",
        );
    }
    for volume in items(&spec["volumes"]) {
        if volume["name"] == JIT_VOLUME {
            add(
                format!("{PATH}.volumes[{JIT_VOLUME}]"),
                "the name is that of the registration's volume",
            );
        }
    }
    for list in ["initContainers", "containers"] {
        for container in items(&spec[list]) {
            let name = container["name"].as_str().unwrap_or_default();
            for (path, sentence) in of_container(list, name, container) {
                add(format!("{PATH}.{list}[{name}]{path}"), sentence);
            }
        }
    }
    found
}

fn of_container(list: &str, name: &str, container: &Value) -> Vec<(String, &'static str)> {
    let mut found = vec![];
    if name == CONTAINER_EXTERNALS {
        found.push((String::new(), "the name is that of a container of the mode DockerSidecar"));
    }
    if list == "initContainers" && name == CONTAINER_RUNNER {
        found.push((String::new(), "the container `runner` stands in `containers`"));
    }
    for mount in items(&container["volumeMounts"]) {
        let path = mount["mountPath"].as_str().unwrap_or_default();
        if mount["name"] == JIT_VOLUME || covers(path, JIT_FOLDER) {
            found.push((
                format!(".volumeMounts[{path}]"),
                "the registration is for the runner, and stays where it is",
            ));
        }
    }
    if list != "containers" || name != CONTAINER_RUNNER {
        return found;
    }
    for variable in items(&container["env"]) {
        let name = variable["name"].as_str().unwrap_or_default();
        let own = VARIABLES.iter().find(|(own, _)| *own == name).map(|(_, sentence)| *sentence);
        let input = name.to_ascii_uppercase().starts_with(VARIABLE_PREFIX);
        let sentence = own.or(input.then_some("inputs of the runner are the registration's"));
        found.extend(sentence.map(|sentence| (format!(".env[{name}]"), sentence)));
    }
    found
}

/// Whether a mount at `path` lies over, or inside, `folder`.
fn covers(path: &str, folder: &str) -> bool {
    let inside = |a: &str, b: &str| {
        let b = b.trim_end_matches('/');
        a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'))
    };
    // `/var/run` is `/run` in every image that has both.
    let path = path.strip_prefix("/var/run").map_or(path.to_owned(), |rest| format!("/run{rest}"));
    inside(&path, folder) || inside(folder, &path)
}

fn metadata(template: &PodTemplate) -> Vec<Violation> {
    let Some(metadata) = &template.metadata else { return vec![] };
    let reserved = |key: &str| {
        let prefix = key.split_once('/').map(|(prefix, _)| prefix);
        prefix == Some(GROUP) || key == "app.kubernetes.io/managed-by"
    };
    let of = |field: &str, keys: Vec<&String>| -> Vec<Violation> {
        let keys = keys.into_iter().filter(|key| reserved(key));
        keys.map(|key| Violation {
            path: format!("spec.template.metadata.{field}[{key}]"),
            sentence: "pods are found by it: it is the operator's".to_owned(),
        })
        .collect()
    };
    let mut found = of("labels", metadata.labels.keys().collect());
    found.extend(of("annotations", metadata.annotations.keys().collect()));
    for key in metadata.annotations.keys() {
        if key.starts_with("container.apparmor.security.beta.kubernetes.io/") {
            found.push(Violation {
                path: format!("spec.template.metadata.annotations[{key}]"),
                sentence: "write `securityContext.appArmorProfile` instead".to_owned(),
            });
        }
    }
    found
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
