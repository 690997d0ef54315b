//! What time does: offers, leases and limits that run out.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sekisho_github::hub_api::{self, Conclusion, EventKind, Status};

use super::jobs::failure;
use super::{Effect, JobRef, Phase, State};

/// How often a job is offered before it is given up: once, and three times more.
const MAX_OFFERS: u32 = 4;
/// How long a job may wait for a runner, as on GitHub.
const MAX_QUEUED: SignedDuration = SignedDuration::from_hours(24);

/// Something that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Offer { runner: u64 },
    LastOffer { runner: u64 },
    Queue,
    Lease { runner: u64 },
    TimeLimit,
    Stop { runner: u64 },
}

impl State {
    /// Ends what is over at `now`. To be called about once a second.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        for (at, over) in self.overdue(now) {
            match over {
                Over::Offer { runner } => {
                    self.end_kept_session(runner);
                    self.withdraw_offer(at, runner, now);
                }
                Over::LastOffer { runner } => {
                    if let Some(runner) = self.runners.get_mut(&runner) {
                        runner.job = None;
                    }
                    self.give_up(
                        at,
                        Conclusion::Failure,
                        "No runner took the job it was offered.",
                        now,
                    );
                }
                Over::Queue => {
                    let why = "No runner with the labels of this job took it within 24 hours.";
                    self.give_up(at, Conclusion::Cancelled, why, now);
                }
                Over::Lease { runner } => {
                    let why = "The runner has lost communication with the server.";
                    self.lose_job(at, runner, why, now);
                }
                Over::TimeLimit => self.stop_overdue(at, now),
                Over::Stop { runner } => {
                    self.lose_job(at, runner, "The runner did not stop the job in time.", now);
                }
            }
        }
    }

    fn overdue(&self, now: Timestamp) -> Vec<(JobRef, Over)> {
        let mut found = Vec::new();
        for run in self.unfinished() {
            let Some(live) = run.live.as_deref() else { continue };
            for (job, view) in live.jobs.iter().zip(&run.view.jobs) {
                let at = JobRef { run: run.view.id, job: view.id };
                let over = match &job.phase {
                    Phase::Queued
                        if view.queued_at.is_some_and(|t| now.duration_since(t) > MAX_QUEUED) =>
                    {
                        Over::Queue
                    }
                    Phase::Offered { runner, until, .. } if *until <= now => {
                        let runner = *runner;
                        if job.offers >= MAX_OFFERS {
                            Over::LastOffer { runner }
                        } else {
                            Over::Offer { runner }
                        }
                    }
                    Phase::Running(running) if running.locked_until <= now => {
                        Over::Lease { runner: running.runner }
                    }
                    Phase::Running(running)
                        if running.stop_until.is_some_and(|until| until <= now) =>
                    {
                        Over::Stop { runner: running.runner }
                    }
                    Phase::Running(running)
                        if running.time_limit <= now && job.forced.is_none() =>
                    {
                        Over::TimeLimit
                    }
                    _ => continue,
                };
                found.push((at, over));
            }
        }
        found
    }

    /// Ends a job that no runner has.
    fn give_up(&mut self, at: JobRef, conclusion: Conclusion, why: &str, now: Timestamp) {
        self.annotate(at, failure(why));
        self.finish_job(at, conclusion, BTreeMap::new(), now);
        self.advance(at.run, now);
    }
}

impl State {
    /// Ends a run of a process that stops, or has stopped: see [`end_interrupted`].
    pub(crate) fn interrupt(&mut self, id: u64, now: Timestamp) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let before = run.view.clone();
        if !end_interrupted(&mut run.view, now) {
            return;
        }
        if let Some(live) = run.live.as_deref_mut() {
            live.jobs.iter_mut().for_each(|job| job.phase = Phase::Done);
            live.held = false;
        }
        let after = run.view.clone();
        // Nobody takes its place: the process stops.
        self.release_run(id);
        for (job, was) in after.jobs.iter().zip(&before.jobs) {
            for annotation in job.annotations.iter().skip(was.annotations.len()) {
                let annotation = annotation.clone();
                self.emit(id, EventKind::Annotation { job_id: job.id, annotation });
            }
            if job.status != was.status {
                let kind = EventKind::Job {
                    job_id: job.id,
                    name: job.name.clone(),
                    status: job.status,
                    conclusion: job.conclusion,
                    runner_name: job.runner_name.clone(),
                };
                self.emit(id, kind);
                let at = JobRef { run: id, job: job.id };
                self.set_job_completed(at, job.conclusion.unwrap_or(Conclusion::Cancelled), now);
            }
        }
        let kind = EventKind::Run { status: after.status, conclusion: after.conclusion };
        self.emit(id, kind);
        self.effects.push(Effect::Save { run: id });
        self.touch_queue();
    }
}

/// Ends a run of an earlier process: what ran has failed, what waited is cancelled.
///
/// False if it was over already.
pub(crate) fn end_interrupted(run: &mut hub_api::Run, now: Timestamp) -> bool {
    if run.status == Status::Completed {
        return false;
    }
    let mut failed = false;
    for job in &mut run.jobs {
        if job.status != Status::Completed {
            let ran = job.status == Status::InProgress;
            job.status = Status::Completed;
            job.conclusion = Some(if ran { Conclusion::Failure } else { Conclusion::Cancelled });
            job.completed_at = Some(now);
            if ran {
                job.annotations.push(failure("The plane stopped while this job ran."));
            }
            for step in &mut job.steps {
                if step.status != Status::Completed {
                    let began = step.status == Status::InProgress;
                    step.status = Status::Completed;
                    step.conclusion =
                        Some(if began { Conclusion::Cancelled } else { Conclusion::Skipped });
                    step.completed_at = began.then_some(now);
                }
            }
        }
        failed |= job.conclusion == Some(Conclusion::Failure);
    }
    run.status = Status::Completed;
    run.conclusion = Some(if failed { Conclusion::Failure } else { Conclusion::Cancelled });
    run.completed_at = Some(now);
    true
}
