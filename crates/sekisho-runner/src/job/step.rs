//! One step: environment, work, file commands, result. The same for steps of the job and of a
//! composite action.

use std::time::Duration;

use sekisho_github::wire::results::StepConclusion;
use sekisho_workflow::expr::{Contexts, Object, Value};
use sekisho_workflow::token;

use super::Job;
use crate::console::Commands;
use crate::expression::StepFunctions;
use crate::plan::Status;
use crate::spec::{StepSpec, Work};
use crate::state::{Scope, StepFiles, StepView};
use crate::stop::{Cause, Interrupt};

/// Longest `timeout-minutes`: a day and a half is more than any service lets a job run.
const MAX_TIMEOUT_MINUTES: f64 = 2160.0;

/// How the work of a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkEnd {
    Success,
    /// The reason is in the log.
    Failure,
    Interrupted(Cause),
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StepOutcome {
    /// After `continue-on-error`.
    pub(crate) conclusion: StepConclusion,
    /// It was stopped by something outside of it.
    pub(crate) interrupted: Option<Cause>,
}

/// What the work of a step is done with.
pub(crate) struct Workplace<'a> {
    pub(crate) spec: &'a StepSpec,
    pub(crate) scope: &'a Scope,
    pub(crate) files: &'a StepFiles,
    /// The step's own environment, evaluated.
    pub(crate) env: &'a [(String, String)],
    pub(crate) contexts: &'a Contexts,
    pub(crate) interrupt: &'a Interrupt,
    /// Outputs that the work sets itself, as an action does.
    pub(crate) outputs: Vec<(String, String)>,
}

impl Workplace<'_> {
    /// Whether it is the `pre` of an action that is to be done.
    pub(crate) fn is_pre(&self) -> bool {
        matches!(self.spec.work, Work::Pre(_))
    }
}

impl Job {
    /// Runs a step whose condition holds, and notes its result in the scope.
    ///
    /// Boxed where it calls itself through composite actions.
    pub(crate) async fn execute(
        &mut self,
        spec: &StepSpec,
        scope: &mut Scope,
        interrupt: &Interrupt,
        commands: &mut Commands,
    ) -> StepOutcome {
        let files = match StepFiles::create(self.state.dirs()) {
            Ok(files) => files,
            Err(error) => {
                self.fail_step(commands, &format!("{error:#}"));
                let conclusion = StepConclusion::Failure;
                record_result(scope, spec, &[], conclusion, conclusion);
                return StepOutcome { conclusion, interrupted: None };
            }
        };
        let (end, mut outputs) = self.work(spec, scope, &files, interrupt, commands).await;
        let (written, files_ok) = self.take_files(&files, commands);
        files.remove();
        let state = std::mem::take(&mut commands.state);
        if !state.is_empty() {
            self.saved.entry(scope.key(spec)).or_default().extend(state);
        }
        outputs.append(&mut commands.outputs);
        outputs.extend(written);
        let failed = std::mem::take(&mut commands.failed) || !files_ok;
        let outcome = match end {
            WorkEnd::Success if !failed => StepConclusion::Success,
            WorkEnd::Interrupted(Cause::Cancelled | Cause::OutOfTime) => StepConclusion::Cancelled,
            WorkEnd::Success | WorkEnd::Failure | WorkEnd::Interrupted(Cause::TimedOut) => {
                StepConclusion::Failure
            }
        };
        let tolerated =
            outcome == StepConclusion::Failure && self.continues(spec, scope, &files, commands);
        let conclusion = if tolerated { StepConclusion::Success } else { outcome };
        record_result(scope, spec, &outputs, outcome, conclusion);
        // A timeout of the step's own has been dealt with; one from outside goes on upwards.
        let own_timeout = spec.timeout.is_some();
        let interrupted = match end {
            WorkEnd::Interrupted(Cause::TimedOut) if own_timeout => None,
            WorkEnd::Interrupted(cause) => Some(cause),
            WorkEnd::Success | WorkEnd::Failure => None,
        };
        StepOutcome { conclusion, interrupted }
    }

