//! Blobs out.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use rustix::io::{ReadWriteFlags, preadv2};
use sekisho_store::{Blob, Content};
use sekisho_types::Digest;

use super::range::{Wanted, wanted};
use super::{CONTENT_DIGEST, Context, of_digest};
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};
use crate::push::view::View;

/// How much is read from the disk at once, in bytes.
const READ_BYTES: usize = 128 * 1024;

pub(super) async fn get(context: Context, digest: Digest, request: &Parts) -> ApiResult {
    let wanted = digest.clone();
    let blob = blocking("opening a blob", move || {
        let gate = &context.gate.inner;
        let view = View::of_reader(&context)?;
        let mut is_here = view.size(&digest).or_fail("looking for a blob")?.is_some();
        if is_here && context.caller.identity().is_some() {
            // Who pushes leaves out what is here already: it stays until the manifest comes.
            is_here = gate.touch(&digest, gate.now()).or_fail("looking for a mark")?;
        }
        // Once more after that: a blob that goes away was gone before it was promised.
        let blob = view.open(&digest).or_fail("opening a blob")?;
        blob.filter(|_| is_here).ok_or_else(|| {
            let error =
                ApiError::new(Code::BlobUnknown, "there is no such blob in this repository");
            context.caller.unknown(gate, &context.repository, error)
        })
    })
    .await?;
    answer(blob, &wanted, request).await
}

/// A blob, or the part of it that was asked for.
pub(crate) async fn answer(blob: Blob, digest: &Digest, request: &Parts) -> ApiResult {
    let range = request.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let is_head = request.method == Method::HEAD;
    let digest_header = of_digest(digest)?;
    let (status, first, length) = match wanted(range, blob.size) {
        Wanted::Whole => (StatusCode::OK, 0, blob.size),
        Wanted::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Wanted::Unsatisfiable => {
            let error = ApiError::new(Code::SizeInvalid, "the range lies outside of the blob");
            return Err(error
                .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
                .with_header(header::CONTENT_RANGE, &format!("bytes */{}", blob.size)));
        }
    };
    let body = if is_head { Body::empty() } else { body(blob.content, first, length).await? };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_DIGEST, digest_header);
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {first}-{}/{}", first + length - 1, blob.size);
        headers.extend(HeaderValue::from_str(&value).ok().map(|v| (header::CONTENT_RANGE, v)));
    }
    Ok(response)
}

/// A part of a blob, read as fast as the client takes it.
async fn body(content: Content, first: u64, length: u64) -> ApiResult<Body> {
    match content {
        Content::File(file) => Ok(Body::from_stream(pieces(file, first, length))),
        Content::Object(bucket, name) => {
            let stream = bucket.stream(&name, first, length).await.or_fail("reading a blob")?;
            let gone = || ApiError::new(Code::BlobUnknown, "the blob has gone");
            Ok(Body::from_stream(stream.ok_or_else(gone)?))
        }
    }
}

/// A part of a file. What the kernel has in memory is taken at once; for all else a thread waits.
fn pieces(file: File, first: u64, length: u64) -> impl Stream<Item = io::Result<Bytes>> {
    let next = |(file, at, left): (File, u64, u64)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES)];
        let at_once =
            preadv2(&file, &mut [IoSliceMut::new(&mut piece)], at, ReadWriteFlags::NOWAIT);
        let (file, mut piece, read) = match at_once {
            Ok(read) if read > 0 => (file, piece, read),
            // Not in memory, or not to be asked so on this file system.
            _ => {
                let read = move || -> io::Result<_> {
                    let read = file.read_at(&mut piece, at)?;
                    Ok((file, piece, read))
                };
                tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??
            }
        };
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        piece.truncate(read);
        Ok(Some((Bytes::from(piece), (file, at + read as u64, left - read as u64))))
    };
    futures_util::stream::try_unfold((file, first, length), next)
}
