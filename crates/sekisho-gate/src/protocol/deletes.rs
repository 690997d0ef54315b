//! Deletes: at once, and only of what nothing needs.

use axum::response::IntoResponse as _;
use http::StatusCode;
use sekisho_types::Digest;

use super::{Context, manifests};
use crate::auth::session::Permission;
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};
use crate::lease::Respect;
use crate::route::Reference;
use crate::staging::Scope;

fn busy() -> ApiError {
    ApiError::new(Code::Unavailable, "it is being pushed at this moment; try again")
}

/// DELETE of a tag, or of a manifest with the tags that name it.
pub(super) async fn manifest(context: Context, reference: Reference) -> ApiResult {
    let inner = context.gate.inner.clone();
    context.caller.may(&inner, &context.repository, Permission::Delete)?;
    let repository = context.repository;
    let deleted = blocking("deleting a manifest", move || {
        let upstream = &*inner.upstream;
        match &reference {
            Reference::Neither => Ok(Some(false)),
            Reference::Tag(tag) => {
                upstream.delete_tag(&repository, tag).or_fail("deleting a tag").map(Some)
            }
            Reference::Digest(digest) => {
                let removal = inner.leases.begin(inner.now());
                let delete = || upstream.delete_manifest(&repository, digest);
                let deleted = inner.leases.remove(&removal, Respect::InUse, digest, delete);
                deleted.or_fail("deleting a manifest")
            }
        }
    });
    match deleted.await? {
        Some(true) => Ok(StatusCode::ACCEPTED.into_response()),
        Some(false) => Err(manifests::unknown()),
        None => Err(busy()),
    }
}

/// DELETE of a blob that no manifest of the repository names.
pub(super) async fn blob(context: Context, digest: Digest) -> ApiResult {
    let inner = context.gate.inner.clone();
    let identity = context.caller.may(&inner, &context.repository, Permission::Delete)?;
    let scope = Scope::of(identity);
    let repository = context.repository;
    let deleted = blocking("deleting a blob", move || {
        let staging = inner.staging.of(&scope, inner.now()).or_fail("opening the staging")?;
        let staged = staging.unlink(&repository, &digest).or_fail("deleting a blob")?;
        let removal = inner.leases.begin(inner.now());
        let upstream = &*inner.upstream;
        if let Some(by) =
            upstream.named_by(&repository, &digest).or_fail("looking for manifests")?
        {
            let message = format!("manifest {by} needs the blob; delete the manifest first");
            return Err(ApiError::new(Code::Unsupported, message));
        }
        let delete = || upstream.delete_blob(&repository, &digest);
        let deleted = inner.leases.remove(&removal, Respect::InUse, &digest, delete);
        let deleted = deleted.or_fail("deleting a blob")?.ok_or_else(busy)?;
        Ok(staged || deleted)
    });
    if deleted.await? {
        return Ok(StatusCode::ACCEPTED.into_response());
    }
    Err(ApiError::new(Code::BlobUnknown, "there is no such blob in this repository"))
}
