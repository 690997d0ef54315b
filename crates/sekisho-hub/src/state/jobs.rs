//! One job between the queue and its end.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sekisho_github::hub_api::{Annotation, AnnotationLevel, Conclusion, EventKind, Status};
use sekisho_workflow::plan::{self, JobState};
use uuid::Uuid;

use super::steps::StepState;
use super::{JobRef, LiveJob, Phase, Runner, Running, State};

/// How long a runner may take from the offer to `acquirejob`, as on GitHub.
const ACQUIRE_WITHIN: SignedDuration = SignedDuration::from_secs(60);
/// How long a runner that does not renew keeps its job, as on GitHub.
const LEASE: SignedDuration = SignedDuration::from_mins(10);
/// How long a runner may take to report a job that was stopped, after the job's own time for it.
const REPORT_WITHIN: SignedDuration = SignedDuration::from_mins(1);
/// Annotations of one job that are kept.
const MAX_ANNOTATIONS: usize = 100;
/// Longest annotation or step name, in characters.
const MAX_TEXT_CHARS: usize = 4_096;
/// All outputs of one job, in bytes, as on GitHub.
const MAX_OUTPUT_BYTES: usize = 1024 * 1024;

/// Why a request about a job was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobError {
    /// There is no such job, or it is over.
    NotFound,
    /// Somebody has it already.
    Taken,
}

/// A job's end, as a runner reports it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Completion {
    pub(crate) conclusion: Conclusion,
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) steps: Vec<StepState>,
    pub(crate) annotations: Vec<Annotation>,
}

impl State {
    /// Offers waiting jobs, oldest first, to runners that listen, are free and may have them: those
    /// of the job's scale set, or if it has none, those of its repository's that have the labels.
    pub(super) fn offer_jobs(&mut self, now: Timestamp) {
        let is_free = |runner: &&Runner| runner.job.is_none() && runner.session.is_some();
        let mut free: Vec<u64> = self.runners.values().filter(is_free).map(|it| it.id).collect();
        if free.is_empty() {
            return;
        }
        for at in self.queued() {
            let place = self.suitor(at).and_then(|suits| {
                free.iter().position(|id| self.runners.get(id).is_some_and(&suits))
            });
            let Some(place) = place else { continue };
            let runner = free.remove(place);
            if let Some(runner) = self.runners.get_mut(&runner) {
                runner.job = Some(at);
            }
            if let Some((job, _)) = self.job_mut(at) {
                job.offers += 1;
                let request = offer_id(job.guid, job.offers);
                job.phase = Phase::Offered { runner, request, until: now + ACQUIRE_WITHIN };
            }
            self.touch_queue();
            if free.is_empty() {
                return;
            }
        }
    }

    /// Which runners may have a job.
    fn suitor(&self, at: JobRef) -> Option<impl Fn(&Runner) -> bool> {
        let (run, _, _, view) = self.job(at)?;
        let from = self.origin(at)?;
        Some(move |runner: &Runner| {
            let has = |label: &String| runner.labels.iter().any(|l| l.eq_ignore_ascii_case(label));
            self.may_have(runner.set, at.job)
                && (runner.set.is_some() || view.labels.iter().all(has))
                && runner.scope.has(&run.view.repository)
                && self.groups.allows(&runner.scope, runner.group, &from)
        })
    }

    /// The job waits again, if it was offered to this runner and not taken.
    pub(super) fn withdraw_offer(&mut self, at: JobRef, runner: u64, now: Timestamp) {
        if self.take_back(at, runner) {
            // A set may have come meanwhile, or its own may not have it any more.
            self.bind(at);
            self.touch_queue();
            self.offer_jobs(now);
        }
    }

    /// The job waits again. False if it was not offered to this runner.
    fn take_back(&mut self, at: JobRef, runner: u64) -> bool {
        let Some((job, _)) = self.job_mut(at) else { return false };
        if !matches!(&job.phase, Phase::Offered { runner: offered, .. } if *offered == runner) {
            return false;
        }
        job.phase = Phase::Queued;
        if let Some(found) = self.runners.get_mut(&runner) {
            found.job = None;
        }
        true
    }

    /// Jobs that were offered to runners of a group which may not have them any more wait again. The caller
    /// binds and offers them.
    pub(super) fn withdraw_unfit(&mut self, group: u64) {
        let in_group = self.runners.values().filter(|runner| runner.group == group);
        let offered = in_group.filter_map(|runner| {
            let at = runner.job?;
            let is_offered = matches!(self.phase(at), Some(Phase::Offered { .. }));
            let fits = || self.suitor(at).is_some_and(|suits| suits(runner));
            (is_offered && !fits()).then_some((at, runner.id))
        });
        for (at, runner) in offered.collect::<Vec<_>>() {
            self.take_back(at, runner);
        }
    }

