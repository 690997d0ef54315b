//! The cache service, version 2: Twirp over JSON or protobuf.
//!
//! Ids and sizes are texts in JSON answers: one client decodes them into strings. Requests may have
//! them as numbers. What a request says about scopes is not read: the job's token says it.

use serde::{Deserialize, Serialize};

use super::proto::{ProtoError, Writer, read};
use crate::lenient::scalar::{int_as_text, int_or_text, null_is_default};

/// Path of the service, relative to the results base.
pub const SERVICE: &str = "twirp/github.actions.results.api.v1.CacheService/";

/// Names of the methods.
pub mod method {
    /// [`super::CreateRequest`] → [`super::CreateResponse`].
    pub const CREATE: &str = "CreateCacheEntry";
    /// [`super::FinalizeRequest`] → [`super::FinalizeResponse`].
    pub const FINALIZE: &str = "FinalizeCacheEntryUpload";
    /// [`super::LookupRequest`] → [`super::LookupResponse`].
    pub const DOWNLOAD_URL: &str = "GetCacheEntryDownloadURL";
}

/// Bit of [`Access::permission`]: entries of the scope may be read.
pub const READ: u8 = 1;
/// Bit of [`Access::permission`]: entries may be made in the scope.
pub const WRITE: u8 = 2;

/// One scope of a job token's `ac` claim, which is a JSON text of a list of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Access {
    /// A full ref.
    pub scope: String,
    /// [`READ`] and [`WRITE`].
    pub permission: u8,
}

/// A message that has a protobuf form.
pub trait Message: Sized {
    /// Reads it; unknown fields are skipped.
    ///
    /// # Errors
    /// When the bytes are no such message.
    fn from_proto(bytes: &[u8]) -> Result<Self, ProtoError>;
}

/// Reserves an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateRequest {
    /// Its name.
    #[serde(deserialize_with = "null_is_default")]
    pub key: String,
    /// What it must be equal in.
    #[serde(deserialize_with = "null_is_default")]
    pub version: String,
}

impl Message for CreateRequest {
    fn from_proto(bytes: &[u8]) -> Result<Self, ProtoError> {
        let mut request = Self::default();
        for (number, field) in read(bytes)? {
            match number {
                2 => field.text(number)?.clone_into(&mut request.key),
                3 => field.text(number)?.clone_into(&mut request.version),
                _ => {}
            }
        }
        Ok(request)
    }
}

/// Says that an entry is uploaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FinalizeRequest {
    /// Its name.
    #[serde(deserialize_with = "null_is_default")]
    pub key: String,
    /// What it must be equal in.
    #[serde(deserialize_with = "null_is_default")]
    pub version: String,
    /// Bytes.
    #[serde(alias = "sizeBytes", deserialize_with = "int_or_text", serialize_with = "int_as_text")]
    pub size_bytes: i64,
}

impl Message for FinalizeRequest {
    fn from_proto(bytes: &[u8]) -> Result<Self, ProtoError> {
        let mut request = Self::default();
        for (number, field) in read(bytes)? {
            match number {
                2 => field.text(number)?.clone_into(&mut request.key),
                3 => request.size_bytes = field.integer(number)?,
                4 => field.text(number)?.clone_into(&mut request.version),
                _ => {}
            }
        }
        Ok(request)
    }
}

/// Looks for an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LookupRequest {
    /// The name that is wanted, or the beginning of one.
    #[serde(deserialize_with = "null_is_default")]
    pub key: String,
    /// Beginnings of names that will do too, best first.
    #[serde(alias = "restoreKeys", deserialize_with = "null_is_default")]
    pub restore_keys: Vec<String>,
    /// What it must be equal in.
    #[serde(deserialize_with = "null_is_default")]
    pub version: String,
}

