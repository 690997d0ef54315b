//! What becomes of one set of ARC's: a connection, a class, a RunnerDeployment.

use std::collections::BTreeMap;

use sekisho_api::{
    DEPLOYMENT_NAME_LENGTH_MAX, GROUP, PodTemplate, RunnerClassSpec, RunnerDeploymentSpec,
    RunnerSpec, VERSION,
};
use sekisho_pods::{Cluster, PodError, Reach, RunnerPod};
use sekisho_workflow::Position;
use serde_json::{Map, Value, json};

use crate::Options;
use crate::credentials::{Credentials, Known};
use crate::report::Report;
use crate::source::Document;
use crate::table::OBJECT;

/// Stands where the App's number is not known.
const APP_ID_UNKNOWN: &str = "set-the-app-id";
/// GitHub's bounds on labels, which are the schema's.
const LABELS_MAX: usize = 16;
const LABEL_LENGTH_MAX: usize = 64;

/// How the connection signs in.
#[derive(Clone, Debug)]
pub(crate) struct SignIn {
    /// The secret's name.
    pub(crate) secret: String,
    /// What the file itself says of it.
    pub(crate) known: Option<Credentials>,
    /// The rule that is about it, and where it stands.
    pub(crate) section: &'static str,
    pub(crate) field: &'static str,
    pub(crate) at: Position,
}

/// One set, half way.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    /// What it was.
    pub(crate) document: Document,
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    /// Whose jobs.
    pub(crate) url: Option<String>,
    pub(crate) sign_in: SignIn,
    /// `GitHubConnection.spec.proxy`; null where there is none.
    pub(crate) proxy: Value,
    /// `RunnerClass.spec`.
    pub(crate) class: Value,
    /// `RunnerDeployment.spec`, without references and template.
    pub(crate) spec: Value,
    /// `spec.template.metadata`.
    pub(crate) metadata: Map<String, Value>,
    /// `spec.template.spec`.
    pub(crate) pod: Map<String, Value>,
}

impl Draft {
    pub(crate) fn new(document: &Document, name: &str, sign_in: SignIn) -> Self {
        Self {
            document: document.clone(),
            name: name.to_owned(),
            namespace: document.namespace.clone(),
            url: None,
            sign_in,
            proxy: Value::Null,
            class: json!({}),
            spec: json!({}),
            metadata: Map::new(),
            pod: Map::new(),
        }
    }

    /// The container of a list, made if it is not there.
    pub(crate) fn container(&mut self, list: &str, name: &str) -> &mut Value {
        let all = self.pod.entry(list).or_insert_with(|| json!([]));
        if !all.is_array() {
            *all = json!([]);
        }
        let known = all.as_array().and_then(|all| all.iter().position(|it| it["name"] == name));
        let index = known.unwrap_or_else(|| {
            let all = all.as_array_mut().map(|all| {
                all.push(json!({ "name": name }));
                all.len() - 1
            });
            all.unwrap_or_default()
        });
        &mut all[index]
    }

    /// Adds to a list of the pod.
    pub(crate) fn push(&mut self, list: &str, item: Value) {
        let all = self.pod.entry(list).or_insert_with(|| json!([]));
        if let Some(all) = all.as_array_mut() {
            all.push(item);
        }
    }

    /// The volume of the job's files, as one of this source.
    pub(crate) fn work(&mut self, kind: &str, field: &str, value: Value) {
        let all = self.pod.entry("volumes").or_insert_with(|| json!([]));
        let Some(all) = all.as_array_mut() else { return };
        let index = all.iter().position(|it| it["name"] == "work").unwrap_or_else(|| {
            all.push(json!({ "name": "work" }));
            all.len() - 1
        });
        all[index][kind][field] = value;
    }

    /// Builds images as ARC does: with a daemon beside the runner.
    pub(crate) fn docker(&mut self) {
        self.class["container"]["mode"] = json!("DockerSidecar");
        self.class["security"]["profile"] = json!("Privileged");
    }
}