    /// A runner takes the job it was offered: only once.
    pub(crate) fn acquire(
        &mut self,
        runner: u64,
        request: Uuid,
        now: Timestamp,
    ) -> Result<JobRef, JobError> {
        let known = self.runners.get(&runner).ok_or(JobError::NotFound)?;
        let (name, group) = (known.name.clone(), known.group);
        let group_name = self.groups.get(&known.scope, group).map(|group| group.name.clone());
        let at = known.job.ok_or_else(|| self.why_not(request))?;
        match self.phase(at) {
            Some(Phase::Offered { request: offered, .. }) if *offered == request => {}
            _ => return Err(self.why_not(request)),
        }
        // Its group, or its labels, may be others than when it was offered.
        if !self.suitor(at).is_some_and(|suits| suits(known)) {
            self.withdraw_offer(at, runner, now);
            return Err(JobError::NotFound);
        }
        let Some((job, view)) = self.job_mut(at) else { return Err(JobError::NotFound) };
        let ready = job.ready.as_ref();
        let minutes = ready.map_or(plan::DEFAULT_TIMEOUT_MINUTES, |ready| ready.timeout_minutes);
        job.phase = Phase::Running(Running {
            runner,
            locked_until: now + LEASE,
            time_limit: now + minutes_long(minutes),
            stop_until: None,
        });
        view.status = Status::InProgress;
        view.started_at = Some(now);
        view.runner_id = Some(runner);
        view.runner_name = Some(name);
        (view.runner_group_id, view.runner_group_name) = (Some(group), group_name);
        let key = job.key.clone();
        if let Some(live) = self.live_mut(at.run) {
            live.states.insert(key, JobState::Running);
        }
        self.set_job_started(at, runner, now);
        self.touch_queue();
        self.emit_job(at);
        self.start_run(at.run, now);
        Ok(at)
    }

    /// A request that does not stand any more: was the job taken, or is it gone?
    fn why_not(&self, request: Uuid) -> JobError {
        let mut jobs =
            self.unfinished().filter_map(|run| run.live.as_deref()).flat_map(|l| &l.jobs);
        let taken = jobs.any(|job| {
            matches!(job.phase, Phase::Running(_))
                && (1..=job.offers).any(|offer| offer_id(job.guid, offer) == request)
        });
        if taken { JobError::Taken } else { JobError::NotFound }
    }

    /// The runner is still at it. Gives the lease's new end.
    pub(crate) fn renew(&mut self, at: JobRef, now: Timestamp) -> Result<Timestamp, JobError> {
        match self.job_mut(at).map(|(job, _)| &mut job.phase) {
            Some(Phase::Running(running)) => {
                running.locked_until = now + LEASE;
                Ok(running.locked_until)
            }
            _ => Err(JobError::NotFound),
        }
    }

    /// The runner is done with the job. Its registration ends with it. Once more it changes nothing, and is an
    /// error after [`State::settle`].
    pub(crate) fn complete(
        &mut self,
        at: JobRef,
        done: Completion,
        now: Timestamp,
    ) -> Result<(), JobError> {
        let running = match self.job(at) {
            Some((_, _, job, _)) if job.reported => return Ok(()),
            Some((_, _, LiveJob { phase: Phase::Running(running), .. }, _)) => running,
            _ => return Err(JobError::NotFound),
        };
        let runner = running.runner;
        if let Some((job, _)) = self.job_mut(at) {
            job.reported = true;
        }
        self.apply_steps(at, done.steps);
        for annotation in done.annotations {
            self.annotate(at, annotation);
        }
        self.finish_job(at, done.conclusion, limited(done.outputs), now);
        self.release_runner(runner, now);
        self.advance(at.run, now);
        Ok(())
    }

    /// The runner is told that its word is on disk.
    pub(crate) fn settle(&mut self, at: JobRef) {
        if let Some((job, _)) = self.job_mut(at) {
            job.reported = false;
        }
    }

    /// The runner that had the job will not finish it.
    pub(super) fn lose_job(&mut self, at: JobRef, runner: u64, why: &str, now: Timestamp) {
        let stopped = match self.phase(at) {
            Some(Phase::Running(running)) if running.runner == runner => {
                running.stop_until.is_some()
            }
            _ => return,
        };
        self.annotate(at, failure(why));
        self.close_steps(at, now);
        let conclusion = if stopped { Conclusion::Cancelled } else { Conclusion::Failure };
        self.finish_job(at, conclusion, BTreeMap::new(), now);
        self.end_kept_session(runner);
        self.release_runner(runner, now);
        self.advance(at.run, now);
    }

