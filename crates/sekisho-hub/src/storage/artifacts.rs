//! A run's artifacts: pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sekisho_github::wire::artifact::FORBIDDEN_IN_NAMES;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::state::JobRef;

/// Longest name, in characters.
const MAX_NAME: usize = 256;
/// How long an artifact is kept, at most and unless its upload says less, as on GitHub.
const RETENTION: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Artifacts of one run, with those that are being uploaded.
const MAX_PER_RUN: usize = 1_000;

/// What a run is called on its artifacts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunOf {
    pub(crate) run: u64,
    /// `owner/name`.
    pub(crate) repository: String,
    /// The runners' name for the run.
    pub(crate) plan: Uuid,
    pub(crate) git_ref: String,
    pub(crate) sha: String,
}

/// An artifact that can be downloaded. This is also the form on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Artifact {
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) run: RunOf,
    /// The runner's name for the job that made it.
    pub(crate) job: Uuid,
    pub(crate) name: String,
    pub(crate) mime_type: String,
    pub(crate) blob: Uuid,
    pub(crate) size_bytes: u64,
    /// `sha256:<hex>`, compared with the content.
    pub(crate) digest: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// An artifact that is being uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) by: JobRef,
    pub(crate) name: String,
    pub(crate) mime_type: String,
    pub(crate) blob: Uuid,
    pub(crate) until: Timestamp,
    pub(crate) expires_at: Timestamp,
}

/// Why an artifact cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CreateError {
    /// The run has one of this name, or another job uploads one.
    Taken,
    /// The run has too many.
    TooMany,
}

/// All artifacts of all runs.
#[derive(Debug, Default)]
pub(crate) struct Artifacts {
    all: BTreeMap<u64, Artifact>,
    pending: Vec<Pending>,
}

/// Says what is wrong with a name.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.chars().count() > MAX_NAME {
        return Err(format!("an artifact's name has 1 to {MAX_NAME} characters"));
    }
    match name.chars().find(|c| FORBIDDEN_IN_NAMES.contains(c) || c.is_control()) {
        Some(c) => Err(format!("an artifact's name cannot have {c:?}")),
        None => Ok(()),
    }
}

/// When an artifact is deleted that was to be kept until `wanted`.
pub(crate) fn expiry(wanted: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let latest = now + RETENTION;
    wanted.map_or(latest, |wanted| wanted.clamp(now, latest))
}

