//! The gate's side: sends an order, and makes an answer to the client of what comes back.

use std::sync::OnceLock;
use std::time::Duration;

use http::StatusCode;
use sekisho_github::http::{Answer, HttpError, send};
use sekisho_types::{Digest, causes};
use serde::Deserialize;
use url::Url;

use super::order::{Order, seal};
use super::{Promoted, PromotedState, serve};
use crate::decisions::Decision;
use crate::error::{ApiError, ApiResult, Code, printable};
use crate::gate::Inner;

/// How long an order may take: an image of tens of gigabytes on a slow day. Who waits for less joins the same push
/// when it comes again.
const DEADLINE: Duration = Duration::from_secs(30 * 60);

/// To reach the promoter.
const CONNECT: Duration = Duration::from_secs(10);

/// Largest answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Longest message of the promoter's that a client is told, in bytes.
const MAX_MESSAGE_BYTES: usize = 2000;

/// What goes to another registry.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) decision: Box<Decision>,
    /// The manifest of the gate's word on it.
    pub(crate) attestation: Option<Digest>,
}

/// Where the promoter is, if there is one.
#[derive(Debug)]
pub(crate) struct Promoters {
    url: Option<Url>,
    http: OnceLock<reqwest::Client>,
}

#[derive(Deserialize)]
struct Failed {
    error: String,
    #[serde(default)]
    again: bool,
    next: Option<String>,
}

impl Promoters {
    pub(crate) fn new(url: Option<Url>) -> Self {
        Self { url, http: OnceLock::new() }
    }

    /// Has an image copied, and waits for it; where it is then, `None` where images stay here.
    pub(crate) async fn ask(&self, gate: &Inner, asked: &Asked) -> ApiResult<Option<String>> {
        let Some(url) = &self.url else { return Ok(None) };
        let id = &asked.decision.id;
        let mut decision = Decision::clone(&asked.decision);
        // There may be thousands, and where an image goes is no matter of theirs.
        decision.verdict.reasons.iter_mut().for_each(|reason| reason.findings.clear());
        let attestation = asked.attestation.clone();
        let order = Order { issued_at: gate.now(), decision, attestation };
        let order = seal(&order, &gate.key);
        let order = order.map_err(|error| ApiError::internal("writing an order", &error))?;
        let Answer { status, body, .. } = self.send(url, order).await.map_err(|error| {
            tracing::error!(decision = id, "the promoter does not answer: {}", causes(&error));
            away(id)
        })?;
        if status == StatusCode::OK.as_u16() {
            let promoted: Result<Promoted, _> = serde_json::from_slice(&body);
            let promoted = promoted.map_err(|error| {
                tracing::error!(decision = id, "the promoter's answer makes no sense: {error}");
                away(id)
            })?;
            return Ok(promoted.image.filter(|_| promoted.state == PromotedState::Promoted));
        }
        let Ok(failed) = serde_json::from_slice::<Failed>(&body) else {
            tracing::error!(decision = id, "the promoter answers with status {status}");
            return Err(away(id));
        };
        Err(failure(id, status, &failed))
    }

    async fn send(&self, url: &Url, order: Vec<u8>) -> Result<Answer, HttpError> {
        let http = match self.http.get() {
            Some(http) => http,
            None => {
                let new = reqwest::Client::builder()
                    .connect_timeout(CONNECT)
                    .redirect(reqwest::redirect::Policy::none())
                    .no_proxy()
                    .build()
                    .map_err(HttpError::Build)?;
                self.http.get_or_init(|| new)
            }
        };
        let address = format!("{}{}", url.as_str().trim_end_matches('/'), serve::PATH);
        let request = http.post(address).header(http::header::CONTENT_TYPE, "application/json");
        send(request.body(order), DEADLINE, MAX_ANSWER_BYTES).await
    }
}

/// Nothing is known of it: worth coming back for.
fn away(decision: &str) -> ApiError {
    let message = format!(
        "decision {decision} lets it pass, and the promoter that copies it on does not answer; push again, or \
         `sekisho gate promote {decision}`"
    );
    ApiError::new(Code::Unavailable, message)
}

/// The promoter said no. What may help is to come back, or what it says.
fn failure(decision: &str, status: u16, failed: &Failed) -> ApiError {
    let why = printable(&failed.error, MAX_MESSAGE_BYTES);
    tracing::error!(decision, status, "image not copied on: {why}");
    let next = failed.next.as_deref().map(|next| printable(next, MAX_MESSAGE_BYTES));
    let next = next.map(|next| format!("; {next}")).unwrap_or_default();
    let message =
        format!("decision {decision} lets it pass, and it was not copied on: {why}{next}");
    if failed.again {
        return ApiError::new(Code::Unavailable, message);
    }
    // 403 is what no client tries again, and shows in full.
    ApiError::denied(vec![(message, serde_json::json!({ "decision": decision }))])
}
