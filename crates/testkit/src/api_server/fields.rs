//! Which fields an object has, and whose they are.
//!
//! A field is a path to a leaf. Items of lists that are maps are named by their keys, items of sets
//! by their value; any other list is one leaf. Source:
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/>.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::resource::Resource;

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Segment {
    Field(String),
    /// An item of a list that is a map: its keys, as JSON.
    Key(String),
    /// An item of a set, as JSON.
    Item(String),
}

pub(crate) type Path = Vec<Segment>;

/// Who manages which fields.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manager {
    pub(crate) name: String,
    /// By server-side apply; otherwise by any other write.
    pub(crate) apply: bool,
    pub(crate) subresource: String,
    pub(crate) fields: BTreeSet<Path>,
}

impl Manager {
    pub(crate) fn is(&self, name: &str, apply: bool, subresource: &str) -> bool {
        self.name == name && self.apply == apply && self.subresource == subresource
    }

    /// As `metadata.managedFields` shows it.
    pub(crate) fn shown(&self, api_version: &str) -> Value {
        let mut fields = json!({});
        for path in &self.fields {
            let mut at = &mut fields;
            for segment in path {
                let name = match segment {
                    Segment::Field(name) => format!("f:{name}"),
                    Segment::Key(keys) => format!("k:{keys}"),
                    Segment::Item(value) => format!("v:{value}"),
                };
                at = &mut at[name];
                if at.is_null() {
                    *at = json!({});
                }
            }
        }
        let mut shown = json!({
            "manager": self.name,
            "operation": if self.apply { "Apply" } else { "Update" },
            "apiVersion": api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields
        });
        if !self.subresource.is_empty() {
            shown["subresource"] = json!(self.subresource);
        }
        shown
    }
}

enum ListKind {
    Atomic,
    Set,
    Map(Vec<String>),
}

/// Lists of Kubernetes' own kinds that are no atoms: the end of their path, and their keys.
const BUILTIN_LISTS: [(&str, &[&str]); 12] = [
    ("metadata.ownerReferences", &["uid"]),
    ("metadata.finalizers", &[]),
    ("status.conditions", &["type"]),
    ("spec.containers", &["name"]),
    ("spec.initContainers", &["name"]),
    ("spec.volumes", &["name"]),
    ("spec.imagePullSecrets", &["name"]),
    ("spec.containers.env", &["name"]),
    ("spec.initContainers.env", &["name"]),
    ("spec.containers.volumeMounts", &["mountPath"]),
    ("spec.initContainers.volumeMounts", &["mountPath"]),
    ("spec.containers.ports", &["containerPort", "protocol"]),
];

fn list_kind(resource: &Resource, path: &[Segment]) -> ListKind {
    let names: Vec<&str> = path
        .iter()
        .filter_map(
            |segment| if let Segment::Field(name) = segment { Some(name.as_str()) } else { None },
        )
        .collect();
    if resource.is_builtin() || names.first() == Some(&"metadata") {
        let name = names.join(".");
        return match BUILTIN_LISTS.iter().find(|(path, _)| *path == name) {
            None => ListKind::Atomic,
            Some((_, [])) => ListKind::Set,
            Some((_, keys)) => ListKind::Map(keys.iter().map(|key| (*key).to_owned()).collect()),
        };
    }
    let mut schema = resource.schema.as_ref();
    for name in names {
        schema = schema
            .and_then(|schema| schema.properties.as_ref())
            .and_then(|properties| properties.get(name));
    }
    match schema.map(|schema| (&schema.x_kubernetes_list_type, &schema.x_kubernetes_list_map_keys))
    {
        Some((Some(kind), Some(keys))) if kind == "map" => ListKind::Map(keys.clone()),
        Some((Some(kind), _)) if kind == "set" => ListKind::Set,
        _ => ListKind::Atomic,
    }
}

/// The leaves of an object, but for what the server alone writes.
pub(crate) fn flatten(resource: &Resource, object: &Value) -> BTreeMap<Path, Value> {
    flatten_some(resource, object, |_| true)
}

/// The same, of some of its fields alone.
pub(crate) fn flatten_some(
    resource: &Resource,
    object: &Value,
    is_wanted: impl Fn(&str) -> bool,
) -> BTreeMap<Path, Value> {
    let mut leaves = BTreeMap::new();
    let fields = object.as_object().into_iter().flatten();
    for (name, value) in fields.filter(|(name, _)| is_wanted(name)) {
        let mut path = vec![Segment::Field(name.clone())];
        match name.as_str() {
            "apiVersion" | "kind" => {}
            "metadata" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if matches!(
                        name.as_str(),
                        "labels" | "annotations" | "finalizers" | "ownerReferences"
                    ) {
                        path.push(Segment::Field(name.clone()));
                        walk(resource, &mut path, value, &mut leaves);
                        path.pop();
                    }
                }
            }
            _ => walk(resource, &mut path, value, &mut leaves),
        }
    }
    leaves
}

