//! The run's state machine.

use std::collections::{BTreeMap, HashMap};

use super::inputs::call_inputs;
use super::needs::{View, combine, effective, id_of, result_object};
use super::{
    CallTemplate, Conclusion, Concurrency, DEFAULT_CANCEL_TIMEOUT_MINUTES, DEFAULT_TIMEOUT_MINUTES,
    JobAction, JobState, PlannedJob, PlannedKind, ReadyJob, RunObserved, StepsTemplate, names,
};
use crate::expr::{self, Contexts, NoFunctions, Object, Value};
use crate::token::{self, Token};

/// What can be done now. Empty: wait for a runner, or the run is completed.
///
/// The same observation gives the same actions; an action that was applied is not given again.
/// Applying actions can make further ones possible: call it until it has none.
pub fn decide(seen: &RunObserved<'_>) -> Vec<JobAction> {
    if seen.completed {
        return Vec::new();
    }
    let view = View::new(*seen);
    let mut actions = Vec::new();
    // Instances of a matrix that are busy, or are made so by this decision.
    let mut busy = busy_instances(&view);
    for job in &seen.plan.jobs {
        let action = match view.state(&job.key) {
            None => view.pending(job, &mut busy),
            Some(JobState::Running | JobState::Cancelling) if job.is_call() => view.call_ended(job),
            Some(JobState::Queued | JobState::Running) => view.unwanted(job),
            Some(JobState::Cancelling | JobState::Completed { .. }) => None,
        };
        actions.extend(action);
    }
    if actions.is_empty() {
        actions.extend(view.run_ended());
    }
    actions
}

/// What the calls came to that have no end yet, when all jobs have one: of a run whose hub stopped.
pub fn conclude_calls(seen: &RunObserved<'_>) -> BTreeMap<String, JobState> {
    let mut states = seen.jobs.clone();
    let mut found = BTreeMap::new();
    // A call comes before what is in it: the innermost are looked at first.
    for job in seen.plan.jobs.iter().rev().filter(|job| job.is_call()) {
        if states.get(&job.key).is_some_and(JobState::is_completed) {
            continue;
        }
        let view = View::new(RunObserved { jobs: &states, ..*seen });
        let Some(JobAction::Complete { key, conclusion, outputs, .. }) = view.call_ended(job)
        else {
            continue;
        };
        let state = JobState::Completed { conclusion, tolerated: false, outputs };
        states.insert(key.clone(), state.clone());
        found.insert(key, state);
    }
    found
}

fn busy_instances<'a>(view: &View<'a>) -> HashMap<&'a str, u32> {
    let mut busy = HashMap::new();
    for job in &view.seen.plan.jobs {
        if view.state(&job.key).is_some_and(|state| !state.is_completed()) {
            *busy.entry(job.group.as_str()).or_insert(0) += 1;
        }
    }
    busy
}

impl<'a> View<'a> {
    /// A job that nothing was done about yet.
    fn pending(&self, job: &'a PlannedJob, busy: &mut HashMap<&'a str, u32>) -> Option<JobAction> {
        let key = job.key.clone();
        match job.parent.as_deref().map(|parent| self.state(parent)) {
            // At the top, or within a call that has begun.
            None | Some(Some(JobState::Running | JobState::Cancelling)) => {}
            // The call was skipped or failed before it began.
            Some(Some(JobState::Completed { .. })) => return Some(JobAction::Skip { key }),
            Some(_) => return None,
        }
        if job.needs.iter().any(|group| self.settled(group).is_none()) {
            return None;
        }
        if self.fails_fast(job) {
            return Some(JobAction::Cancel { key });
        }
        match self.wanted(job) {
            Err(message) => return Some(JobAction::Fail { key, message }),
            Ok(false) => return Some(JobAction::Skip { key }),
            Ok(true) => {}
        }
        let running = busy.entry(&job.group).or_insert(0);
        if *running >= job.strategy.max_parallel.max(1) {
            return None;
        }
        *running += 1;
        let ready = match &job.kind {
            PlannedKind::Call(call) => self.start(job, call),
            PlannedKind::Steps(steps) => {
                self.ready(job, steps).map(|ready| JobAction::Queue(Box::new(ready)))
            }
        };
        Some(ready.unwrap_or_else(|message| JobAction::Fail { key, message }))
    }

