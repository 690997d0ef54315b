//! Label and field selectors.

use serde_json::Value;

use super::error::ApiError;
use super::resource::Resource;

/// Which objects of a list are meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    /// Pointer to the field, whether it is to be equal, the value.
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug)]
enum Requirement {
    In { key: String, values: Vec<String> },
    NotIn { key: String, values: Vec<String> },
    Exists(String),
    Absent(String),
}

/// Fields of pods that can be selected by, beside those that every object has.
const POD_FIELDS: [&str; 5] = [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "status.phase",
    "status.podIP",
];

impl Selector {
    pub(crate) fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let labels = terms(labels).into_iter().map(|term| requirement(&term));
        let fields = fields.split(',').filter(|term| !term.is_empty()).map(|term| {
            let (field, equal, value) = if let Some((field, value)) = term.split_once("!=") {
                (field, false, value)
            } else if let Some((field, value)) = term.split_once('=') {
                (field, true, value.trim_start_matches('='))
            } else {
                return Err(ApiError::bad_request(format!("invalid selector: '{term}'")));
            };
            let known = matches!(field, "metadata.name" | "metadata.namespace")
                || (resource.plural == "pods" && POD_FIELDS.contains(&field))
                || (resource.plural == "secrets" && field == "type");
            if !known {
                return Err(ApiError::bad_request(format!("field label not supported: {field}")));
            }
            Ok((format!("/{}", field.replace('.', "/")), equal, value.to_owned()))
        });
        Ok(Self {
            labels: labels.collect::<Result<_, _>>()?,
            fields: fields.collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        let by_label = self.labels.iter().all(|requirement| match requirement {
            Requirement::In { key, values } => {
                label(key).is_some_and(|found| values.iter().any(|value| value == found))
            }
            Requirement::NotIn { key, values } => {
                label(key).is_none_or(|found| values.iter().all(|value| value != found))
            }
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Absent(key) => label(key).is_none(),
        });
        by_label
            && self.fields.iter().all(|(pointer, equal, value)| {
                let found = object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
                (found == value) == *equal
            })
    }
}

/// Splits at the commas outside of brackets.
fn terms(text: &str) -> Vec<String> {
    let (mut all, mut depth) = (vec![String::new()], 0_u32);
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = all.last_mut() {
            last.push(c);
        }
    }
    all.retain(|term| !term.trim().is_empty());
    all
}

fn requirement(term: &str) -> Result<Requirement, ApiError> {
    let term = term.trim();
    let list = |text: &str| -> Vec<String> {
        let inner = text.trim().trim_start_matches('(').trim_end_matches(')');
        inner.split(',').map(|value| value.trim().to_owned()).collect()
    };
    let made = if let Some((key, values)) = term.split_once(" notin ") {
        Requirement::NotIn { key: key.trim().to_owned(), values: list(values) }
    } else if let Some((key, values)) = term.split_once(" in ") {
        Requirement::In { key: key.trim().to_owned(), values: list(values) }
    } else if let Some((key, value)) = term.split_once("!=") {
        Requirement::NotIn { key: key.trim().to_owned(), values: vec![value.trim().to_owned()] }
    } else if let Some((key, value)) = term.split_once('=') {
        let value = value.trim_start_matches('=').trim().to_owned();
        Requirement::In { key: key.trim().to_owned(), values: vec![value] }
    } else if let Some(key) = term.strip_prefix('!') {
        Requirement::Absent(key.trim().to_owned())
    } else if term.contains(char::is_whitespace) {
        return Err(ApiError::bad_request(format!("unable to parse requirement: {term}")));
    } else {
        Requirement::Exists(term.to_owned())
    };
    Ok(made)
}