/// Whether these can be labels of a RunnerDeployment.
pub(crate) fn are_labels(labels: &[String], scale_set: bool) -> bool {
    let fine = |label: &String| {
        (1..=LABEL_LENGTH_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !(scale_set && label.eq_ignore_ascii_case("self-hosted"))
    };
    (1..=LABELS_MAX).contains(&labels.len()) && labels.iter().all(fine)
}

/// Makes the manifests: connections and classes that are the same are made once.
pub(crate) fn finish(
    drafts: Vec<Draft>,
    known: &Known,
    options: &Options,
    report: &mut Report,
) -> Vec<Value> {
    let mut out = Output::default();
    for mut draft in drafts {
        draft.namespace = draft.namespace.or_else(|| options.namespace.clone());
        let Some(name) = out.deployment_name(&draft, report) else { continue };
        let connection = out.connection(&draft, known, options, report);
        profile(&mut draft, report);
        let class = out.class(&name, &draft.class);
        let mut spec = json!({ "connectionRef": connection, "classRef": class });
        if let (Some(spec), Some(fields)) = (spec.as_object_mut(), draft.spec.as_object()) {
            spec.extend(fields.clone());
        }
        for (field, value) in [("metadata", draft.metadata), ("spec", draft.pod)] {
            if !value.is_empty() {
                spec["template"][field] = Value::Object(value);
            }
        }
        out.deployments.push(manifest("RunnerDeployment", &name, draft.namespace.as_deref(), spec));
    }
    out.manifests()
}

#[derive(Default)]
struct Output {
    names: Vec<(Option<String>, String)>,
    /// By namespace; and url, secret and proxy.
    connections: BTreeMap<(Option<String>, [String; 3]), (String, Value)>,
    classes: Vec<(String, Value)>,
    deployments: Vec<Value>,
}

impl Output {
    fn manifests(self) -> Vec<Value> {
        let classes =
            self.classes.into_iter().map(|(name, spec)| manifest("RunnerClass", &name, None, spec));
        let connections = self.connections.into_values().map(|(_, manifest)| manifest);
        classes.chain(connections).chain(self.deployments).collect()
    }

    /// The set's own, if it is short enough and not taken.
    fn deployment_name(&mut self, draft: &Draft, report: &mut Report) -> Option<String> {
        let at = draft.document.at;
        if draft.name.is_empty() {
            report.say(&draft.document, OBJECT, "metadata.name", at, 2);
            return None;
        }
        let names = &self.names;
        let is_free = |name: &str| !names.contains(&(draft.namespace.clone(), name.to_owned()));
        let name = free(&object_name(&draft.name), DEPLOYMENT_NAME_LENGTH_MAX, is_free);
        let changed = name != draft.name;
        report.say(&draft.document, OBJECT, "metadata.name", at, usize::from(changed));
        self.names.push((draft.namespace.clone(), name.clone()));
        Some(name)
    }

    fn connection(
        &mut self,
        draft: &Draft,
        known: &Known,
        options: &Options,
        report: &mut Report,
    ) -> String {
        let sign_in = &draft.sign_in;
        let url = draft.url.clone().unwrap_or_default();
        let secret = (draft.namespace.clone(), sign_in.secret.clone());
        let plain = (draft.document.namespace.clone(), sign_in.secret.clone());
        let credentials =
            sign_in.known.as_ref().or_else(|| known.get(&secret)).or_else(|| known.get(&plain));
        let (auth, outcome) = auth(&sign_in.secret, credentials, options);
        report.say(&draft.document, sign_in.section, sign_in.field, sign_in.at, outcome);
        let proxy = draft.proxy.to_string();
        let key = (draft.namespace.clone(), [url.clone(), sign_in.secret.clone(), proxy]);
        if let Some((name, _)) = self.connections.get(&key) {
            return name.clone();
        }
        let account = url.split("//").nth(1).and_then(|rest| rest.split_once('/'));
        let base = object_name(account.map_or("github", |(_, account)| account));
        let taken: Vec<&str> = self
            .connections
            .iter()
            .filter(|((namespace, ..), _)| *namespace == draft.namespace)
            .map(|(_, (name, _))| name.as_str())
            .collect();
        let name = free(&base, LABEL_LENGTH_MAX - 1, |name| !taken.contains(&name));
        let mut spec = json!({ "url": url, "auth": auth });
        if !draft.proxy.is_null() {
            spec["proxy"] = draft.proxy.clone();
        }
        let manifest = manifest("GitHubConnection", &name, draft.namespace.as_deref(), spec);
        self.connections.insert(key, (name.clone(), manifest));
        name
    }

    fn class(&mut self, name: &str, spec: &Value) -> String {
        if let Some((known, _)) = self.classes.iter().find(|(_, known)| known == spec) {
            return known.clone();
        }
        let classes = &self.classes;
        let is_free = |name: &str| !classes.iter().any(|(known, _)| known == name);
        let name = free(name, DEPLOYMENT_NAME_LENGTH_MAX, is_free);
        self.classes.push((name.clone(), spec.clone()));
        name
    }
}

fn auth(secret: &str, credentials: Option<&Credentials>, options: &Options) -> (Value, usize) {
    let app = |id: &str, installation: Option<&String>| {
        let key = json!({ "name": secret, "key": "github_app_private_key" });
        let mut app = json!({ "clientId": id, "privateKeySecretRef": key });
        if let Some(id) = installation.and_then(|id| id.parse::<i64>().ok()) {
            app["installationId"] = json!(id);
        }
        json!({ "app": app })
    };
    match credentials {
        Some(Credentials { app_id: Some(id), installation_id, .. }) => {
            (app(id, installation_id.as_ref()), 0)
        }
        Some(Credentials { token: true, .. }) => {
            let key = json!({ "name": secret, "key": "github_token" });
            (json!({ "token": { "secretRef": key } }), 1)
        }
        _ => match &options.app_id {
            Some(id) => (app(id, None), 3),
            None => (app(APP_ID_UNKNOWN, None), 2),
        },
    }
}

fn manifest(kind: &str, name: &str, namespace: Option<&str>, spec: Value) -> Value {
    let mut metadata = json!({ "name": name });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind, "metadata": metadata, "spec": spec
    })
}