    /// Whether the job's `if` holds. Its needs must be settled.
    fn wanted(&self, job: &'a PlannedJob) -> Result<bool, String> {
        let contexts = self.contexts(job)?;
        expr::parse(&job.condition)
            .and_then(|expr| expr::evaluate(&expr, &contexts, &self.status(job)))
            .map(|value| value.is_truthy())
            .map_err(|error| format!("the condition of the job could not be evaluated: {error}"))
    }

    /// A job that is queued or runs and should not any more.
    fn unwanted(&self, job: &'a PlannedJob) -> Option<JobAction> {
        // `always()` and `cancelled()` keep a job going when what is around it is cancelled.
        let stopped = self.is_stopped(job) && !self.wanted(job).unwrap_or(false);
        (stopped || self.fails_fast(job)).then(|| JobAction::Cancel { key: job.key.clone() })
    }

    fn start(&self, job: &'a PlannedJob, call: &CallTemplate) -> Result<JobAction, String> {
        let contexts = self.contexts(job)?;
        let inputs = call_inputs(call, &contexts)?;
        let mut concurrency = Vec::new();
        if let Some(own) = &job.concurrency {
            concurrency.push(Concurrency::read(own, &contexts)?);
        }
        if let Some(called) = &call.concurrency {
            let within = self.seen.contexts.clone().with("inputs", inputs);
            concurrency.push(Concurrency::read(called, &within)?);
        }
        Ok(JobAction::Start { key: job.key.clone(), name: self.name(job)?, concurrency })
    }

    fn ready(&self, job: &'a PlannedJob, steps: &StepsTemplate) -> Result<ReadyJob, String> {
        let contexts = self.contexts(job)?;
        let context = |name: &str| contexts.get(name).cloned().unwrap_or_default();
        let (labels, runner_group) = runs_on(&steps.runs_on, &contexts)?;
        let minutes = |what: &str, token: &Option<Token>, default: f64| match token {
            None => Ok(default),
            Some(token) => token::eval_number(token, &contexts, &NoFunctions)
                .map_err(|error| error.to_string())
                .and_then(|n| if n > 0.0 { Ok(n) } else { Err("it must be above 0".to_owned()) })
                .map_err(|error| format!("`{what}` of the job: {error}")),
        };
        let continue_on_error = match &steps.continue_on_error {
            None => false,
            Some(token) => token::eval_bool(token, &contexts, &NoFunctions)
                .map_err(|error| format!("`continue-on-error` of the job: {error}"))?,
        };
        Ok(ReadyJob {
            key: job.key.clone(),
            name: self.name(job)?,
            labels,
            runner_group,
            timeout_minutes: minutes(
                "timeout-minutes",
                &steps.timeout_minutes,
                DEFAULT_TIMEOUT_MINUTES,
            )?,
            cancel_timeout_minutes: minutes(
                "cancel-timeout-minutes",
                &steps.cancel_timeout_minutes,
                DEFAULT_CANCEL_TIMEOUT_MINUTES,
            )?,
            continue_on_error,
            concurrency: match &job.concurrency {
                Some(token) => Some(Concurrency::read(token, &contexts)?),
                None => None,
            },
            needs: context("needs"),
            inputs: context("inputs"),
            strategy: context("strategy"),
            matrix: context("matrix"),
        })
    }

    /// A call all of whose jobs are completed.
    fn call_ended(&self, job: &'a PlannedJob) -> Option<JobAction> {
        let PlannedKind::Call(call) = &job.kind else { return None };
        let mut jobs = Object::new();
        let mut conclusions = Vec::new();
        for group in &call.jobs {
            let settled = self.settled(group)?;
            conclusions.push(settled.conclusion);
            jobs.insert(id_of(group), result_object("result", &settled));
        }
        let stopped = self.state(&job.key) == Some(&JobState::Cancelling);
        let (conclusion, outputs, message) = match self.call_outputs(job, call, jobs.into()) {
            Ok(outputs) => (ended(combine(conclusions), stopped), outputs, None),
            Err(message) => (Conclusion::Failure, BTreeMap::new(), Some(message)),
        };
        Some(JobAction::Complete { key: job.key.clone(), conclusion, outputs, message })
    }

