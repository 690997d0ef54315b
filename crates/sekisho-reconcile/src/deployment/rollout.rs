//! How many runners of which revision.
//!
//! ```text
//!            desired ────────────────┐            + surge ┐
//!  old  ████████████ busy ███ idle ▒▒▒▒▒▒              ┊
//!  new                                   ░░░ pending ░░░┊  at most this far
//! ```
//!
//! Old runners with a job count until it is over, and are never stopped. Those that start are stopped
//! at once: they are of no use to anybody. Those that wait are stopped as new ones come online, so that
//! never more than `maxUnavailable` are missing.

use std::cmp::Reverse;

use super::{Effect, Observed, Set};

/// Percent of the desired number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u32);

impl Percent {
    fn up(self, of: u32) -> u32 {
        scaled(self.0, of, 99)
    }

    fn down(self, of: u32) -> u32 {
        scaled(self.0, of, 0)
    }
}

fn scaled(percent: u32, of: u32, round: u64) -> u32 {
    let part = (u64::from(percent.min(100)) * u64::from(of) + round) / 100;
    u32::try_from(part).unwrap_or(u32::MAX)
}

/// Appends what makes the sets as they should be: the new one grows last, so that room is made first.
pub(super) fn decide(seen: &Observed, desired: u32, effects: &mut Vec<Effect>) {
    let is_new = |set: &&Set| set.revision == seen.revision;
    let new = seen.sets.iter().filter(|set| !set.deleting).find(is_new);
    let mut old: Vec<&Set> = seen.sets.iter().filter(|set| !is_new(set)).collect();
    // The newest revision keeps its runners longest.
    old.sort_by_key(|set| (Reverse(set.created), set.name.clone()));
    let old_idle: u32 = old.iter().map(|set| set.runners.idle).sum();

    let unavailable = seen.rollout.max_unavailable.down(desired);
    let available: u32 = seen.sets.iter().map(|set| set.runners.idle + set.runners.busy).sum();
    let spare = available.saturating_sub(desired.saturating_sub(unavailable));
    let mut idle_kept = old_idle.saturating_sub(spare);

    for set in &old {
        let keep = set.runners.idle.min(idle_kept);
        idle_kept -= keep;
        let replicas = set.runners.busy + keep;
        // Never more than it had: an old set only loses runners.
        let replicas = replicas.min(set.replicas.max(set.runners.busy));
        if set.replicas != replicas && !set.deleting {
            effects.push(Effect::ScaleSet { name: set.name.clone(), replicas });
        }
    }
    forget(seen, &old, effects);

    let replicas = replicas_of_new(seen, desired);
    match new {
        None if seen.blocked.is_some() || seen.namespace_terminating => {}
        None => effects.push(Effect::CreateSet { revision: seen.revision.clone(), replicas }),
        Some(set) if set.replicas != replicas => {
            effects.push(Effect::ScaleSet { name: set.name.clone(), replicas });
        }
        Some(_) => {}
    }
}

/// How many runners the set of the current revision should have, where `desired` are wanted of all.
pub(super) fn replicas_of_new(seen: &Observed, desired: u32) -> u32 {
    let unavailable = seen.rollout.max_unavailable.down(desired);
    let surge = match seen.rollout.max_surge.up(desired) {
        // With neither, nothing could ever be replaced.
        0 if unavailable == 0 => 1,
        surge => surge,
    };
    let old = seen.sets.iter().filter(|set| set.revision != seen.revision);
    let (busy, idle) =
        old.fold((0, 0), |(busy, idle), set| (busy + set.runners.busy, idle + set.runners.idle));
    // Above what is desired only as far as somebody waits to be replaced.
    desired.saturating_sub(busy + idle).saturating_add(surge.min(idle)).min(desired)
}

/// Old sets without a runner go, but for the newest few.
fn forget(seen: &Observed, old: &[&Set], effects: &mut Vec<Effect>) {
    let empty = old.iter().filter(|set| {
        !set.deleting && set.replicas == 0 && set.runners.live == 0 && set.all_runners == 0
    });
    for set in empty.skip(seen.rollout.history_limit) {
        effects.push(Effect::DeleteSet { name: set.name.clone(), uid: set.uid.clone() });
    }
}
