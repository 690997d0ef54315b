//! Images that are held: who wants in, and somebody's word on it. With the admin token.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use sekisho_types::{Digest, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use crate::admin::authorize;
use crate::decisions::{Approval, Decision};
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking, printable};
use crate::gate::{Gate, Inner};
use crate::push::answer::HELD_PREFIX;
use crate::push::state::{Event, Push, State as PushState};

/// Longest name or reason, in bytes.
const MAX_WORD_BYTES: usize = 500;

/// One image that is held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// `q-` and the number of the decision.
    pub id: String,
    /// Where it wants to.
    pub repository: RepositoryName,
    /// `None` for a push by digest.
    pub tag: Option<Tag>,
    /// Of the manifest.
    pub digest: Digest,
    /// `owner/name` of the repository whose job pushed.
    pub pushed_by: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when its bits are kept.
    pub until: Timestamp,
    /// Why, a sentence a rule.
    pub reasons: Vec<String>,
    /// All that is on record about it; in answers about one image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// An answer of `GET /_gate/v1/quarantine`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The oldest first.
    pub held: Vec<Held>,
}

/// Somebody's word: a body of `POST /_gate/v1/quarantine/<id>/approve` and `/reject`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// Who says so.
    pub by: String,
    /// Why.
    pub reason: String,
}

impl Word {
    /// Both must say something, on one line.
    fn checked(self) -> ApiResult<Self> {
        let bad = |text: &str| text.trim().is_empty() || text.len() > MAX_WORD_BYTES;
        if bad(&self.by) || bad(&self.reason) {
            let message = format!("say who and why, in at most {MAX_WORD_BYTES} bytes each");
            return Err(ApiError::new(Code::Unknown, message).with_status(StatusCode::BAD_REQUEST));
        }
        let line = |text: &str| printable(text.trim(), MAX_WORD_BYTES);
        Ok(Self { by: line(&self.by), reason: line(&self.reason) })
    }
}

fn unknown() -> ApiError {
    ApiError::new(Code::Unknown, "no image is held under this id")
        .with_status(StatusCode::NOT_FOUND)
}

/// The images that are held, by id.
fn held(gate: &Inner) -> ApiResult<BTreeMap<String, (Push, Decision)>> {
    let mut all = BTreeMap::new();
    let now = gate.now();
    for push in gate.journal.all().or_fail("reading the journal")? {
        let PushState::Held { decision, until } = &push.state else { continue };
        if *until <= now {
            continue;
        }
        if let Some(decision) = gate.log.get(decision).or_fail("reading a decision")? {
            all.insert(format!("{HELD_PREFIX}{}", decision.id), (push, decision));
        }
    }
    Ok(all)
}

fn describe(id: String, push: &Push, decision: Decision, in_full: bool) -> Held {
    let until = match &push.state {
        PushState::Held { until, .. } => *until,
        _ => push.at,
    };
    Held {
        id,
        repository: push.repository.clone(),
        tag: push.tag.clone(),
        digest: push.digest.clone(),
        pushed_by: push.identity.repository.clone(),
        since: decision.at,
        until,
        reasons: decision.verdict.refusals(),
        decision: in_full.then_some(decision),
    }
}

/// All that are held.
pub(crate) async fn list(
    State(gate): State<Gate>,
    headers: HeaderMap,
) -> ApiResult<Json<Quarantine>> {
    authorize(&gate, &headers)?;
    blocking("listing held images", move || {
        let all = held(&gate.inner)?.into_iter();
        let held = all.map(|(id, (push, decision))| describe(id, &push, decision, false)).collect();
        Ok(Json(Quarantine { held }))
    })
    .await
}

/// One of them.
pub(crate) async fn one(
    State(gate): State<Gate>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Json<Held>> {
    authorize(&gate, &headers)?;
    blocking("reading a held image", move || {
        let (push, decision) = held(&gate.inner)?.remove(&id).ok_or_else(unknown)?;
        Ok(Json(describe(id, &push, decision, true)))
    })
    .await
}

/// Lets one pass: it is judged again with this word, and promoted from the bits that are here. What
/// a rule denies stays denied.
pub(crate) async fn approve(
    State(gate): State<Gate>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(word): Json<Word>,
) -> ApiResult<StatusCode> {
    authorize(&gate, &headers)?;
    let word = word.checked()?;
    let inner = gate.inner.clone();
    let done = blocking("approving an image", move || {
        let inner = &gate.inner;
        let (push, decision) = held(inner)?.remove(&id).ok_or_else(unknown)?;
        let approval = Approval {
            approver: word.by,
            reason: word.reason,
            held_by: decision.id,
            at: inner.now(),
        };
        crate::push::approve(inner, &push, approval)
    })
    .await?;
    crate::push::on(&inner, done).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says no to one.
pub(crate) async fn reject(
    State(gate): State<Gate>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(word): Json<Word>,
) -> ApiResult<StatusCode> {
    authorize(&gate, &headers)?;
    let word = word.checked()?;
    blocking("rejecting an image", move || {
        let inner = &gate.inner;
        let (push, _) = held(inner)?.remove(&id).ok_or_else(unknown)?;
        let event = Event::Rejected { by: word.by, reason: word.reason };
        let state = inner.journal.happened(&push, &[event], inner.now());
        match state.or_fail("writing the journal")? {
            Some(_) => Ok(StatusCode::NO_CONTENT),
            None => Err(unknown()),
        }
    })
    .await
}
