//! A set's message log, and the journal that it is rebuilt from.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sekisho_github::wire::scale_set::{JobMessage, JobMessageKind};
use serde::{Deserialize, Serialize};

use super::Definition;

/// Job messages in one message, at most: as on GitHub.
const MAX_BATCH: usize = 50;
/// Messages of one set that are kept; the oldest go first. No listener is so far behind.
const MAX_MESSAGES: usize = 10_000;
/// The number before a set's first message, as on GitHub.
const FIRST: i64 = 100_000_000;

/// One change of what is to outlive the process. The journal is a file of these, one a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// The last id that was given to a set.
    LastSet { id: u64 },
    /// A set was made, or changed.
    Set { id: u64, definition: Definition },
    /// A set was deleted, with all that is its.
    SetGone { id: u64 },
    /// A job message was added to a message, the newest of its set.
    Job { set: u64, message: i64, job: Box<JobMessage> },
    /// A message was deleted.
    Deleted { set: u64, message: i64 },
    /// The newest message that a set ever had; no job is open but those that are named next.
    Checkpoint { set: u64, message: i64 },
    /// A job that is not over, by what was said of it last: its messages may be deleted.
    Open { set: u64, job: Box<JobMessage> },
}

/// What a set's listener was told, and has not deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageLog {
    messages: VecDeque<Arc<Logged>>,
    /// The newest message there ever was.
    last: i64,
    /// The newest message that was ever sent: nothing is added to it any more.
    sent: i64,
    /// What was sent last, also if it is deleted.
    last_sent: Option<Arc<Logged>>,
    /// Jobs that are not over, by what was said of them last.
    open: BTreeMap<i64, JobMessage>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) id: i64,
    pub(crate) jobs: Vec<JobMessage>,
}

/// Which message a poll is answered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// The oldest that the listener has not seen.
    #[default]
    Proper,
    /// The newest, before those that come before it.
    Newest,
    /// The oldest, seen or not.
    Replay,
    /// The one that was sent last, deleted or not.
    Repeat,
}

impl Default for MessageLog {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            last: FIRST,
            sent: FIRST,
            last_sent: None,
            open: BTreeMap::new(),
        }
    }
}

impl MessageLog {
    /// Adds a job message. Gives the id of the message that it is in.
    pub(super) fn push(&mut self, job: JobMessage) -> i64 {
        let open = self.messages.back().is_some_and(|message| {
            message.id == self.last && message.id > self.sent && message.jobs.len() < MAX_BATCH
        });
        let id = if open { self.last } else { self.last + 1 };
        self.add(id, job);
        id
    }

    fn add(&mut self, id: i64, job: JobMessage) {
        if job.kind == JobMessageKind::Completed {
            self.open.remove(&job.runner_request_id);
        } else {
            self.open.insert(job.runner_request_id, job.clone());
        }
        self.last = self.last.max(id);
        match self.messages.back_mut() {
            // Nothing is added to one that was sent: nobody else has it.
            Some(message) if message.id == id => Arc::make_mut(message).jobs.push(job),
            _ => self.messages.push_back(Arc::new(Logged { id, jobs: vec![job] })),
        }
        if self.messages.len() > MAX_MESSAGES {
            self.messages.pop_front();
        }
    }

    /// Removes a message. False if it is not there.
    pub(super) fn delete(&mut self, id: i64) -> bool {
        // Ids grow.
        let Ok(index) = self.messages.binary_search_by_key(&id, |message| message.id) else {
            return false;
        };
        self.messages.remove(index).is_some()
    }

    /// The message to send to a listener that has seen those up to `after`.
    pub(super) fn next(&mut self, after: i64, order: Order) -> Option<Arc<Logged>> {
        let unseen = self.messages.partition_point(|message| message.id <= after);
        let message = match order {
            Order::Proper => self.messages.get(unseen),
            Order::Newest => self.messages.iter().skip(unseen).next_back(),
            Order::Replay => self.messages.front(),
            Order::Repeat => self.last_sent.as_ref(),
        };
        let message = message.or_else(|| self.messages.get(unseen)).cloned()?;
        self.sent = self.sent.max(message.id);
        self.last_sent = Some(Arc::clone(&message));
        Some(message)
    }

    /// Jobs that are not over, by what was said of them last.
    pub(super) fn open(&self) -> impl Iterator<Item = &JobMessage> {
        self.open.values()
    }
}

/// A set, as the journal has it.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) definition: Definition,
    pub(crate) log: MessageLog,
}

impl Snapshot {
    pub(super) fn new(definition: Definition) -> Self {
        Self { definition, log: MessageLog::default() }
    }
}

/// All sets, as the journal has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replay {
    sets: BTreeMap<u64, Snapshot>,
    last_id: u64,
}

impl Replay {
    /// Takes one entry in. One that fits nothing is of a set that is gone.
    pub(crate) fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::LastSet { id } => self.last_id = self.last_id.max(id),
            Entry::Set { id, definition } => {
                self.last_id = self.last_id.max(id);
                match self.sets.get_mut(&id) {
                    Some(set) => set.definition = definition,
                    None => drop(self.sets.insert(id, Snapshot::new(definition))),
                }
            }
            Entry::SetGone { id } => drop(self.sets.remove(&id)),
            Entry::Job { set, message, job } => {
                if let Some(set) = self.sets.get_mut(&set) {
                    set.log.add(message, *job);
                    // Whether it was sent is not known: nothing is added to it.
                    set.log.sent = set.log.last;
                }
            }
            Entry::Deleted { set, message } => {
                if let Some(set) = self.sets.get_mut(&set) {
                    set.log.delete(message);
                }
            }
            Entry::Checkpoint { set, message } => {
                if let Some(set) = self.sets.get_mut(&set) {
                    set.log.open.clear();
                    set.log.last = set.log.last.max(message);
                    set.log.sent = set.log.last;
                }
            }
            Entry::Open { set, job } => {
                if let Some(set) = self.sets.get_mut(&set) {
                    set.log.open.insert(job.runner_request_id, *job);
                }
            }
        }
    }

    /// The shortest journal that gives the same.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut entries = vec![Entry::LastSet { id: self.last_id }];
        for (id, set) in &self.sets {
            let id = *id;
            entries.push(Entry::Set { id, definition: set.definition.clone() });
            for message in &set.log.messages {
                let jobs = message.jobs.iter().map(|job| Entry::Job {
                    set: id,
                    message: message.id,
                    job: Box::new(job.clone()),
                });
                entries.extend(jobs);
            }
            // After the messages: one that is kept may tell of a job that is over by now.
            entries.push(Entry::Checkpoint { set: id, message: set.log.last });
            let open = set.log.open.values();
            entries.extend(open.map(|job| Entry::Open { set: id, job: Box::new(job.clone()) }));
        }
        entries
    }

    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    pub(super) fn into_sets(self) -> impl Iterator<Item = (u64, Snapshot)> {
        self.sets.into_iter()
    }
}
