//! What is put, and what an answer to it rests on.

use bytes::Bytes;
use jiff::Timestamp;
use sekisho_policy::Identity;
use sekisho_types::{Algorithm, Digest, RepositoryName, Tag};

use super::state::{Basis, Push};
use crate::error::{ApiError, ApiResult, Code};
use crate::gate::Inner;

/// What is put.
#[derive(Clone)]
pub(crate) struct Put {
    pub(crate) identity: Identity,
    pub(crate) repository: RepositoryName,
    /// `None`: by digest.
    pub(crate) tag: Option<Tag>,
    /// Of the bytes.
    pub(crate) digest: Digest,
    pub(crate) content_type: String,
    pub(crate) bytes: Bytes,
}

/// Compares a manifest with the digest that it is put under.
pub(crate) fn verified(digest: Digest, bytes: &[u8]) -> ApiResult<Digest> {
    use sha2::Digest as _;
    let found = match digest.algorithm() {
        Algorithm::Sha256 => Digest::sha256(bytes),
        Algorithm::Sha512 => Digest::from_sha512(sha2::Sha512::digest(bytes).into()),
    };
    if found == digest {
        return Ok(digest);
    }
    let message = format!("the manifest has digest {found}, not {digest}");
    Err(ApiError::new(Code::DigestInvalid, message))
}

/// The PUT that led to a push.
pub(super) fn again(push: &Push) -> Put {
    Put {
        identity: push.identity.clone(),
        repository: push.repository.clone(),
        tag: push.tag.clone(),
        digest: push.digest.clone(),
        content_type: push.media_type.clone(),
        bytes: Bytes::copy_from_slice(push.manifest.as_bytes()),
    }
}

/// What an answer to this identity rests on now; what is said and where it goes comes later.
pub(super) fn basis(gate: &Inner, identity: &Identity, now: Timestamp) -> Basis {
    let day = now.to_string().chars().take(10).collect();
    Basis {
        identity: Digest::sha256(&serde_json::to_vec(identity).unwrap_or_default()),
        policy: gate.policies.hash().clone(),
        exceptions: gate.policies.exceptions().hash().cloned(),
        data: gate.analyses.inspector().data(),
        said: None,
        same_owner: true,
        overwrites: false,
        day,
    }
}
