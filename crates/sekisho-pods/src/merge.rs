//! One pod laid over another: objects field by field, lists of named things by name.

use serde_json::{Map, Value};

/// Lists whose items are the same thing when this field is.
const KEYED: &[(&str, &str)] = &[
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("volumeMounts", "mountPath"),
    ("hostAliases", "ip"),
];

/// Lists of which both are wanted.
const APPENDED: &[&str] = &["envFrom", "topologySpreadConstraints", "supplementalGroups"];

/// Things that are one of many kinds: another kind replaces all of it.
const WHOLE: &[&str] = &["volumes", "env"];

/// Lays `patch` over `base`. A `null` says nothing; a list that is neither keyed nor appended
/// replaces the one below.
pub(crate) fn lay_over(base: &mut Value, patch: &Value) {
    let (Some(base), Some(patch)) = (base.as_object_mut(), patch.as_object()) else {
        if !patch.is_null() {
            *base = patch.clone();
        }
        return;
    };
    for (name, value) in patch.iter().filter(|(_, value)| !value.is_null()) {
        match base.get_mut(name) {
            None => drop(base.insert(name.clone(), value.clone())),
            Some(below) => field(name, below, value),
        }
    }
}

fn field(name: &str, below: &mut Value, value: &Value) {
    let key = KEYED.iter().find(|(list, _)| *list == name).map(|(_, key)| *key);
    match (below.as_array_mut(), value.as_array(), key) {
        (Some(below), Some(items), Some(key)) => {
            for item in items {
                let same = below.iter_mut().find(|it| it[key] == item[key]);
                match same {
                    Some(same) if WHOLE.contains(&name) => *same = item.clone(),
                    Some(same) => lay_over(same, item),
                    None => below.push(item.clone()),
                }
            }
        }
        (Some(below), Some(items), None) if APPENDED.contains(&name) => {
            below.extend(items.iter().cloned());
        }
        _ => lay_over(below, value),
    }
}

/// The path of a field of `written` that is not in `read`, which is what a typed reader kept of it.
pub(crate) fn unknown_field(written: &Value, read: &Value, path: &str) -> Option<String> {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => unknown_of(written, read, path),
        (Value::Array(written), Value::Array(read)) => {
            written.iter().zip(read).enumerate().find_map(|(index, (written, read))| {
                let name = written["name"].as_str().map(str::to_owned);
                let name = name.unwrap_or_else(|| index.to_string());
                unknown_field(written, read, &format!("{path}[{name}]"))
            })
        }
        _ => None,
    }
}

fn unknown_of(
    written: &Map<String, Value>,
    read: &Map<String, Value>,
    path: &str,
) -> Option<String> {
    written.iter().filter(|(_, value)| !value.is_null()).find_map(|(name, value)| {
        let path = format!("{path}.{name}");
        match read.get(name) {
            None => Some(path),
            Some(read) => unknown_field(value, read, &path),
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(base: Value, patch: &Value, want: &Value) {
        let mut merged = base;
        lay_over(&mut merged, patch);
        assert_eq!(&merged, want);
    }

    #[test]
    fn named_things_are_merged_and_others_replaced() {
        check(
            json!({ "containers": [{ "name": "runner", "image": "a",
                "env": [{ "name": "A", "value": "1" }], "command": ["x", "y"] }] }),
            &json!({ "containers": [
                { "name": "runner", "image": null, "command": ["z"],
                  "env": [{ "name": "A", "valueFrom": {} }, { "name": "B", "value": "2" }] },
                { "name": "db" }] }),
            &json!({ "containers": [
                { "name": "runner", "image": "a", "command": ["z"],
                  "env": [{ "name": "A", "valueFrom": {} }, { "name": "B", "value": "2" }] },
                { "name": "db" }] }),
        );
    }

    #[test]
    fn a_volume_of_another_kind_replaces_the_whole() {
        check(
            json!({ "volumes": [{ "name": "work", "emptyDir": {} }] }),
            &json!({ "volumes": [{ "name": "work", "ephemeral": {} }] }),
            &json!({ "volumes": [{ "name": "work", "ephemeral": {} }] }),
        );
    }

    #[test]
    fn a_field_that_nobody_read_is_found() {
        let written = json!({ "containers": [{ "name": "a", "imagee": "x", "image": null }] });
        let read = json!({ "containers": [{ "name": "a" }] });
        assert_eq!(unknown_field(&written, &read, "spec").unwrap(), "spec.containers[a].imagee");
        assert_eq!(unknown_field(&read, &written, "spec"), None);
    }
}
