//! Runner scale sets: the sets themselves, their message session, their runners.
//!
//! Read from GitHub's own Go client (`actions/scaleset`, types.go) and from answers of github.com.
//! Every field that is read may be missing, `null` or of another letter case; what is written has
//! exactly the names that peers compare. Read with [`read`]: it knows the limits.

mod budget;
mod message;
mod registration;
mod text;
mod time;

pub(crate) use budget::depth as json_depth;
pub use budget::{BudgetError, MAX_BODY, MAX_DEPTH, read};
pub use message::{
    AcquiredJobs, JOB_MESSAGES, JobMessage, JobMessageKind, JobResult, Jobs, MAX_JOBS, QueueMessage,
};
pub use registration::{RegisterRequest, Registration, RunnerEvent, TOKEN_SCHEMA};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lenient::scalar;
use crate::secret::WireSecret;

/// `api-version` of every call to the tenant.
pub const API_VERSION: &str = "6.0-preview";
/// Path of scale sets under the tenant's URL.
pub const SCALE_SETS: &str = "_apis/runtime/runnerscalesets";
/// Path of runner groups under the tenant's URL.
pub const RUNNER_GROUPS: &str = "_apis/runtime/runnergroups/";
/// Path of registered runners under the tenant's URL; the pool's number is always 0.
pub const RUNNERS: &str = "_apis/distributedtask/pools/0/agents";
/// Request header of a poll: how many jobs the listener can have at a time.
pub const MAX_CAPACITY: &str = "X-ScaleSetMaxCapacity";
/// The group that needs no look-up.
pub const DEFAULT_GROUP: i64 = 1;

/// A list: `{"count":1,"value":[…]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted<T> {
    /// How many.
    #[serde(default, deserialize_with = "scalar::int_or_text")]
    pub count: i64,
    /// All of them.
    #[serde(
        default = "Vec::new",
        deserialize_with = "scalar::null_is_default",
        bound(deserialize = "T: Deserialize<'de>")
    )]
    pub value: Vec<T>,
}

impl<T> From<Vec<T>> for Counted<T> {
    fn from(value: Vec<T>) -> Self {
        Self { count: i64::try_from(value.len()).unwrap_or(i64::MAX), value }
    }
}

/// A scale set, as the service tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleSet {
    /// Unique in the service.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub id: i64,
    /// Unique in its group.
    #[serde(deserialize_with = "scalar::null_is_default")]
    pub name: String,
    /// Its group.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub runner_group_id: i64,
    /// Its group's name.
    #[serde(deserialize_with = "scalar::null_is_default")]
    pub runner_group_name: String,
    /// A job goes to the set if all its labels are among these.
    #[serde(deserialize_with = "scalar::null_is_default")]
    pub labels: Vec<Label>,
    /// How its runners are set up.
    #[serde(deserialize_with = "scalar::null_is_default")]
    pub runner_setting: RunnerSetting,
    /// When it was made.
    #[serde(with = "time")]
    pub created_on: Option<Timestamp>,
    /// Where JIT configurations come from.
    #[serde(deserialize_with = "scalar::null_is_default")]
    pub runner_jit_config_url: String,
    /// Its jobs and runners, where the service says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Statistics>,
}

/// What a client asks a scale set to be: at creation whole, in a change only what changes.
///
/// Clients send a zero `createdOn` and an empty `RunnerSetting` along, which mean nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleSetRequest {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its group.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "scalar::some_int_or_text"
    )]
    pub runner_group_id: Option<i64>,
    /// Its labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<Label>>,
    /// With a capital R: so the service's own client writes it.
    #[serde(rename = "RunnerSetting", skip_serializing_if = "Option::is_none")]
    pub runner_setting: Option<RunnerSetting>,
}

/// A label of a scale set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// `System`, or `User`.
    #[serde(rename = "type", default = "system")]
    pub kind: String,
    /// Compared ignoring case.
    pub name: String,
}

impl Label {
    /// A label as clients make it.
    pub fn new(name: impl Into<String>) -> Self {
        Self { kind: system(), name: name.into() }
    }
}

fn system() -> String {
    "System".to_owned()
}

/// How the runners of a set are set up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunnerSetting {
    /// They do not update themselves.
    #[serde(skip_serializing_if = "std::ops::Not::not", deserialize_with = "scalar::bool_or_text")]
    pub disable_update: bool,
}

