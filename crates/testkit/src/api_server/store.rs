//! All objects, and all changes to them since the last compaction.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::fields::Manager;
use super::resource::Resource;

/// Changes that are kept, at most: then the oldest are compacted.
const HISTORY_MAX: usize = 500_000;

/// An object.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) value: Arc<Value>,
    pub(crate) managers: Arc<Vec<Manager>>,
}

/// Where an object is. Ordered as lists are: by resource, namespace, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Full name of the resource.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(resource: &Resource, namespace: &str, name: &str) -> Self {
        Self {
            resource: resource.full_name(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// Something that happened to an object.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) key: Key,
    pub(crate) before: Option<Arc<Value>>,
    /// The object after it; of a deletion, as it was last, with the version of the deletion.
    pub(crate) object: Arc<Value>,
    pub(crate) deleted: bool,
}

#[derive(Default)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Stored>,
    history: VecDeque<Change>,
    version: u64,
    /// Changes up to this version are forgotten.
    compacted: u64,
    names: u64,
}

impl Store {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Stored> {
        self.objects.get(key)
    }

    /// Writes an object under the next version.
    pub(crate) fn put(
        &mut self,
        key: Key,
        mut value: Value,
        managers: impl Into<Arc<Vec<Manager>>>,
    ) -> Arc<Value> {
        self.version += 1;
        value["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Arc::new(value);
        let stored = Stored { value: Arc::clone(&object), managers: managers.into() };
        let before = self.objects.insert(key.clone(), stored).map(|old| old.value);
        self.remember(Change {
            version: self.version,
            key,
            before,
            object: Arc::clone(&object),
            deleted: false,
        });
        object
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        let Some(stored) = self.objects.remove(key) else { return };
        self.version += 1;
        let mut last = Value::clone(&stored.value);
        last["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.remember(Change {
            version: self.version,
            key: key.clone(),
            before: Some(stored.value),
            object: Arc::new(last),
            deleted: true,
        });
    }

    fn remember(&mut self, change: Change) {
        self.history.push_back(change);
        if self.history.len() > HISTORY_MAX
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted = oldest.version;
        }
    }

    pub(crate) fn compact(&mut self) {
        self.history.clear();
        // Who has seen everything so far must list again, too.
        self.version += 1;
        self.compacted = self.version;
    }

    /// Objects of a resource, in a namespace (all, where it is empty), after `after`.
    pub(crate) fn list<'a>(
        &'a self,
        resource: &Resource,
        namespace: &'a str,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let full = resource.full_name();
        let start = after.cloned().unwrap_or_else(|| Key::new(resource, namespace, ""));
        self.objects
            .range(start.clone()..)
            .skip_while(move |(key, _)| after.is_some() && **key == start)
            .take_while(move |(key, _)| {
                key.resource == full && (namespace.is_empty() || key.namespace == namespace)
            })
            .map(|(key, stored)| (key, &stored.value))
    }

    /// Changes of a resource after a version, at most `limit`; `None` if they were compacted.
    pub(crate) fn changes(
        &self,
        resource: &str,
        namespace: &str,
        after: u64,
        limit: usize,
    ) -> Option<Vec<Change>> {
        if after < self.compacted {
            return None;
        }
        let start = self.history.partition_point(|change| change.version <= after);
        let is = |change: &&Change| {
            change.key.resource == resource
                && (namespace.is_empty() || change.key.namespace == namespace)
        };
        Some(self.history.range(start..).filter(is).take(limit).cloned().collect())
    }

    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(crate) fn count(&self, plural: &str) -> usize {
        let is = |key: &&Key| key.resource.split('.').next() == Some(plural);
        self.objects.keys().filter(is).count()
    }

    /// A suffix for `generateName`, of the alphabet that Kubernetes takes.
    pub(crate) fn suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        // Any order will do, as long as none comes twice: a Weyl sequence.
        self.names = self.names.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut rest = self.names;
        (0..5)
            .map(|_| {
                let at = usize::try_from(rest % ALPHABET.len() as u64).unwrap_or_default();
                rest /= 31;
                char::from(ALPHABET[at])
            })
            .collect()
    }
}
