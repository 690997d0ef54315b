//! The steps of a job, as its message tells them.

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::wire::context::Token;

/// One step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// `action`.
    #[serde(rename = "type", default = "step_type")]
    pub kind: String,
    /// `external_id` of its results.
    pub id: Uuid,
    /// `__run`, or the id.
    #[serde(default)]
    pub name: Option<String>,
    /// Name in the `steps` context; generated ones start with `__`.
    #[serde(default)]
    pub context_name: Option<String>,
    /// `false`: not run at all.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// `if:`; empty means `success()`.
    #[serde(default)]
    pub condition: Option<String>,
    /// `name:`; the runner makes a default when it is absent.
    #[serde(default)]
    pub display_name_token: Option<Token>,
    /// What to run.
    pub reference: StepReference,
    /// `script`, `shell`, `workingDirectory` for `run`; `with:` for `uses`.
    #[serde(default)]
    pub inputs: Option<Token>,
    /// `env:`.
    #[serde(default)]
    pub environment: Option<Token>,
    /// `continue-on-error:`.
    #[serde(default)]
    pub continue_on_error: Option<Token>,
    /// `timeout-minutes:`.
    #[serde(default)]
    pub timeout_in_minutes: Option<Token>,
    /// Not supported by our runner.
    #[serde(default)]
    pub background: bool,
}

fn step_type() -> String {
    "action".to_owned()
}

fn enabled() -> bool {
    true
}

/// What a step runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepReference {
    /// `repository` (1), `containerRegistry` (2) or `script` (3).
    #[serde(rename = "type", deserialize_with = "reference_type")]
    pub kind: ReferenceType,
    /// `actions/checkout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `v4`.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// `GitHub`, or `self` for a local action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_type: Option<String>,
    /// Path inside the repository; `./…` of a local action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of a container step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// The kinds of step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReferenceType {
    /// `uses: owner/repo@ref` or `uses: ./path`.
    Repository,
    /// `uses: docker://…`.
    ContainerRegistry,
    /// `run:`.
    #[default]
    Script,
}

/// Reads a reference type by name in any case, or by number.
fn reference_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ReferenceType, D::Error> {
    use serde::de::Error as _;
    let value = serde_json::Value::deserialize(deserializer)?;
    let text = value.as_str().map(str::to_ascii_lowercase);
    match (text.as_deref(), value.as_u64()) {
        (Some("repository"), _) | (_, Some(1)) => Ok(ReferenceType::Repository),
        (Some("containerregistry"), _) | (_, Some(2)) => Ok(ReferenceType::ContainerRegistry),
        (Some("script"), _) | (_, Some(3)) => Ok(ReferenceType::Script),
        _ => Err(D::Error::custom(format!("unknown type of step reference: {value}"))),
    }
}
