//! Deletes: at once, and only of what nothing needs.

use std::io;

use axum::response::IntoResponse as _;
use http::StatusCode;
use sekisho_types::{Digest, RepositoryName};

use super::{Context, manifests};
use crate::auth::may_delete;
use crate::auth::session::Permission;
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};
use crate::lease::Respect;
use crate::route::Reference;
use crate::staging::Scope;
use crate::upstream::Upstream;
use crate::vsa;

fn busy() -> ApiError {
    ApiError::new(Code::Unavailable, "it is being pushed at this moment; try again")
}

/// DELETE of a tag, or of a manifest with the tags that name it.
pub(super) async fn manifest(context: Context, reference: Reference) -> ApiResult {
    let inner = context.gate.inner.clone();
    let identity = context.caller.may(&inner, &context.repository, Permission::Delete)?;
    let (scope, identity) = (Scope::of(identity), identity.clone());
    let repository = context.repository;
    let deleted = blocking("deleting a manifest", move || {
        let upstream = &inner.upstream;
        let change = match &reference {
            Reference::Tag(tag) => (Some(tag), true),
            Reference::Digest(digest) => (None, is_tagged(upstream, &repository, digest)?),
            Reference::Neither => (None, false),
        };
        may_delete(&inner, &identity, &repository, change)?;
        match &reference {
            Reference::Neither => Ok(Some(false)),
            Reference::Tag(tag) => {
                upstream.delete_tag(&repository, tag).or_fail("deleting a tag").map(Some)
            }
            Reference::Digest(digest) => {
                let staging = inner.staging.of(&scope, inner.now());
                let staging = staging.or_fail("opening the staging")?;
                let staged = staging.delete_manifest(&repository, digest);
                let staged = staged.or_fail("deleting a manifest")?;
                let removal = inner.leases.begin(inner.now());
                let delete = || delete_attested(upstream, &repository, digest);
                let deleted = inner.leases.remove(&removal, Respect::InUse, digest, delete);
                let deleted = deleted.or_fail("deleting a manifest")?;
                Ok(deleted.map(|deleted| deleted || staged))
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
    let (scope, identity) = (Scope::of(identity), identity.clone());
    let repository = context.repository;
    let deleted = blocking("deleting a blob", move || {
        may_delete(&inner, &identity, &repository, (None, false))?;
        let staging = inner.staging.of(&scope, inner.now()).or_fail("opening the staging")?;
        let staged = staging.unlink(&repository, &digest).or_fail("deleting a blob")?;
        let removal = inner.leases.begin(inner.now());
        let upstream = &inner.upstream;
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

/// Whether a tag names the manifest, and would go with it.
fn is_tagged(upstream: &Upstream, repository: &RepositoryName, digest: &Digest) -> ApiResult<bool> {
    let page = upstream.tags(repository, None, usize::MAX).or_fail("listing tags")?;
    for tag in page.map(|page| page.tags).unwrap_or_default() {
        if upstream.resolve(repository, &tag).or_fail("reading a tag")?.as_ref() == Some(digest) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Deletes a manifest, and with it what the gate itself said about it.
fn delete_attested(
    upstream: &Upstream,
    repository: &RepositoryName,
    digest: &Digest,
) -> io::Result<bool> {
    let deleted = upstream.delete_manifest(repository, digest)?;
    for said in upstream.referrers(repository, digest, None)? {
        let said = said?;
        if said.artifact_type.as_deref() == Some(vsa::ARTIFACT_TYPE) {
            upstream.delete_manifest(repository, &said.digest)?;
        }
    }
    Ok(deleted)
}