    /// Writes a job's end down and tells the planner.
    pub(super) fn finish_job(
        &mut self,
        at: JobRef,
        conclusion: Conclusion,
        outputs: BTreeMap<String, String>,
        now: Timestamp,
    ) {
        let Some((job, view)) = self.job_mut(at) else { return };
        let conclusion = job.forced.unwrap_or(conclusion);
        job.phase = Phase::Done;
        view.status = Status::Completed;
        view.conclusion = Some(conclusion);
        view.completed_at = Some(now);
        view.outputs.clone_from(&outputs);
        let tolerates = job.ready.as_ref().is_some_and(|ready| ready.continue_on_error);
        let tolerated = tolerates && conclusion == Conclusion::Failure;
        view.tolerated = tolerated;
        let key = job.key.clone();
        let state = JobState::Completed { conclusion: planners(conclusion), tolerated, outputs };
        self.set_state(at.run, &key, state);
        self.set_job_completed(at, conclusion, now);
        self.touch_queue();
        self.emit_job(at);
    }

    /// Stops a job: one that waits is over at once, one that runs is told to stop.
    pub(super) fn stop_job(&mut self, at: JobRef, now: Timestamp) {
        let Some((job, _)) = self.job_mut(at) else { return };
        let key = job.key.clone();
        let within = stop_within(job.ready.as_deref()) + REPORT_WITHIN;
        match &mut job.phase {
            Phase::Done => {}
            Phase::Running(running) => {
                running.stop_until.get_or_insert(now + within);
                if let Some(live) = self.live_mut(at.run) {
                    live.states.insert(key, JobState::Cancelling);
                }
                self.touch_queue();
            }
            Phase::Offered { runner, .. } => {
                let runner = *runner;
                if let Some(runner) = self.runners.get_mut(&runner) {
                    runner.job = None;
                }
                self.finish_job(at, Conclusion::Cancelled, BTreeMap::new(), now);
            }
            Phase::Waiting | Phase::Held | Phase::Queued => {
                self.finish_job(at, Conclusion::Cancelled, BTreeMap::new(), now);
            }
        }
    }

    /// Stops a running job whose time is over; however its runner ends it, it was cancelled.
    pub(super) fn stop_overdue(&mut self, at: JobRef, now: Timestamp) {
        let Some((job, view)) = self.job_mut(at) else { return };
        let minutes = job.ready.as_ref().map_or(0.0, |ready| ready.timeout_minutes);
        let runner = view.runner_name.clone().unwrap_or_default();
        job.forced = Some(Conclusion::Cancelled);
        self.annotate(
            at,
            failure(&format!(
                "The job running on runner {runner} has exceeded the maximum execution time of \
                 {minutes} minutes."
            )),
        );
        self.stop_job(at, now);
    }

    /// Adds a remark, unless there are too many.
    pub(super) fn annotate(&mut self, at: JobRef, mut annotation: Annotation) {
        let Some((_, view)) = self.job_mut(at) else { return };
        if view.annotations.len() >= MAX_ANNOTATIONS {
            return;
        }
        annotation.message = shorten(&annotation.message);
        view.annotations.push(annotation.clone());
        self.emit(at.run, EventKind::Annotation { job_id: at.job, annotation });
    }
}

/// The name of the n-th offer of a job: nobody can guess it without the job's guid.
fn offer_id(job: Uuid, offer: u32) -> Uuid {
    Uuid::from_u128(job.as_u128() ^ u128::from(offer))
}

/// A failure that is nobody's line.
pub(super) fn failure(message: &str) -> Annotation {
    let level = AnnotationLevel::Failure;
    Annotation { level, message: message.to_owned(), path: None, line: None }
}

pub(super) fn shorten(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

fn limited(outputs: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut left = MAX_OUTPUT_BYTES;
    let fits = |(key, value): &(String, String)| {
        let size = key.len() + value.len();
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    };
    outputs.into_iter().filter(fits).collect()
}

/// How long a job that was told to stop may take.
pub(super) fn stop_within(ready: Option<&plan::ReadyJob>) -> SignedDuration {
    let minutes = ready.map_or(plan::DEFAULT_CANCEL_TIMEOUT_MINUTES, |r| r.cancel_timeout_minutes);
    minutes_long(minutes)
}

/// Minutes may have fractions; a year is long enough for any job.
fn minutes_long(minutes: f64) -> SignedDuration {
    const YEAR: f64 = 525_600.0;
    let known = if minutes.is_finite() { minutes } else { plan::DEFAULT_TIMEOUT_MINUTES };
    SignedDuration::from_secs_f64(known.clamp(0.0, YEAR) * 60.0)
}

/// The planner's word for a conclusion.
pub(super) fn planners(conclusion: Conclusion) -> plan::Conclusion {
    match conclusion {
        Conclusion::Success => plan::Conclusion::Success,
        Conclusion::Failure => plan::Conclusion::Failure,
        Conclusion::Cancelled => plan::Conclusion::Cancelled,
        Conclusion::Skipped => plan::Conclusion::Skipped,
    }
}
