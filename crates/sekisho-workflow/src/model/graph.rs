//! `needs`: that each exists, and that no job waits for itself.

use std::collections::HashMap;

use super::job::JobAndNeeds;
use super::read::Reader;
use crate::diagnostic::did_you_mean;

impl Reader {
    /// Checks the needs of all jobs, and spells them as the jobs' own keys do.
    ///
    /// `ids`: every key under `jobs`, also of those with errors.
    pub(super) fn check_needs(&mut self, jobs: &mut [JobAndNeeds], ids: &[&str]) {
        for (job, places) in jobs.iter_mut() {
            let mut kept: Vec<String> = Vec::new();
            for (need, at) in job.needs.iter().zip(places) {
                match ids.iter().find(|id| id.eq_ignore_ascii_case(need)) {
                    Some(id) if kept.iter().any(|k| k == id) => {
                        self.fail(*at, format!("job `{}` needs `{need}` twice", job.id));
                    }
                    Some(id) => kept.push((*id).to_owned()),
                    None => {
                        let hint = did_you_mean(need, ids.iter().copied());
                        let message = format!(
                            "job `{}` needs `{need}`, which is no job of this workflow{hint}",
                            job.id
                        );
                        self.fail(*at, message);
                    }
                }
            }
            job.needs = kept;
        }
        self.check_cycles(jobs);
    }

    fn check_cycles(&mut self, jobs: &[JobAndNeeds]) {
        let by_id: HashMap<&str, usize> =
            jobs.iter().enumerate().map(|(index, (job, _))| (job.id.as_str(), index)).collect();
        // Jobs whose needs are all settled are settled; what never settles is in a circle, or
        // waits for one.
        let mut settled = vec![false; jobs.len()];
        loop {
            let before = settled.iter().filter(|done| **done).count();
            for (index, (job, _)) in jobs.iter().enumerate() {
                let done = |need: &String| by_id.get(need.as_str()).is_none_or(|n| settled[*n]);
                settled[index] = settled[index] || job.needs.iter().all(done);
            }
            if settled.iter().filter(|done| **done).count() == before {
                break;
            }
        }
        let Some(first) = settled.iter().position(|done| !done) else { return };
        let circle = walk(jobs, &by_id, &settled, first);
        let names: Vec<String> =
            circle.iter().map(|index| format!("`{}`", jobs[*index].0.id)).collect();
        let start = circle[0];
        let message = format!(
            "the jobs need each other in a circle: {} needs {}",
            names.join(" needs "),
            names[0]
        );
        self.fail(jobs[start].0.at, message);
    }
}

/// Follows unsettled needs until a job comes again; the jobs of that circle.
fn walk(
    jobs: &[JobAndNeeds],
    by_id: &HashMap<&str, usize>,
    settled: &[bool],
    first: usize,
) -> Vec<usize> {
    let mut path = vec![first];
    loop {
        let last = path[path.len() - 1];
        let next =
            jobs[last].0.needs.iter().find_map(|need| {
                by_id.get(need.as_str()).copied().filter(|index| !settled[*index])
            });
        // An unsettled job has an unsettled need: without one the path ends, which cannot be.
        let Some(next) = next else { return path };
        if let Some(start) = path.iter().position(|index| *index == next) {
            return path.split_off(start);
        }
        path.push(next);
    }
}
