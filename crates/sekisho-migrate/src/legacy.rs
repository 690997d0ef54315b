//! ARC's legacy mode: `actions.summerwind.dev/v1alpha1`.

use sekisho_workflow::Position;
use sekisho_workflow::yaml::{Key, Node};
use serde_json::{Value, json};

use crate::Options;
use crate::draft::{Draft, SignIn, are_labels};
use crate::pod::{self, Said};
use crate::report::Report;
use crate::source::{Document, boolean, fields, get, items, json, text_of, texts};
use crate::table::{CONFIG, LEGACY, OBJECT};

/// The secret that the chart's controller reads.
const CONTROLLER_SECRET: &str = "controller-manager";
/// Labels that ARC's runner gives itself, and `runs-on` may ask for.
const OWN_LABELS: [&str; 3] = ["self-hosted", "linux", "x64"];

/// A RunnerDeployment, RunnerReplicaSet, RunnerSet or Runner; nothing of what ARC made itself.
pub(crate) fn of(document: &Document, options: &Options, report: &mut Report) -> Option<Draft> {
    let owners = get(&document.node, "metadata").and_then(|it| get(it, "ownerReferences"));
    if owners.is_some_and(|owners| !items(owners).is_empty()) {
        report.say(document, OBJECT, "made by ARC", document.at, 0);
        return None;
    }
    let sign_in = SignIn {
        secret: CONTROLLER_SECRET.to_owned(),
        known: None,
        section: CONFIG,
        field: "the controller's credentials",
        at: document.at,
    };
    let mut draft = Draft::new(document, &document.name, sign_in);
    draft.spec = json!({ "acquisition": { "mode": "Registration" } });
    let spec = get(&document.node, "spec")?;
    let mut legacy = Legacy { options, report, daemon: None, labels: vec![] };
    match document.kind.as_str() {
        "Runner" => {
            legacy.say(&draft, LEGACY, "kind Runner", document.at, 0);
            draft.spec["replicas"] = json!(1);
            legacy.runner(&mut draft, fields(spec), "spec");
        }
        "RunnerSet" => {
            legacy.say(&draft, LEGACY, "kind RunnerSet", document.at, 0);
            legacy.stateful(&mut draft, spec);
        }
        _ => legacy.set(&mut draft, spec),
    }
    legacy.end(&mut draft);
    Some(draft)
}

struct Legacy<'a> {
    options: &'a Options,
    report: &'a mut Report,
    /// `dockerEnabled` or `dockerdWithinRunnerContainer`, if one is said.
    daemon: Option<bool>,
    labels: Vec<String>,
}

