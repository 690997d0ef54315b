//! The log as the gate writes it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use sekisho_store::{Batch, Records};
use sekisho_types::Digest;

use super::checkpoint::{Checkpoint, PublicKey, RecordKey, Statement};
use super::queue::{Queue, Waiting};
use super::verify::{CHECKPOINTS, Link, Verified, number_of, numbers, read, record_name, verify};
use super::{Decision, Draft, decision, same};
use crate::error::is_away;

/// Most decisions in one answer, the latest ones.
const MAX_LISTED: usize = 1000;

/// At most so many decisions wait for a signature; younger ones wait for the gate's next sweep.
const SIGNED_EVERY: usize = 64;

/// How often a replica tries to be the one that writes the next number.
const MAX_TURNS: usize = 64;

/// A record's number and hash.
type Numbered = (u64, Digest);

#[derive(Default)]
struct State {
    /// The newest record.
    last: Option<Numbered>,
    /// The newest decision of this process, to know a repeat.
    repeat: Option<Decision>,
    /// Hashes of those that no checkpoint names yet, the oldest first.
    unsigned: Vec<Numbered>,
    /// The newest checkpoint: the number of the last record that it names, and its hash.
    sealed: Option<Numbered>,
    /// Number to run, for those that were read or written since the gate opened.
    runs: BTreeMap<u64, String>,
    /// What the check of the whole log found; `None` while it goes on.
    checked: Option<Verified>,
}

impl State {
    /// What is not signed yet, and what was signed last.
    fn signed(&self) -> (Vec<Numbered>, Option<Numbered>) {
        (self.unsigned.clone(), self.sealed.clone())
    }

    /// Notes a record. Another replica may have signed it before this one read it.
    fn note(&mut self, number: u64, hash: Digest, run: String) {
        self.last = Some((number, hash.clone()));
        self.runs.insert(number, run);
        if self.sealed.as_ref().is_none_or(|(signed, _)| number > *signed) {
            self.unsigned.push((number, hash));
        }
    }
}

struct Shared {
    records: Records,
    keys: Vec<PublicKey>,
    state: Mutex<State>,
    read: Condvar,
    queue: Queue,
}

/// The log. Everything blocks.
pub(crate) struct Log {
    shared: Arc<Shared>,
    key: Arc<RecordKey>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all of it once, to know every run and whether all is as it was.
    fn check(&self) -> io::Result<()> {
        let (links, checkpoints) = read(&self.records)?;
        let verified = verify(&links, &checkpoints, &self.keys);
        for fault in &verified.faults {
            tracing::error!("the log of decisions is damaged: {fault}");
        }
        let mut state = self.lock();
        for (number, link) in links {
            state.runs.entry(number).or_insert(link.run);
        }
        state.checked = Some(verified);
        Ok(())
    }
}

impl Log {
    /// Opens the log. Its end, which nothing vouches for yet, is checked at once; the rest of it
    /// while the gate serves.
    ///
    /// # Errors
    /// The records cannot be read, or the newest do not follow from each other.
    pub(crate) fn open(
        records: Records,
        key: Arc<RecordKey>,
        keys: Vec<PublicKey>,
    ) -> io::Result<Self> {
        let mut state = State::default();
        if let Some((statement, hash)) = newest(&records)? {
            state.last = statement.records.last().map(|hash| (statement.last, hash.clone()));
            state.sealed = Some((statement.last, hash));
        }
        let (state, read, queue) = (Mutex::new(state), Condvar::new(), Queue::default());
        let shared = Shared { records, keys, state, read, queue };
        let log = Self { shared: Arc::new(shared), key };
        log.resume()?;
        let shared = Arc::clone(&log.shared);
        let work = move || {
            if let Err(error) = shared.check() {
                tracing::error!("the log of decisions cannot be read: {error}");
                shared.lock().checked = Some(Verified::default());
            }
            shared.read.notify_all();
        };
        std::thread::Builder::new().name("decisions".to_owned()).spawn(work)?;
        Ok(log)
    }

    /// Follows the records after the last checkpoint. Without a checkpoint there are few of them,
    /// or the log is damaged.
    fn resume(&self) -> io::Result<()> {
        let mut state = self.shared.lock();
        if state.last.is_none() {
            // Also a log whose beginning is gone has a last number.
            let first = numbers(&self.shared.records, "")?.first().copied();
            state.last = first.and_then(|first| Some((first.checked_sub(1)?, Digest::sha256(b""))));
        }
        self.follow(&mut state).map(drop)
    }

