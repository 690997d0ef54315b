//! The steps of a job, as its runner reports them.

use jiff::Timestamp;
use sekisho_github::hub_api::{Conclusion, EventKind, Status, Step};
use uuid::Uuid;

use super::jobs::{JobError, shorten};
use super::{Effect, JobRef, Phase, State};

/// Steps of one job that are kept.
const MAX_STEPS: usize = 2_000;

/// A step, as a runner reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepState {
    pub(crate) id: Uuid,
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) conclusion: Option<Conclusion>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) completed_at: Option<Timestamp>,
}

impl State {
    /// The runner says how its steps are. An update older than one before is ignored.
    pub(crate) fn update_steps(
        &mut self,
        at: JobRef,
        change_order: i64,
        steps: Vec<StepState>,
    ) -> Result<(), JobError> {
        let Some((job, _)) = self.job_mut(at) else { return Err(JobError::NotFound) };
        if !matches!(job.phase, Phase::Running(_)) {
            return Err(JobError::NotFound);
        }
        // Zero is what a runner sends that does not count.
        if change_order != 0 && change_order < job.change_order {
            return Ok(());
        }
        job.change_order = change_order;
        self.apply_steps(at, steps);
        Ok(())
    }

    pub(super) fn apply_steps(&mut self, at: JobRef, steps: Vec<StepState>) {
        let Some((_, view)) = self.job_mut(at) else { return };
        let mut events = Vec::new();
        for step in steps.into_iter().map(shown) {
            let event = EventKind::Step {
                job_id: at.job,
                step_id: step.id.clone(),
                number: step.number,
                name: step.name.clone(),
                status: step.status,
                conclusion: step.conclusion,
            };
            let room = view.steps.len() < MAX_STEPS;
            match view.steps.iter_mut().find(|known| known.id == step.id) {
                Some(known) => {
                    let news = (known.status, known.conclusion) != (step.status, step.conclusion);
                    *known = step;
                    if news {
                        events.push(event);
                    }
                }
                None if room => {
                    view.steps.push(step);
                    events.push(event);
                }
                None => {}
            }
        }
        view.steps.sort_by_key(|step| step.number);
        if events.is_empty() {
            return;
        }
        for event in events {
            self.emit(at.run, event);
        }
        self.effects.push(Effect::Save { run: at.run });
    }

    /// Steps that had not ended when their runner vanished did not end well.
    pub(super) fn close_steps(&mut self, at: JobRef, now: Timestamp) {
        let Some((_, view)) = self.job_mut(at) else { return };
        let open = view.steps.iter().filter(|step| step.status != Status::Completed);
        let closed = open.filter_map(|step| {
            let began = step.status == Status::InProgress;
            let conclusion = if began { Conclusion::Cancelled } else { Conclusion::Skipped };
            Some(StepState {
                id: step.id.parse().ok()?,
                number: step.number,
                name: step.name.clone(),
                status: Status::Completed,
                conclusion: Some(conclusion),
                started_at: step.started_at,
                completed_at: began.then_some(now),
            })
        });
        let closed = closed.collect();
        self.apply_steps(at, closed);
    }
}

fn shown(step: StepState) -> Step {
    Step {
        id: step.id.to_string(),
        number: step.number,
        name: shorten(&step.name),
        status: step.status,
        conclusion: step.conclusion,
        started_at: step.started_at,
        completed_at: step.completed_at,
    }
}