/// Jobs and runners of a set, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Statistics {
    /// Jobs that match the set, and are nobody's yet.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub total_available_jobs: i64,
    /// Jobs that were acquired, and are not assigned yet.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub total_acquired_jobs: i64,
    /// Jobs that are the set's, those that run included: the demand.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub total_assigned_jobs: i64,
    /// Jobs that run.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub total_running_jobs: i64,
    /// Registered runners.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub total_registered_runners: i64,
    /// Runners with a job.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub total_busy_runners: i64,
    /// Runners that wait for a job.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub total_idle_runners: i64,
}

/// Body of `POST …/sessions`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NewSession {
    /// All zero.
    pub session_id: Uuid,
    /// Who holds the session, for people.
    #[serde(deserialize_with = "scalar::null_is_default")]
    pub owner_name: String,
}

/// A message session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Names it.
    pub session_id: Uuid,
    /// Who holds it.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub owner_name: String,
    /// The set.
    #[serde(default)]
    pub runner_scale_set: Option<ScaleSet>,
    /// Where messages are polled for. It may have a query, which is kept.
    pub message_queue_url: String,
    /// The bearer for it, and for `acquirejobs`.
    pub message_queue_access_token: WireSecret,
    /// Never absent where we write it: the Go listener fails without.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub statistics: Statistics,
}

/// Body of `POST …/generatejitconfig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JitRequest {
    /// Unique among the registered runners.
    pub name: String,
    /// `_work` if empty.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub work_folder: String,
}

/// A registered runner, as the tenant tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunnerReference {
    /// Unique in the service.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub id: i64,
    /// As registered.
    #[serde(deserialize_with = "scalar::null_is_default")]
    pub name: String,
    /// Its set; 0 if it has none.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub runner_scale_set_id: i64,
}

/// Answer of `POST …/generatejitconfig`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JitConfig {
    /// The registration.
    pub runner: RunnerReference,
    /// The runner's only credential. REST spells this field otherwise.
    #[serde(rename = "encodedJITConfig")]
    pub encoded: WireSecret,
}

/// A runner group, as the tenant tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunnerGroup {
    /// Unique in the service.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub id: i64,
    /// As its owner called it.
    #[serde(deserialize_with = "scalar::null_is_default")]
    pub name: String,
    /// Runners in it.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub size: i64,
    /// The one that is always there.
    #[serde(deserialize_with = "scalar::bool_or_text")]
    pub is_default_group: bool,
}

/// Error body of the tenant. Clients look for words of [`exception`] in `typeName`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exception {
    /// Always `1`.
    #[serde(rename = "$id", deserialize_with = "scalar::null_is_default")]
    pub id: String,
    /// Always `null`.
    #[serde(skip_deserializing)]
    pub inner_exception: Option<()>,
    /// For people.
    #[serde(deserialize_with = "scalar::null_is_default")]
    pub message: String,
    /// A .NET type with its assembly.
    #[serde(deserialize_with = "scalar::null_is_default")]
    pub type_name: String,
    /// The type alone.
    #[serde(deserialize_with = "scalar::null_is_default")]
    pub type_key: String,
    /// 0.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub error_code: i64,
    /// 3000.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub event_id: i64,
}

impl Exception {
    /// An error as the tenant writes it. `key`: of [`exception`].
    pub fn new(key: &str, message: impl Into<String>) -> Self {
        Self {
            id: "1".to_owned(),
            inner_exception: None,
            message: message.into(),
            type_name: format!(
                "GitHub.Actions.Runtime.WebApi.{key}, GitHub.Actions.Runtime.WebApi"
            ),
            type_key: key.to_owned(),
            error_code: 0,
            event_id: 3000,
        }
    }
}

/// The tenant's errors that clients act on: parts of their type names.
pub mod exception {
    /// 409: the runner's name is taken.
    pub const AGENT_EXISTS: &str = "AgentExistsException";
    /// 404: there is no such runner.
    pub const AGENT_NOT_FOUND: &str = "AgentNotFoundException";
    /// 400: the runner is at a job; remove it later.
    pub const JOB_STILL_RUNNING: &str = "JobStillRunningException";
    /// 409: somebody else has the set's session.
    pub const SESSION_CONFLICT: &str = "RunnerScaleSetSessionConflictException";
    /// 400: the session is not there any more.
    pub const SESSION_EXPIRED: &str = "RunnerScaleSetSessionExpiredException";
    /// 404: there is no such set.
    pub const SET_NOT_FOUND: &str = "RunnerScaleSetNotFoundException";
    /// 409: the set's name is taken in its group.
    pub const SET_EXISTS: &str = "RunnerScaleSetExistsException";
    /// 401.
    pub const UNAUTHORIZED: &str = "VssUnauthorizedException";
    /// 400.
    pub const BAD_REQUEST: &str = "VssRequestArgumentException";
}

#[cfg(test)]
mod tests;
