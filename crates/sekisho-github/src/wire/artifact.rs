//! The artifact service, version 4: Twirp over JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lenient::scalar::{int_as_text, int_or_text, null_is_default, some_int_or_text};

/// Path of the service, relative to the results base.
pub const SERVICE: &str = "twirp/github.actions.results.api.v1.ArtifactService/";
/// What may not be in an artifact's name.
pub const FORBIDDEN_IN_NAMES: [char; 11] =
    ['"', ':', '<', '>', '|', '*', '?', '\r', '\n', '\\', '/'];

/// Names of the methods.
pub mod method {
    /// [`super::CreateRequest`] → [`super::CreateResponse`].
    pub const CREATE: &str = "CreateArtifact";
    /// [`super::FinalizeRequest`] → [`super::ArtifactId`].
    pub const FINALIZE: &str = "FinalizeArtifact";
    /// [`super::ListRequest`] → [`super::ListResponse`].
    pub const LIST: &str = "ListArtifacts";
    /// [`super::NameRequest`] → [`super::UrlResponse`].
    pub const URL: &str = "GetSignedArtifactURL";
    /// [`super::NameRequest`] → [`super::ArtifactId`].
    pub const DELETE: &str = "DeleteArtifact";
}

/// Makes an artifact that is to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateRequest {
    /// The plan's id.
    pub workflow_run_backend_id: Uuid,
    /// The job's id.
    pub workflow_job_run_backend_id: Uuid,
    /// Its name.
    pub name: String,
    /// When it may be deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// 4 to 7; not looked at.
    #[serde(default)]
    pub version: i32,
    /// Of what is uploaded; a zip archive unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
}

/// Says that an artifact is uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalizeRequest {
    /// The plan's id.
    pub workflow_run_backend_id: Uuid,
    /// The job's id.
    pub workflow_job_run_backend_id: Uuid,
    /// Its name.
    pub name: String,
    /// Bytes.
    #[serde(default, deserialize_with = "int_or_text", serialize_with = "int_as_text")]
    pub size: i64,
    /// `sha256:<hex>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// Asks for the artifacts of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRequest {
    /// The plan's id.
    pub workflow_run_backend_id: Uuid,
    /// Only the one of this name.
    #[serde(default)]
    pub name_filter: Option<String>,
    /// Only the one with this id.
    #[serde(default, deserialize_with = "some_int_or_text")]
    pub id_filter: Option<i64>,
}

/// Names an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRequest {
    /// The plan's id.
    pub workflow_run_backend_id: Uuid,
    /// Its name.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
}

/// Where to upload. The URL is a credential.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateResponse {
    /// Always true.
    pub ok: bool,
    /// Where to.
    pub signed_upload_url: String,
}

/// The artifact that was finished or deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactId {
    /// Always true.
    pub ok: bool,
    /// Its id: a text.
    #[serde(deserialize_with = "int_or_text", serialize_with = "int_as_text")]
    pub artifact_id: u64,
}

/// Where to download. The URL is a credential.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlResponse {
    /// Where from.
    pub signed_url: String,
}

/// Artifacts of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListResponse {
    /// Newest last.
    pub artifacts: Vec<Artifact>,
}

/// One artifact of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The plan's id.
    pub workflow_run_backend_id: Uuid,
    /// Id of the job that made it.
    pub workflow_job_run_backend_id: Uuid,
    /// Its id: a text.
    #[serde(deserialize_with = "int_or_text", serialize_with = "int_as_text")]
    pub database_id: u64,
    /// Its name.
    pub name: String,
    /// Bytes: a text.
    #[serde(deserialize_with = "int_or_text", serialize_with = "int_as_text")]
    pub size: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// `sha256:<hex>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl std::fmt::Debug for CreateResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateResponse").field("ok", &self.ok).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for UrlResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UrlResponse").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lenient;

    #[test]
    fn numbers_are_texts() {
        let id = ArtifactId { ok: true, artifact_id: 55 };
        let text = r#"{"ok":true,"artifact_id":"55"}"#;
        assert_eq!(serde_json::to_string(&id).unwrap(), text);
        assert_eq!(lenient::from_str::<ArtifactId>(text).unwrap(), id);
        let nil = Uuid::nil();
        let check = |filters: &str, want: Option<i64>| {
            let text = format!(r#"{{"workflow_run_backend_id":"{nil}"{filters}}}"#);
            assert_eq!(lenient::from_str::<ListRequest>(&text).unwrap().id_filter, want, "{text}");
        };
        check("", None);
        check(r#","id_filter":null"#, None);
        check(r#","id_filter":"55","name_filter":"x""#, Some(55));
        check(r#","id_filter":55"#, Some(55));
    }
}
