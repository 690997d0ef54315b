//! Keys to be worked on: each by one task at a time, at a time of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// What is worked on: its namespace and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Connection(String, String),
    Deployment(String, String),
    ReplicaSet(String, String),
    Runner(String, String),
    /// What is left over in a namespace.
    Sweep(String),
}

impl Key {
    /// The label of metrics.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Connection(..) => "connection",
            Self::Deployment(..) => "deployment",
            Self::ReplicaSet(..) => "replica_set",
            Self::Runner(..) => "runner",
            Self::Sweep(..) => "sweep",
        }
    }
}

#[derive(Default)]
struct State {
    due: BTreeSet<(Instant, Key)>,
    /// When each waiting key is due.
    at: BTreeMap<Key, Instant>,
    /// Keys that are worked on, and when they are due again.
    running: BTreeMap<Key, Option<Instant>>,
}

/// The queue. Its size is bounded by the number of objects: a key is in it once.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

impl Queue {
    /// Has a key worked on after `delay`; sooner, if that was wanted already.
    pub(crate) fn add(&self, key: Key, delay: Duration) {
        let at = Instant::now() + delay;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(again) = state.running.get_mut(&key) {
            *again = Some(again.map_or(at, |known| known.min(at)));
            return;
        }
        state.wait(key, at);
        drop(state);
        self.changed.notify_one();
    }

    /// The next key that is due. Cancel safe: nothing is taken before it is returned.
    pub(crate) async fn next(&self) -> Key {
        loop {
            let wait = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                match state.take() {
                    Ok(key) => return key,
                    Err(wait) => wait,
                }
            };
            let changed = self.changed.notified();
            match wait {
                Some(at) => drop(tokio::time::timeout_at(at, changed).await),
                None => changed.await,
            }
        }
    }

    /// A key was worked on.
    pub(crate) fn done(&self, key: Key) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(at)) = state.running.remove(&key) {
            state.wait(key, at);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// How many keys are due.
    pub(crate) fn depth(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.due.iter().take_while(|(at, _)| *at <= now).count()
    }
}

impl State {
    fn wait(&mut self, key: Key, at: Instant) {
        if let Some(known) = self.at.get(&key).copied() {
            if known <= at {
                return;
            }
            self.due.remove(&(known, key.clone()));
        }
        self.at.insert(key.clone(), at);
        self.due.insert((at, key));
    }

    /// A key that is due, or when the first one is.
    fn take(&mut self) -> Result<Key, Option<Instant>> {
        match self.due.first() {
            None => Err(None),
            Some((at, _)) if *at > Instant::now() => Err(Some(*at)),
            Some(_) => {
                let Some((_, key)) = self.due.pop_first() else { return Err(None) };
                self.at.remove(&key);
                self.running.insert(key.clone(), None);
                Ok(key)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::Sweep(name.to_owned())
    }

    #[tokio::test]
    async fn a_key_is_worked_on_once_at_a_time_and_again_if_asked_meanwhile() {
        let (queue, hour) = (Queue::default(), Duration::from_secs(3600));
        queue.add(key("late"), hour);
        queue.add(key("a"), Duration::ZERO);
        queue.add(key("a"), Duration::ZERO);
        assert_eq!(queue.next().await, key("a"));
        queue.add(key("a"), hour);
        queue.add(key("a"), Duration::ZERO);
        assert_eq!(queue.depth(), 0, "`a` is worked on, and the other is not due");
        queue.add(key("late"), Duration::ZERO);
        assert_eq!(queue.next().await, key("late"), "it was wanted sooner");
        queue.done(key("late"));
        queue.done(key("a"));
        assert_eq!(queue.next().await, key("a"));
        queue.done(key("a"));
        assert_eq!(queue.depth(), 0);
    }
}
