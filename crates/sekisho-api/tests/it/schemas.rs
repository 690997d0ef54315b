//! Each definition, as the API server would get it.

use std::path::Path;

use sekisho_api::schema;
use serde_json::Value;

fn definitions() -> Vec<Value> {
    schema::crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect()
}

fn kind(definition: &Value) -> String {
    definition["spec"]["names"]["kind"].as_str().unwrap().to_owned()
}

#[test]
fn the_committed_files_are_those_of_the_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
    let mut known = vec![];
    for (name, text) in schema::files().unwrap() {
        let committed = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(committed == text, "deploy/crds/{name} is old: run `cargo xtask crds`");
        known.push(name);
    }
    let mut there: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "kustomization.yaml")
        .collect();
    there.sort();
    known.sort();
    assert_eq!(there, known, "deploy/crds has the definitions and nothing else");
}

#[test]
fn the_page_has_every_reason() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operator.md");
    let page = std::fs::read_to_string(page).unwrap_or_default();
    let table = sekisho_api::condition::markdown();
    assert!(page.contains(&table), "docs/operator.md has other reasons: run `cargo xtask tables`");
}

/// Every rule says in a sentence what it wants: the API server's own message is the expression.
#[test]
fn every_rule_has_a_sentence() {
    let mut rules = 0;
    for definition in definitions() {
        walk(&definition, &mut |path, value| {
            for rule in value["x-kubernetes-validations"].as_array().into_iter().flatten() {
                rules += 1;
                let message = rule["message"].as_str().unwrap_or_default();
                assert!(message.len() > 20, "{} {path}: {rule}", kind(&definition));
            }
        });
    }
    assert!(rules >= 20, "only {rules} rules");
}

/// The API server keeps the rules of a field by their expression, and refuses a definition in which
/// two are the same, or in which a default breaks the field's own bounds.
#[test]
fn rules_differ_and_defaults_obey_them() {
    for definition in definitions() {
        let of = kind(&definition);
        walk(&definition, &mut |path, value| {
            let rules = value["x-kubernetes-validations"].as_array().into_iter().flatten();
            let mut rules: Vec<_> = rules.map(|rule| rule["rule"].to_string()).collect();
            rules.sort();
            let all = rules.len();
            rules.dedup();
            assert_eq!(rules.len(), all, "{of}{path} has the same rule twice");
            if let (Some(default), Some(least)) =
                (value["default"].as_array(), value["minItems"].as_u64())
            {
                assert!(default.len() as u64 >= least, "{of}{path}: {default:?}");
            }
        });
    }
}

/// Without bounds, the API server refuses CEL rules as too expensive, and etcd fills.
#[test]
fn everything_in_a_spec_is_bounded() {
    // Fields of Kubernetes' own types, whose schema is Kubernetes'.
    const FOREIGN: &[&str] = &[".tolerations"];
    for definition in definitions() {
        let spec =
            &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        walk(spec, &mut |path, value| {
            if FOREIGN.iter().any(|foreign| path.contains(foreign)) {
                return;
            }
            let of = format!("{}{path}", kind(&definition));
            match value["type"].as_str() {
                Some("string") if value.get("enum").is_none() => {
                    assert!(value.get("maxLength").is_some(), "{of} has no maxLength");
                }
                Some("array") => {
                    assert!(value.get("maxItems").is_some(), "{of} has no maxItems");
                }
                Some("object") if value.get("additionalProperties").is_some() => {
                    assert!(value.get("maxProperties").is_some(), "{of} has no maxProperties");
                }
                Some("integer") => {
                    assert!(value.get("minimum").is_some(), "{of} has no minimum");
                }
                _ => {}
            }
        });
    }
}

#[test]
fn conditions_are_a_list_map_by_type() {
    for definition in definitions().iter().filter(|it| kind(it) != "RunnerClass") {
        let conditions = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
            ["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{}", kind(definition));
        assert_eq!(conditions["x-kubernetes-list-map-keys"][0], "type");
    }
}

#[test]
fn the_columns_answer_why_a_job_waits() {
    let columns = |wanted: &str| -> Vec<String> {
        let definitions = definitions();
        let definition = definitions.iter().find(|it| kind(it) == wanted).unwrap();
        definition["spec"]["versions"][0]["additionalPrinterColumns"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|column| column["priority"].as_i64().unwrap_or(0) == 0)
            .map(|column| column["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        columns("RunnerDeployment"),
        ["Ready", "Reason", "Waiting", "Desired", "Pending", "Idle", "Busy", "Age"]
    );
    assert_eq!(columns("Runner"), ["State", "Repository", "Job", "Result", "Age"]);
}

#[test]
fn deployments_and_replica_sets_can_be_scaled() {
    for definition in definitions() {
        let scale = &definition["spec"]["versions"][0]["subresources"]["scale"];
        let scalable =
            ["RunnerDeployment", "RunnerReplicaSet"].contains(&kind(&definition).as_str());
        assert_eq!(!scale.is_null(), scalable, "{}", kind(&definition));
        if scalable {
            assert_eq!(scale["specReplicasPath"], ".spec.replicas");
            assert_eq!(scale["statusReplicasPath"], ".status.runners.live");
            assert_eq!(scale["labelSelectorPath"], ".status.selector");
        }
    }
}

/// What a user writes at least, and what is filled in.
#[test]
fn the_least_that_can_be_written_is_read() {
    let spec: sekisho_api::RunnerDeploymentSpec = serde_json::from_value(serde_json::json!({
        "connectionRef": "acme", "classRef": "default", "labels": ["image-build"],
        "scaling": { "max": 20 }
    }))
    .unwrap();
    assert_eq!(spec.group, "Default");
    assert_eq!(spec.scaling.unwrap().scale_down_delay_seconds, 120);
    assert_eq!(spec.lifecycle.pending_timeout_seconds, 600);
    let class: sekisho_api::RunnerClassSpec = serde_json::from_str("{}").unwrap();
    assert_eq!(class.container.mode, sekisho_api::ContainerMode::Rootless);
    assert_eq!(class.security.profile, sekisho_api::SecurityProfile::Restricted);
}

/// A field that a later version added does not make this one fail.
#[test]
fn unknown_fields_are_ignored() {
    let spec: sekisho_api::RunnerClassSpec =
        serde_json::from_str(r#"{ "container": { "mode": "None", "later": 1 }, "later": {} }"#)
            .unwrap();
    assert_eq!(spec.container.mode, sekisho_api::ContainerMode::None);
}

fn walk(value: &Value, seen: &mut dyn FnMut(&str, &Value)) {
    fn step(path: &str, value: &Value, seen: &mut dyn FnMut(&str, &Value)) {
        match value {
            Value::Object(fields) => {
                seen(path, value);
                for (name, field) in fields {
                    let path = match name.as_str() {
                        "properties" | "items" | "openAPIV3Schema" => path.to_owned(),
                        _ => format!("{path}.{name}"),
                    };
                    step(&path, field, seen);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| step(path, item, seen)),
            _ => {}
        }
    }
    step("", value, seen);
}
