//! A manifest is put: observe, decide, act.

pub(crate) mod answer;
pub(crate) mod decide;
mod facts;
pub(crate) mod flight;
pub(crate) mod journal;
pub(crate) mod observe;
pub(crate) mod promote;
mod put;
pub(crate) mod state;
pub(crate) mod view;

use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use sekisho_oci::Manifest;
use sekisho_policy::{Decision as Answer, Target};
use sekisho_store::{Batch, ManifestRecord, Repositories};
use sekisho_types::{Digest, Tag};

use self::answer::{held, refusal, rejection, warnings};
use self::decide::{Facts, decide};
use self::observe::{Judged, judge};
use self::promote::{Attestation, Item, Permit, Wanted, promote};
pub(crate) use self::put::{Put, verified};
use self::put::{again, basis};
use self::state::{Basis, Event, HELD_FOR, OnPut, Push, State, on_put};
use self::view::View;
use crate::decisions::{Approval, Decision, Draft};
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};
use crate::gate::{Gate, Inner};
use crate::owners::{self, Owner};
use crate::promoter::Asked;
use crate::staging::Scope;
use crate::vsa;

/// What was promoted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) subject: Option<Digest>,
    /// Values of `Warning` headers.
    pub(crate) warnings: Vec<String>,
    /// What goes on to another registry, where there is one.
    pub(crate) passed: Option<Asked>,
    /// Where it is there.
    pub(crate) elsewhere: Option<String>,
}

/// Decides about a manifest and, if it may ship, promotes it.
///
/// The work goes on when the client is cut off; one that comes again with the same manifest joins
/// it, or is told the same again.
pub(crate) async fn put(gate: Gate, put: Put) -> ApiResult<Done> {
    let basis = basis(&gate.inner, &put.identity, gate.inner.now());
    let key = flight::Key {
        scope: Scope::of(&put.identity),
        repository: put.repository.clone(),
        tag: put.tag.clone(),
        digest: put.digest.clone(),
        basis: Digest::sha256(&serde_json::to_vec(&basis).unwrap_or_default()),
    };
    let inner = gate.inner.clone();
    gate.inner
        .flights
        .join(&gate.inner, key, async move {
            let gate = inner.clone();
            let done = blocking("judging a manifest", move || run(&inner, &put, &basis)).await?;
            on(&gate, done).await
        })
        .await
}

/// Has what passed copied on, where it goes on.
pub(crate) async fn on(gate: &Arc<Inner>, done: Done) -> ApiResult<Done> {
    let Some(asked) = &done.passed else { return Ok(done) };
    let elsewhere = gate.promoters.ask(gate, asked).await?;
    let (inner, id) = (Arc::clone(gate), asked.decision.id.clone());
    let forget = "forgetting what was copied on";
    blocking(forget, move || inner.outgoing.end(&id).or_fail(forget)).await?;
    Ok(Done { elsewhere, ..done })
}

/// Has what waits copied on, where that was cut short or failed; how many are there now.
pub(crate) async fn go_on(gate: &Arc<Inner>) -> io::Result<usize> {
    let (inner, now) = (Arc::clone(gate), gate.now());
    let due = tokio::task::spawn_blocking(move || inner.outgoing.due(now));
    let mut count = 0;
    for waiting in due.await.map_err(io::Error::other)?? {
        let (inner, id) = (Arc::clone(gate), waiting.decision.clone());
        let asked = blocking("looking at what waits", move || {
            let decision = inner.log.get(&id).or_fail("reading a decision")?;
            decision.map_or(Ok(None), |decision| asked(&inner, decision))
        });
        let ended = match asked.await {
            // Refused since, or its tag went on.
            Ok(None) => Ok(()),
            Ok(Some(asked)) => gate.promoters.ask(gate, &asked).await.map(|_| count += 1),
            Err(error) => Err(error),
        };
        let inner = Arc::clone(gate);
        let written = tokio::task::spawn_blocking(move || match ended {
            Ok(()) => inner.outgoing.end(&waiting.decision),
            Err(error) => inner.outgoing.failed(waiting, &error.message(), now),
        });
        written.await.map_err(io::Error::other)??;
    }
    Ok(count)
}

