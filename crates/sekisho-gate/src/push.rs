//! A manifest is put: observe, decide, act.

pub(crate) mod decide;
mod facts;
pub(crate) mod flight;
pub(crate) mod observe;
pub(crate) mod promote;
pub(crate) mod view;

use bytes::Bytes;
use sekisho_policy::{Identity, Target, Verdict};
use sekisho_types::{Algorithm, Digest, RepositoryName, Tag};
use serde_json::{Value, json};

use self::decide::{Facts, decide};
use self::observe::{Observed, observe};
use self::view::View;
use crate::decisions::{Decision, Draft};
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking, printable};
use crate::gate::{Gate, Inner};
use crate::staging::Scope;

/// Most reasons that a refusal lists; all of them are in the decision's record.
const MAX_REASONS: usize = 8;

/// All warnings of one answer together, in bytes: distribution-spec, "Warnings".
const MAX_WARNING_BYTES: usize = 4096;

/// What is put.
#[derive(Clone)]
pub(crate) struct Put {
    pub(crate) identity: Identity,
    pub(crate) repository: RepositoryName,
    /// `None`: by digest.
    pub(crate) tag: Option<Tag>,
    /// Of the bytes.
    pub(crate) digest: Digest,
    pub(crate) content_type: String,
    pub(crate) bytes: Bytes,
}

/// What was promoted.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) subject: Option<Digest>,
    /// Values of `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

/// Compares a manifest with the digest that it is put under.
pub(crate) fn verified(digest: Digest, bytes: &[u8]) -> ApiResult<Digest> {
    use sha2::Digest as _;
    let found = match digest.algorithm() {
        Algorithm::Sha256 => Digest::sha256(bytes),
        Algorithm::Sha512 => Digest::from_sha512(sha2::Sha512::digest(bytes).into()),
    };
    if found == digest {
        return Ok(digest);
    }
    let message = format!("the manifest has digest {found}, not {digest}");
    Err(ApiError::new(Code::DigestInvalid, message))
}

/// Decides about a manifest and, if it may ship, promotes it.
///
/// The work goes on when the client is cut off; one that comes again with the same manifest joins
/// it, or is told the same again.
pub(crate) async fn put(gate: Gate, put: Put) -> ApiResult<Done> {
    let key = flight::Key {
        scope: Scope::of(&put.identity),
        repository: put.repository.clone(),
        tag: put.tag.clone(),
        digest: put.digest.clone(),
    };
    let inner = gate.inner.clone();
    gate.inner
        .flights
        .join(&gate.inner, key, async move {
            blocking("judging a manifest", move || run(&inner, &put)).await
        })
        .await
}

fn run(gate: &Inner, put: &Put) -> ApiResult<Done> {
    let now = gate.now();
    let staging = gate.staging.of(&Scope::of(&put.identity), now).or_fail("opening the staging")?;
    let view = View::new(gate, Some(staging.clone()), put.repository.clone());
    let manifest = observe::parse(put)?;
    // From the first look to the last write, nothing of it may be collected or deleted.
    let _held = gate.leases.hold(observe::needed(&manifest, put), now);
    let Observed { record, blobs, contents, summary, advisories } =
        observe(&view, &gate.analyses, put, &manifest)?;
    let packages = contents.iter().map(|content| content.packages).sum();
    let newest_advisory = contents.iter().filter_map(|content| content.newest_advisory).max();
    let facts = Facts {
        identity: put.identity.clone(),
        target: Target::of(&put.repository, &put.identity, gate.local_owner.as_deref()),
        contents,
        now,
    };
    let verdict = decide(&gate.policies, &facts);
    let kept = gate.evidence.keep(&gate.policies, &facts).or_fail("keeping evidence")?;
    let draft = Draft {
        at: now,
        facts: kept,
        identity: facts.identity,
        repository: put.repository.clone(),
        tag: put.tag.clone(),
        digest: put.digest.clone(),
        media_type: record.media_type.clone(),
        verdict: verdict.clone(),
        packages,
        advisories,
        newest_advisory,
        summary,
        policy: gate.policies.hash().clone(),
        exceptions: gate.policies.exceptions().hash().cloned(),
        inspector: gate.analyses.inspector().version(),
    };
    let decision = gate.log.append(draft).or_fail("writing down a decision")?;
    log(&decision);
    if !verdict.decision.passes() {
        return Err(refusal(&verdict, Some(&decision)));
    }
    let observed = promote::observe(&*gate.upstream, &put.repository, blobs, &record, &put.tag)
        .or_fail("looking upstream")?;
    for action in promote::plan(observed) {
        promote::act(&*gate.upstream, &put.repository, staging.blobs(), &put.bytes, &action)
            .or_fail("promoting")?;
    }
    Ok(Done { subject: record.subject, warnings: warnings(&verdict) })
}

fn log(decision: &Decision) {
    let tag = decision.tag.as_ref().map(Tag::as_str).unwrap_or_default();
    tracing::info!(
        decision.id = decision.id,
        image.repository = decision.repository.as_str(),
        image.tag = tag,
        image.digest = %decision.digest,
        run = decision.identity.run_id,
        "image decided: {}",
        decision.verdict.decision.as_str(),
    );
}

/// 403 `DENIED`: the one answer that every client shows in full and none tries again.
pub(crate) fn refusal(verdict: &Verdict, decision: Option<&Decision>) -> ApiError {
    let refusing = verdict.reasons.iter().filter(|reason| reason.mode.holds_back());
    let entry = |reason: &sekisho_policy::Reason| {
        let worst = reason.findings.first().map(|finding| {
            json!({
                "id": finding.id,
                "severity": finding.severity,
                "package": finding.package,
                "installed": finding.installed,
                "fixed": finding.fixed,
                "url": finding.url,
            })
        });
        let detail: Value = json!({
            "rule": reason.rule,
            "fix": reason.fix,
            "docs": reason.docs,
            "findings": reason.findings.len(),
            "worst": worst,
            "decision": decision.map(|decision| &decision.id),
        });
        (reason.sentence(), detail)
    };
    ApiError::denied(refusing.take(MAX_REASONS).map(entry).collect())
}

/// The reasons that only warn, as values of `Warning` headers.
fn warnings(verdict: &Verdict) -> Vec<String> {
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
