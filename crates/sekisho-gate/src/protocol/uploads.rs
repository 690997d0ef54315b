//! Blobs in.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use sekisho_store::Batch;
use sekisho_types::{Algorithm, Digest, RepositoryName};
use uuid::Uuid;

use super::range::content_range;
use super::{Context, created, digest_parameter, parameter};
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};
use crate::push::view::View;
use crate::reserve::LOOK_EVERY_BYTES;
use crate::staging::Scope;
use crate::upload::Upload;
use crate::upload::pace::Pace;

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// An upload whose client says nothing for this long is cut off; it may ask for the offset and go on.
const MAX_SILENCE: Duration = Duration::from_secs(60);

/// How much of a body that is of no use any more is taken in, in bytes, and for how long.
const DRAINED_BYTES: usize = 4 * 1024 * 1024;
const DRAINED_WITHIN: Duration = Duration::from_secs(5);

/// POST: begins an upload, takes a whole blob, or mounts one that is here already.
pub(super) async fn begin(context: Context, request: &Parts, body: Body) -> ApiResult {
    let scope = Scope::of(context.caller.may_push(&context.gate.inner, &context.repository)?);
    context.gate.inner.reserve.check()?;
    let digest = digest_parameter(request, "digest")?;
    if let Some(mount) = digest_parameter(request, "mount")? {
        let from = match parameter(request, "from") {
            Some(text) => Some(
                text.parse::<RepositoryName>()
                    .map_err(|error| ApiError::new(Code::NameInvalid, error.to_string()))?,
            ),
            None => None,
        };
        let inner = &context.gate.inner;
        // What may not be read is not mounted: an ordinary upload begins.
        let may_read = from.as_ref().is_none_or(|it| context.caller.may_pull(inner, it).is_ok());
        if may_read && try_mount(context_for_mount(&context), mount.clone(), from).await? {
            return created(&blob_location(request, &mount), &mount);
        }
    }
    if let Some(algorithm) = parameter(request, "digest-algorithm")
        && Algorithm::ALL.iter().all(|known| known.as_str() != algorithm)
    {
        // Which of the known ones it is, the digest at the end says.
        let message = "`digest-algorithm` is neither `sha256` nor `sha512`";
        return Err(ApiError::new(Code::DigestInvalid, message));
    }
    let inner = context.gate.inner.clone();
    let repository = context.repository.clone();
    let upload =
        blocking("starting an upload", move || inner.uploads.begin(scope, repository, inner.now()))
            .await?;
    let Some(digest) = digest else {
        return progress(StatusCode::ACCEPTED, &context.repository, &upload);
    };
    let result = receive(&context, &upload, body, None).await;
    if let Err(error) = result {
        // Nobody was told its id: nobody will continue it.
        cancel_upload(&context, &upload).await?;
        return Err(error);
    }
    finish(context, upload, digest).await
}

/// What a mount needs of the request's context, for another thread.
fn context_for_mount(context: &Context) -> MountContext {
    MountContext {
        gate: context.gate.clone(),
        scope: context.caller.scope(),
        repository: context.repository.clone(),
    }
}

struct MountContext {
    gate: crate::gate::Gate,
    scope: Option<Scope>,
    repository: RepositoryName,
}

/// Gives the repository a blob that the caller may read in `from`; without `from`, one that the run
/// staged anywhere or that the repository has upstream.
async fn try_mount(
    context: MountContext,
    digest: Digest,
    from: Option<RepositoryName>,
) -> ApiResult<bool> {
    blocking("mounting a blob", move || {
        let MountContext { gate, scope, repository } = context;
        let Some(scope) = scope else { return Ok(false) };
        let inner = &gate.inner;
        let staging = inner.staging.of(&scope, inner.now()).or_fail("opening the staging")?;
        let staged = staging.blobs().contains(&digest).or_fail("looking for a blob")?;
        // The whole staging is the run's own: without `from`, any of its repositories will do.
        if from.is_some() || !staged {
            let source = from.unwrap_or_else(|| repository.clone());
            let view = View::new(inner, Some(staging.clone()), source);
            if view.size(&digest).or_fail("looking for a blob")?.is_none() {
                return Ok(false);
            }
        }
        let from = inner.upstream.blobs();
        let mut batch = Batch::default();
        let is_here = staging.adopt_in(&mut batch, &repository, &digest, from);
        let is_here = is_here.or_fail("mounting a blob")?;
        batch.commit().or_fail("mounting a blob")?;
        Ok(is_here)
    })
    .await
}

