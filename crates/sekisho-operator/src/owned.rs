//! The runners of each set, as decisions look at them.
//!
//! A set and its deployment are looked at whenever one of their runners changes; reading all Runners each
//! time would cost the more, the more there are. Kept by the watches: whatever changed in a store is read
//! from it again under the lock here, so that the last one who reads has the newest.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use sekisho_api::{FINALIZER_REGISTRATION, Runner};
use sekisho_reconcile::replica_set::{self, Phase};
use sekisho_reconcile::runner::Record;

use crate::context::Stores;
use crate::record::at;

/// By the set's uid, then by the runner's name.
type Sets = HashMap<String, HashMap<String, replica_set::Runner>>;

#[derive(Default)]
pub(crate) struct Owned(Mutex<Sets>);

impl Owned {
    fn lock(&self) -> MutexGuard<'_, Sets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runners of a set, in no order.
    pub(crate) fn of(&self, set: &str) -> Vec<replica_set::Runner> {
        self.lock().get(set).map(|all| all.values().cloned().collect()).unwrap_or_default()
    }

    /// A Runner changed, or went.
    pub(crate) fn changed(&self, stores: &Stores, runner: &Runner) {
        let Some(set) = set_of(runner) else { return };
        let name = runner.name_any();
        let mut sets = self.lock();
        match stores.runners.get(&ObjectRef::from_obj(runner)) {
            Some(now) if set_of(&now) == Some(set) => {
                sets.entry(set.to_owned()).or_default().insert(name, read(stores, &now));
            }
            _ => {
                if let Some(all) = sets.get_mut(set) {
                    all.remove(&name);
                    if all.is_empty() {
                        sets.remove(set);
                    }
                }
            }
        }
    }

    /// The stores were filled anew.
    pub(crate) fn refill(&self, stores: &Stores) {
        let mut sets = self.lock();
        sets.clear();
        for runner in stores.runners.state() {
            if let Some(set) = set_of(&runner) {
                let all = sets.entry(set.to_owned()).or_default();
                all.insert(runner.name_any(), read(stores, &runner));
            }
        }
    }
}

/// Who has a say about an object: of a runner, its set; of a pod or a secret, its runner.
pub(crate) fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|it| it.controller == Some(true))
}

/// The uid of the set that a runner is of.
fn set_of(runner: &Runner) -> Option<&str> {
    controller(&runner.metadata).map(|it| it.uid.as_str())
}

fn read(stores: &Stores, runner: &Runner) -> replica_set::Runner {
    let record = Record::of(runner.status.as_ref());
    let namespace = runner.namespace().unwrap_or_default();
    let pod = stores.pods.get(&ObjectRef::new(&runner.name_any()).within(&namespace));
    let placed = pod.is_some_and(|pod| pod.spec.node_name.is_some());
    replica_set::Runner {
        name: runner.name_any(),
        uid: runner.uid().unwrap_or_default(),
        created: runner.creation_timestamp().as_ref().map(at).unwrap_or_default(),
        deleting: runner.metadata.deletion_timestamp.is_some(),
        finalizer: runner.finalizers().iter().any(|it| it == FINALIZER_REGISTRATION),
        stop_now: runner.annotations().contains_key(sekisho_api::ANNOTATION_STOP_NOW),
        phase: Phase::of(&record, placed),
        // Whoever asks knows; see [`crate::demand`].
        over: false,
        online: record.online,
    }
}
