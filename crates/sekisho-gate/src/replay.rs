//! Facts judged outside of a push: for tests of policies, and for policies that are yet to come.

use std::io;
use std::path::{Path, PathBuf};

use sekisho_policy::{Policies, Verdict};
use sekisho_types::Digest;
use serde::Deserialize;

use crate::decisions::Decision;
use crate::push::decide::{Facts, decide};

/// Largest record of facts, in bytes.
const MAX_FACTS_BYTES: u64 = 64 * 1024 * 1024;

/// Judges facts in the form that a gate keeps them in: `identity`, `target`, `contents` and `now`.
///
/// # Errors
/// They are no such facts.
pub fn judge(policies: &Policies, facts: serde_json::Value) -> serde_json::Result<Verdict> {
    let facts: Facts = serde_json::from_value(facts)?;
    Ok(decide(policies, &facts))
}

/// A decision that was made, and what it would be by other policies.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// As it was written down.
    pub decision: Decision,
    /// What the same facts give now; `None` when they are not there any more.
    pub verdict: Option<Verdict>,
}

/// The facts of a record of evidence; what they were judged by is not looked at.
#[derive(Deserialize)]
struct Record {
    facts: Facts,
}

/// Judges the facts of the latest `limit` decisions anew, oldest first, from what is on disk in a gate's
/// folder, which may be open or not. Blocks, on all processors.
///
/// # Errors
/// The folder cannot be read, or a decision or its facts were damaged.
pub fn replay(gate_dir: &Path, policies: &Policies, limit: usize) -> io::Result<Vec<Replayed>> {
    let files = latest(&gate_dir.join("decisions"), limit)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let share = files.len().div_ceil(processors).max(1);
    std::thread::scope(|scope| {
        let work = |files: &[PathBuf]| -> io::Result<Vec<Replayed>> {
            files.iter().map(|file| again(gate_dir, file, policies)).collect()
        };
        let threads: Vec<_> =
            files.chunks(share).map(|share| scope.spawn(move || work(share))).collect();
        let mut all = Vec::new();
        for thread in threads {
            let panicked = |_| io::Error::other("judging panicked");
            all.extend(thread.join().map_err(panicked)??);
        }
        Ok(all)
    })
}

/// The files of the latest decisions, oldest first. A name begins with the decision's number.
fn latest(dir: &Path, limit: usize) -> io::Result<Vec<PathBuf>> {
    let entries = match fs_err::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbered: Vec<(u64, PathBuf)> = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
        if let (true, Ok(number)) = (name.ends_with(".json"), digits.parse()) {
            numbered.push((number, path));
        }
    }
    numbered.sort();
    let first = numbered.len().saturating_sub(limit);
    Ok(numbered.split_off(first).into_iter().map(|(_, path)| path).collect())
}

fn again(gate_dir: &Path, file: &Path, policies: &Policies) -> io::Result<Replayed> {
    let decision: Decision = serde_json::from_slice(&fs_err::read(file)?)
        .map_err(|error| damaged(file, &error.to_string()))?;
    let Some(digest) = &decision.facts else { return Ok(Replayed { decision, verdict: None }) };
    let verdict = facts(gate_dir, digest)?.map(|facts| decide(policies, &facts));
    Ok(Replayed { decision, verdict })
}

fn facts(gate_dir: &Path, digest: &Digest) -> io::Result<Option<Facts>> {
    let hex = digest.hex();
    let folder = gate_dir.join("evidence/blobs").join(digest.algorithm().as_str());
    let path = folder.join(&hex[..2]).join(hex);
    let bytes = match fs_err::metadata(&path) {
        Ok(metadata) if metadata.len() > MAX_FACTS_BYTES => {
            return Err(damaged(&path, "it is too large"));
        }
        Ok(_) => fs_err::read(&path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if Digest::sha256(&bytes) != *digest {
        return Err(damaged(&path, "it was changed"));
    }
    let record: Record =
        serde_json::from_slice(&bytes).map_err(|error| damaged(&path, &error.to_string()))?;
    Ok(Some(record.facts))
}

fn damaged(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{}`: {what}", path.display()))
}
