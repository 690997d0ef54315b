//! What signed URLs of artifacts and cache entries answer to: Azure's blob storage, as much of it
//! as its clients need. Bodies go to the disk and come from it as they arrive.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header::{ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE};
use http::header::{CONTENT_TYPE, ETAG, IF_MATCH, LAST_MODIFIED, RANGE};
use http::{HeaderMap, StatusCode};
use sekisho_github::wire::azure::{self, Range, VERSION};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::blobs::{Refused, created, internal};
use crate::shared::Shared;
use crate::storage::{BlobError, Content, Piece};
use crate::tokens::StorageClaims;

/// The largest list of blocks, in bytes: 50,000 blocks of the longest ids.
const MAX_LIST: usize = 8 * 1024 * 1024;
/// How long a body may stand still.
const IDLE: Duration = Duration::from_secs(60);
/// How much is written or read at once, in bytes.
const CHUNK: usize = 256 * 1024;

type Reply = Result<Response, Refused>;

/// Query of a signed URL.
#[derive(Debug, Deserialize)]
pub(super) struct Signed {
    #[serde(default)]
    sig: String,
    #[serde(default)]
    comp: String,
    #[serde(default)]
    blockid: String,
}

/// The blob that the URL was signed for.
fn granted(
    shared: &Shared,
    query: &Signed,
    blob: &str,
    write: bool,
) -> Result<StorageClaims, Refused> {
    let claims = shared.tokens.read::<StorageClaims>(&query.sig);
    let same = |c: &StorageClaims| c.write == write && c.blob.simple().to_string() == blob;
    claims.filter(same).ok_or_else(|| {
        let why = "the signature is not of this URL and this operation, or too old";
        Refused(StatusCode::FORBIDDEN, "AuthenticationFailed", why.to_owned())
    })
}

/// `PUT /devstoreaccount1/{container}/{blob}?sig=…[&comp=block&blockid=…|&comp=blocklist|…]`
pub(super) async fn put(
    State(shared): State<Arc<Shared>>,
    Path((_, blob)): Path<(String, String)>,
    Query(query): Query<Signed>,
    headers: HeaderMap,
    body: Body,
) -> Reply {
    let blob = granted(&shared, &query, &blob, true)?.blob;
    let kind = headers.get("x-ms-blob-type").map(|kind| kind.as_bytes().to_ascii_lowercase());
    match (query.comp.as_str(), kind.as_deref()) {
        ("", Some(b"blockblob" | b"appendblob") | None) => {
            let (file, bytes) = receive(&shared, blob, body).await?;
            stored(shared, move |shared| shared.storage.blobs.put(blob, file, bytes)).await
        }
        ("block", _) => {
            let id = query.blockid;
            if !azure::is_block_id(&id) {
                let why = "blockid is not base64 of at most 64 bytes".to_owned();
                let status = StatusCode::BAD_REQUEST;
                return Err(Refused(status, "InvalidQueryParameterValue", why));
            }
            let (file, bytes) = receive(&shared, blob, body).await?;
            stored(shared, move |shared| shared.storage.blobs.stage(blob, &id, file, bytes)).await
        }
        ("blocklist", _) => block_list(shared, blob, body).await,
        ("appendblock", _) => {
            let (file, bytes) = receive(&shared, blob, body).await?;
            stored(shared, move |shared| shared.storage.blobs.append(blob, file, bytes)).await
        }
        ("seal", _) => Ok(created()),
        ("", _) => {
            let why = "only block blobs and append blobs are taken".to_owned();
            Err(Refused(StatusCode::BAD_REQUEST, "InvalidHeaderValue", why))
        }
        _ => {
            let why = "the operation is not known".to_owned();
            Err(Refused(StatusCode::BAD_REQUEST, "InvalidQueryParameterValue", why))
        }
    }
}

async fn block_list(shared: Arc<Shared>, blob: Uuid, body: Body) -> Reply {
    let xml = to_bytes(body, MAX_LIST).await.map_err(|_| {
        let why = format!("a list of blocks takes at most {MAX_LIST} bytes");
        Refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge", why)
    })?;
    let bad = |why: String| Refused(StatusCode::BAD_REQUEST, "InvalidXmlDocument", why);
    let xml = String::from_utf8(xml.into()).map_err(|error| bad(error.to_string()))?;
    azure::block_list(&xml).map_err(|error| bad(error.to_string()))?;
    stored(shared, move |shared| {
        // Read again rather than copied: the ids are of the text.
        let list = azure::block_list(&xml).unwrap_or_default();
        shared.storage.blobs.commit(blob, &list)
    })
    .await
}

/// Runs what blocks on a thread where it may, and answers.
async fn stored(
    shared: Arc<Shared>,
    store: impl FnOnce(&Shared) -> Result<(), BlobError> + Send + 'static,
) -> Reply {
    match tokio::task::spawn_blocking(move || store(&shared)).await {
        Ok(Ok(())) => Ok(created()),
        Ok(Err(error)) => Err(refused(&error)),
        Err(error) => Err(internal(&error)),
    }
}

fn refused(error: &BlobError) -> Refused {
    let (status, code) = match error {
        // What is finished stays as it is.
        BlobError::Over | BlobError::Changed => (StatusCode::CONFLICT, "BlobImmutableDueToPolicy"),
        BlobError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge"),
        BlobError::TooMany => (StatusCode::CONFLICT, "BlockCountExceedsLimit"),
        BlobError::UnknownBlock => (StatusCode::BAD_REQUEST, "InvalidBlockList"),
        BlobError::Empty | BlobError::Mismatch { .. } => {
            (StatusCode::BAD_REQUEST, "InvalidBlobOrBlock")
        }
        BlobError::Io(error) => return internal(error),
    };
    Refused(status, code, error.to_string())
}