/// As a name of Kubernetes: what is not allowed becomes `-`.
fn object_name(text: &str) -> String {
    let name: String = text
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    name.trim_matches('-').to_owned()
}

/// `base`, cut to `length`, and with a number at its end if it is taken.
fn free(base: &str, length: usize, is_free: impl Fn(&str) -> bool) -> String {
    let cut = |length: usize| base.chars().take(length).collect::<String>();
    let trimmed = |text: String| text.trim_end_matches('-').to_owned();
    let mut name = trimmed(cut(length));
    let mut number = 2;
    while !is_free(&name) {
        let end = format!("-{number}");
        name = trimmed(cut(length - end.len())) + &end;
        number += 1;
    }
    name
}

/// Makes the pod, as the operator will. What only a looser profile allows makes the class one; what
/// none allows is blocked, with the field.
fn profile(draft: &mut Draft, report: &mut Report) {
    const FIELD: &str = "the pod as a whole";
    const PROFILES: [&str; 3] = ["Restricted", "Baseline", "Privileged"];
    let before = draft.class.clone();
    let first = before["security"]["profile"].as_str().unwrap_or(PROFILES[0]);
    let from = PROFILES.iter().position(|profile| *profile == first).unwrap_or_default();
    let Err(refused) = try_pod(draft) else { return };
    let looser = PROFILES[from + 1..].iter().any(|profile| {
        draft.class["security"]["profile"] = json!(profile);
        try_pod(draft).is_ok()
    });
    if !looser {
        // Another profile does not help.
        draft.class = before;
    }
    let rule = crate::table::find(OBJECT, FIELD);
    let (verdict, note) = rule.outcomes[usize::from(!looser)];
    let note = format!("{note}: {refused}");
    report.add(&draft.document, FIELD, draft.document.at, verdict, rule.to, &note);
}

fn try_pod(draft: &Draft) -> Result<(), String> {
    let class: RunnerClassSpec = serde_json::from_value(draft.class.clone())
        .map_err(|error| format!("its class is none: {error}"))?;
    let mut spec = draft.spec.clone();
    spec["connectionRef"] = json!("connection");
    spec["classRef"] = json!("class");
    let spec: RunnerDeploymentSpec = serde_json::from_value(spec)
        .map_err(|error| format!("its RunnerDeployment is none: {error}"))?;
    let template = json!({ "metadata": draft.metadata, "spec": draft.pod });
    let template: PodTemplate =
        serde_json::from_value(template).map_err(|error| error.to_string())?;
    let runner = RunnerSpec {
        deployment: "deployment".to_owned(),
        connection_ref: spec.connection_ref,
        class_ref: spec.class_ref,
        mode: spec.acquisition.mode,
        group: spec.group,
        labels: spec.labels,
        trust_zone: spec.trust_zone,
        lifecycle: spec.lifecycle,
    };
    let pod = RunnerPod {
        name: "runner",
        namespace: "namespace",
        uid: "uid",
        revision: "revision",
        spec: &runner,
        class: &class,
        template: &template,
        cluster: Cluster { user_namespaces: true },
        reach: Reach::default(),
    };
    sekisho_pods::pod(&pod).map(drop).map_err(|error: PodError| error.to_string())
}