/// What is to be copied on by a decision; `None` when that does not let pass what its tag names now. Blocks.
pub(crate) fn asked(gate: &Inner, decision: Decision) -> ApiResult<Option<Asked>> {
    let (repository, digest) = (&decision.repository, &decision.digest);
    let named = decision.tag.as_ref().map(|tag| gate.upstream.resolve(repository, tag));
    let named = named.transpose().or_fail("reading a tag")?;
    let stands = named.is_none_or(|named| named.as_ref() == Some(digest));
    let manifest = |digest| gate.upstream.manifest(repository, digest);
    let root = manifest(digest).or_fail("reading a manifest")?;
    let Some((root, _)) = root.filter(|_| stands && decision.verdict.decision.passes()) else {
        return Ok(None);
    };
    // One of another version, or under another key, is not there.
    let attestation = attestation(gate, &decision, &root).map(|it| it.record.digest);
    let is_there = match &attestation {
        Some(digest) => manifest(digest).or_fail("reading a manifest")?.is_some(),
        None => false,
    };
    let attestation = attestation.filter(|_| is_there);
    Ok(Some(Asked { decision: Box::new(decision), attestation }))
}

/// What is known about a push while it is worked on.
pub(crate) struct Work<'a> {
    gate: &'a Inner,
    put: &'a Put,
    manifest: &'a Manifest,
    staging: Repositories,
    /// Whose the name is.
    owner: Option<Owner>,
    target: Target,
    push: Push,
    items: Vec<Item>,
    now: Timestamp,
}

fn run(gate: &Inner, put: &Put, basis: &Basis) -> ApiResult<Done> {
    let manifest = observe::parse(put)?;
    // From the first look to the last write, nothing of it may be collected or deleted.
    let now = gate.now();
    let _held = gate.hold(observe::needed(&manifest, put), now)?;
    let work = Work::begin(gate, put, &manifest, basis.clone(), now)?;
    // By digest alone it is a part of something: an index that comes later, and is decided about
    // with all its parts. What says something about another manifest stands for itself.
    if put.tag.is_none() && manifest.subject().is_none() && !gate.options.promote_untagged {
        return work.stage();
    }
    let tag = put.tag.as_ref();
    let known =
        gate.journal.get(&put.repository, tag, &put.digest).or_fail("reading the journal")?;
    match on_put(known.as_ref(), &work.push.basis, now) {
        OnPut::Judge => {}
        OnPut::Answer(id) => {
            if let Some(decision) = gate.log.get(id).or_fail("reading a decision")? {
                return Err(work.told(known.as_ref().map(|push| &push.state), &decision));
            }
        }
        OnPut::Promote(id) => {
            let decision = gate.log.get(id).or_fail("reading a decision")?;
            if let Some(permit) = decision.as_ref().and_then(Permit::of) {
                return work.promote(permit);
            }
        }
    }
    work.happened(&[Event::Staged])?;
    work.judge(None)
}

/// Judges a held image again, with somebody's word for it, and promotes it if that suffices.
pub(crate) fn approve(gate: &Inner, push: &Push, approval: Approval) -> ApiResult<Done> {
    let (put, now) = (again(push), gate.now());
    let manifest = observe::parse(&put)?;
    let _held = gate.hold(observe::needed(&manifest, &put), now)?;
    let basis = basis(gate, &put.identity, now);
    Work::begin(gate, &put, &manifest, basis, now)?.judge(Some(approval))
}

/// Goes on with a promotion that a crash cut short.
pub(crate) fn resume(gate: &Inner, push: &Push) -> ApiResult<()> {
    let (put, now) = (again(push), gate.now());
    let manifest = observe::parse(&put)?;
    let _held = gate.hold(observe::needed(&manifest, &put), now)?;
    let id = push.state.decision().unwrap_or_default();
    let decision = gate.log.get(id).or_fail("reading a decision")?;
    let Some(permit) = decision.as_ref().and_then(Permit::of) else { return Ok(()) };
    let work = Work::begin(gate, &put, &manifest, push.basis.clone(), now)?;
    // Other gates may be at work for long.
    work.promote_unless(permit, || gate.journal.overtaken(push)).map(drop)
}

impl<'a> Work<'a> {
    fn begin(
        gate: &'a Inner,
        put: &'a Put,
        manifest: &'a Manifest,
        basis: Basis,
        now: Timestamp,
    ) -> ApiResult<Self> {
        let scope = Scope::of(&put.identity);
        let staging = gate.staging.of(&scope, now).or_fail("opening the staging")?;
        let view = View::new(gate, Some(staging.clone()), put.repository.clone());
        let items = observe::items(&view, put, manifest)?;
        let said = observe::said(&view, &items)?;
        let owner = gate.owners.of(&put.repository).or_fail("looking whose a name is")?;
        let target = Self::target(gate, put, owner.as_ref())?;
        let push = Push {
            repository: put.repository.clone(),
            tag: put.tag.clone(),
            digest: put.digest.clone(),
            media_type: put.content_type.clone(),
            identity: put.identity.clone(),
            basis: Basis {
                said,
                same_owner: target.same_owner,
                overwrites: target.overwrites,
                ..basis
            },
            // `parse` has seen that it is JSON, and so UTF-8.
            manifest: String::from_utf8_lossy(&put.bytes).into_owned(),
            at: now,
            state: State::Staged,
        };
        Ok(Self { gate, put, manifest, staging, owner, target, push, items, now })
    }