    /// Takes in what other replicas, or an earlier process, wrote; the decisions, oldest first.
    fn follow(&self, state: &mut State) -> io::Result<Vec<Decision>> {
        let mut seen = Vec::new();
        loop {
            let next = state.last.as_ref().map_or(1, |(number, _)| number + 1);
            let Some(bytes) = self.shared.records.read(&record_name(next))? else {
                return Ok(seen);
            };
            let link = Link::of(&bytes);
            state.note(next, link.hash, link.run);
            seen.extend(serde_json::from_slice::<Decision>(&bytes).ok());
        }
    }

    /// Writes a decision down, durably, after what it rests on. The same decision twice in a row is one.
    pub(crate) fn append(&self, draft: Draft, evidence: Batch) -> io::Result<Decision> {
        self.shared.queue.write(draft, evidence, |waiting| self.write(waiting))
    }

    /// Writes what waits, together where the place can do that.
    fn write(&self, waiting: Vec<Waiting>) {
        let mut state = self.shared.lock();
        let before = (state.last.clone(), state.repeat.clone(), state.signed());
        let (mut batch, mut entered) = (Batch::default(), Vec::new());
        // Who waits behind one for whom the storage had no answer does not wait for another one.
        let mut away: Option<String> = None;
        for Waiting { draft, evidence, asker } in waiting {
            let result = match &away {
                Some(why) => Err(io::Error::new(io::ErrorKind::TimedOut, why.clone())),
                None => self.enter(&mut state, &mut batch, &draft, evidence),
            };
            let failed = result.as_ref().err().filter(|error| is_away(error));
            away = away.or_else(|| failed.map(ToString::to_string));
            entered.push((asker, result));
        }
        // With them, so that nobody waits for one more write.
        if away.is_none()
            && state.unsigned.len() >= SIGNED_EVERY
            && let Some(at) = state.repeat.as_ref().map(|last| last.at)
            && let Err(error) = self.seal(&mut state, &mut batch, at)
        {
            // The next sweep tries again.
            tracing::warn!("decisions not signed: {error}");
        }
        let committed = batch.commit();
        if committed.is_err() {
            let (last, repeat, signed) = before;
            let next = last.as_ref().map_or(0, |(number, _)| number + 1);
            drop(state.runs.split_off(&next));
            (state.last, state.repeat) = (last, repeat);
            (state.unsigned, state.sealed) = signed;
        }
        for (asker, result) in entered {
            asker.answer(match &committed {
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                Ok(()) => result,
            });
        }
    }

    /// Gives a decision its place, which it has once the batch is committed.
    fn enter(
        &self,
        state: &mut State,
        batch: &mut Batch,
        draft: &Draft,
        evidence: Batch,
    ) -> io::Result<Decision> {
        if let Some(last) = state.repeat.as_ref().filter(|last| same(last, draft)) {
            return Ok(last.clone());
        }
        batch.append(evidence)?;
        for _ in 0..MAX_TURNS {
            let (number, previous) = match &state.last {
                None => (1, None),
                Some((0, _)) => (1, None),
                Some((number, hash)) => (number + 1, Some(hash.clone())),
            };
            let decision = decision(draft.clone(), number, previous);
            let bytes = serde_json::to_vec(&decision).map_err(io::Error::other)?;
            if self.shared.records.create_in(batch, &record_name(number), &bytes)? {
                state.note(number, Digest::sha256(&bytes), decision.identity.run_id.clone());
                state.repeat = Some(decision.clone());
                return Ok(decision);
            }
            // Another replica has that number; perhaps it was told of the same push.
            let seen = self.follow(state)?;
            if let Some(known) = seen.into_iter().find(|known| same(known, draft)) {
                state.repeat = Some(known.clone());
                return Ok(known);
            }
        }
        Err(io::Error::other("other replicas write decisions faster than this one can"))
    }

    /// Signs what is not signed yet.
    pub(crate) fn checkpoint(&self, now: Timestamp) -> io::Result<()> {
        let mut state = self.shared.lock();
        self.follow(&mut state)?;
        // Another replica may have signed some of them: then the rest is signed in the next turn.
        for _ in 0..MAX_TURNS {
            if state.unsigned.is_empty() {
                break;
            }
            let (before, mut batch) = (state.signed(), Batch::default());
            let sealed = self.seal(&mut state, &mut batch, now).and_then(|()| batch.commit());
            if sealed.is_err() {
                (state.unsigned, state.sealed) = before;
            }
            sealed?;
        }
        Ok(())
    }

