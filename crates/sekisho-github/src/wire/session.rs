//! The broker's sessions.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::tenant::BrokerMigration;

/// Body of `POST session`, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskAgentSession {
    /// All zero in the request.
    #[serde(default)]
    pub session_id: Uuid,
    /// Who holds the session, for people: `host (PID: 42)`.
    #[serde(default)]
    pub owner_name: String,
    /// The runner.
    pub agent: TaskAgentReference,
    /// Whether a session key would be wrapped with OAEP-SHA256.
    #[serde(default)]
    pub use_fips_encryption: bool,
    /// Absent from the broker: messages are plain JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption_key: Option<EncryptionKey>,
    /// Of the old queue only: the runner is to make its session with a broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_migration_message: Option<BrokerMigration>,
}

/// The runner that asks for a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskAgentReference {
    /// The registration's id.
    #[serde(default, deserialize_with = "crate::lenient::scalar::int_or_text")]
    pub id: i64,
    /// The registration's name.
    #[serde(default)]
    pub name: String,
    /// The runner's version.
    #[serde(default)]
    pub version: String,
    /// The operating system, for people.
    #[serde(default)]
    pub os_description: String,
}

/// A session key; only the old queue sends one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EncryptionKey {
    /// Whether `value` is wrapped for the runner's public key.
    #[serde(default)]
    pub encrypted: bool,
    /// Base64.
    #[serde(default)]
    pub value: Option<String>,
}
