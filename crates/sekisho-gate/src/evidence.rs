//! What a decision was made of, kept so that anybody can make it again.
//!
//! ```text
//! DIR/blobs/…   facts (JSON), policies (Cedar), exceptions (TOML), each under its digest
//! ```

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use sekisho_policy::Policies;
use sekisho_store::{Batch, BlobStore};
use sekisho_types::Digest;
use serde::{Deserialize, Serialize};

use crate::push::decide::Facts;

/// Largest record of facts, in bytes: an image with some ten thousand findings.
pub(crate) const MAX_FACTS_BYTES: u64 = 64 * 1024 * 1024;

/// What is younger is never pruned.
const YOUNG: Duration = Duration::from_secs(3600);

/// Facts, with the names of the texts that they were judged by.
#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) facts: Facts,
    pub(crate) policies: Digest,
    pub(crate) exceptions: Option<Digest>,
}

/// The evidence of all decisions.
pub(crate) struct Evidence {
    store: BlobStore,
}

impl Evidence {
    pub(crate) fn new(store: BlobStore) -> Self {
        Self { store }
    }

    /// Keeps what a decision is about to be made of, to be there before it is; the name of its record.
    /// Blocks.
    pub(crate) fn keep(&self, policies: &Policies, facts: &Facts) -> io::Result<(Digest, Batch)> {
        let mut batch = Batch::default();
        let mut put = |bytes: &[u8]| self.store.put_in(&mut batch, bytes);
        let exceptions = policies.exceptions().text().map(|text| put(text.as_bytes()));
        let record = Record {
            facts: facts.clone(),
            policies: put(policies.text().as_bytes())?,
            exceptions: exceptions.transpose()?,
        };
        let digest = put(&serde_json::to_vec(&record).map_err(io::Error::other)?)?;
        Ok((digest, batch))
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
