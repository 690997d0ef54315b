//! What is still to be copied on: on record from before an image gets its tag at the gate until the promoter has it.
//! A gate that was killed, and one whose promoter is away, goes on with it.

use std::io;

use jiff::{SignedDuration, Timestamp};
use sekisho_store::Records;
use serde::{Deserialize, Serialize};

/// Until whoever pushed has had an answer; then it is tried without them.
const FIRST: SignedDuration = SignedDuration::from_secs(60);

/// Longest pause between two tries.
const MAX_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// How long it is tried at all.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Most that one look goes on with.
const MAX_AT_ONCE: usize = 100;

/// Longest error that is kept, in characters.
const MAX_ERROR: usize = 2000;

/// Of the records.
const FOLDER: &str = "waiting";

/// An image that waits to be copied on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Number of the decision that lets it pass.
    pub decision: String,
    /// Since when.
    pub since: Timestamp,
    /// How often it was tried without whoever pushed.
    pub tries: u32,
    /// When it is tried next.
    pub again_at: Timestamp,
    /// How the last try ended; empty before the first.
    pub error: String,
}

impl Waiting {
    fn new(decision: &str, now: Timestamp) -> Self {
        let again_at = now.checked_add(FIRST).unwrap_or(Timestamp::MAX);
        Self { decision: decision.to_owned(), since: now, tries: 0, again_at, error: String::new() }
    }

    /// After a try that failed; `None` when it has been tried for long enough.
    fn after(self, error: &str, now: Timestamp) -> Option<Self> {
        if now.duration_since(self.since) > MAX_AGE {
            return None;
        }
        let pause = FIRST * 2_i32.saturating_pow(self.tries.min(10));
        let again_at = now.checked_add(pause.min(MAX_PAUSE)).unwrap_or(Timestamp::MAX);
        let error = error.chars().take(MAX_ERROR).collect();
        Some(Self { tries: self.tries.saturating_add(1), again_at, error, ..self })
    }
}

/// The records. Everything blocks.
#[derive(Debug)]
pub(crate) struct Outgoing {
    records: Records,
    /// Whether anything goes on at all.
    is_used: bool,
}

fn name(decision: &str) -> String {
    format!("{FOLDER}/{decision}.json")
}

impl Outgoing {
    pub(crate) fn new(records: Records, is_used: bool) -> Self {
        Self { records, is_used }
    }

    /// An image is about to get its tag here.
    pub(crate) fn begin(&self, decision: &str, now: Timestamp) -> io::Result<()> {
        match self.is_used {
            true => self.records.write_json(&name(decision), &Waiting::new(decision, now)),
            false => Ok(()),
        }
    }

    /// It is there, or need not be.
    pub(crate) fn end(&self, decision: &str) -> io::Result<()> {
        if self.is_used { self.records.remove(&name(decision)).map(drop) } else { Ok(()) }
    }

    /// A try failed.
    pub(crate) fn failed(&self, waiting: Waiting, error: &str, now: Timestamp) -> io::Result<()> {
        let (decision, since) = (waiting.decision.clone(), waiting.since);
        match waiting.after(error, now) {
            Some(waiting) => self.records.write_json(&name(&decision), &waiting),
            None => {
                tracing::error!(decision, %since, "an image is not copied on any more: {error}");
                self.end(&decision)
            }
        }
    }

    /// All that waits, the oldest decision first. A damaged record is none.
    pub(crate) fn all(&self) -> io::Result<Vec<Waiting>> {
        let names = self.records.names(FOLDER)?.into_iter();
        let names = names.map(|file| format!("{FOLDER}/{file}")).collect();
        let read = self.records.read_each(names);
        read.filter(|one| {
            one.as_ref().err().is_none_or(|error| error.kind() != io::ErrorKind::InvalidData)
        })
        .collect()
    }

    /// Those whose time has come.
    pub(crate) fn due(&self, now: Timestamp) -> io::Result<Vec<Waiting>> {
        let mut due = if self.is_used { self.all()? } else { Vec::new() };
        due.retain(|waiting| waiting.again_at <= now);
        due.truncate(MAX_AT_ONCE);
        Ok(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    #[test]
    fn pauses_grow_to_an_hour_and_end_after_a_week() {
        let mut waiting = Waiting::new("000000000042", at(0));
        assert_eq!(waiting.again_at, at(1));
        let mut pauses = Vec::new();
        loop {
            let now = waiting.again_at;
            let Some(next) = waiting.clone().after("away", now) else { break };
            pauses.push(next.again_at.duration_since(now).as_mins());
            waiting = next;
        }
        assert_eq!(pauses[..9], [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(pauses[9..].iter().all(|pause| *pause == 60));
        assert!((168..180).contains(&pauses.len()), "{}", pauses.len());
        assert_eq!(waiting.error, "away");
    }

    #[test]
    fn what_waits_is_on_record_until_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let open = |is_used| Outgoing::new(Records::in_folder(dir.path()).unwrap(), is_used);
        let outgoing = open(true);
        outgoing.begin("000000000002", at(0)).unwrap();
        outgoing.begin("000000000001", at(5)).unwrap();
        let due = |minute| {
            let due = open(true).due(at(minute)).unwrap();
            due.into_iter().map(|it| it.decision[11..].to_owned()).collect::<Vec<_>>().concat()
        };
        assert_eq!([due(0), due(1), due(6)], ["", "2", "12"]);
        let one = outgoing.due(at(6)).unwrap().remove(0);
        outgoing.failed(one, "away", at(6)).unwrap();
        assert_eq!([due(6), due(7)], ["2", "12"]);
        outgoing.end("000000000002").unwrap();
        outgoing.end("000000000002").unwrap();
        assert_eq!(open(true).all().unwrap().len(), 1);
        fs_err::write(dir.path().join("waiting/000000000009.json"), "{").unwrap();
        assert_eq!(open(true).all().unwrap().len(), 1, "a damaged one is none");
        // Where nothing goes on, nothing is written.
        open(false).begin("000000000003", at(0)).unwrap();
        assert_eq!(open(true).all().unwrap().len(), 1);
        assert_eq!(open(false).due(at(60)).unwrap(), []);
    }
}