    /// Signs what is not signed yet; it counts once the batch is committed.
    fn seal(&self, state: &mut State, batch: &mut Batch, now: Timestamp) -> io::Result<()> {
        let (Some((first, _)), Some((last, _))) = (state.unsigned.first(), state.unsigned.last())
        else {
            return Ok(());
        };
        let (first, last) = (*first, *last);
        let statement = Statement {
            first,
            last,
            records: state.unsigned.iter().map(|(_, hash)| hash.clone()).collect(),
            previous: state.sealed.as_ref().map(|(_, hash)| hash.clone()),
            at: now,
            key: self.key.name().to_owned(),
        };
        let bytes = serde_json::to_vec(&self.key.seal(statement)?).map_err(io::Error::other)?;
        // Named after its first record, so that two replicas never speak of the same ones.
        let name = format!("{CHECKPOINTS}/{}", record_name(first));
        if self.shared.records.create_in(batch, &name, &bytes)? {
            state.sealed = Some((last, Digest::sha256(&bytes)));
            state.unsigned.clear();
        } else if let Some((statement, hash)) = newest(&self.shared.records)? {
            state.sealed = Some((statement.last, hash));
            state.unsigned.retain(|(of, _)| *of > statement.last);
        }
        Ok(())
    }

    /// One decision.
    pub(crate) fn get(&self, id: &str) -> io::Result<Option<Decision>> {
        let Ok(number) = id.parse::<u64>() else { return Ok(None) };
        self.shared.records.read_json(&record_name(number))
    }

    /// The decisions of one run, or all, oldest first; the latest 1000.
    pub(crate) fn list(&self, run_id: Option<&str>) -> io::Result<Vec<Decision>> {
        let mut numbers: Vec<u64> = {
            let mut state = self.wait();
            self.follow(&mut state)?;
            let of_run = |(_, run): &(&u64, &String)| run_id.is_none_or(|wanted| wanted == *run);
            let wanted = state.runs.iter().rev().filter(of_run).take(MAX_LISTED);
            wanted.map(|(number, _)| *number).collect()
        };
        numbers.reverse();
        let mut decisions = Vec::new();
        for number in numbers {
            decisions.extend(self.shared.records.read_json(&record_name(number))?);
        }
        Ok(decisions)
    }

    /// Waits until the whole log was read once.
    fn wait(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.lock();
        while state.checked.is_none() {
            state = self.shared.read.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Checks the whole log.
    pub(crate) fn verify(&self) -> io::Result<Verified> {
        let (links, checkpoints) = read(&self.shared.records)?;
        Ok(verify(&links, &checkpoints, &self.shared.keys))
    }

    /// Removes the oldest records, those of whole checkpoints that ended before a time, and gives
    /// what they rested on. The newest checkpoint always stays.
    pub(crate) fn prune(&self, before: Timestamp) -> io::Result<Vec<Digest>> {
        let records = &self.shared.records;
        let mut checkpoints = numbers(records, CHECKPOINTS)?;
        checkpoints.pop();
        let mut rested_on = Vec::new();
        for first in checkpoints {
            let name = format!("{CHECKPOINTS}/{}", record_name(first));
            let Some(checkpoint) = records.read_json::<Checkpoint>(&name)? else { continue };
            if checkpoint.statement.at >= before {
                break;
            }
            for number in first..=checkpoint.statement.last {
                let decision: Option<Decision> = records.read_json(&record_name(number))?;
                rested_on.extend(decision.and_then(|decision| decision.facts));
                records.remove(&record_name(number))?;
                self.shared.lock().runs.remove(&number);
            }
            // The checkpoint last: until then the records are known to be missing on purpose.
            records.remove(&name)?;
        }
        Ok(rested_on)
    }

    /// Every decision's facts, to know which evidence is still needed.
    pub(crate) fn facts(&self) -> io::Result<Vec<Digest>> {
        let mut facts = Vec::new();
        for name in self.shared.records.names("")? {
            if number_of(&name).is_some() {
                let decision: Option<Decision> = self.shared.records.read_json(&name)?;
                facts.extend(decision.and_then(|decision| decision.facts));
            }
        }
        Ok(facts)
    }
}

/// The newest checkpoint, and its hash; `None` without one that can be read.
fn newest(records: &Records) -> io::Result<Option<(Statement, Digest)>> {
    let Some(first) = numbers(records, CHECKPOINTS)?.pop() else { return Ok(None) };
    let bytes = records.read(&format!("{CHECKPOINTS}/{}", record_name(first)))?;
    let bytes = bytes.unwrap_or_default();
    let checkpoint: Option<Checkpoint> = serde_json::from_slice(&bytes).ok();
    Ok(checkpoint.map(|it| (it.statement, Digest::sha256(&bytes))))
}

#[cfg(test)]
mod tests;
