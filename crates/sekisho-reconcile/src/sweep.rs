//! Sweep: what stands at GitHub or in the cluster and belongs to nobody any more.
//!
//! GitHub's list of runners against the cluster's, both ways. Only names with the mark of this
//! namespace in this cluster are looked at, so nothing of another cluster is ever touched. Everything
//! must have been there for a while: what is just being made looks like a ghost from one side.
//!
//! | at GitHub | Runner | | then |
//! |---|---|---|---|
//! | yes | no | no job | removed after [`GHOST_AFTER`] |
//! | yes | no | has a job | waits for GitHub to end it; told, and tried to be removed, after [`GHOST_BUSY_AFTER`] |
//! | no | it lives | | told to the runner, which believes it the second time |
//! | | no, or another uid | a pod or a secret | removed after [`ORPHAN_AFTER`] |
//! | | its set is gone | | deleted after [`ORPHAN_AFTER`], gracefully as ever |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::At;
use crate::name::Mark;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// How often it is swept.
pub const SWEEP_EVERY: Duration = secs(60);
/// How long a registration may be without a Runner: far longer than it takes to see a new Runner.
pub const GHOST_AFTER: Duration = secs(120);
/// How long a registration without a Runner may have a job. GitHub ends a job ten minutes after its
/// runner fell silent; beyond this, somebody should know.
pub const GHOST_BUSY_AFTER: Duration = secs(30 * 60);
/// How long a pod or a secret may be without its Runner, beyond what the garbage collector needs.
pub const ORPHAN_AFTER: Duration = secs(120);
/// Most registrations that are removed in one sweep: the rest comes with the next.
pub const REMOVED_MAX: usize = 100;

/// Everything [`decide`] may look at. All lists are whole, or the sweep is not made.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When the observation was made.
    pub now: At,
    /// The mark of this namespace in this cluster.
    pub mark: Mark,
    /// All registrations of the connection, the ones of others included.
    pub registrations: Vec<Registered>,
    /// All Runners of the namespace, **read after** the registrations, not from a cache.
    pub runners: Vec<Runner>,
    /// The uids of all replica sets of the namespace, read after the Runners.
    pub sets: BTreeSet<String>,
    /// All pods of runners in the namespace, read before the Runners.
    pub pods: Vec<Object>,
    /// All JIT secrets in the namespace, read before the Runners.
    pub secrets: Vec<Object>,
    /// What the last sweep remembered.
    pub memory: Memory,
}

/// A registration at GitHub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// GitHub's number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// It has a job.
    pub busy: bool,
}

/// A Runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// It has not ended, a registration was made for it, and those of its account were listed.
    pub registered: bool,
    /// Our finalizer is on it: it removes its registration itself.
    pub finalizer: bool,
    /// The uid of its replica set.
    pub owner: Option<String>,
    /// `metadata.creationTimestamp`.
    pub created: At,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
}

/// A pod or a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The uid of its owner.
    pub owner: Option<String>,
    /// `metadata.creationTimestamp`.
    pub created: At,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
}

/// What is remembered from one sweep to the next. It may be lost: everything then waits once more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Since when a registration, by GitHub's number, is without a Runner.
    pub ghosts: BTreeMap<i64, At>,
    /// How many sweeps in a row did not find the registration of a Runner, by name.
    pub absent: BTreeMap<String, u32>,
}

/// One idempotent effect, independent of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Remove a registration. That it has a job now is no failure.
    Deregister {
        /// GitHub's number.
        id: i64,
        /// Its name.
        name: String,
    },
    /// With the uid as precondition.
    DeleteRunner {
        /// Which.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// With the uid as precondition.
    DeletePod {
        /// Which.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// With the uid as precondition.
    DeleteSecret {
        /// Which.
        name: String,
        /// Its uid.
        uid: String,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In any order.
    pub effects: Vec<Effect>,
    /// To be remembered for the next sweep; `absent` is what the runners' observations get.
    pub memory: Memory,
    /// Registrations without a Runner, now; a metric.
    pub ghosts: usize,
    /// Names of ghosts that have a job for too long.
    pub stuck: Vec<String>,
}

/// Decides.
pub fn decide(seen: &Observed) -> Plan {
    let mut plan =
        Plan { effects: Vec::new(), memory: Memory::default(), ghosts: 0, stuck: Vec::new() };
    ghosts(seen, &mut plan);
    absent(seen, &mut plan);
    let uids: BTreeSet<&str> = seen.runners.iter().map(|runner| runner.uid.as_str()).collect();
    let orphans = |objects: &[Object]| -> Vec<Object> {
        objects
            .iter()
            .filter(|object| seen.mark.is_on(&object.name) && !object.deleting)
            .filter(|object| seen.now.is_past(object.created, ORPHAN_AFTER))
            .filter(|object| !object.owner.as_deref().is_some_and(|owner| uids.contains(owner)))
            .cloned()
            .collect()
    };
    let lost = seen.runners.iter().filter(|runner| {
        let owned = runner.owner.as_ref().is_some_and(|owner| seen.sets.contains(owner));
        !owned && !runner.deleting && seen.now.is_past(runner.created, ORPHAN_AFTER)
    });
    plan.effects.extend(
        lost.map(|runner| Effect::DeleteRunner {
            name: runner.name.clone(),
            uid: runner.uid.clone(),
        }),
    );
    let pods = orphans(&seen.pods).into_iter();
    plan.effects.extend(pods.map(|pod| Effect::DeletePod { name: pod.name, uid: pod.uid }));
    let secrets = orphans(&seen.secrets).into_iter();
    plan.effects
        .extend(secrets.map(|secret| Effect::DeleteSecret { name: secret.name, uid: secret.uid }));
    plan
}

fn ghosts(seen: &Observed, plan: &mut Plan) {
    // A Runner with its finalizer removes its own registration; without it, nobody does.
    let kept: BTreeSet<&str> = seen
        .runners
        .iter()
        .filter(|runner| runner.finalizer)
        .map(|runner| runner.name.as_str())
        .collect();
    let ours = |registered: &&Registered| {
        seen.mark.is_on(&registered.name) && !kept.contains(registered.name.as_str())
    };
    for ghost in seen.registrations.iter().filter(ours) {
        let since = seen.memory.ghosts.get(&ghost.id).copied().unwrap_or(seen.now);
        plan.memory.ghosts.insert(ghost.id, since);
        plan.ghosts += 1;
        // Of one that is said to have a job GitHub decides: what really has one is not removed.
        let stuck = ghost.busy && seen.now.is_past(since, GHOST_BUSY_AFTER);
        if stuck {
            plan.stuck.push(ghost.name.clone());
        }
        let over = stuck || !ghost.busy && seen.now.is_past(since, GHOST_AFTER);
        if over && plan.effects.len() < REMOVED_MAX {
            plan.effects.push(Effect::Deregister { id: ghost.id, name: ghost.name.clone() });
        }
    }
}

fn absent(seen: &Observed, plan: &mut Plan) {
    let known: BTreeSet<&str> =
        seen.registrations.iter().map(|registered| registered.name.as_str()).collect();
    for runner in seen.runners.iter().filter(|runner| runner.registered) {
        if !known.contains(runner.name.as_str()) {
            let before = seen.memory.absent.get(&runner.name).copied().unwrap_or(0);
            plan.memory.absent.insert(runner.name.clone(), before.saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests;
