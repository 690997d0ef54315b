//! The old flow: a tenant's distributed task service, as GHES without a broker has it.
//!
//! Where its endpoints are is the service's choice: a client reads route templates from
//! `connectionData` first. Names are in camelCase; read with [`crate::lenient`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::{Uuid, uuid};

use super::run_service::{Conclusion, OutputValue};
use crate::lenient::scalar::null_is_default;

/// Path of [`ConnectionData`], relative to the tenant's base.
pub const CONNECTION_DATA: &str = "_apis/connectionData";

/// Identifiers of the resources that a runner uses.
pub mod resource {
    use super::{Uuid, uuid};

    /// `{poolId}/{sessionId}`
    pub const SESSIONS: Uuid = uuid!("134e239e-2df3-4794-a6f6-24f1f19ec8dc");
    /// `{poolId}/{messageId}`
    pub const MESSAGES: Uuid = uuid!("c3a054f6-7a8a-49c0-944e-3a8e5d7adfd7");
    /// `{poolId}/{requestId}`
    pub const JOB_REQUESTS: Uuid = uuid!("fc825784-c92a-4299-9221-998a02d1b54f");
    /// `{scopeIdentifier}/{hubName}/{planId}/{timelineId}`
    pub const RECORDS: Uuid = uuid!("8893bc5b-35b2-4be7-83cb-99e683551db4");
    /// `{scopeIdentifier}/{hubName}/{planId}/{logId}`
    pub const LOGS: Uuid = uuid!("46f5667d-263a-4684-91b1-dff7fdcf64e2");
    /// `{scopeIdentifier}/{hubName}/{planId}`
    pub const PLAN_EVENTS: Uuid = uuid!("557624af-b29e-4c20-8ab0-0399d2204f3f");
}

/// What a tenant offers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionData {
    /// Its endpoints.
    #[serde(default)]
    pub location_service_data: LocationServiceData,
}

/// A tenant's endpoints.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocationServiceData {
    /// One for each resource.
    #[serde(default, deserialize_with = "null_is_default")]
    pub service_definitions: Vec<ServiceDefinition>,
}

/// One endpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDefinition {
    /// See [`resource`]; other definitions may have other texts here.
    #[serde(default)]
    pub identifier: String,
    /// A template: `/_apis/x/{poolId}/{sessionId}`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub relative_path: String,
}

/// The runner is to go on with a broker: a message of the queue, or part of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerMigration {
    /// Base of the broker.
    pub broker_base_url: String,
}

/// Body of a renewal of a job's lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockRequest {
    /// Which job.
    pub request_id: i64,
    /// Set when the job is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Timestamp>,
    /// Its result, with `finish_time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Conclusion>,
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed<T> {
    /// `value.len()`.
    pub count: usize,
    /// The items.
    pub value: Vec<T>,
}

impl<T> From<Vec<T>> for Listed<T> {
    fn from(value: Vec<T>) -> Self {
        Self { count: value.len(), value }
    }
}

/// The job or one step in the timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineRecord {
    /// The job's or the step's id.
    pub id: Uuid,
    /// The job's id, of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<Uuid>,
    /// `Job` or `Task`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What people read, masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Timestamp>,
    /// `pending`, `inProgress`, `completed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Conclusion>,
    /// 1-based.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u32>,
    /// Its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogReference>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<Issue>,
    /// How many of `issues` are errors.
    #[serde(default)]
    pub error_count: usize,
    /// How many of `issues` are warnings.
    #[serde(default)]
    pub warning_count: usize,
    /// How many of `issues` are notices.
    #[serde(default)]
    pub notice_count: usize,
}

/// A log of the plan. Asked for with `path`, answered with `id`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReference {
    /// Its number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub id: i64,
    /// `logs\<record id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(id: &i64) -> bool {
    *id == 0
}

/// An annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issue {
    /// `error`, `warning` or `notice`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text, masked.
    pub message: String,
    /// `file`, `line`, `col`, `endLine`, `endColumn`, `title`.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Whether the runner, not the job, is to blame.
    #[serde(default)]
    pub is_infrastructure_issue: bool,
}

/// The event that ends a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobCompleted {
    /// `JobCompleted`.
    pub name: String,
    /// The lock's id.
    pub request_id: i64,
    /// The job.
    pub job_id: Uuid,
    /// Its result.
    pub result: Conclusion,
    /// Its outputs.
    pub outputs: BTreeMap<String, OutputValue>,
}

/// The plan's version from which on [`JobCompleted`] is understood.
pub const JOB_COMPLETED_SINCE: i32 = 8;
