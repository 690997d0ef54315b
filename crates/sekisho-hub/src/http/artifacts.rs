//! The artifact service.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use sekisho_github::wire::artifact::{self as wire, ArtifactId, method};
use uuid::Uuid;

use super::caller::{Call, blocking, caller, read, signed_url};
use super::reply::TwirpFault;
use crate::shared::Shared;
use crate::storage::{Artifact, Caller};
use crate::tokens::StorageClaims;

/// Path of artifacts' blobs.
const CONTAINER: &str = "artifacts";
/// What an artifact is unless its upload says something else.
const ZIP: &str = "application/zip";
/// Longest content type, in bytes.
const MAX_MIME_TYPE: usize = 256;

/// `POST …ArtifactService/{method}`
pub(super) async fn call(
    State(shared): State<Arc<Shared>>,
    Path(called): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, TwirpFault> {
    let caller = caller(&shared, &headers)?;
    let call = Call { shared: &shared, caller, body };
    match called.as_str() {
        method::CREATE => create(call).await,
        method::FINALIZE => finalize(call).await,
        method::LIST => list(&call),
        method::URL => url(&call),
        method::DELETE => delete(call).await,
        _ => Err(TwirpFault::bad_route()),
    }
}

/// What is written must be the caller's own.
fn check_job(caller: &Caller, plan: Uuid, job: Uuid) -> Result<(), TwirpFault> {
    check_run(caller, plan)?;
    if job == caller.guid {
        return Ok(());
    }
    Err(TwirpFault::denied("the token is of another job"))
}

/// What is read may be of any job of the run.
fn check_run(caller: &Caller, plan: Uuid) -> Result<(), TwirpFault> {
    if plan == caller.run.plan {
        return Ok(());
    }
    Err(TwirpFault::denied("the token is of another workflow run"))
}

async fn create(call: Call<'_>) -> Result<Response, TwirpFault> {
    let request: wire::CreateRequest = read(&call.body)?;
    let plan = request.workflow_run_backend_id;
    check_job(&call.caller, plan, request.workflow_job_run_backend_id)?;
    let mime_type = request.mime_type.filter(|kind| !kind.is_empty());
    let mime_type = mime_type.unwrap_or_else(|| ZIP.to_owned());
    let plain = |c: char| c.is_ascii_graphic() || c == ' ';
    if mime_type.len() > MAX_MIME_TYPE || !mime_type.chars().all(plain) {
        return Err(TwirpFault::invalid("the content type is none"));
    }
    let caller = call.caller;
    let created = blocking(call.shared, move |shared| {
        shared.sweep_storage();
        let storage = &shared.storage;
        storage.create_artifact(
            &caller,
            request.name,
            mime_type,
            request.expires_at,
            shared.clock.now(),
        )
    });
    let claims =
        StorageClaims { blob: created.await?, write: true, mime_type: None, file_name: None };
    let signed_upload_url =
        signed_url(call.shared, CONTAINER, claims).ok_or_else(TwirpFault::internal)?;
    Ok(Json(wire::CreateResponse { ok: true, signed_upload_url }).into_response())
}

async fn finalize(call: Call<'_>) -> Result<Response, TwirpFault> {
    let request: wire::FinalizeRequest = read(&call.body)?;
    let plan = request.workflow_run_backend_id;
    check_job(&call.caller, plan, request.workflow_job_run_backend_id)?;
    let caller = call.caller;
    let finished = blocking(call.shared, move |shared| {
        let (name, hash) = (&request.name, request.hash.as_deref());
        shared.storage.finalize_artifact(&caller, name, request.size, hash, shared.clock.now())
    });
    Ok(Json(ArtifactId { ok: true, artifact_id: finished.await? }).into_response())
}

fn list(call: &Call<'_>) -> Result<Response, TwirpFault> {
    let request: wire::ListRequest = read(&call.body)?;
    check_run(&call.caller, request.workflow_run_backend_id)?;
    let wanted = |artifact: &&Artifact| {
        let named = request.name_filter.as_ref().is_none_or(|name| *name == artifact.name);
        let id = request.id_filter;
        named && id.is_none_or(|id| u64::try_from(id).is_ok_and(|id| id == artifact.id))
    };
    let artifacts = call.shared.storage.artifacts(|all| {
        all.of_run(call.caller.at.run).filter(wanted).map(shown).collect::<Vec<_>>()
    });
    Ok(Json(wire::ListResponse { artifacts }).into_response())
}

fn shown(artifact: &Artifact) -> wire::Artifact {
    wire::Artifact {
        workflow_run_backend_id: artifact.run.plan,
        workflow_job_run_backend_id: artifact.job,
        database_id: artifact.id,
        name: artifact.name.clone(),
        size: artifact.size_bytes,
        created_at: artifact.created_at,
        digest: artifact.digest.clone(),
    }
}

fn find(call: &Call<'_>) -> Result<Artifact, TwirpFault> {
    let request: wire::NameRequest = read(&call.body)?;
    check_run(&call.caller, request.workflow_run_backend_id)?;
    let run = call.caller.at.run;
    let found = call.shared.storage.artifacts(|all| all.named(run, &request.name).cloned());
    found.ok_or_else(|| TwirpFault::not_found("the workflow run has no artifact of this name"))
}

fn url(call: &Call<'_>) -> Result<Response, TwirpFault> {
    let artifact = find(call)?;
    let signed_url = download_url(call.shared, artifact).ok_or_else(TwirpFault::internal)?;
    Ok(Json(wire::UrlResponse { signed_url }).into_response())
}

/// Where an artifact can be downloaded for a while.
pub(super) fn download_url(shared: &Shared, artifact: Artifact) -> Option<String> {
    let zip = artifact.mime_type.eq_ignore_ascii_case(ZIP);
    let name = artifact.name;
    let named = if zip && !name.ends_with(".zip") { format!("{name}.zip") } else { name };
    let claims = StorageClaims {
        blob: artifact.blob,
        write: false,
        mime_type: Some(artifact.mime_type),
        file_name: Some(named),
    };
    signed_url(shared, CONTAINER, claims)
}

async fn delete(call: Call<'_>) -> Result<Response, TwirpFault> {
    let artifact = find(&call)?;
    let id = artifact.id;
    blocking(call.shared, move |shared| Ok(shared.storage.delete_artifact(id))).await?;
    Ok(Json(ArtifactId { ok: true, artifact_id: id }).into_response())
}