/// A body on its way to the disk: unless it arrives whole, its file goes and its room is given back,
/// also when the client hangs up.
struct Incoming {
    shared: Arc<Shared>,
    blob: Uuid,
    file: u64,
    bytes: u64,
    whole: bool,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.whole {
            self.shared.storage.blobs.discard(self.blob, self.file, self.bytes);
        }
    }
}

/// Writes a body to a file of the blob, and gives its number and size.
async fn receive(shared: &Arc<Shared>, blob: Uuid, body: Body) -> Result<(u64, u64), Refused> {
    let blobs = &shared.storage.blobs;
    let (file, path) = blobs.new_file(blob).map_err(|error| refused(&error))?;
    let mut incoming = Incoming { shared: Arc::clone(shared), blob, file, bytes: 0, whole: false };
    let out = tokio::fs::File::create_new(path).await.map_err(|error| internal(&error))?;
    let mut out = tokio::io::BufWriter::with_capacity(CHUNK, out);
    let mut body = body.into_data_stream();
    loop {
        let chunk = tokio::time::timeout(IDLE, body.next()).await.map_err(|_| {
            let why = "the body stood still".to_owned();
            Refused(StatusCode::REQUEST_TIMEOUT, "OperationTimedOut", why)
        })?;
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|_| {
            let why = "the body ended early".to_owned();
            Refused(StatusCode::BAD_REQUEST, "IncompleteBody", why)
        })?;
        blobs.grow(blob, chunk.len() as u64).map_err(|error| refused(&error))?;
        incoming.bytes += chunk.len() as u64;
        out.write_all(&chunk).await.map_err(|error| internal(&error))?;
    }
    out.flush().await.map_err(|error| internal(&error))?;
    incoming.whole = true;
    Ok((file, incoming.bytes))
}

/// `GET` and `HEAD /devstoreaccount1/{container}/{blob}?sig=…`
pub(super) async fn get(
    State(shared): State<Arc<Shared>>,
    Path((_, blob)): Path<(String, String)>,
    Query(query): Query<Signed>,
    headers: HeaderMap,
) -> Reply {
    let claims = granted(&shared, &query, &blob, false)?;
    let id = claims.blob;
    let reader = Arc::clone(&shared);
    let content = tokio::task::spawn_blocking(move || reader.storage.blobs.content(id)).await;
    let content = content.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
    let content = content.ok_or_else(|| {
        let why = "the blob does not exist".to_owned();
        Refused(StatusCode::NOT_FOUND, "BlobNotFound", why)
    })?;
    // Content never changes, so neither does its tag.
    let etag = format!("\"0x{}\"", id.simple());
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text(IF_MATCH.as_str()).is_some_and(|wanted| wanted != "*" && wanted != etag) {
        let why = "the blob has another ETag".to_owned();
        return Err(Refused(StatusCode::PRECONDITION_FAILED, "ConditionNotMet", why));
    }
    let size = content.size_bytes;
    let range = azure::range(text("x-ms-range").or_else(|| text(RANGE.as_str())), size);
    let (status, first, end) = match range {
        Range::Whole => (StatusCode::OK, 0, size),
        Range::Part(first, end) => (StatusCode::PARTIAL_CONTENT, first, end),
        Range::Unsatisfiable => {
            let why = "the blob has no such bytes".to_owned();
            let refused = Refused(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", why);
            return Ok(([(CONTENT_RANGE, format!("bytes */{size}"))], refused).into_response());
        }
    };
    let mut answer = described(&content, etag, claims);
    *answer.status_mut() = status;
    let length = [(CONTENT_LENGTH, (end - first).to_string())];
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{size}", end - 1);
        answer = ([(CONTENT_RANGE, range)], answer).into_response();
    }
    let pieces = shared.storage.blobs.pieces(id, &content, first, end);
    *answer.body_mut() = stream(pieces);
    Ok((length, answer).into_response())
}

fn described(content: &Content, etag: String, claims: StorageClaims) -> Response {
    let kind = claims.mime_type.unwrap_or_else(|| "application/octet-stream".to_owned());
    let headers = [
        (CONTENT_TYPE.as_str(), kind),
        (ACCEPT_RANGES.as_str(), "bytes".to_owned()),
        (ETAG.as_str(), etag),
        (LAST_MODIFIED.as_str(), super::blobs::http_date(content.finished_at)),
        ("x-content-type-options", "nosniff".to_owned()),
        ("x-ms-blob-type", "BlockBlob".to_owned()),
        ("x-ms-request-id", Uuid::new_v4().to_string()),
        ("x-ms-version", VERSION.to_owned()),
    ];
    match claims.file_name {
        Some(name) => {
            let named = [(CONTENT_DISPOSITION, disposition(&name))];
            (named, headers, Body::empty()).into_response()
        }
        None => (headers, Body::empty()).into_response(),
    }
}

/// RFC 6266: a plain name for old clients, the real one for the others.
fn disposition(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_.()".contains(c);
    let ascii: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

fn stream(pieces: Vec<Piece>) -> Body {
    let files = futures_util::stream::iter(pieces).then(|(path, skip, count)| async move {
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(std::io::SeekFrom::Start(skip)).await?;
        std::io::Result::Ok(ReaderStream::with_capacity(file.take(count), CHUNK))
    });
    Body::from_stream(files.try_flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_downloads() {
        let want = "attachment; filename=\"a b.zip\"; filename*=UTF-8''a%20b.zip";
        assert_eq!(disposition("a b.zip"), want);
        let want = "attachment; filename=\"_x_\"; filename*=UTF-8''%C3%A9x%22";
        assert_eq!(disposition("éx\""), want);
    }
}
