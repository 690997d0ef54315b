//! What the jobs around a job came to: `needs`, `success()` and its kin.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Conclusion, JobState, PlannedJob, RunObserved};
use crate::expr::{Functions, Object, Value};

/// What a group of jobs (the instances of a matrix; else one job) came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settled {
    /// A tolerated failure counts as success.
    pub(super) conclusion: Conclusion,
    /// Of all instances; the later instance wins.
    pub(super) outputs: BTreeMap<String, String>,
}

/// A run, with its jobs found by key and by group.
pub(super) struct View<'a> {
    pub(super) seen: RunObserved<'a>,
    by_key: HashMap<&'a str, &'a PlannedJob>,
    groups: HashMap<&'a str, Vec<&'a PlannedJob>>,
}

impl<'a> View<'a> {
    pub(super) fn new(seen: RunObserved<'a>) -> Self {
        let mut by_key = HashMap::new();
        let mut groups: HashMap<&str, Vec<&PlannedJob>> = HashMap::new();
        for job in &seen.plan.jobs {
            by_key.insert(job.key.as_str(), job);
            groups.entry(&job.group).or_default().push(job);
        }
        Self { seen, by_key, groups }
    }

    pub(super) fn job(&self, key: &str) -> Option<&'a PlannedJob> {
        self.by_key.get(key).copied()
    }

    pub(super) fn state(&self, key: &str) -> Option<&'a JobState> {
        self.seen.jobs.get(key)
    }

    /// The jobs of a group, in their order.
    pub(super) fn group(&self, group: &str) -> &[&'a PlannedJob] {
        self.groups.get(group).map(Vec::as_slice).unwrap_or_default()
    }

    /// What the group came to; `None` while one of its jobs is not completed.
    pub(super) fn settled(&self, group: &str) -> Option<Settled> {
        let mut outputs = BTreeMap::new();
        let mut conclusions = Vec::new();
        for job in self.group(group) {
            let state = self.state(&job.key)?;
            conclusions.push(effective(state)?);
            if let JobState::Completed { outputs: own, .. } = state {
                outputs.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        Some(Settled { conclusion: combine(conclusions), outputs })
    }

    /// The `needs` context of a job whose needs are settled: direct needs only.
    pub(super) fn needs_context(&self, job: &PlannedJob) -> Value {
        let mut needs = Object::new();
        for group in &job.needs {
            if let Some(settled) = self.settled(group) {
                needs.insert(id_of(group), result_object("result", &settled));
            }
        }
        needs.into()
    }

    /// Every group that a job waits for, through others as well.
    fn ancestors(&self, job: &'a PlannedJob) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut next: Vec<&str> = job.needs.iter().map(String::as_str).collect();
        while let Some(group) = next.pop() {
            if found.insert(group) {
                let jobs = self.group(group);
                next.extend(jobs.iter().flat_map(|job| job.needs.iter().map(String::as_str)));
            }
        }
        found
    }

    /// The status functions of a job's `if`.
    pub(super) fn status(&self, job: &'a PlannedJob) -> Status {
        let mut status =
            Status { all_succeeded: true, any_failed: false, cancelled: self.is_stopped(job) };
        for group in self.ancestors(job) {
            let conclusion = self.settled(group).map(|settled| settled.conclusion);
            status.all_succeeded &= conclusion == Some(Conclusion::Success);
            status.any_failed |= conclusion == Some(Conclusion::Failure);
        }
        status
    }

    /// Whether the run was cancelled, or a call around the job was.
    pub(super) fn is_stopped(&self, job: &PlannedJob) -> bool {
        let parent = job.parent.as_deref();
        let stops = |key: &str| {
            self.state(key) == Some(&JobState::Cancelling)
                || self.job(key).is_some_and(|call| self.is_stopped(call))
        };
        self.seen.cancelled || parent.is_some_and(stops)
    }

    /// Whether an instance of the job's matrix failed, or of a call's around it, and that is to
    /// end the others.
    pub(super) fn fails_fast(&self, job: &PlannedJob) -> bool {
        let sibling_failed = job.strategy.fail_fast
            && self.group(&job.group).iter().any(|other| {
                self.state(&other.key).and_then(effective) == Some(Conclusion::Failure)
            });
        let parent = job.parent.as_deref().and_then(|key| self.job(key));
        sibling_failed || parent.is_some_and(|parent| self.fails_fast(parent))
    }
}

/// The job-level status functions.
pub(super) struct Status {
    all_succeeded: bool,
    any_failed: bool,
    cancelled: bool,
}

impl Functions for Status {
    fn status(&self, name: &str) -> Option<bool> {
        match name {
            "success" => Some(self.all_succeeded && !self.cancelled),
            "failure" => Some(self.any_failed),
            "cancelled" => Some(self.cancelled),
            "always" => Some(true),
            _ => None,
        }
    }

    fn hash_files(&self, _patterns: &[String]) -> Result<String, String> {
        Err("`hashFiles` is not available before a runner has the files".to_owned())
    }
}

/// A job's conclusion as others see it; `None` while it has none.
pub(super) fn effective(state: &JobState) -> Option<Conclusion> {
    match state {
        JobState::Completed { conclusion: Conclusion::Failure, tolerated: true, .. } => {
            Some(Conclusion::Success)
        }
        JobState::Completed { conclusion, .. } => Some(*conclusion),
        JobState::Queued | JobState::Running | JobState::Cancelling => None,
    }
}

/// Failure before cancelled before success; skipped only when all were.
pub(super) fn combine(conclusions: impl IntoIterator<Item = Conclusion>) -> Conclusion {
    let rank = |conclusion: &Conclusion| match conclusion {
        Conclusion::Failure => 3,
        Conclusion::Cancelled => 2,
        Conclusion::Success => 1,
        Conclusion::Skipped => 0,
    };
    conclusions.into_iter().max_by_key(rank).unwrap_or(Conclusion::Skipped)
}

/// `{result, outputs}`, as `needs.<id>` and `jobs.<id>` have it.
pub(super) fn result_object(result: &str, settled: &Settled) -> Value {
    let outputs: Object =
        settled.outputs.iter().map(|(k, v)| (k.as_str(), Value::from(v.as_str()))).collect();
    Value::object([
        (result, Value::from(settled.conclusion.as_str())),
        ("outputs", Value::from(outputs)),
    ])
}

/// The id of a group: ids hold no `/` and no `#`.
pub(super) fn id_of(group: &str) -> &str {
    group.rsplit('/').next().unwrap_or(group)
}
