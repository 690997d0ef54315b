//! What the watches of one kind show.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use kube::runtime::reflector::{Lookup, ObjectRef, Store};

/// The objects of a kind: one store for each namespace that is watched, or one for all.
///
/// Namespaces are watched one by one because the operator has no rights outside of those it was
/// given, and a watch over all of them would be refused.
pub(crate) struct Stored<K>(Vec<Store<K>>)
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone;

impl<K> Stored<K>
where
    K: Lookup + Clone + Debug + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    pub(crate) fn new(stores: Vec<Store<K>>) -> Self {
        Self(stores)
    }

    /// One object.
    pub(crate) fn get(&self, reference: &ObjectRef<K>) -> Option<Arc<K>> {
        self.0.iter().find_map(|store| store.get(reference))
    }

    /// All of them.
    pub(crate) fn state(&self) -> Vec<Arc<K>> {
        self.0.iter().flat_map(Store::state).collect()
    }
}