/// PATCH: some bytes, in order.
pub(super) async fn patch(
    context: Context,
    id: Option<Uuid>,
    request: &Parts,
    body: Body,
) -> ApiResult {
    let upload = find(&context, id).await?;
    let expected = expected_bytes(&context, &upload, request)?;
    receive(&context, &upload, body, expected).await?;
    progress(StatusCode::ACCEPTED, &context.repository, &upload)
}

/// PUT: the last bytes, if any, and the digest.
pub(super) async fn put(
    context: Context,
    id: Option<Uuid>,
    request: &Parts,
    body: Body,
) -> ApiResult {
    let upload = find(&context, id).await?;
    let digest = digest_parameter(request, "digest")?
        .ok_or_else(|| ApiError::new(Code::DigestInvalid, "the parameter `digest` is missing"))?;
    let expected = expected_bytes(&context, &upload, request)?;
    receive(&context, &upload, body, expected).await?;
    finish(context, upload, digest).await
}

/// GET: how far it came.
pub(super) async fn status(context: &Context, id: Option<Uuid>) -> ApiResult {
    progress(StatusCode::NO_CONTENT, &context.repository, &*find(context, id).await?)
}

/// DELETE: gives it up.
pub(super) async fn cancel(context: &Context, id: Option<Uuid>) -> ApiResult {
    cancel_upload(context, &find(context, id).await?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn find(context: &Context, id: Option<Uuid>) -> ApiResult<Arc<Upload>> {
    let inner = &context.gate.inner;
    let scope = Scope::of(context.caller.may_push(inner, &context.repository)?);
    if !inner.uploads.is_shared() {
        return inner.uploads.get(id, &scope, &context.repository, inner.now());
    }
    let (inner, repository) = (inner.clone(), context.repository.clone());
    blocking("looking for an upload", move || {
        inner.uploads.get(id, &scope, &repository, inner.now())
    })
    .await
}

async fn cancel_upload(context: &Context, upload: &Arc<Upload>) -> ApiResult<()> {
    let (inner, upload) = (context.gate.inner.clone(), Arc::clone(upload));
    if !inner.uploads.is_shared() {
        inner.uploads.cancel(&upload);
        return Ok(());
    }
    blocking("ending an upload", move || {
        inner.uploads.cancel(&upload);
        Ok(())
    })
    .await
}

/// How many bytes the request says to bring, if it says where they belong.
fn expected_bytes(context: &Context, upload: &Upload, request: &Parts) -> ApiResult<Option<u64>> {
    let headers = &request.headers;
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let range = value.to_str().ok().and_then(content_range);
    let (first, last) = range.ok_or_else(|| {
        ApiError::new(Code::BlobUploadInvalid, "Content-Range is not `first-last`")
    })?;
    if first != upload.offset() {
        let error = ApiError::new(
            Code::BlobUploadInvalid,
            format!("the next byte is {}, not {first}", upload.offset()),
        );
        return Err(error
            .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
            .with_header(header::LOCATION, &upload_location(&context.repository, upload))
            .with_header(header::RANGE, &received(upload)));
    }
    let max = context.gate.inner.uploads.max_blob_bytes();
    let count = (last - first).checked_add(1).filter(|_| last < max);
    count.map(Some).ok_or_else(|| too_large(max))
}

fn too_large(max: u64) -> ApiError {
    ApiError::new(Code::SizeInvalid, format!("a blob has at most {max} bytes here"))
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

/// Takes the body in. What came before an error stays, and the client may continue after it.
async fn receive(
    context: &Context,
    upload: &Arc<Upload>,
    mut body: Body,
    expected: Option<u64>,
) -> ApiResult<()> {
    if body.is_end_stream() && expected.is_none() {
        return Ok(());
    }
    let inner = &context.gate.inner;
    let (sender, task) = upload.receive(&inner.analyses, inner.now())?;
    let max = inner.uploads.max_blob_bytes();
    let allowed = expected.unwrap_or(max.saturating_sub(upload.offset()));
    let (mut came, mut unlooked) = (0_u64, LOOK_EVERY_BYTES);
    let (mut pace, began) = (Pace::default(), tokio::time::Instant::now());
    let fed = loop {
        let frame = match tokio::time::timeout(MAX_SILENCE, body.frame()).await {
            Err(_) => break Err(ApiError::new(Code::BlobUploadInvalid, "no byte for 60 s")),
            Ok(None) => break Ok(()),
            Ok(Some(Err(_))) => {
                break Err(ApiError::new(Code::BlobUploadInvalid, "the body was cut off"));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(piece) = frame.into_data() else { continue };
        if piece.is_empty() {
            continue;
        }
        came += piece.len() as u64;
        unlooked += piece.len() as u64;
        if unlooked >= LOOK_EVERY_BYTES {
            unlooked = 0;
            if let Err(error) = inner.reserve.check() {
                drain(&mut body).await;
                break Err(error);
            }
        }
        if !pace.came(piece.len() as u64, began.elapsed()) {
            break Err(ApiError::new(Code::BlobUploadInvalid, "slower than 1 KiB/s for 30 s"));
        }
        if came > allowed {
            break Err(match expected {
                Some(_) => ApiError::new(Code::SizeInvalid, "more bytes than Content-Range says"),
                None => too_large(max),
            });
        }
        if sender.send(piece).await.is_err() {
            // The task says why.
            drain(&mut body).await;
            break Ok(());
        }
    };
    drop(sender);
    let written = task.await.map_err(|error| ApiError::internal("receiving a blob", &error))?;
    if let Err(error) = written {
        inner.uploads.forget(upload);
        return Err(ApiError::io("receiving a blob", &error));
    }
    fed?;
    if expected.is_some_and(|expected| expected != came) {
        return Err(ApiError::new(Code::SizeInvalid, "fewer bytes than Content-Range says"));
    }
    Ok(())
}

/// Throws some of a body away: many clients hear an answer only after their last word.
async fn drain(body: &mut Body) {
    let mut left = DRAINED_BYTES;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, bytes::Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // What is still to come after that is cut off.
    let _ = tokio::time::timeout(DRAINED_WITHIN, rest).await;
}

async fn finish(context: Context, upload: Arc<Upload>, digest: Digest) -> ApiResult {
    let location = format!("/v2/{}/blobs/{digest}", context.repository);
    let name = digest.clone();
    blocking("staging a blob", move || {
        let inner = &context.gate.inner;
        let scope = Scope::of(context.caller.may_push(inner, &context.repository)?);
        let staging = inner.staging.of(&scope, inner.now()).or_fail("opening the staging")?;
        inner.uploads.finish(&upload, &digest, &staging, &inner.analyses)
    })
    .await?;
    created(&location, &name)
}

fn blob_location(request: &Parts, digest: &Digest) -> String {
    let path = request.uri.path().trim_end_matches('/');
    let repository = path.strip_suffix("/blobs/uploads").unwrap_or(path);
    format!("{repository}/blobs/{digest}")
}

/// Relative, so that nothing of a request's `Host` comes back in it.
fn upload_location(repository: &RepositoryName, upload: &Upload) -> String {
    format!("/v2/{repository}/blobs/uploads/{}", upload.id)
}

fn received(upload: &Upload) -> String {
    format!("0-{}", upload.offset().saturating_sub(1))
}

fn progress(status: StatusCode, repository: &RepositoryName, upload: &Upload) -> ApiResult {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    for (name, value) in [
        (header::LOCATION, upload_location(repository, upload)),
        (header::RANGE, received(upload)),
        (UPLOAD_ID, upload.id.to_string()),
    ] {
        let value = HeaderValue::from_str(&value)
            .map_err(|error| ApiError::internal("making a header", &error))?;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}