    fn target(gate: &Inner, put: &Put, owner: Option<&Owner>) -> ApiResult<Target> {
        let tag = put.tag.as_ref();
        let named = tag.map(|tag| gate.upstream.resolve(&put.repository, tag)).transpose();
        let named = named.or_fail("reading a tag")?.flatten();
        let overwrites = named.is_some_and(|named| named != put.digest);
        Ok(owners::target(gate, &put.identity, &put.repository, owner, (tag, overwrites)))
    }

    fn view(&self) -> View<'a> {
        View::new(self.gate, Some(self.staging.clone()), self.put.repository.clone())
    }

    /// Writes down what happened; whether it still could.
    fn happened(&self, events: &[Event]) -> ApiResult<bool> {
        let state = self.gate.journal.happened(&self.push, events, self.now);
        Ok(state.or_fail("writing the journal")?.is_some())
    }

    fn subject(&self) -> Option<Digest> {
        self.manifest.subject().map(|subject| subject.digest.clone())
    }

    /// Keeps a part of something until the whole comes; only its own run sees it. Its layers are
    /// looked at now, so that the whole is judged quickly.
    fn stage(self) -> ApiResult<Done> {
        judge(&self.view(), &self.gate.analyses, self.put, self.manifest)?;
        self.keep_bits()?;
        if let Some(item) = self.items.last() {
            self.staging
                .file_manifest(&self.put.repository, &item.record, &item.bytes)
                .or_fail("staging a manifest")?;
        }
        Ok(Done::default())
    }

    /// Takes over what was upstream already: it might go away there before this is promoted.
    fn keep_bits(&self) -> ApiResult<()> {
        let upstream = self.gate.upstream.blobs();
        let mut batch = Batch::default();
        for digest in self.items.iter().flat_map(|item| &item.blobs) {
            // What neither has cannot be kept, and is not missed here.
            let kept = self.staging.adopt_in(&mut batch, &self.put.repository, digest, upstream);
            kept.or_fail("keeping a blob")?;
        }
        batch.commit().or_fail("keeping a blob")
    }

    /// Observes, decides, writes down, and does what was decided.
    fn judge(self, approval: Option<Approval>) -> ApiResult<Done> {
        let judged = judge(&self.view(), &self.gate.analyses, self.put, self.manifest)?;
        let analysed = approval.is_none().then_some(Event::Analysed);
        // One write for both.
        let and = |event: Event| analysed.clone().into_iter().chain([event]).collect::<Vec<_>>();
        let decision = self.decide(judged, approval)?;
        log(&decision);
        match decision.verdict.decision {
            Answer::Deny => {
                self.happened(&and(Event::Denied(decision.id.clone())))?;
                Err(refusal(&decision.verdict, Some(&decision)))
            }
            Answer::Quarantine => {
                self.hold()?;
                self.happened(&and(Event::Held(decision.id.clone())))?;
                Err(held(&decision))
            }
            Answer::Allow | Answer::Warn => {
                if !self.happened(&and(Event::Allowed(decision.id.clone())))? {
                    let message = "somebody else decided about this push; try again";
                    return Err(ApiError::new(Code::Unavailable, message));
                }
                match Permit::of(&decision) {
                    Some(permit) => self.promote(permit),
                    None => Err(refusal(&decision.verdict, Some(&decision))),
                }
            }
        }
    }

    fn decide(&self, judged: Judged, approval: Option<Approval>) -> ApiResult<Decision> {
        let Judged { contents, summary, advisories } = judged;
        let (gate, put) = (self.gate, self.put);
        let packages = contents.iter().map(|content| content.packages).sum();
        let newest_advisory = contents.iter().filter_map(|content| content.newest_advisory).max();
        let facts = Facts {
            identity: put.identity.clone(),
            target: self.target.clone(),
            contents,
            now: self.now,
            approval: approval.clone(),
        };
        let verdict = decide(&gate.policies, &facts);
        let kept = gate.evidence.keep(&gate.policies, &facts);
        let (kept, evidence) = kept.or_fail("keeping evidence")?;
        let draft = Draft {
            at: self.now,
            facts: kept,
            identity: facts.identity,
            repository: put.repository.clone(),
            tag: put.tag.clone(),
            digest: put.digest.clone(),
            media_type: put.content_type.clone(),
            verdict,
            approval,
            packages,
            advisories,
            newest_advisory,
            summary,
            policy: gate.policies.hash().clone(),
            exceptions: gate.policies.exceptions().hash().cloned(),
            inspector: gate.analyses.inspector().version(),
        };
        gate.log.append(draft, evidence).or_fail("writing down a decision")
    }

    /// Keeps a held image, so that it can be promoted without being built again.
    fn hold(&self) -> ApiResult<()> {
        self.keep_bits()?;
        let until = self.now.checked_add(HELD_FOR).unwrap_or(Timestamp::MAX);
        let scope = Scope::of(&self.put.identity);
        self.gate.staging.keep(&scope, until).or_fail("keeping a held image")?;
        for item in self.items.iter().rev().skip(1) {
            // The parts of an index.
            self.staging
                .file_manifest(&self.put.repository, &item.record, &item.bytes)
                .or_fail("keeping a held image")?;
        }
        Ok(())
    }

    /// Promotes, and tells the client.
    fn promote(self, permit: Permit<'_>) -> ApiResult<Done> {
        self.promote_unless(permit, || Ok(None))
    }

    fn promote_unless(
        self,
        permit: Permit<'_>,
        overtaken: impl Fn() -> io::Result<Option<Digest>>,
    ) -> ApiResult<Done> {
        let decision = permit.decision();
        let attestation = self.attestation(decision);
        let wanted = Wanted::new(permit, &self.items, attestation.as_ref()).ok_or_else(|| {
            ApiError::internal("promoting", &"the decision is about another image")
        })?;
        self.bind()?;
        self.gate.outgoing.begin(&decision.id, self.now).or_fail("writing down what goes on")?;
        match promote(&self.gate.upstream, wanted, self.staging.blobs(), overtaken) {
            Ok(None) => {}
            Ok(Some(by)) => {
                let message = format!("{by} has its place");
                self.happened(&[Event::Superseded(by)])?;
                return Err(ApiError::new(Code::Unavailable, message));
            }
            Err(error) => {
                // The answer matters more than that this is written down too.
                if let Err(error) = self.happened(&[Event::PromoteFailed]) {
                    tracing::warn!("journal not written: {error:?}");
                }
                return Err(ApiError::promotion(&decision.id, &error));
            }
        }
        self.happened(&[Event::Promoted])?;
        self.gate.journal.supersede(&self.push, self.now).or_fail("writing the journal")?;
        let attestation = attestation.map(|attestation| attestation.record.digest);
        let passed = Some(Asked { decision: Box::new(decision.clone()), attestation });
        let warnings = warnings(&decision.verdict);
        Ok(Done { subject: self.subject(), warnings, passed, elsewhere: None })
    }

    /// From now on the name is that of who pushed, if it was nobody's.
    fn bind(&self) -> ApiResult<()> {
        let Put { repository, identity, .. } = self.put;
        if self.owner.is_none()
            && !self.gate.owners.bind(repository, identity, self.now).or_fail("binding a name")?
        {
            let message = format!("another repository was faster to have `{repository}`");
            return Err(ApiError::new(Code::Unavailable, message));
        }
        Ok(())
    }

    /// The gate's signed word on an image with a tag.
    fn attestation(&self, decision: &Decision) -> Option<Attestation> {
        attestation(self.gate, decision, &self.items.last()?.record)
    }

    /// The answer that was given before.
    fn told(&self, state: Option<&State>, decision: &Decision) -> ApiError {
        match state {
            Some(State::Rejected { by, reason, .. }) => rejection(decision, by, reason),
            Some(State::Held { .. }) => held(decision),
            _ => refusal(&decision.verdict, Some(decision)),
        }
    }
}

/// The gate's signed word on an image with a tag, where it gives one.
pub(crate) fn attestation(
    gate: &Inner,
    decision: &Decision,
    root: &ManifestRecord,
) -> Option<Attestation> {
    if !gate.options.attest || decision.tag.is_none() || root.subject.is_some() {
        return None;
    }
    Some(vsa::attestation(decision, root.size, &gate.base_url, &gate.key))
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
