//! The version before: what it stored and what it reads.

use std::path::Path;

use sekisho_api::schema;
use serde_json::Value;

fn definitions() -> Vec<Value> {
    schema::crds().iter().map(|crd| serde_json::to_value(crd).unwrap()).collect()
}

/// The definitions of the version before, which are committed at a release: what was stored under them is
/// good under these, and what the version before reads of these it understands. So fields are only added,
/// none is required that was not, no bound is narrower and no rule is new where there was a field before.
#[test]
fn what_the_version_before_stored_is_good_now() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("previous");
    let mut compared = 0;
    for definition in definitions() {
        let name = definition["spec"]["names"]["plural"].as_str().unwrap();
        let text = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        let before: Value = serde_saphyr::from_str(&text).unwrap();
        let schema = |it: &Value| it["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        assert_eq!(
            before["spec"]["versions"][0]["name"],
            definition["spec"]["versions"][0]["name"]
        );
        let mut broken = Vec::new();
        compare(name, &schema(&before), &schema(&definition), &mut broken);
        assert_eq!(broken, [""; 0]);
        compared += 1;
    }
    assert_eq!(compared, 5);
}

/// What of `now` refuses what `before` took.
fn compare(path: &str, before: &Value, now: &Value, broken: &mut Vec<String>) {
    let mut differs = |what: &str| broken.push(format!("{path}: {what}"));
    if before["type"] != now["type"] || before["pattern"] != now["pattern"] {
        differs("another type");
    }
    for (least, name) in [
        (true, "minimum"),
        (true, "minLength"),
        (true, "minItems"),
        (false, "maximum"),
        (false, "maxLength"),
        (false, "maxItems"),
        (false, "maxProperties"),
    ] {
        let narrower = match (before[name].as_f64(), now[name].as_f64()) {
            (None, Some(_)) => true,
            (Some(before), Some(now)) => {
                if least {
                    now > before
                } else {
                    now < before
                }
            }
            (_, None) => false,
        };
        if narrower {
            differs(name);
        }
    }
    let list = |it: &Value, field: &str| it[field].as_array().cloned().unwrap_or_default();
    let new = |field: &str| {
        let known = list(before, field);
        list(now, field).into_iter().filter(move |it| !known.contains(it)).collect::<Vec<_>>()
    };
    for rule in new("x-kubernetes-validations") {
        differs(&format!("a rule that was not there: {rule}"));
    }
    let known: Vec<String> =
        before["properties"].as_object().into_iter().flatten().map(|it| it.0.clone()).collect();
    for field in new("required") {
        differs(&format!("{field} is required"));
    }
    for value in list(before, "enum") {
        if !list(now, "enum").contains(&value) {
            differs(&format!("{value} is not taken any more"));
        }
    }
    for name in known {
        let path = format!("{path}.{name}");
        match now["properties"].get(&name) {
            None => broken.push(format!("{path} is gone")),
            Some(now) => compare(&path, &before["properties"][&name], now, broken),
        }
    }
    for inner in ["items", "additionalProperties"] {
        if before[inner].is_object() {
            compare(&format!("{path}[]"), &before[inner], &now[inner], broken);
        }
    }
}

#[test]
fn a_change_that_breaks_what_is_stored_is_found() {
    let before =
        definitions().remove(0)["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    let spec = "/properties/spec/properties/url";
    #[track_caller]
    fn check(before: &Value, change: impl FnOnce(&mut Value), want: &str) {
        let mut now = before.clone();
        change(&mut now);
        let mut broken = Vec::new();
        compare("c", before, &now, &mut broken);
        assert_eq!(broken, [want]);
    }
    check(
        &before,
        |now| now.pointer_mut(spec).unwrap()["maxLength"] = 100.into(),
        "c.spec.url: maxLength",
    );
    check(
        &before,
        |now| now.pointer_mut(spec).unwrap()["type"] = "integer".into(),
        "c.spec.url: another type",
    );
    check(
        &before,
        |now| {
            drop(
                now.pointer_mut("/properties/spec/properties")
                    .unwrap()
                    .as_object_mut()
                    .unwrap()
                    .remove("auth"),
            )
        },
        "c.spec.auth is gone",
    );
    check(
        &before,
        |now| {
            now.pointer_mut("/properties/spec").unwrap()["required"] =
                serde_json::json!(["auth", "url", "webhook"])
        },
        "c.spec: \"webhook\" is required",
    );
}
