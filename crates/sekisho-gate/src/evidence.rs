//! What a decision was made of, kept so that anybody can make it again.
//!
//! ```text
//! DIR/blobs/…   facts (JSON), policies (Cedar), exceptions (TOML), each under its digest
//! ```

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use sekisho_policy::{Exceptions, MAX_EXCEPTIONS_BYTES, MAX_POLICY_BYTES, Policies, Verdict};
use sekisho_store::{BlobStore, Records};
use sekisho_types::Digest;
use serde::{Deserialize, Serialize};

use crate::decisions::verify::record_name;
use crate::decisions::{Decision, recorded};
use crate::push::decide::{Facts, decide};

/// Largest record of facts, in bytes: an image with some ten thousand findings.
const MAX_FACTS_BYTES: u64 = 64 * 1024 * 1024;

/// What is younger is never pruned.
const YOUNG: Duration = Duration::from_secs(3600);

/// Facts, with the names of the texts that they were judged by.
#[derive(Serialize, Deserialize)]
struct Record {
    facts: Facts,
    policies: Digest,
    exceptions: Option<Digest>,
}

/// A decision made again.
#[derive(Clone, Debug, PartialEq)]
pub struct Explained {
    /// As it was written down.
    pub decision: Decision,
    /// The answer that the same facts, policies and exceptions give now.
    pub verdict: Verdict,
    /// Both answers are the same, to the byte.
    pub reproduced: bool,
}

/// The evidence of all decisions.
pub(crate) struct Evidence {
    store: BlobStore,
}

impl Evidence {
    pub(crate) fn new(store: BlobStore) -> Self {
        Self { store }
    }

    fn put(&self, bytes: &[u8]) -> io::Result<Digest> {
        let mut writer = self.store.writer()?;
        writer.write_all(bytes)?;
        Ok(writer.commit(&self.store, None).map_err(io::Error::other)?.digest)
    }

    /// Keeps what a decision is about to be made of; the name of its record. Blocks.
    pub(crate) fn keep(&self, policies: &Policies, facts: &Facts) -> io::Result<Digest> {
        let exceptions = policies.exceptions().text().map(|text| self.put(text.as_bytes()));
        let record = Record {
            facts: facts.clone(),
            policies: self.put(policies.text().as_bytes())?,
            exceptions: exceptions.transpose()?,
        };
        self.put(&serde_json::to_vec(&record).map_err(io::Error::other)?)
    }

    /// Removes facts of decisions that were pruned, unless another decision rests on them too, and
    /// texts that no facts name any more. Blocks.
    pub(crate) fn prune(&self, gone: Vec<Digest>, needed: &[Digest]) -> io::Result<()> {
        let needed: BTreeSet<&Digest> = needed.iter().collect();
        for facts in gone.iter().filter(|facts| !needed.contains(facts)) {
            self.store.delete(facts)?;
        }
        let mut texts = BTreeSet::new();
        for facts in &needed {
            let Some(bytes) = self.store.read(facts, MAX_FACTS_BYTES)? else { continue };
            let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { continue };
            texts.extend([record.policies]);
            texts.extend(record.exceptions);
        }
        for digest in self.store.list()? {
            // What is younger may belong to a decision that is being made.
            let is_text = !needed.contains(&digest) && !texts.contains(&digest);
            let written = self.store.written(&digest)?;
            let age = written.and_then(|written| written.elapsed().ok()).unwrap_or_default();
            if is_text && age > YOUNG {
                self.store.delete(&digest)?;
            }
        }
        Ok(())
    }
}

/// Makes a decision again from what is on disk in a gate's folder, which may be open or not. `None`
/// when there is no such decision. Blocks.
///
/// # Errors
/// What the decision was made of is not there, was damaged, or is of another version of Sekisho,
/// whose policies speak of other facts.
pub fn explain(gate_dir: &Path, id: &str) -> io::Result<Option<Explained>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let records = Records::existing(&gate_dir.join("decisions"));
    let Ok(number) = id.parse::<u64>() else { return Ok(None) };
    let decision: Option<Decision> = records.read_json(&record_name(number))?;
    let Some(decision) = decision else { return Ok(None) };
    // Not opened as one's own: that would sweep what a gate that is up is writing.
    let store = BlobStore::existing(&gate_dir.join("evidence"));
    let read = |digest: &Digest, limit: u64| -> io::Result<Vec<u8>> {
        let bytes = store.read(digest, limit)?.ok_or_else(|| bad("the evidence is gone"))?;
        if Digest::sha256(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(bad("the evidence was changed"))
        }
    };
    let text = |digest: &Digest, limit: usize| {
        String::from_utf8(read(digest, limit as u64)?).map_err(|_| bad("the evidence is no text"))
    };
    let facts = decision.facts.as_ref().ok_or_else(|| bad("the decision has no evidence"))?;
    let record: Record = serde_json::from_slice(&read(facts, MAX_FACTS_BYTES)?)?;
    let mut policies =
        Policies::load(&text(&record.policies, MAX_POLICY_BYTES)?).map_err(io::Error::other)?;
    if let Some(exceptions) = &record.exceptions {
        let text = text(exceptions, MAX_EXCEPTIONS_BYTES)?;
        let loaded = Exceptions::load(Path::new("exceptions.toml"), &text);
        policies = policies.with_exceptions(loaded.map_err(io::Error::other)?);
    }
    if *policies.hash() != decision.policy {
        return Err(bad("the decision was made by another version of Sekisho"));
    }
    let verdict = recorded(decide(&policies, &record.facts));
    let bytes = |verdict: &Verdict| serde_json::to_vec(verdict).map_err(io::Error::other);
    let reproduced = bytes(&verdict)? == bytes(&decision.verdict)?;
    Ok(Some(Explained { decision, verdict, reproduced }))
}
