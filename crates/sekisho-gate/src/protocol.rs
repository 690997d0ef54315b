//! `/v2/`: distribution-spec 1.1. Thin: understands the request, calls, answers.

pub(crate) mod blobs;
mod deletes;
mod manifests;
pub(crate) mod range;
mod referrers;
mod uploads;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use sekisho_types::{Digest, RepositoryName};

use crate::auth::{Caller, challenged};
use crate::error::{ApiError, ApiResult, Code};
use crate::gate::Gate;
use crate::mirror::{self, Target};
use crate::route::{self, Endpoint};

pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Says to who pushes that each push is decided anew, so that none is left out for being there already.
pub(crate) const DECIDES: HeaderName = HeaderName::from_static("sekisho-decides");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const PREFIX: &str = "/v2/";

/// What every handler needs.
pub(crate) struct Context {
    pub(crate) gate: Gate,
    pub(crate) caller: Caller,
    pub(crate) repository: RepositoryName,
}

pub(crate) async fn serve(State(gate): State<Gate>, request: Request) -> Response {
    let mut response = handle(gate, request).await.unwrap_or_else(IntoResponse::into_response);
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

async fn handle(gate: Gate, request: Request) -> ApiResult {
    let (parts, body) = request.into_parts();
    let caller = Caller::of(&gate.inner, &parts)?;
    let path = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    if path.is_empty() {
        return ping(&gate, &caller);
    }
    let (repository, endpoint) = route::parse(path)?;
    let method = &parts.method;
    let reads = method == Method::GET || method == Method::HEAD;
    let mirror = gate.inner.mirror.as_ref();
    let target = mirror.and_then(|mirror| mirror.target(&repository, &parts));
    if reads && !matches!(endpoint, Endpoint::Uploads | Endpoint::Upload(_)) {
        // By its name here, however it is asked for.
        let name = target.as_ref().and_then(Target::name).unwrap_or(&repository);
        caller.may_pull(&gate.inner, name)?;
    }
    if let Some(target) = target {
        return mirror::serve(&gate, target, endpoint, &parts).await;
    }
    let context = Context { gate, caller, repository };
    match endpoint {
        Endpoint::Tags if reads => manifests::tags(context, &parts).await,
        Endpoint::Referrers(digest) if reads => referrers::get(context, digest, &parts).await,
        Endpoint::Blob(digest) if reads => blobs::get(context, digest, &parts).await,
        Endpoint::Manifest(reference) if reads => manifests::get(context, reference, method).await,
        Endpoint::Manifest(reference) if method == Method::PUT => {
            manifests::put(context, reference, &parts, body).await
        }
        Endpoint::Manifest(reference) if method == Method::DELETE => {
            deletes::manifest(context, reference).await
        }
        Endpoint::Blob(digest) if method == Method::DELETE => deletes::blob(context, digest).await,
        Endpoint::Uploads if method == Method::POST => uploads::begin(context, &parts, body).await,
        Endpoint::Upload(id) => match *method {
            Method::PATCH => uploads::patch(context, id, &parts, body).await,
            Method::PUT => uploads::put(context, id, &parts, body).await,
            Method::GET => uploads::status(&context, id).await,
            Method::DELETE => uploads::cancel(&context, id).await,
            _ => Err(unsupported(method)),
        },
        _ => Err(unsupported(method)),
    }
}

/// Clients find out here that they have to log in, so whoever says nothing is told.
fn ping(gate: &Gate, caller: &Caller) -> ApiResult {
    if caller.said_something() {
        return Ok((StatusCode::OK, axum::Json(serde_json::json!({}))).into_response());
    }
    let error = ApiError::new(Code::Unauthorized, "get a token; anybody gets one to pull with");
    Err(challenged(&gate.inner, error, None))
}

fn unsupported(method: &Method) -> ApiError {
    ApiError::new(Code::Unsupported, format!("{method} is not supported here"))
}

/// An answer without a body that names content.
pub(crate) fn created(location: &str, digest: &Digest) -> ApiResult<Response> {
    let location = HeaderValue::from_str(location)
        .map_err(|error| ApiError::internal("making a location", &error))?;
    let headers = [(http::header::LOCATION, location), (CONTENT_DIGEST, of_digest(digest)?)];
    Ok((StatusCode::CREATED, headers).into_response())
}

pub(crate) fn of_digest(digest: &Digest) -> ApiResult<HeaderValue> {
    HeaderValue::from_str(&digest.to_string())
        .map_err(|error| ApiError::internal("making a header", &error))
}

/// The value of a query parameter.
pub(crate) fn parameter(request: &Parts, name: &str) -> Option<String> {
    let query = request.uri.query().unwrap_or_default();
    let mut fields = url::form_urlencoded::parse(query.as_bytes());
    fields.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
}

/// The values of a query parameter that may stand there more than once.
fn parameters(request: &Parts, name: &str) -> Vec<String> {
    let query = request.uri.query().unwrap_or_default();
    let fields = url::form_urlencoded::parse(query.as_bytes());
    fields.filter(|(known, _)| known == name).map(|(_, value)| value.into_owned()).collect()
}

/// A digest in a query parameter; `None` when there is none.
fn digest_parameter(request: &Parts, name: &str) -> ApiResult<Option<Digest>> {
    let parse = |text: String| {
        text.parse().map_err(|error| ApiError::new(Code::DigestInvalid, format!("{error}")))
    };
    parameter(request, name).map(parse).transpose()
}
