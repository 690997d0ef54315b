//! The cache service, in JSON and in protobuf.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use sekisho_github::wire::cache::{self as wire, Message, method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::caller::{Call, blocking, caller, read, signed_url};
use super::reply::TwirpFault;
use crate::shared::Shared;
use crate::tokens::StorageClaims;

/// Path of cache entries' blobs.
const CONTAINER: &str = "caches";
/// Twirp's binary form.
const PROTOBUF: &str = "application/protobuf";

/// `POST …CacheService/{method}`
pub(super) async fn call(
    State(shared): State<Arc<Shared>>,
    Path(called): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, TwirpFault> {
    let caller = caller(&shared, &headers)?;
    let form = Form::of(&headers);
    let call = Call { shared: &shared, caller, body };
    match called.as_str() {
        method::CREATE => {
            let answer = create(form, call).await?;
            Ok(form.write(&answer, wire::CreateResponse::to_proto))
        }
        method::FINALIZE => {
            let answer = finalize(form, call).await?;
            Ok(form.write(&answer, wire::FinalizeResponse::to_proto))
        }
        method::DOWNLOAD_URL => {
            let answer = find(form, call).await?;
            Ok(form.write(&answer, wire::LookupResponse::to_proto))
        }
        _ => Err(TwirpFault::bad_route()),
    }
}

/// How a request is written, and so its answer. Errors are always JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Protobuf,
}

impl Form {
    fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case(PROTOBUF) { Self::Protobuf } else { Self::Json }
    }

    fn read<T: Message + DeserializeOwned>(self, body: &[u8]) -> Result<T, TwirpFault> {
        match self {
            Self::Json => read(body),
            Self::Protobuf => {
                T::from_proto(body).map_err(|error| TwirpFault::invalid(error.to_string()))
            }
        }
    }

    fn write<T: Serialize>(self, answer: &T, to_proto: impl Fn(&T) -> Vec<u8>) -> Response {
        match self {
            Self::Json => Json(answer).into_response(),
            Self::Protobuf => ([(CONTENT_TYPE, PROTOBUF)], to_proto(answer)).into_response(),
        }
    }
}

fn url(shared: &Shared, blob: Uuid, write: bool) -> Result<String, TwirpFault> {
    let claims = StorageClaims { blob, write, mime_type: None, file_name: None };
    signed_url(shared, CONTAINER, claims).ok_or_else(TwirpFault::internal)
}

async fn create(form: Form, call: Call<'_>) -> Result<wire::CreateResponse, TwirpFault> {
    let request: wire::CreateRequest = form.read(&call.body)?;
    let caller = call.caller;
    let blob = blocking(call.shared, move |shared| {
        shared.sweep_storage();
        shared.storage.create_cache(&caller, &request.key, &request.version, shared.clock.now())
    });
    let signed_upload_url = url(call.shared, blob.await?, true)?;
    Ok(wire::CreateResponse { ok: true, signed_upload_url, message: String::new() })
}

async fn finalize(form: Form, call: Call<'_>) -> Result<wire::FinalizeResponse, TwirpFault> {
    let request: wire::FinalizeRequest = form.read(&call.body)?;
    let caller = call.caller;
    let id = blocking(call.shared, move |shared| {
        let (key, version, size) = (&request.key, &request.version, request.size_bytes);
        shared.storage.finalize_cache(&caller, key, version, size, shared.clock.now())
    });
    let entry_id = i64::try_from(id.await?).map_err(|_| TwirpFault::internal())?;
    Ok(wire::FinalizeResponse { ok: true, entry_id, message: String::new() })
}

async fn find(form: Form, call: Call<'_>) -> Result<wire::LookupResponse, TwirpFault> {
    let request: wire::LookupRequest = form.read(&call.body)?;
    let caller = call.caller;
    let found = blocking(call.shared, move |shared| {
        let mut keys = vec![request.key.as_str()];
        // Some clients repeat the key among those to restore from.
        keys.extend(request.restore_keys.iter().map(String::as_str).filter(|k| *k != request.key));
        shared.storage.find_cache(&caller, &keys, &request.version, shared.clock.now())
    });
    match found.await? {
        None => Ok(wire::LookupResponse::default()),
        Some((blob, matched_key)) => {
            let signed_download_url = url(call.shared, blob, false)?;
            Ok(wire::LookupResponse { ok: true, signed_download_url, matched_key })
        }
    }
}
