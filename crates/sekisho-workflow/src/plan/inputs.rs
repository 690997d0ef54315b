//! Inputs and secrets: what a workflow is given.

use super::needs::View;
use super::{CallTemplate, PlannedKind, RunObserved};
use crate::expr::{Contexts, NoFunctions, Object, Value};
use crate::model::{CallSecrets, Input, InputKind};
use crate::token;

/// The one secret that every called workflow has.
const JOB_TOKEN: &str = "GITHUB_TOKEN";

/// The `inputs` context of a run started by hand or through the API, from the values given.
///
/// # Errors
/// A sentence: a required input is missing, one is not declared, or has the wrong type.
pub fn dispatch_inputs(
    inputs: &[Input],
    given: &serde_json::Map<String, serde_json::Value>,
) -> Result<Value, String> {
    let given: Object = given.iter().map(|(key, value)| (key.as_str(), value.into())).collect();
    for (name, _) in given.iter() {
        if !inputs.iter().any(|input| input.name.eq_ignore_ascii_case(name)) {
            return Err(format!("the workflow declares no input `{name}`"));
        }
    }
    let mut values = Object::new();
    for input in inputs {
        let value = match given.get(&input.name) {
            Some(value) => typed_text(input, value)?,
            None => absent(input, &Contexts::new())?,
        };
        values.insert(&input.name, value);
    }
    Ok(values.into())
}

/// The `inputs` context of a called workflow. `contexts` are the caller's.
///
/// # Errors
/// A sentence: an expression fails, a required input is missing or one has the wrong type.
pub(super) fn call_inputs(call: &CallTemplate, contexts: &Contexts) -> Result<Value, String> {
    let given = match &call.with {
        None => Value::Null,
        Some(with) => token::eval(with, contexts, &NoFunctions)
            .map_err(|error| format!("`with` of the call: {error}"))?,
    };
    let given = given.as_object().cloned().unwrap_or_default();
    let mut values = Object::new();
    for input in &call.inputs {
        let value = match given.get(&input.name) {
            Some(value) => typed(input, value)?,
            None => {
                let own = Value::from(values.clone());
                let mut scope = Contexts::new().with("inputs", own);
                for name in ["github", "vars"] {
                    scope.set(name, contexts.get(name).cloned().unwrap_or_default());
                }
                absent(input, &scope)?
            }
        };
        values.insert(&input.name, value);
    }
    Ok(values.into())
}

/// An input that was not given: its default, or the empty value of its type.
fn absent(input: &Input, contexts: &Contexts) -> Result<Value, String> {
    if let Some(default) = &input.default {
        let value = token::eval(default, contexts, &NoFunctions)
            .map_err(|error| format!("the default of input `{}`: {error}", input.name))?;
        return if value == Value::Null { Ok(empty(&input.kind)) } else { typed(input, &value) };
    }
    if input.required {
        return Err(format!("input `{}` is required, and was not given", input.name));
    }
    Ok(empty(&input.kind))
}

fn empty(kind: &InputKind) -> Value {
    match kind {
        InputKind::Boolean => Value::Bool(false),
        InputKind::Number => Value::Number(0.0),
        InputKind::String | InputKind::Environment => Value::String(String::new()),
        InputKind::Choice(options) => Value::String(options.first().cloned().unwrap_or_default()),
    }
}

/// A value of the input's type: text takes any primitive, the others only their own.
pub(super) fn typed(input: &Input, value: &Value) -> Result<Value, String> {
    let (name, kind) = (&input.name, value.kind());
    match (&input.kind, value) {
        (InputKind::Boolean, Value::Bool(_)) | (InputKind::Number, Value::Number(_)) => {
            Ok(value.clone())
        }
        (InputKind::String | InputKind::Environment, value) if value.is_primitive() => {
            Ok(Value::String(value.to_text()))
        }
        (InputKind::Choice(options), Value::String(text)) if options.contains(text) => {
            Ok(value.clone())
        }
        (InputKind::Choice(options), _) if value.is_primitive() => Err(format!(
            "input `{name}` must be one of {}, not `{}`",
            options.join(", "),
            value.to_text()
        )),
        (InputKind::Boolean, _) => Err(format!(
            "input `{name}` must be a boolean, but is {kind}; text becomes one with `fromJSON(…)`"
        )),
        (InputKind::Number, _) => Err(format!(
            "input `{name}` must be a number, but is {kind}; text becomes one with `fromJSON(…)`"
        )),
        _ => Err(format!("input `{name}` must be a string, but is {kind}")),
    }
}

/// As [`typed`], for values that come as text: from a form or an API call.
fn typed_text(input: &Input, value: &Value) -> Result<Value, String> {
    let value = match (&input.kind, value) {
        (InputKind::Boolean, Value::String(text)) if text == "true" => Value::Bool(true),
        (InputKind::Boolean, Value::String(text)) if text == "false" => Value::Bool(false),
        (InputKind::Number, Value::String(text))
            if !text.trim().is_empty() && !value.to_number().is_nan() =>
        {
            Value::Number(value.to_number())
        }
        _ => value.clone(),
    };
    typed(input, &value)
}

/// The `secrets` context that a job sees: the run's own (`own`, a mapping), narrowed by each
/// call around the job. `GITHUB_TOKEN` always passes.
///
/// # Errors
/// A sentence: a secret's value could not be evaluated.
pub fn secrets_of(seen: &RunObserved<'_>, key: &str, own: &Value) -> Result<Value, String> {
    let view = View::new(*seen);
    let mut calls = Vec::new();
    let mut parent = view.job(key).and_then(|job| job.parent.as_deref());
    while let Some(call) = parent.and_then(|key| view.job(key)) {
        calls.push(call);
        parent = call.parent.as_deref();
    }
    let mut secrets = own.clone();
    for job in calls.into_iter().rev() {
        let PlannedKind::Call(call) = &job.kind else { continue };
        let token = secrets.get(JOB_TOKEN);
        let mut passed = match &call.secrets {
            CallSecrets::Inherit => continue,
            CallSecrets::None => Object::new(),
            CallSecrets::Map(map) => {
                let contexts = view.contexts(job)?.with("secrets", secrets.clone());
                let entries = token::eval_map(map, &contexts, &NoFunctions)
                    .map_err(|error| format!("`secrets` of the call `{}`: {error}", job.key))?;
                entries.into_iter().map(|(name, value)| (name, Value::from(value))).collect()
            }
        };
        if token != Value::Null {
            passed.insert(JOB_TOKEN, token);
        }
        secrets = passed.into();
    }
    Ok(secrets)
}
