//! What a structural schema does to an object: defaults, pruning, validation. Without CEL.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

fn item(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => Some(item),
        _ => None,
    }
}

fn additional(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.additional_properties {
        Some(JSONSchemaPropsOrBool::Schema(value)) => Some(value),
        _ => None,
    }
}

/// Removes what the schema does not know and nulls, and adds its defaults.
pub(crate) fn shape(schema: &JSONSchemaProps, value: &mut Value, root: bool) {
    match value {
        Value::Object(fields) => {
            if let Some(known) = &schema.properties {
                let any = schema.x_kubernetes_preserve_unknown_fields == Some(true);
                fields.retain(|name, value| {
                    let meta = root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
                    let nullable =
                        known.get(name).is_some_and(|field| field.nullable == Some(true));
                    meta || ((any || known.contains_key(name)) && (nullable || !value.is_null()))
                });
                for (name, field) in known {
                    if let Some(default) = &field.default
                        && !fields.contains_key(name)
                    {
                        fields.insert(name.clone(), default.0.clone());
                    }
                }
            }
            for (name, value) in fields.iter_mut() {
                if root && name == "metadata" {
                    continue;
                }
                let field = schema.properties.as_ref().and_then(|known| known.get(name));
                if let Some(field) = field.or_else(|| additional(schema)) {
                    shape(field, value, false);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = item(schema) {
                items.iter_mut().for_each(|value| shape(schema, value, false));
            }
        }
        _ => {}
    }
}

/// Says what is wrong with a value.
pub(crate) fn validate(
    schema: &JSONSchemaProps,
    path: &str,
    value: &Value,
    wrong: &mut Vec<String>,
) {
    let mut invalid = |why: String| wrong.push(format!("{path}: Invalid value: {why}"));
    if value.is_null() && schema.nullable == Some(true) {
        return;
    }
    let either =
        schema.x_kubernetes_int_or_string == Some(true) && (value.is_string() || value.is_i64());
    let is = match schema.type_.as_deref() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    if !is && !either {
        let kind = schema.type_.as_deref().unwrap_or_default();
        return invalid(format!("{value}: must be of type {kind}"));
    }
    if let Some(allowed) = &schema.enum_
        && !allowed.iter().any(|allowed| allowed.0 == *value)
    {
        let allowed: Vec<String> = allowed.iter().map(|allowed| allowed.0.to_string()).collect();
        wrong.push(format!(
            "{path}: Unsupported value: {value}: supported values: {}",
            allowed.join(", ")
        ));
        return;
    }
    bounds(schema, path, value, wrong);
    match value {
        Value::Array(items) => {
            if let Some(schema) = item(schema) {
                for (index, value) in items.iter().enumerate() {
                    validate(schema, &format!("{path}[{index}]"), value, wrong);
                }
            }
        }
        Value::Object(fields) => {
            for name in schema.required.iter().flatten() {
                if !fields.contains_key(name) {
                    wrong.push(format!("{path}.{name}: Required value"));
                }
            }
            for (name, value) in fields {
                let field = schema.properties.as_ref().and_then(|known| known.get(name));
                if let Some(field) = field.or_else(|| additional(schema)) {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    validate(field, &path, value, wrong);
                }
            }
        }
        _ => {}
    }
}

/// The bounds of numbers, texts and lists.
fn bounds(schema: &JSONSchemaProps, path: &str, value: &Value, wrong: &mut Vec<String>) {
    let mut invalid = |why: String| wrong.push(format!("{path}: Invalid value: {why}"));
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if schema.minimum.is_some_and(|minimum| number < minimum) {
                invalid(format!("{value}: should be greater than or equal to the minimum"));
            }
            if schema.maximum.is_some_and(|maximum| number > maximum) {
                invalid(format!("{value}: should be less than or equal to the maximum"));
            }
        }
        Value::String(text) => {
            let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
            if schema.max_length.is_some_and(|most| length > most) {
                invalid(format!("{value}: may not be longer than the maximum"));
            }
            if schema.min_length.is_some_and(|least| length < least) {
                invalid(format!("{value}: should be at least as long as the minimum"));
            }
        }
        Value::Array(items) => {
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            if schema.max_items.is_some_and(|most| length > most)
                || schema.min_items.is_some_and(|least| length < least)
            {
                invalid(format!("{length}: has another number of items than it may"));
            }
        }
        _ => {}
    }
}
