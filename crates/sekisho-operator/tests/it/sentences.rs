//! What is written wrongly is refused by the API server, with the sentence of the schema.
//!
//! On a real one alone: the double has no CEL. Each sentence of each definition has its mistake here.

use std::collections::BTreeSet;

use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::world::{Server, World};

pub(crate) const ALL: &[(&str, crate::world::Scenario)] =
    &[("what_is_written_wrongly_is_refused_with_a_sentence", |server| {
        Box::pin(what_is_written_wrongly_is_refused_with_a_sentence(server))
    })];

/// What is good of each kind, for mistakes to be laid over.
fn good(kind: &str) -> Value {
    let runner = json!({
        "deployment": "good", "connectionRef": "acme", "classRef": "default", "mode": "ScaleSet",
        "group": "Default", "labels": ["x"], "trustZone": "PullRequest"
    });
    match kind {
        "GitHubConnection" => {
            let token = json!({ "secretRef": { "name": "github", "key": "token" } });
            json!({ "url": "https://github.com/acme", "auth": { "token": token } })
        }
        "RunnerDeployment" => {
            json!({ "connectionRef": "acme", "classRef": "default", "labels": ["x"], "replicas": 0 })
        }
        "RunnerReplicaSet" => json!({ "replicas": 0, "revision": "a", "runner": runner }),
        "Runner" => runner,
        _ => json!({}),
    }
}

