//! What the gate decided, and the log of it.
//!
//! One record per decision, `<number>.json`, each naming the hash of the one before; every so often
//! a signed checkpoint names the hashes of all since the last one. Nobody can change, remove or
//! reorder one without a trace.

pub(crate) mod checkpoint;
pub(crate) mod log;
mod queue;
pub(crate) mod verify;

use std::collections::BTreeMap;

use jiff::Timestamp;
use sekisho_policy::{Identity, Verdict};
use sekisho_types::{Digest, RepositoryName, Severity, Tag};
use serde::{Deserialize, Serialize};

/// Most findings that a reason keeps in its record, worst first; the summary counts all.
const MAX_RECORDED_FINDINGS: usize = 1000;

/// What the gate decided about one manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Unique, and in order of time: `000000000042`.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// Of the decision before this one, as written.
    pub previous: Option<Digest>,
    /// Who pushed.
    pub identity: Identity,
    /// Where to.
    pub repository: RepositoryName,
    /// `None` for a push by digest.
    pub tag: Option<Tag>,
    /// Of the manifest.
    pub digest: Digest,
    /// Of the manifest.
    pub media_type: String,
    /// The answer, with every rule that spoke; at most 1000 findings each, worst first.
    pub verdict: Verdict,
    /// Who let it pass that would have been held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// How many packages were found.
    pub packages: usize,
    /// What else was found.
    pub summary: Summary,
    /// What it was made of, for [`crate::explain`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Digest>,
    /// Of the policies.
    pub policy: Digest,
    /// Of the file of exceptions; `None` when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exceptions: Option<Digest>,
    /// The inspector's version.
    pub inspector: String,
    /// How many advisories it was judged by.
    pub advisories: usize,
    /// When the youngest of them was changed.
    pub newest_advisory: Option<Timestamp>,
}

/// Somebody's word on an image that was held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub approver: String,
    /// Why.
    pub reason: String,
    /// The decision that held it.
    pub held_by: String,
    /// When.
    pub at: Timestamp,
}

impl Approval {
    /// As it stands in a verdict.
    pub(crate) fn sentence(&self) -> String {
        format!("approved by {} ({}): {}", self.approver, self.held_by, self.reason)
    }
}

/// What was found in an image, in numbers; for an index, in all its images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many images the manifest holds.
    pub images: usize,
    /// How many layers.
    pub layers: usize,
    /// Of all layers, as pushed.
    pub size_bytes: u64,
    /// How many findings, by severity.
    pub findings: BTreeMap<Severity, usize>,
    /// How much could not be judged.
    pub not_assessed: usize,
}

/// An answer of `GET /_gate/v1/decisions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decisions {
    /// Oldest first; the latest 1000.
    pub decisions: Vec<Decision>,
}

/// A decision before it has its place in the log.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) at: Timestamp,
    pub(crate) facts: Digest,
    pub(crate) identity: Identity,
    pub(crate) repository: RepositoryName,
    pub(crate) tag: Option<Tag>,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) verdict: Verdict,
    pub(crate) approval: Option<Approval>,
    pub(crate) packages: usize,
    pub(crate) summary: Summary,
    pub(crate) policy: Digest,
    pub(crate) exceptions: Option<Digest>,
    pub(crate) inspector: String,
    pub(crate) advisories: usize,
    pub(crate) newest_advisory: Option<Timestamp>,
}

fn decision(draft: Draft, number: u64, previous: Option<Digest>) -> Decision {
    let verdict = recorded(draft.verdict);
    Decision {
        id: format!("{number:012}"),
        at: draft.at,
        previous,
        identity: draft.identity,
        repository: draft.repository,
        tag: draft.tag,
        digest: draft.digest,
        media_type: draft.media_type,
        verdict,
        approval: draft.approval,
        packages: draft.packages,
        summary: draft.summary,
        facts: Some(draft.facts),
        policy: draft.policy,
        exceptions: draft.exceptions,
        inspector: draft.inspector,
        advisories: draft.advisories,
        newest_advisory: draft.newest_advisory,
    }
}

/// The answer as it is written down.
pub(crate) fn recorded(mut verdict: Verdict) -> Verdict {
    for reason in &mut verdict.reasons {
        reason.findings.truncate(MAX_RECORDED_FINDINGS);
    }
    verdict
}

/// Whether a client that came again was told the same already.
fn same(last: &Decision, draft: &Draft) -> bool {
    last.identity == draft.identity
        && (&last.repository, &last.tag, &last.digest)
            == (&draft.repository, &draft.tag, &draft.digest)
        && last.verdict == recorded(draft.verdict.clone())
        && last.approval == draft.approval
        && (&last.policy, &last.exceptions) == (&draft.policy, &draft.exceptions)
        && last.inspector == draft.inspector
        && (last.advisories, last.newest_advisory) == (draft.advisories, draft.newest_advisory)
}

/// For tests: what was decided about an image.
#[cfg(test)]
pub(crate) fn example(answer: &str) -> Decision {
    let decision = serde_json::json!({
        "id": "000000000042", "at": "2027-01-15T08:00:00Z", "previous": null, "identity": {},
        "repository": "acme/app", "tag": "v1", "digest": Digest::sha256(b"m"),
        "media_type": sekisho_oci::media_type::OCI_MANIFEST,
        "verdict": {"decision": answer, "reasons": []}, "packages": 0,
        "summary": {"images": 1, "layers": 2, "size_bytes": 5, "findings": {}, "not_assessed": 0},
        "policy": Digest::sha256(b"p"), "inspector": "", "advisories": 0, "newest_advisory": null,
    });
    serde_json::from_value(decision).unwrap()
}