    fn call_outputs(
        &self,
        job: &'a PlannedJob,
        call: &CallTemplate,
        jobs: Value,
    ) -> Result<BTreeMap<String, String>, String> {
        let inputs = call_inputs(call, &self.contexts(job)?)?;
        let contexts = self.seen.contexts.clone().with("inputs", inputs).with("jobs", jobs);
        let mut outputs = BTreeMap::new();
        for output in &call.outputs {
            let text = token::eval_string(&output.value, &contexts, &NoFunctions)
                .map_err(|error| format!("output `{}`: {error}", output.name))?;
            outputs.insert(output.name.clone(), text);
        }
        Ok(outputs)
    }

    fn run_ended(&self) -> Option<JobAction> {
        let mut conclusions = Vec::new();
        for job in &self.seen.plan.jobs {
            conclusions.push(self.state(&job.key).and_then(effective)?);
        }
        let conclusion = ended(combine(conclusions), self.seen.cancelled);
        Some(JobAction::CompleteRun { conclusion })
    }

    /// The job's name, with those of the calls around it.
    fn name(&self, job: &'a PlannedJob) -> Result<String, String> {
        let contexts = self.contexts(job)?;
        let own = names::own_name(job.name_token.as_ref(), &job.id, &contexts, &job.matrix)
            .map_err(|error| format!("`name` of the job: {error}"))?;
        let parent = match job.parent.as_deref().and_then(|key| self.job(key)) {
            Some(parent) => Some(self.name(parent)?),
            None => None,
        };
        Ok(names::joined(parent.as_deref(), &own))
    }

    /// What the job-level expressions of a job see, once its needs are settled.
    pub(super) fn contexts(&self, job: &'a PlannedJob) -> Result<Contexts, String> {
        let mut contexts = self.seen.contexts.clone();
        if let Some(parent) = job.parent.as_deref().and_then(|key| self.job(key))
            && let PlannedKind::Call(call) = &parent.kind
        {
            contexts.set("inputs", call_inputs(call, &self.contexts(parent)?)?);
        }
        contexts.set("needs", self.needs_context(job));
        contexts.set("strategy", strategy_context(job));
        contexts.set("matrix", Value::from(&job.matrix));
        Ok(contexts)
    }
}

/// What a run or a call came to, if it was stopped before its end or not.
fn ended(conclusion: Conclusion, stopped: bool) -> Conclusion {
    match conclusion {
        Conclusion::Failure => Conclusion::Failure,
        _ if stopped => Conclusion::Cancelled,
        other => other,
    }
}

/// The `strategy` context.
pub(super) fn strategy_context(job: &PlannedJob) -> Value {
    let strategy = &job.strategy;
    Value::object([
        ("fail-fast", Value::Bool(strategy.fail_fast)),
        ("job-index", Value::Number(f64::from(strategy.job_index))),
        ("job-total", Value::Number(f64::from(strategy.job_total))),
        ("max-parallel", Value::Number(f64::from(strategy.max_parallel))),
    ])
}

/// Labels and group of `runs-on`.
fn runs_on(token: &Token, contexts: &Contexts) -> Result<(Vec<String>, Option<String>), String> {
    let value = token::eval(token, contexts, &NoFunctions)
        .map_err(|error| format!("`runs-on` of the job: {error}"))?;
    let (labels, group) = match &value {
        Value::Object(object) => {
            let group = object.get("group").map(Value::to_text).filter(|group| !group.is_empty());
            (object.get("labels").cloned().unwrap_or_default(), group)
        }
        other => (other.clone(), None),
    };
    let labels: Vec<String> = match &labels {
        Value::Array(items) => items.iter().map(Value::to_text).collect(),
        Value::Null => Vec::new(),
        other => vec![other.to_text()],
    };
    if labels.iter().any(|label| label.trim().is_empty()) || (labels.is_empty() && group.is_none())
    {
        return Err("`runs-on` of the job is empty once evaluated".to_owned());
    }
    Ok((labels, group))
}