/// What is laid over what is good; whether as a change of it; and how the sentence begins.
type Mistake = (Value, bool, &'static str);

fn of_connections() -> Vec<Mistake> {
    let app = json!({ "clientId": "Iv1", "privateKeySecretRef": { "name": "a", "key": "b" } });
    let proxy = |url: &str, none: &str| json!({ "proxy": { "url": url, "noProxy": [none] } });
    let url = |url: &str| json!({ "url": url });
    vec![
        (url("http://ghe.acme.test/acme"), false, "url must begin with https://"),
        (url("https://github.com/a/b/c"), false, "url must name an organization"),
        (url("https://github.com/other"), true, "url cannot be changed"),
        (json!({ "auth": { "app": app } }), false, "auth must have exactly one of `app`"),
        (json!({ "caBundle": "MIIB" }), false, "caBundle must be certificates in PEM"),
        (proxy("http://u:p@proxy:1", "a"), false, "proxy.url must be http://HOST:PORT"),
        (proxy("http://proxy:1", "a,b"), false, "proxy.noProxy has one host in each entry"),
    ]
}

fn of_classes() -> Vec<Mistake> {
    let egress = |mut rule: Value| {
        rule["ports"] = json!([443]);
        json!({ "egress": [rule] })
    };
    let mode = json!({ "container": { "mode": "BuildKit" } });
    let seccomp = json!({ "security": { "localhostSeccompProfile": "a/../b" } });
    let alone = json!({ "cidr": "10.0.0.0/8", "podLabels": {} });
    let long = "k".repeat(320);
    vec![
        (mode, false, "container.mode DockerSidecar and BuildKit need"),
        (json!({ "capacity": { "only": true } }), false, "capacity.only needs capacity.prefer"),
        (egress(json!({})), false, "an egress rule must have exactly one of"),
        (egress(alone), false, "podLabels narrows namespaceLabels"),
        (egress(json!({ "cidr": "10.0.0.0/99" })), false, "cidr must be a network"),
        (json!({ "nodeSelector": { long: "v" } }), false, "the key of a label has at most 317"),
        (json!({ "limits": { "cpu": "many" } }), false, "a resource is a quantity"),
        (json!({ "runner": { "flavor": "Sekisho" } }), false, "runner.flavor Sekisho needs"),
        (seccomp, false, "localhostSeccompProfile is a path below"),
    ]
}

fn of_deployments() -> Vec<Mistake> {
    let bounds = json!({ "replicas": null, "scaling": { "min": 2, "max": 1 } });
    let mode = json!({ "acquisition": { "mode": "Registration" } });
    let zone = json!({ "trustZone": "ProtectedBranch" });
    vec![
        (json!({ "scaling": { "max": 1 } }), false, "exactly one of `replicas`"),
        (json!({ "labels": ["self-hosted"] }), false, "a scale set has no label `self-hosted`"),
        (json!({ "labels": ["a b"] }), false, "a label has letters, digits"),
        (bounds, false, "scaling.min must not be above"),
        (json!({ "labels": ["y"] }), true, "the first label is the scale set's name"),
        (json!({ "connectionRef": "b" }), true, "connectionRef cannot be changed"),
        (mode, true, "acquisition.mode cannot be changed"),
        (zone, true, "trustZone cannot be changed"),
    ]
}

fn of_runners() -> Vec<(&'static str, Mistake)> {
    let set = "RunnerReplicaSet";
    let labels = json!({ "labels": ["y"] });
    vec![
        (set, (json!({ "revision": "b" }), true, "revision cannot be changed")),
        (set, (json!({ "runner": labels }), true, "runner cannot be changed")),
        ("Runner", (labels, true, "the spec of a Runner cannot be changed")),
    ]
}

/// All of them, by kind.
fn mistakes() -> Vec<(&'static str, Mistake)> {
    let mut all = of_runners();
    all.extend(of_connections().into_iter().map(|it| ("GitHubConnection", it)));
    all.extend(of_classes().into_iter().map(|it| ("RunnerClass", it)));
    all.extend(of_deployments().into_iter().map(|it| ("RunnerDeployment", it)));
    all
}

fn lay(over: &mut Value, what: &Value) {
    let Some(fields) = what.as_object() else { return over.clone_from(what) };
    for (name, field) in fields {
        match field {
            Value::Object(_) if over[name].is_object() => lay(&mut over[name], field),
            Value::Null => drop(over.as_object_mut().unwrap().remove(name)),
            field => over[name].clone_from(field),
        }
    }
}

/// All sentences of all definitions.
fn sentences() -> BTreeSet<String> {
    fn walk(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                let rules = fields.get("x-kubernetes-validations").and_then(Value::as_array);
                let sentences = rules.into_iter().flatten().map(|rule| rule["message"].as_str());
                found.extend(sentences.map(|it| it.unwrap().to_owned()));
                fields.values().for_each(|field| walk(field, found));
            }
            Value::Array(all) => all.iter().for_each(|it| walk(it, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    for crd in sekisho_api::schema::crds() {
        walk(&json!(crd), &mut found);
    }
    found
}

async fn what_is_written_wrongly_is_refused_with_a_sentence(server: Server) {
    let world = World::new(&server, |_| ()).await;
    let api = |kind: &str| -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk("runners.sekisho.dev", "v1alpha1", kind);
        let plural = if kind == "RunnerClass" {
            "runnerclasses".to_owned()
        } else {
            format!("{}s", kind.to_lowercase())
        };
        let resource = ApiResource::from_gvk_with_plural(&gvk, &plural);
        match kind {
            "RunnerClass" => Api::all_with(world.client.clone(), &resource),
            _ => Api::namespaced_with(world.client.clone(), &world.namespace, &resource),
        }
    };
    let object = |kind: &str, name: &str, spec: Value| -> DynamicObject {
        let metadata = json!({ "name": name });
        serde_json::from_value(json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec
        }))
        .unwrap()
    };
    let mut unseen = sentences();
    let mut check = |error: kube::Error, begins: &str| {
        let kube::Error::Api(status) = error else { panic!("{error}") };
        assert_eq!(status.code, 422, "{}", status.message);
        assert!(status.message.contains(begins), "`{begins}` is not in: {}", status.message);
        unseen.retain(|sentence| !status.message.contains(sentence.as_str()));
    };
    for kind in ["GitHubConnection", "RunnerDeployment", "RunnerReplicaSet", "Runner"] {
        api(kind).create(&PostParams::default(), &object(kind, "good", good(kind))).await.unwrap();
    }
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    for (kind, (mistake, is_change, begins)) in mistakes() {
        let error = if is_change {
            let patch = Patch::Merge(json!({ "spec": mistake }));
            api(kind).patch("good", &PatchParams::default(), &patch).await.unwrap_err()
        } else {
            let mut spec = good(kind);
            lay(&mut spec, &mistake);
            api(kind).create(&dry, &object(kind, "bad", spec)).await.unwrap_err()
        };
        check(error, begins);
    }
    let long = "a".repeat(31);
    let object = object("RunnerDeployment", &long, good("RunnerDeployment"));
    let error = api("RunnerDeployment").create(&dry, &object).await.unwrap_err();
    check(error, "metadata.name has at most 30 characters");
    assert_eq!(unseen, BTreeSet::new(), "nothing here breaks these rules");
}