    /// Evaluates what the step needs, does its work, and says in the log how it ended.
    async fn work(
        &mut self,
        spec: &StepSpec,
        scope: &Scope,
        files: &StepFiles,
        interrupt: &Interrupt,
        commands: &mut Commands,
    ) -> (WorkEnd, Vec<(String, String)>) {
        let env = match self.step_env(spec, scope, files) {
            Ok(env) => env,
            Err(message) => {
                self.fail_step(commands, &message);
                return (WorkEnd::Failure, Vec::new());
            }
        };
        let contexts = self.state.contexts(&self.view(spec, scope, Some(files), &env));
        let minutes = match self.timeout(spec, scope, &contexts) {
            Ok(minutes) => minutes,
            Err(message) => {
                self.fail_step(commands, &message);
                return (WorkEnd::Failure, Vec::new());
            }
        };
        let interrupt = interrupt.within(minutes.map(|m| Duration::from_secs_f64(m * 60.0)));
        let outputs = Vec::new();
        let mut place = Workplace {
            spec,
            scope,
            files,
            env: &env,
            contexts: &contexts,
            interrupt: &interrupt,
            outputs,
        };
        let result = match &spec.work {
            Work::Script => self.run_script(&place, commands).await,
            Work::Checkout => self.checkout(&mut place, commands).await,
            Work::Hook { path, variable } => self.run_hook(path, variable, &place, commands).await,
            Work::Local { path } => Box::pin(self.local_action(path, &mut place, commands)).await,
            Work::Remote(request) | Work::Pre(request) => {
                Box::pin(self.remote_action(request, &mut place, commands)).await
            }
        };
        let end = result.unwrap_or_else(|error| {
            self.fail_step(commands, &format!("{error:#}"));
            WorkEnd::Failure
        });
        match (end, minutes) {
            (WorkEnd::Interrupted(Cause::TimedOut), Some(minutes)) => {
                let name = self.display_name(spec, scope);
                let message = format!("The action '{name}' has timed out after {minutes} minutes.");
                self.fail_step(commands, &message);
            }
            (WorkEnd::Interrupted(Cause::Cancelled | Cause::OutOfTime), _) => {
                self.fail_step(commands, "The operation was canceled.");
            }
            _ => {}
        }
        (end, place.outputs)
    }

    /// The contexts' view of a step.
    pub(crate) fn view<'a>(
        &self,
        spec: &'a StepSpec,
        scope: &'a Scope,
        files: Option<&'a StepFiles>,
        env: &'a [(String, String)],
    ) -> StepView<'a> {
        StepView { scope, action: &spec.context_name, files, env, status: self.status() }
    }

    /// The functions that a step's expressions call.
    pub(crate) fn functions(&self, scope: &Scope) -> StepFunctions<'_> {
        let workspace = &self.state.dirs().workspace;
        let status = self.status();
        match scope.action_status {
            Some(action) => {
                StepFunctions::of_action(action, status == Status::Cancelled, workspace)
            }
            None => StepFunctions::of_job(status, workspace),
        }
    }

    fn step_env(
        &self,
        spec: &StepSpec,
        scope: &Scope,
        files: &StepFiles,
    ) -> Result<Vec<(String, String)>, String> {
        let Some(environment) = &spec.environment else { return Ok(Vec::new()) };
        let contexts = self.state.contexts(&self.view(spec, scope, Some(files), &[]));
        token::eval_map(environment, &contexts, &self.functions(scope))
            .map_err(|error| format!("The `env` of the step cannot be evaluated. {error}"))
    }

    /// `timeout-minutes`; `None` for none, and for 0, which means none.
    fn timeout(
        &self,
        spec: &StepSpec,
        scope: &Scope,
        contexts: &Contexts,
    ) -> Result<Option<f64>, String> {
        let Some(timeout) = &spec.timeout else { return Ok(None) };
        let minutes = token::eval_number(timeout, contexts, &self.functions(scope))
            .map_err(|error| format!("`timeout-minutes` cannot be evaluated. {error}"))?;
        if minutes.is_nan() || minutes < 0.0 {
            return Err(format!("`timeout-minutes` is {minutes}, which is no length of time."));
        }
        Ok((minutes > 0.0).then(|| minutes.min(MAX_TIMEOUT_MINUTES)))
    }

    fn continues(
        &mut self,
        spec: &StepSpec,
        scope: &Scope,
        files: &StepFiles,
        commands: &mut Commands,
    ) -> bool {
        let Some(token) = &spec.continue_on_error else { return false };
        let contexts = self.state.contexts(&self.view(spec, scope, Some(files), &[]));
        match token::eval_bool(token, &contexts, &self.functions(scope)) {
            Ok(continues) => continues,
            Err(error) => {
                let message = format!("`continue-on-error` cannot be evaluated. {error}");
                self.fail_step(commands, &message);
                false
            }
        }
    }
}

/// Notes a step's result for the `steps` context.
pub(crate) fn record_result(
    scope: &mut Scope,
    spec: &StepSpec,
    outputs: &[(String, String)],
    outcome: StepConclusion,
    conclusion: StepConclusion,
) {
    if !spec.is_in_context() {
        return;
    }
    let mut values = Object::new();
    for (name, value) in outputs {
        values.insert(name, value.as_str());
    }
    let mut result = Object::new();
    result.insert("outputs", Value::from(values));
    result.insert("outcome", outcome.as_str());
    result.insert("conclusion", conclusion.as_str());
    scope.steps.insert(&spec.context_name, Value::from(result));
}
