//! What is found out, or made, once in a build, whoever wants it: the first one does it, and the others wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A place for each key, which one thread at a time has.
#[derive(Debug)]
pub(crate) struct Slots<K, V>(Mutex<HashMap<K, Arc<Mutex<V>>>>);

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Default> Slots<K, V> {
    /// The place of a key, with what is known there.
    pub(crate) fn of(&self, key: K) -> Arc<Mutex<V>> {
        Arc::clone(lock(&self.0).entry(key).or_default())
    }
}

/// Has a place. Nothing that stands in one is left half done by a panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