fn walk(resource: &Resource, path: &mut Path, value: &Value, leaves: &mut BTreeMap<Path, Value>) {
    match value {
        Value::Null => {}
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                path.push(Segment::Field(name.clone()));
                walk(resource, path, value, leaves);
                path.pop();
            }
        }
        Value::Array(items) => match list_kind(resource, path) {
            ListKind::Atomic => {
                leaves.insert(path.clone(), value.clone());
            }
            ListKind::Set => {
                for item in items {
                    path.push(Segment::Item(item.to_string()));
                    leaves.insert(path.clone(), item.clone());
                    path.pop();
                }
            }
            ListKind::Map(keys) => {
                for item in items {
                    path.push(Segment::Key(keys_of(&keys, item).to_string()));
                    walk(resource, path, item, leaves);
                    path.pop();
                }
            }
        },
        _ => {
            leaves.insert(path.clone(), value.clone());
        }
    }
}

fn keys_of(keys: &[String], item: &Value) -> Value {
    let default = |key: &str| if key == "protocol" { json!("TCP") } else { Value::Null };
    let fields = keys.iter().map(|key| {
        let value = item.get(key).cloned().unwrap_or_else(|| default(key));
        (key.clone(), value)
    });
    Value::Object(fields.collect::<Map<_, _>>())
}

/// Whether a list item has these keys.
fn has_keys(item: &Value, keys: &str) -> bool {
    let keys: Value = serde_json::from_str(keys).unwrap_or_default();
    keys.as_object().is_some_and(|keys| {
        let names: Vec<String> = keys.keys().cloned().collect();
        keys_of(&names, item).as_object() == Some(keys)
    })
}

/// Writes a leaf.
pub(crate) fn set(at: &mut Value, path: &[Segment], leaf: &Value) {
    let Some((segment, rest)) = path.split_first() else {
        // An empty object says that there is one, not that nothing is in it.
        if !(at.is_object() && leaf.as_object().is_some_and(Map::is_empty)) {
            *at = leaf.clone();
        }
        return;
    };
    match segment {
        Segment::Field(name) => {
            if !at.is_object() {
                *at = json!({});
            }
            set(&mut at[name.as_str()], rest, leaf);
        }
        Segment::Key(keys) => {
            if !at.is_array() {
                *at = json!([]);
            }
            let Some(items) = at.as_array_mut() else { return };
            if let Some(item) = items.iter_mut().find(|item| has_keys(item, keys)) {
                return set(item, rest, leaf);
            }
            let mut item: Value = serde_json::from_str(keys).unwrap_or_default();
            set(&mut item, rest, leaf);
            items.push(item);
        }
        Segment::Item(_) => {
            if !at.is_array() {
                *at = json!([]);
            }
            let Some(items) = at.as_array_mut() else { return };
            if !items.contains(leaf) {
                items.push(leaf.clone());
            }
        }
    }
}

/// Removes a leaf, and what is empty then.
pub(crate) fn remove(at: &mut Value, path: &[Segment]) {
    let Some((segment, rest)) = path.split_first() else { return };
    match segment {
        Segment::Field(name) => {
            let Some(fields) = at.as_object_mut() else { return };
            let Some(field) = fields.get_mut(name) else { return };
            remove(field, rest);
            let empty = field.as_object().is_some_and(Map::is_empty)
                || field.as_array().is_some_and(Vec::is_empty);
            if rest.is_empty() || empty {
                fields.remove(name);
            }
        }
        Segment::Key(keys) => {
            let Some(items) = at.as_array_mut() else { return };
            if let Some(item) = items.iter_mut().find(|item| has_keys(item, keys)) {
                remove(item, rest);
            }
            items.retain(|item| item.as_object().is_none_or(|item| !item.is_empty()));
        }
        Segment::Item(value) => {
            if let Some(items) = at.as_array_mut() {
                let gone: Option<Value> = serde_json::from_str(value).ok();
                items.retain(|item| Some(item) != gone.as_ref());
            }
        }
    }
}

/// A path as conflicts name it.
pub(crate) fn shown(path: &[Segment]) -> String {
    path.iter()
        .map(|segment| match segment {
            Segment::Field(name) => format!(".{name}"),
            Segment::Key(keys) => {
                let inner = keys.trim_start_matches('{').trim_end_matches('}').replace("\":", "=");
                format!("[{}]", inner.replace(['"', '{'], "").replace('=', "=\"") + "\"")
            }
            Segment::Item(value) => format!("[{value}]"),
        })
        .collect()
}
