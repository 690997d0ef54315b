//! How many jobs there are, and which runners' jobs are over.
//!
//! The two belong together: a runner whose job GitHub does not count any more must not be counted either,
//! or the next one is stopped for it; and one that is not counted any more while its job still is would
//! be replaced. So both are remembered, and read, under one lock. Numbers are numbered
//! ([`DeploymentMemory::told`]), for what a deployment decided by older ones is of no use to its sets.

use std::collections::{BTreeSet, HashSet};

use sekisho_github::wire::scale_set::Statistics;
use sekisho_reconcile::At;
use sekisho_reconcile::deployment::Demand;
use sekisho_reconcile::replica_set::Runner;
use sekisho_reconcile::runner::Fate;
use sekisho_reconcile::session::message::{Recording, What};
use sekisho_reconcile::session::queue;

use crate::context::{Context, DeploymentMemory, Memory, Name};
use crate::queue::Key;

/// What GitHub told.
pub(crate) struct Told {
    pub(crate) demand: Demand,
    /// From when on all is heard that it had to tell then.
    pub(crate) settled: Option<At>,
    /// Where a queue was read: the runners of the jobs that ran, and when it was.
    pub(crate) running: Option<(BTreeSet<String>, At)>,
    /// Where a set's numbers were asked for beside its messages: [`DeploymentMemory::told`] before that.
    /// What was told meanwhile may be newer.
    pub(crate) asked: Option<u64>,
}

impl Told {
    /// The numbers of a scale set, as a message or a session that was opened has them.
    pub(crate) fn by_session(statistics: Statistics) -> Self {
        let number = |number: i64| u32::try_from(number.max(0)).unwrap_or(u32::MAX);
        let demand = Demand {
            assigned: number(statistics.total_assigned_jobs + statistics.total_acquired_jobs),
            running: number(statistics.total_running_jobs),
            available: number(statistics.total_available_jobs),
        };
        Self { demand, settled: None, running: None, asked: None }
    }
}

/// Remembers how many jobs there are, and the jobs that came to their end with them.
pub(crate) fn tell(context: &Context, name: &Name, told: Told, news: &[Recording]) {
    let now = context.now();
    let mut memory = context.memory();
    let mut news_of_ends = false;
    for recording in news {
        let What::Completed { job } = &recording.what else { continue };
        let runner = (name.0.clone(), recording.runner.clone());
        // What the watch does not show yet is expected, and counts until it does.
        if context.has_runner(&runner) && !memory.is_over(&runner) {
            memory.fates.insert(runner, Fate { at: now, result: job.result });
            news_of_ends = true;
        }
    }
    let entry = memory.deployments.entry(name.clone()).or_default();
    if told.asked.is_some_and(|asked| asked != entry.told) {
        return;
    }
    let changed = entry.demand.replace(told.demand) != Some(told.demand);
    entry.reckoned = None;
    // A list that says the same again begins no new wait.
    let again = !changed && told.running.is_some() && entry.settled.is_some();
    // Numbers beside the messages do not say that all of these are heard.
    let unheard = told.asked.is_some() && entry.settled.is_none();
    if !again && !unheard {
        entry.settled = told.settled;
    }
    entry.running = told.running;
    if changed || news_of_ends {
        entry.told += 1;
    }
    drop(memory);
    if changed || news_of_ends {
        context.enqueue(Key::Deployment(name.0.clone(), name.1.clone()));
    }
}

/// A runner is seen to be done before GitHub's numbers say so.
pub(crate) fn job_over(context: &Context, runner: &Name, deployment: &str, fate: Fate, ended: At) {
    let (name, now) = ((runner.0.clone(), deployment.to_owned()), context.now());
    let mut memory = context.memory();
    let known = memory.is_over(runner);
    memory.fates.insert(runner.clone(), fate);
    let Some(entry) = memory.deployments.get_mut(&name).filter(|_| !known) else { return };
    let counted = match &entry.running {
        Some((running, read)) => queue::is_counted(running.contains(&runner.1), *read, ended),
        None => true,
    };
    if let Some(demand) = entry.demand.filter(|_| counted) {
        // The numbers may be of after its end: they are asked for soon, if no message comes.
        (entry.demand, entry.reckoned) = (Some(demand.less_one()), Some(now));
        entry.wake.notify_one();
    }
    entry.told += 1;
    drop(memory);
    context.enqueue(Key::Deployment(name.0, name.1));
}

/// The session hears nothing more since now, or it does not hear well.
pub(crate) fn settles(context: &Context, name: &Name, settled: Option<At>) {
    let mut memory = context.memory();
    let entry = memory.deployments.entry(name.clone()).or_default();
    match settled {
        Some(_) if entry.settled.is_some() => return,
        settled => entry.settled = settled,
    }
    drop(memory);
    if settled.is_some() {
        context.queue.add(Key::Deployment(name.0.clone(), name.1.clone()), crate::watch::GATHER);
    }
}

impl DeploymentMemory {
    /// Whether new runners are of this revision, as far as that is decided.
    pub(crate) fn makes(&self, revision: &str) -> bool {
        self.growth.as_ref().is_some_and(|growth| growth.revision == revision)
    }

    /// How many runners of this revision are worth making, by the numbers that are the newest; none,
    /// where that is not decided yet.
    pub(crate) fn growth_now(&self, revision: &str) -> u32 {
        let growth = self.growth.as_ref().filter(|_| self.decided == self.told);
        growth.filter(|growth| growth.revision == revision).map_or(0, |growth| growth.runners)
    }
}

impl Memory {
    fn is_over(&self, runner: &Name) -> bool {
        self.fates.get(runner).is_some_and(|fate| fate.result.is_some())
    }

    /// The runners of a set, by its uid. Read under the lock of what is remembered.
    pub(crate) fn runners(&self, context: &Context, namespace: &str, set: &str) -> Vec<Runner> {
        let over =
            self.fates.iter().filter(|(name, fate)| name.0 == namespace && fate.result.is_some());
        let over: HashSet<&str> = over.map(|(name, _)| name.1.as_str()).collect();
        let mut runners = context.owned.of(set);
        for runner in &mut runners {
            runner.over = over.contains(runner.name.as_str());
        }
        runners
    }
}

#[cfg(test)]
mod tests;
