//! Which jobs of a run that is over begin anew.

use std::collections::{BTreeMap, BTreeSet};

use super::needs::View;
use super::{Conclusion, JobState, Plan, PlannedJob, RunObserved};
use crate::expr::Contexts;

/// What is to be run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rerun<'a> {
    /// Everything.
    All,
    /// Jobs that failed or were cancelled, and whatever needs them.
    Failed,
    /// One job, by key, and whatever needs it. The failed instances of its own matrix go with it:
    /// where one failure ends the others, they would end it at once.
    Job(&'a str),
}

/// The keys of the jobs and calls that lose their state, so that [`super::decide`] decides on them
/// again; all others keep it, and their outputs.
///
/// A call with such a job in it begins anew too, but its other jobs do not. Empty: there is nothing
/// to run again.
pub fn rerun(plan: &Plan, jobs: &BTreeMap<String, JobState>, which: Rerun<'_>) -> BTreeSet<String> {
    let contexts = Contexts::new();
    let seen = RunObserved { plan, contexts: &contexts, jobs, cancelled: false, completed: true };
    let view = View::new(seen);
    let failed = |key: &str| match jobs.get(key) {
        Some(JobState::Completed { conclusion, .. }) => {
            matches!(conclusion, Conclusion::Failure | Conclusion::Cancelled)
        }
        _ => false,
    };
    let begins = |job: &&PlannedJob| match which {
        Rerun::All => true,
        // A call fails with its jobs; by itself, when they never began.
        Rerun::Failed => {
            let inside = |other: &PlannedJob| other.parent.as_deref() == Some(&job.key);
            let of_a_job = plan.jobs.iter().any(|other| inside(other) && failed(&other.key));
            failed(&job.key) && !of_a_job
        }
        Rerun::Job(key) => {
            let sibling = view.job(key).is_some_and(|one| one.group == job.group);
            job.key == key || (sibling && job.strategy.fail_fast && failed(&job.key))
        }
    };
    let mut again: BTreeSet<&str> =
        plan.jobs.iter().filter(begins).map(|job| job.key.as_str()).collect();
    // Calls around them: begun anew, yet not all that is in them.
    let mut around: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = (again.len(), around.len());
        for job in &plan.jobs {
            let begins = again.contains(job.key.as_str()) || around.contains(job.key.as_str());
            around.extend(job.parent.as_deref().filter(|_| begins));
            let touched = |group: &String| {
                let in_group = view.group(group).iter().map(|job| job.key.as_str());
                in_group.into_iter().any(|key| again.contains(key) || around.contains(key))
            };
            let inside = job.parent.as_deref().is_some_and(|parent| again.contains(parent));
            if inside || job.needs.iter().any(touched) {
                again.insert(&job.key);
            }
        }
        if (again.len(), around.len()) == before {
            break;
        }
    }
    again.union(&around).map(|key| (*key).to_owned()).collect()
}