impl Legacy<'_> {
    fn say(&mut self, draft: &Draft, section: &str, field: &str, at: Position, outcome: usize) {
        self.report.say(&draft.document, section, field, at, outcome);
    }

    /// RunnerDeployment, RunnerReplicaSet.
    fn set(&mut self, draft: &mut Draft, spec: &Node) {
        draft.spec["replicas"] = json!(1);
        for (key, value) in fields(spec) {
            if key.text != "template" {
                self.of_set(draft, key, value);
                continue;
            }
            for (key, value) in fields(value) {
                match key.text.as_str() {
                    "metadata" => self.metadata(draft, value),
                    "spec" => self.runner(draft, fields(value), "spec.template.spec"),
                    _ => self.unknown(draft, &key.text, key.at, "spec.template"),
                }
            }
        }
    }

    /// A RunnerSet has the runner's fields and a StatefulSet's beside each other.
    fn stateful(&mut self, draft: &mut Draft, spec: &Node) {
        draft.spec["replicas"] = json!(1);
        for (key, value) in fields(spec) {
            match key.text.as_str() {
                "template" => {
                    let mut said = Said { report: &mut *self.report, prefix: "spec.template" };
                    pod::template(draft, value, &mut said);
                }
                "replicas"
                | "selector"
                | "effectiveTime"
                | "serviceName"
                | "updateStrategy"
                | "volumeClaimTemplates"
                | "podManagementPolicy"
                | "minReadySeconds"
                | "ordinals"
                | "revisionHistoryLimit"
                | "persistentVolumeClaimRetentionPolicy" => {
                    self.of_set(draft, key, value);
                }
                _ => self.runner(draft, &[(key.clone(), value.clone())], "spec"),
            }
        }
    }

    fn of_set(&mut self, draft: &mut Draft, key: &Key, value: &Node) {
        let field = format!("spec.{}", key.text);
        match key.text.as_str() {
            "replicas" => draft.spec["replicas"] = json(value),
            "revisionHistoryLimit" => draft.spec["rollout"]["historyLimit"] = json(value),
            "selector"
            | "effectiveTime"
            | "serviceName"
            | "updateStrategy"
            | "volumeClaimTemplates"
            | "podManagementPolicy"
            | "minReadySeconds"
            | "ordinals"
            | "persistentVolumeClaimRetentionPolicy" => {}
            other => return self.unknown(draft, other, key.at, "spec"),
        }
        self.say(draft, LEGACY, &field, key.at, 0);
    }

    fn metadata(&mut self, draft: &mut Draft, node: &Node) {
        for (key, value) in fields(node) {
            if ["labels", "annotations"].contains(&key.text.as_str()) {
                draft.metadata.insert(key.text.clone(), json(value));
                self.say(draft, LEGACY, "spec.template.metadata", key.at, 0);
            }
        }
    }

    fn unknown(&mut self, draft: &Draft, field: &str, at: Position, prefix: &str) {
        let mut said = Said { report: &mut *self.report, prefix };
        pod::unknown(draft, field, at, &mut said);
    }

    /// The fields of a runner: its own, and those of its pod.
    fn runner(&mut self, draft: &mut Draft, all: &[(Key, Node)], prefix: &str) {
        for (key, value) in all {
            if key.text == "githubAPICredentialsFrom" {
                // It is said with the connection, where it is known what the secret has.
                let secret = get(value, "secretRef").and_then(|it| text_of(get(it, "name")));
                draft.sign_in.secret = secret.unwrap_or_default();
                draft.sign_in.field = "githubAPICredentialsFrom";
                draft.sign_in.at = key.at;
                continue;
            }
            match self.config(draft, key, value) {
                Some(outcome) => {
                    let called = format!("{prefix}.{}", key.text);
                    let document = draft.document.clone();
                    self.report.say_of(&document, CONFIG, &key.text, &called, key.at, outcome);
                }
                None => self.of_pod(draft, key, value, prefix),
            }
        }
    }

    /// The number of the outcome; nothing for a field of the pod.
    fn config(&mut self, draft: &mut Draft, key: &Key, value: &Node) -> Option<usize> {
        let text = || text_of(Some(value)).unwrap_or_default();
        let github = self.options.github_url.trim_end_matches('/');
        Some(match key.text.as_str() {
            "enterprise" => draft.at(format!("{github}/enterprises/{}", text())),
            "organization" | "repository" => draft.at(format!("{github}/{}", text())),
            "group" => draft.set("group", json(value)),
            "labels" => {
                self.labels = texts(value);
                usize::from(!are_labels(&with_own(&self.labels), false))
            }
            "ephemeral" => usize::from(boolean(value) == Some(false)),
            "image" => pod::image(draft, value),
            "dockerEnabled" => {
                let on = boolean(value) != Some(false);
                self.daemon = Some(self.daemon.unwrap_or(false) || on);
                usize::from(!on)
            }
            "dockerdWithinRunnerContainer" => {
                let on = boolean(value) == Some(true);
                if on {
                    self.daemon = Some(true);
                }
                usize::from(!on)
            }
            "dockerMTU" => draft.daemon_argument(format!("--mtu={}", text())),
            "dockerRegistryMirror" => {
                draft.daemon_argument(format!("--registry-mirror={}", text()))
            }
            "dockerdContainerResources" => draft.daemon("resources", json(value)),
            "dockerVolumeMounts" => draft.daemon("volumeMounts", json(value)),
            "dockerEnv" => draft.daemon("env", json(value)),
            "volumeSizeLimit" => draft.work_folder("emptyDir", "sizeLimit", json(value)),
            "volumeStorageMedium" => draft.work_folder("emptyDir", "medium", json(value)),
            "workVolumeClaimTemplate" => {
                let claim = json!({ "spec": json(value) });
                draft.work_folder("ephemeral", "volumeClaimTemplate", claim)
            }
            "containerMode" => usize::from(text() != "kubernetes"),
            "sidecarContainers" => {
                for container in items(value) {
                    let mut container = json(container);
                    container["restartPolicy"] = json!("Always");
                    draft.push("initContainers", container);
                }
                0
            }
            "workDir" | "dockerVarRunVolumeSizeLimit" => 0,
            _ => return None,
        })
    }

    fn of_pod(&mut self, draft: &mut Draft, key: &Key, value: &Node, prefix: &str) {
        let mut said = Said { report: &mut *self.report, prefix };
        match key.text.as_str() {
            // The legacy runner has the fields of its container beside those of its pod.
            name @ ("env" | "envFrom" | "resources" | "volumeMounts" | "imagePullPolicy") => {
                pod::runner_field(draft, name, key.at, value, &mut said);
            }
            name @ ("containers"
            | "initContainers"
            | "volumes"
            | "nodeSelector"
            | "affinity"
            | "tolerations"
            | "priorityClassName"
            | "runtimeClassName"
            | "securityContext"
            | "serviceAccountName"
            | "automountServiceAccountToken"
            | "imagePullSecrets"
            | "terminationGracePeriodSeconds"
            | "ephemeralContainers"
            | "hostAliases"
            | "topologySpreadConstraints"
            | "dnsPolicy"
            | "dnsConfig"
            | "enableServiceLinks") => {
                pod::field(draft, name, key.at, value, &mut said);
            }
            other => pod::unknown(draft, other, key.at, &mut said),
        }
    }

    /// What follows from all fields together.
    fn end(&mut self, draft: &mut Draft) {
        draft.spec["labels"] = json!(with_own(&self.labels));
        match self.daemon {
            Some(true) => draft.docker(),
            Some(false) => draft.class["container"]["mode"] = json!("None"),
            None => {
                draft.docker();
                self.say(draft, CONFIG, "dockerEnabled", draft.document.at, 2);
            }
        }
        if draft.url.is_none() {
            let note = "spec needs enterprise, organization or repository";
            let at = draft.document.at;
            self.report.add(&draft.document, "spec", at, crate::Verdict::Blocked, "", note);
        }
    }
}

fn with_own(labels: &[String]) -> Vec<String> {
    let mut all = labels.to_vec();
    for own in OWN_LABELS {
        if !all.iter().any(|label| label.eq_ignore_ascii_case(own)) {
            all.push(own.to_owned());
        }
    }
    all
}

impl Draft {
    fn at(&mut self, url: String) -> usize {
        self.url = Some(url);
        0
    }

    fn set(&mut self, field: &str, value: Value) -> usize {
        self.spec[field] = value;
        0
    }

    fn daemon(&mut self, field: &str, value: Value) -> usize {
        self.container("initContainers", sekisho_pods::CONTAINER_DOCKER)[field] = value;
        0
    }

    fn daemon_argument(&mut self, argument: String) -> usize {
        let docker = self.container("initContainers", sekisho_pods::CONTAINER_DOCKER);
        match docker["args"].as_array_mut() {
            Some(args) => args.push(json!(argument)),
            None => docker["args"] = json!([argument]),
        }
        0
    }

    fn work_folder(&mut self, kind: &str, field: &str, value: Value) -> usize {
        self.work(kind, field, value);
        0
    }
}
