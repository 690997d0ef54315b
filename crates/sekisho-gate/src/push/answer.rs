//! What a client is told about a push.

use http::StatusCode;
use sekisho_policy::{Reason, Verdict};
use serde_json::{Value, json};

use crate::decisions::Decision;
use crate::error::{ApiError, Code, printable};

/// Most reasons that a refusal lists; all of them are in the decision's record.
const MAX_REASONS: usize = 8;

/// All warnings of one answer together, in bytes: distribution-spec, "Warnings".
const MAX_WARNING_BYTES: usize = 4096;

/// What the id of a held image begins with; the decision's number follows.
pub(crate) const HELD_PREFIX: &str = "q-";

/// 403 `DENIED`: the one answer that every client shows in full and none tries again.
pub(crate) fn refusal(verdict: &Verdict, decision: Option<&Decision>) -> ApiError {
    let refusing = verdict.reasons.iter().filter(|reason| reason.mode.holds_back());
    ApiError::denied(refusing.take(MAX_REASONS).map(|reason| entry(reason, decision)).collect())
}

fn entry(reason: &Reason, decision: Option<&Decision>) -> (String, Value) {
    // Clients print all of it: what there is nothing to say about is left out.
    let mut detail = json!({ "rule": reason.rule, "fix": reason.fix, "docs": reason.docs });
    if let Some(finding) = reason.findings.first() {
        detail["findings"] = reason.findings.len().into();
        detail["worst"] = json!({
            "id": finding.id,
            "severity": finding.severity,
            "package": finding.package,
            "installed": finding.installed,
            "fixed": finding.fixed,
            "url": finding.url,
        });
    }
    if let Some(decision) = decision {
        detail["decision"] = decision.id.as_str().into();
    }
    (reason.sentence(), detail)
}

/// Also 403 `DENIED`, for there is nothing that the client could do: somebody has to.
pub(crate) fn held(decision: &Decision) -> ApiError {
    let id = format!("{HELD_PREFIX}{}", decision.id);
    let why = decision.verdict.refusals();
    let first = why.first().map(String::as_str).unwrap_or_default();
    let message =
        format!("held as {id}, approve with `sekisho gate quarantine approve {id}`; {first}");
    let mut entries = vec![(message, json!({ "held": id, "decision": decision.id }))];
    let holding = decision.verdict.reasons.iter().filter(|reason| reason.mode.holds_back());
    entries.extend(holding.take(MAX_REASONS).map(|reason| entry(reason, Some(decision))));
    ApiError::denied(entries)
}

/// Somebody said no to a held image.
pub(crate) fn rejection(decision: &Decision, by: &str, reason: &str) -> ApiError {
    let id = format!("{HELD_PREFIX}{}", decision.id);
    let message = format!("{id} was rejected by {by}: {reason}");
    ApiError::new(Code::Denied, message)
        .with_status(StatusCode::FORBIDDEN)
        .with_detail(json!({ "held": id, "decision": decision.id }))
}

/// The reasons that only warn, as values of `Warning` headers.
pub(crate) fn warnings(verdict: &Verdict) -> Vec<String> {
    let mut left = MAX_WARNING_BYTES;
    let mut values = Vec::new();
    for text in verdict.warnings() {
        let text = printable(&text, 500).replace('\\', "/").replace('"', "'");
        let value = format!("299 - \"{text}\"");
        if value.len() > left {
            break;
        }
        left -= value.len();
        values.push(value);
    }
    values
}