impl Message for LookupRequest {
    fn from_proto(bytes: &[u8]) -> Result<Self, ProtoError> {
        let mut request = Self::default();
        for (number, field) in read(bytes)? {
            match number {
                2 => field.text(number)?.clone_into(&mut request.key),
                3 => request.restore_keys.push(field.text(number)?.to_owned()),
                4 => field.text(number)?.clone_into(&mut request.version),
                _ => {}
            }
        }
        Ok(request)
    }
}

/// Answers [`CreateRequest`].
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateResponse {
    /// Whether it is reserved.
    pub ok: bool,
    /// Where to upload it: a credential.
    pub signed_upload_url: String,
    /// Why not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Answers [`FinalizeRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FinalizeResponse {
    /// Whether it can be found now.
    pub ok: bool,
    /// Its id.
    #[serde(deserialize_with = "int_or_text", serialize_with = "int_as_text")]
    pub entry_id: i64,
    /// Why not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Answers [`LookupRequest`].
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LookupResponse {
    /// Whether there is one.
    pub ok: bool,
    /// Where to download it: a credential.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub signed_download_url: String,
    /// Its whole name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub matched_key: String,
}

impl CreateResponse {
    /// As protobuf.
    pub fn to_proto(&self) -> Vec<u8> {
        let writer = Writer::default().number(1, self.ok).text(2, &self.signed_upload_url);
        writer.text(3, &self.message).finish()
    }
}

impl FinalizeResponse {
    /// As protobuf.
    pub fn to_proto(&self) -> Vec<u8> {
        let writer = Writer::default().number(1, self.ok).number(2, self.entry_id);
        writer.text(3, &self.message).finish()
    }
}

impl LookupResponse {
    /// As protobuf.
    pub fn to_proto(&self) -> Vec<u8> {
        let writer = Writer::default().number(1, self.ok).text(2, &self.signed_download_url);
        writer.text(3, &self.matched_key).finish()
    }
}

// Signed URLs are credentials.
impl std::fmt::Debug for CreateResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateResponse").field("ok", &self.ok).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for LookupResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LookupResponse")
            .field("ok", &self.ok)
            .field("matched_key", &self.matched_key)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lenient;

    #[test]
    fn json_as_clients_write_it() {
        let want = FinalizeRequest { key: "k".to_owned(), version: "v".to_owned(), size_bytes: 10 };
        for text in [
            r#"{"metadata":null,"key":"k","size_bytes":"10","version":"v"}"#,
            r#"{"key":"k","size_bytes":10,"version":"v","more":[1]}"#,
            r#"{"key":"k","sizeBytes":"10","version":"v"}"#,
        ] {
            assert_eq!(lenient::from_str::<FinalizeRequest>(text).unwrap(), want, "{text}");
        }
        let answer = FinalizeResponse { ok: true, entry_id: 7, message: String::new() };
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"ok":true,"entry_id":"7"}"#);
    }

    #[test]
    fn field_numbers() {
        let lookup = Writer::default().text(2, "k").item(3, "a").item(3, "b").text(4, "v");
        let lookup = LookupRequest::from_proto(&lookup.finish()).unwrap();
        assert_eq!(lookup.restore_keys, ["a", "b"]);
        assert_eq!((&*lookup.key, &*lookup.version), ("k", "v"));
        let finalize = Writer::default().text(2, "k").number(3, 300).text(4, "v").finish();
        let finalize = FinalizeRequest::from_proto(&finalize).unwrap();
        assert_eq!((&*finalize.key, &*finalize.version), ("k", "v"));
        assert_eq!(finalize.size_bytes, 300);
        let create = Writer::default().text(1, "scope").text(2, "k").text(3, "v").finish();
        let create = CreateRequest::from_proto(&create).unwrap();
        assert_eq!((&*create.key, &*create.version), ("k", "v"));
        let answer = FinalizeResponse { ok: true, entry_id: 7, message: String::new() };
        assert_eq!(answer.to_proto(), b"\x08\x01\x10\x07");
        assert_eq!(CreateRequest::from_proto(b"\x10\x01"), Err(ProtoError::Type(2)));
    }
}
