//! `/_gate/`: for the plane's own tools, with the admin token.

use axum::Json;
use axum::extract::{Path, Query, State};
use http::HeaderMap;
use jiff::SignedDuration;
use secrecy::ExposeSecret as _;
use sekisho_types::RepositoryName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::auth::{Credential, credential};
use crate::decisions::{Decision, Decisions};
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};
use crate::gate::Gate;
use crate::owners::Owner;
use crate::push::{self, Done, asked};
use crate::vsa::envelope;

#[derive(Deserialize)]
pub(crate) struct Filter {
    run_id: Option<String>,
}

pub(crate) async fn list(
    State(gate): State<Gate>,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
) -> ApiResult<Json<Decisions>> {
    authorize(&gate, &headers)?;
    blocking("listing decisions", move || {
        let decisions = gate.inner.log.list(filter.run_id.as_deref());
        Ok(Json(Decisions { decisions: decisions.or_fail("listing decisions")? }))
    })
    .await
}

pub(crate) async fn one(
    State(gate): State<Gate>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Json<Decision>> {
    authorize(&gate, &headers)?;
    blocking("reading a decision", move || {
        let decision = gate.inner.log.get(&id).or_fail("reading a decision")?;
        decision.map(Json).ok_or_else(unknown)
    })
    .await
}

/// The signed verification summary of a decision.
pub(crate) async fn vsa(
    State(gate): State<Gate>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Json<Value>> {
    authorize(&gate, &headers)?;
    blocking("reading a decision", move || {
        let inner = &gate.inner;
        let decision = inner.log.get(&id).or_fail("reading a decision")?;
        let decision = decision.ok_or_else(unknown)?;
        Ok(Json(envelope(&decision, &inner.base_url, &inner.key)))
    })
    .await
}

/// Has the image of a decision copied on once more: where that failed after somebody's word on it, or where it
/// shall go now and went nowhere then.
pub(crate) async fn promote(
    State(gate): State<Gate>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Json<Value>> {
    authorize(&gate, &headers)?;
    let inner = gate.inner.clone();
    let asked = blocking("reading a decision", move || {
        let inner = &gate.inner;
        let decision = inner.log.get(&id).or_fail("reading a decision")?;
        asked(inner, decision.ok_or_else(unknown)?)?.ok_or_else(|| {
            let message = "it was not let pass, or is not what its tag names any more";
            ApiError::new(Code::Unknown, message).with_status(http::StatusCode::CONFLICT)
        })
    })
    .await?;
    let done = Done { passed: Some(asked), ..Done::default() };
    let done = push::on(&inner, done).await?;
    Ok(Json(json!({ "image": done.elsewhere })))
}

/// What waits to be copied on.
pub(crate) async fn outgoing(
    State(gate): State<Gate>,
    headers: HeaderMap,
) -> ApiResult<Json<Value>> {
    authorize(&gate, &headers)?;
    blocking("listing what waits", move || {
        let waiting = gate.inner.outgoing.all().or_fail("listing what waits")?;
        Ok(Json(json!({ "waiting": waiting })))
    })
    .await
}

/// Whether the log is what it was.
pub(crate) async fn verify(State(gate): State<Gate>, headers: HeaderMap) -> ApiResult<Json<Value>> {
    authorize(&gate, &headers)?;
    blocking("reading the decisions", move || {
        let verified = gate.inner.log.verify().or_fail("reading the decisions")?;
        let faults: Vec<String> = verified.faults.iter().map(ToString::to_string).collect();
        let (records, signed) = (verified.records, verified.signed);
        Ok(Json(json!({ "records": records, "signed": signed, "faults": faults })))
    })
    .await
}

/// What `POST /_gate/v1/prune` takes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// How many days of decisions stay, at least one.
    pub keep_days: u32,
}

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// How many decisions were removed.
    pub decisions: usize,
}

/// Removes old decisions, with what they alone rested on.
pub(crate) async fn prune(
    State(gate): State<Gate>,
    headers: HeaderMap,
    Json(Prune { keep_days }): Json<Prune>,
) -> ApiResult<Json<Pruned>> {
    authorize(&gate, &headers)?;
    if keep_days == 0 {
        let message = "`keep_days` is 0: a decision is kept for a day at least";
        let bad = http::StatusCode::BAD_REQUEST;
        return Err(ApiError::new(Code::Unsupported, message).with_status(bad));
    }
    blocking("removing old decisions", move || {
        let retention = SignedDuration::from_hours(i64::from(keep_days) * 24);
        let decisions = gate.inner.prune(retention).or_fail("removing old decisions")?;
        Ok(Json(Pruned { decisions }))
    })
    .await
}

/// Whose a name is.
pub(crate) async fn owner(
    State(gate): State<Gate>,
    Path(repository): Path<RepositoryName>,
    headers: HeaderMap,
) -> ApiResult<Json<Owner>> {
    authorize(&gate, &headers)?;
    blocking("looking whose a name is", move || {
        let owner = gate.inner.owners.of(&repository).or_fail("looking whose a name is")?;
        owner.map(Json).ok_or_else(nobodys)
    })
    .await
}

/// Makes a name nobody's: whoever pushes next and may have it, has it.
pub(crate) async fn release(
    State(gate): State<Gate>,
    Path(repository): Path<RepositoryName>,
    headers: HeaderMap,
) -> ApiResult<http::StatusCode> {
    authorize(&gate, &headers)?;
    blocking("releasing a name", move || {
        let released = gate.inner.owners.release(&repository).or_fail("releasing a name")?;
        tracing::info!(repository = repository.as_str(), released, "a name is nobody's");
        if released { Ok(http::StatusCode::NO_CONTENT) } else { Err(nobodys()) }
    })
    .await
}

fn nobodys() -> ApiError {
    ApiError::new(Code::Unknown, "the name is nobody's").with_status(http::StatusCode::NOT_FOUND)
}

fn unknown() -> ApiError {
    ApiError::new(Code::Unknown, "there is no such decision")
        .with_status(http::StatusCode::NOT_FOUND)
}

pub(crate) fn authorize(gate: &Gate, headers: &HeaderMap) -> ApiResult<()> {
    let expected = gate.inner.admin_token.expose_secret();
    match credential(headers)? {
        Credential::Bearer(token) if !expected.is_empty() && equal(&token, expected) => Ok(()),
        _ => Err(ApiError::new(Code::Unauthorized, "this needs the admin token")),
    }
}

/// Compares hashes, so that the time it takes says nothing about the token.
fn equal(one: &str, other: &str) -> bool {
    let hash = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    hash(one).as_ref() == hash(other).as_ref()
}
