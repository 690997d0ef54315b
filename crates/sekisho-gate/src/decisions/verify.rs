//! Whether the log is what it was: a plain function over what is on disk.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use bytes::Bytes;
use sekisho_store::Records;
use sekisho_types::Digest;

use super::Decision;
use super::checkpoint::{Checkpoint, PublicKey};

/// The folder of checkpoints, among the records.
pub(crate) const CHECKPOINTS: &str = "checkpoints";

/// Digits of a number in the name of its record.
const NUMBER_DIGITS: usize = 12;

/// Most faults that are told: a log of which more is wrong is no log.
pub(crate) const MAX_FAULTS: usize = 1000;

/// Something is wrong with the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no such record, and there was one.
    Removed(u64),
    /// The record is not what was written.
    Changed(u64),
    /// There is a record of which no checkpoint speaks, before all of which one does.
    Added(u64),
    /// In the place of one record lies another.
    Moved {
        /// The place.
        place: u64,
        /// The record that lies there.
        record: u64,
    },
    /// A checkpoint that no key of the gate's signed, or that was changed.
    Checkpoint(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed(number) => write!(f, "decision {number:012} was removed"),
            Self::Changed(number) => write!(f, "decision {number:012} was changed"),
            Self::Added(number) => write!(f, "decision {number:012} is not the gate's"),
            Self::Moved { place, record } => {
                write!(f, "in the place of decision {place:012} lies {record:012}")
            }
            Self::Checkpoint(number) => {
                write!(f, "the checkpoint from decision {number:012} on is not the gate's")
            }
        }
    }
}

/// What was found out about a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many decisions there are.
    pub records: usize,
    /// How many of them a signed checkpoint vouches for.
    pub signed: usize,
    /// What is wrong, by number, at most 1000 of it; nothing in a log that is whole.
    pub faults: Vec<Fault>,
}

/// One record, as much of it as the chain needs.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) hash: Digest,
    /// `None`: it does not parse.
    pub(crate) number: Option<u64>,
    pub(crate) previous: Option<Digest>,
    pub(crate) run: String,
}

impl Link {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let decision: Option<Decision> = serde_json::from_slice(bytes).ok();
        let number = decision.as_ref().and_then(|decision| decision.id.parse().ok());
        let run = decision.as_ref().map(|decision| decision.identity.run_id.clone());
        let previous = decision.and_then(|decision| decision.previous);
        Self { hash: Digest::sha256(bytes), number, previous, run: run.unwrap_or_default() }
    }
}

pub(crate) fn record_name(number: u64) -> String {
    format!("{number:0NUMBER_DIGITS$}.json")
}

pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    // As they are written, so that no two names are of one number.
    let good = digits.len() == NUMBER_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| good)
}

/// The numbers of what lies in a folder, in order.
pub(crate) fn numbers(records: &Records, folder: &str) -> io::Result<Vec<u64>> {
    let mut all: Vec<u64> =
        records.names(folder)?.iter().filter_map(|name| number_of(name)).collect();
    all.sort_unstable();
    Ok(all)
}

/// Reads the whole log. Blocks.
pub(crate) fn read(records: &Records) -> io::Result<(BTreeMap<u64, Link>, BTreeMap<u64, Bytes>)> {
    let mut links = BTreeMap::new();
    for number in numbers(records, "")? {
        let bytes = records.read(&record_name(number))?;
        links.extend(bytes.map(|bytes| (number, Link::of(&bytes))));
    }
    let mut checkpoints = BTreeMap::new();
    for number in numbers(records, CHECKPOINTS)? {
        let bytes = records.read(&format!("{CHECKPOINTS}/{}", record_name(number)))?;
        checkpoints.extend(bytes.map(|bytes| (number, bytes)));
    }
    Ok((links, checkpoints))
}

/// Whether all is as it was written, and else what is not.
///
/// Records before the first checkpoint that is there may be gone: they were pruned together with it.
pub(crate) fn verify(
    links: &BTreeMap<u64, Link>,
    checkpoints: &BTreeMap<u64, Bytes>,
    keys: &[PublicKey],
) -> Verified {
    let mut faults = Vec::new();
    let mut vouched: BTreeMap<u64, Digest> = BTreeMap::new();
    let mut before: Option<(u64, Digest)> = None;
    for (number, bytes) in checkpoints {
        let checkpoint: Option<Checkpoint> = serde_json::from_slice(bytes).ok();
        let good = checkpoint.filter(|it| {
            it.is_signed_by(keys) && it.statement.first == *number && it.statement.is_whole()
        });
        let follows = |it: &Checkpoint| match &before {
            None => true,
            Some((last, hash)) => {
                Some(it.statement.first) == last.checked_add(1)
                    && it.statement.previous.as_ref() == Some(hash)
            }
        };
        match good.filter(follows) {
            Some(it) => {
                before = Some((it.statement.last, Digest::sha256(bytes)));
                vouched.extend((it.statement.first..=it.statement.last).zip(it.statement.records));
            }
            // The next one names the hash of what was here: it is wrong too, and says so.
            None => faults.push(Fault::Checkpoint(*number)),
        }
    }
    let first = vouched.keys().next().copied().unwrap_or(1);
    let last = vouched.keys().chain(links.keys()).max().copied().unwrap_or(0);
    faults.extend(links.range(..first).map(|(number, _)| Fault::Added(*number)));
    for number in first..=last {
        // A number is what anybody may write on a file: there need not be as many.
        if faults.len() >= MAX_FAULTS {
            break;
        }
        let Some(link) = links.get(&number) else {
            faults.push(Fault::Removed(number));
            continue;
        };
        let is_wrong = match vouched.get(&number) {
            Some(hash) => link.hash != *hash,
            None => !chained(links, number),
        };
        match link.number {
            Some(record) if record != number => {
                faults.push(Fault::Moved { place: number, record });
            }
            _ if is_wrong || link.number.is_none() => faults.push(Fault::Changed(number)),
            _ => {}
        }
    }
    faults.truncate(MAX_FAULTS);
    Verified { records: links.len(), signed: vouched.len(), faults }
}

/// Whether a record that no checkpoint vouches for is the one that the next one knows. Of the newest
/// nobody knows yet: it is signed within a minute.
fn chained(links: &BTreeMap<u64, Link>, number: u64) -> bool {
    let Some(link) = links.get(&number) else { return false };
    let next = number.checked_add(1).and_then(|next| links.get(&next));
    let is_known = next.is_none_or(|it| it.previous.as_ref() == Some(&link.hash));
    is_known && (number > 1 || link.previous.is_none())
}
