//! Which job calls the artifact and the cache service, and what its token allows.

use std::sync::Arc;

use axum::body::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::SignedDuration;
use sekisho_github::lenient;
use sekisho_github::wire::cache::Access;
use serde::de::DeserializeOwned;

use super::guard::bearer;
use super::reply::TwirpFault;
use crate::shared::Shared;
use crate::state::Phase;
use crate::storage::{BlobError, Caller, RunOf, StorageError, UPLOAD_WITHIN};
use crate::tokens::{JobClaims, StorageClaims};

/// How long a URL for a download is good: it is used at once.
const DOWNLOAD_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// The running job whose token came with the request.
pub(super) fn caller(shared: &Shared, headers: &HeaderMap) -> Result<Caller, TwirpFault> {
    let claims = bearer(headers).and_then(|token| shared.tokens.read::<JobClaims>(token));
    let claims = claims.ok_or_else(TwirpFault::unauthenticated)?;
    let at = claims.at();
    let access: Vec<Access> = serde_json::from_str(&claims.ac).unwrap_or_default();
    let caller = shared.look(|state| {
        let (run, live, job, _) = state.job(at)?;
        let run = RunOf {
            run: at.run,
            repository: run.view.repository.clone(),
            plan: live.plan_id,
            git_ref: run.view.git_ref.clone(),
            sha: run.view.sha.clone(),
        };
        let repository_id = live.facts.repository.id;
        let running = matches!(job.phase, Phase::Running(_));
        running.then_some(Caller { at, guid: job.guid, run, repository_id, access })
    });
    let caller = caller.ok_or_else(|| TwirpFault::denied("the job is not running"))?;
    let wanted = format!("Actions.Results:{}:{}", caller.run.plan, caller.guid);
    if !claims.scp.split_whitespace().any(|scope| scope == wanted) {
        return Err(TwirpFault::denied("the token is not for the results of this job"));
    }
    Ok(caller)
}

/// Reads a JSON body.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, TwirpFault> {
    lenient::from_slice(body).map_err(|error| TwirpFault::invalid(error.to_string()))
}

/// Runs what blocks on a thread where it may.
pub(super) async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<T, StorageError> + Send + 'static,
) -> Result<T, TwirpFault> {
    let shared = Arc::clone(shared);
    match tokio::task::spawn_blocking(move || work(&shared)).await {
        Ok(result) => result.map_err(fault),
        Err(error) => {
            tracing::error!("{error}");
            Err(TwirpFault::internal())
        }
    }
}

fn fault(error: StorageError) -> TwirpFault {
    let (status, code) = match &error {
        StorageError::Taken(_) => (StatusCode::CONFLICT, "already_exists"),
        StorageError::Denied(_) => (StatusCode::FORBIDDEN, "permission_denied"),
        StorageError::Invalid(_) | StorageError::Blob(BlobError::Mismatch { .. }) => {
            (StatusCode::BAD_REQUEST, "invalid_argument")
        }
        StorageError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
        StorageError::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "resource_exhausted"),
        StorageError::Blob(_) => (StatusCode::PRECONDITION_FAILED, "failed_precondition"),
        StorageError::Io(error) => {
            tracing::error!("an artifact or a cache entry cannot be stored: {error}");
            return TwirpFault::internal();
        }
    };
    TwirpFault(status, code, error.to_string())
}

/// A URL with which a blob can be written or read for a while.
pub(super) fn signed_url(
    shared: &Shared,
    container: &str,
    claims: StorageClaims,
) -> Option<String> {
    let (life, blob) =
        (if claims.write { UPLOAD_WITHIN } else { DOWNLOAD_WITHIN }, claims.blob.simple());
    let (base, now) = (&shared.config.base_url, shared.clock.now());
    let until = (now + life).strftime("%Y-%m-%dT%H:%M:%SZ");
    let sig = shared.tokens.storage(claims, life, now)?;
    // Two levels, as storage emulators have them: clients then find account and container. The
    // query must be there already: clients add `&comp=…` to it.
    Some(format!("{base}/devstoreaccount1/{container}/{blob}?se={until}&sig={sig}"))
}

/// Body and caller of a call.
pub(super) struct Call<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) caller: Caller,
    pub(super) body: Bytes,
}