impl Artifacts {
    /// With the artifacts of earlier processes.
    pub(crate) fn new(all: impl IntoIterator<Item = Artifact>) -> Self {
        let all = all.into_iter().map(|artifact| (artifact.id, artifact)).collect();
        Self { all, pending: Vec::new() }
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = &Artifact> {
        self.all.values()
    }

    /// Those of a run, oldest first.
    pub(crate) fn of_run(&self, run: u64) -> impl Iterator<Item = &Artifact> {
        self.all.values().filter(move |artifact| artifact.run.run == run)
    }

    /// By id.
    pub(crate) fn get(&self, id: u64) -> Option<&Artifact> {
        self.all.get(&id)
    }

    /// By name.
    pub(crate) fn named(&self, run: u64, name: &str) -> Option<&Artifact> {
        self.of_run(run).find(|artifact| artifact.name == name)
    }

    /// Notes an upload that begins, and gives the blob of the one it takes the place of: a job
    /// that tries again.
    pub(crate) fn create(&mut self, pending: Pending) -> Result<Option<Uuid>, CreateError> {
        let run = pending.by.run;
        if self.named(run, &pending.name).is_some() {
            return Err(CreateError::Taken);
        }
        let same = |p: &Pending| p.by.run == run && p.name == pending.name;
        let earlier = self.pending.iter().position(same);
        if earlier.is_some_and(|at| self.pending.get(at).is_some_and(|p| p.by != pending.by)) {
            return Err(CreateError::Taken);
        }
        let under_way = self.pending.iter().filter(|pending| pending.by.run == run).count();
        if self.of_run(run).count() + under_way >= MAX_PER_RUN {
            return Err(CreateError::TooMany);
        }
        let earlier = earlier.map(|at| self.pending.remove(at).blob);
        self.pending.push(pending);
        Ok(earlier)
    }

    /// The upload that a job has under way.
    pub(crate) fn pending(&self, by: JobRef, name: &str) -> Option<&Pending> {
        self.pending.iter().find(|pending| pending.by == by && pending.name == name)
    }

    /// The upload is an artifact now. False if it was given up meanwhile.
    #[must_use]
    pub(crate) fn commit(&mut self, artifact: Artifact) -> bool {
        let before = self.pending.len();
        self.pending.retain(|pending| pending.blob != artifact.blob);
        let known = self.pending.len() < before;
        if known {
            self.all.insert(artifact.id, artifact);
        }
        known
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Artifact> {
        self.all.remove(&id)
    }

    /// Takes out those whose time is over.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Vec<Artifact> {
        let over = |artifact: &&Artifact| artifact.expires_at <= now;
        let ids: Vec<u64> = self.all.values().filter(over).map(|artifact| artifact.id).collect();
        ids.iter().filter_map(|id| self.all.remove(id)).collect()
    }

    /// Ends uploads that took too long or whose job is over, and gives their blobs.
    pub(crate) fn abandon(&mut self, now: Timestamp, runs: impl Fn(JobRef) -> bool) -> Vec<Uuid> {
        let mut blobs = Vec::new();
        self.pending.retain(|pending| {
            let alive = pending.until > now && runs(pending.by);
            blobs.extend((!alive).then_some(pending.blob));
            alive
        });
        blobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn pending(run: u64, job: u64, name: &str) -> Pending {
        Pending {
            by: JobRef { run, job },
            name: name.to_owned(),
            mime_type: String::new(),
            blob: Uuid::from_u128(job.into()),
            until: NOW + SignedDuration::from_hours(1),
            expires_at: NOW,
        }
    }

    fn artifact(id: u64, run: u64, name: &str) -> Artifact {
        let plan = Uuid::nil();
        let text = String::new;
        let run = RunOf { run, repository: text(), plan, git_ref: text(), sha: text() };
        Artifact {
            id,
            run,
            job: plan,
            name: name.to_owned(),
            mime_type: text(),
            blob: Uuid::from_u128(id.into()),
            size_bytes: 0,
            digest: None,
            created_at: NOW,
            expires_at: expiry(None, NOW),
        }
    }

    #[test]
    fn one_of_a_name_in_a_run() {
        let mut all = Artifacts::new([artifact(1, 7, "a")]);
        assert_eq!(all.create(pending(7, 1, "a")), Err(CreateError::Taken));
        assert_eq!(all.create(pending(8, 1, "a")), Ok(None));
        assert_eq!(all.create(pending(7, 1, "b")), Ok(None));
        // The same job tries again; another one may not.
        assert_eq!(all.create(pending(7, 1, "b")), Ok(Some(Uuid::from_u128(1))));
        assert_eq!(all.create(pending(7, 2, "b")), Err(CreateError::Taken));
        assert_eq!(all.abandon(NOW, |job| job.job != 1).len(), 2);
        assert_eq!(all.create(pending(7, 2, "b")), Ok(None));
        assert!(all.commit(artifact(2, 7, "b")));
        assert!(!all.commit(artifact(3, 7, "c")), "nobody uploads it");
        assert_eq!(all.pending(JobRef { run: 7, job: 2 }, "b"), None);
        assert_eq!(all.named(7, "b").map(|artifact| artifact.id), Some(2));
        for n in 2..MAX_PER_RUN {
            assert_eq!(all.create(pending(7, 1, &format!("n{n}"))), Ok(None));
        }
        assert_eq!(all.create(pending(7, 1, "more")), Err(CreateError::TooMany));
    }

    #[test]
    fn names_and_times() {
        assert_eq!(check_name("build 1 (x).zip"), Ok(()));
        for bad in ["", "a/b", "a\\b", "a:b", "a\nb", "a\"b", "a\u{7f}", &"x".repeat(257)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        let hours = SignedDuration::from_hours;
        assert_eq!(expiry(None, NOW), NOW + hours(90 * 24));
        assert_eq!(expiry(Some(NOW + hours(1)), NOW), NOW + hours(1));
        assert_eq!(expiry(Some(NOW + hours(9999)), NOW), NOW + hours(90 * 24));
        let mut all = Artifacts::new([artifact(1, 7, "a")]);
        assert_eq!(all.expire(NOW + hours(1)), []);
        assert_eq!(all.expire(NOW + hours(90 * 24)).len(), 1);
    }
}
