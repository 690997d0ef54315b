//! A workflow and what it calls, flattened.

use super::inputs::call_inputs;
use super::{
    CallTemplate, MAX_CALL_DEPTH, MAX_FILES, MAX_PLANNED_JOBS, Plan, PlannedJob, PlannedKind,
    Resolved, StepsTemplate, StrategyContext, WorkflowSource, decide, matrix, names,
};
use crate::diagnostic::{Diagnostic, MAX_DIAGNOSTICS, Position};
use crate::expr::{self, Contexts, NoFunctions, Object, Value};
use crate::model::{
    CacheMode, CallJob, Job, JobKind, Permissions, StepsJob, Strategy, Workflow, WorkflowReference,
};
use crate::token::{self, Token};

/// Why a called workflow cannot be had.
#[derive(Clone, Debug, PartialEq)]
pub enum ResolveError {
    /// There is no such repository, reference or file: a sentence about it.
    NotFound(String),
    /// The file has errors.
    Invalid(Vec<Diagnostic>),
}

/// Finds a called workflow, given the reference and the file that calls it.
type Resolve<'a> =
    &'a dyn Fn(&WorkflowReference, &WorkflowSource) -> Result<Resolved, ResolveError>;

/// Flattens a workflow and what it calls.
///
/// `resolve` finds a called workflow, given the reference and the file that calls it (a local
/// reference means that file's repository and commit). `contexts`: `github`, `vars` and the
/// run's `inputs`, for names and matrices.
///
/// # Errors
/// What is wrong in the files together: a called file that is missing or cannot be called, wrong
/// inputs, permissions beyond the caller's, too many files, levels or jobs.
pub fn expand(
    root: &Resolved,
    resolve: &dyn Fn(&WorkflowReference, &WorkflowSource) -> Result<Resolved, ResolveError>,
    contexts: &Contexts,
) -> Result<Plan, Vec<Diagnostic>> {
    let mut expander = Expander {
        resolve,
        contexts,
        plan: Plan::default(),
        stack: Vec::new(),
        problems: Vec::new(),
    };
    let place = Place {
        parent: None,
        limit: None,
        cache_mode: None,
        inputs: Some(contexts.get("inputs").cloned().unwrap_or_default()),
    };
    expander.workflow(root, &place);
    if expander.problems.is_empty() {
        return Ok(expander.plan);
    }
    expander.problems.truncate(MAX_DIAGNOSTICS);
    Err(expander.problems)
}

pub(super) struct Expander<'a> {
    resolve: Resolve<'a>,
    contexts: &'a Contexts,
    plan: Plan,
    /// The files being expanded, outermost first.
    stack: Vec<WorkflowSource>,
    pub(super) problems: Vec<Diagnostic>,
}

/// Where in the plan a workflow's jobs go.
struct Place {
    /// Key and name of the call.
    parent: Option<(String, String)>,
    /// What the call's own permissions leave to its jobs.
    limit: Option<Permissions>,
    /// The call's own `cache-mode`.
    cache_mode: Option<CacheMode>,
    /// The `inputs` context; `None` when it is known only once other jobs are done.
    inputs: Option<Value>,
}

impl Place {
    fn key(&self, id: &str) -> String {
        self.parent.as_ref().map_or_else(|| id.to_owned(), |(key, _)| format!("{key}/{id}"))
    }
}

/// One instance of a job: its matrix values and the `strategy` context.
type Instance = (serde_json::Value, StrategyContext);

impl Expander<'_> {
    pub(super) fn fail(&mut self, at: Position, message: impl Into<String>) {
        let file = self.stack.last();
        // Errors of the started file are about its path; of others the repository matters too.
        let path = match (file, self.stack.len()) {
            (Some(file), 0 | 1) => file.path.clone(),
            (Some(file), _) => file.workflow_ref(),
            (None, _) => String::new(),
        };
        self.problems.push(Diagnostic::new(path, at, message));
    }

    /// Adds the jobs of a workflow; the groups they form.
    fn workflow(&mut self, file: &Resolved, place: &Place) -> Vec<String> {
        let known = self.plan.files.iter().position(|source| *source == file.source);
        let index = known.unwrap_or_else(|| {
            self.plan.files.push(file.source.clone());
            self.plan.files.len() - 1
        });
        self.stack.push(file.source.clone());
        let mut groups = Vec::new();
        for job in &file.workflow.jobs {
            groups.push(place.key(&job.id));
            self.job(&file.workflow, job, index, place);
            if self.problems.len() >= MAX_DIAGNOSTICS {
                break;
            }
        }
        self.stack.pop();
        groups
    }

    fn job(&mut self, workflow: &Workflow, job: &Job, file: usize, place: &Place) {
        let permissions = self.permissions(workflow, job, place);
        let cache_mode = cache_mode(workflow, job, place);
        let Some(instances) = self.instances(job, place) else { return };
        let group = place.key(&job.id);
        let single = job.strategy.as_ref().is_none_or(|strategy| strategy.matrix.is_none());
        for (matrix, strategy) in instances {
            let key =
                if single { group.clone() } else { format!("{group}#{}", strategy.job_index) };
            let mut planned = PlannedJob {
                key,
                group: group.clone(),
                id: job.id.clone(),
                parent: place.parent.as_ref().map(|(key, _)| key.clone()),
                name: String::new(),
                name_token: job.name.clone(),
                needs: job.needs.iter().map(|need| place.key(need)).collect(),
                condition: job.condition.clone(),
                file,
                at: job.at,
                permissions: permissions.clone(),
                cache_mode,
                concurrency: job.concurrency.clone(),
                strategy,
                matrix,
                kind: match &job.kind {
                    JobKind::Steps(steps) => {
                        PlannedKind::Steps(Box::new(template(workflow, steps)))
                    }
                    JobKind::Call(call) => PlannedKind::Call(Box::new(CallTemplate {
                        inputs: Vec::new(),
                        with: call.with.clone(),
                        secrets: call.secrets.clone(),
                        outputs: Vec::new(),
                        concurrency: None,
                        jobs: Vec::new(),
                    })),
                },
            };
            let contexts = self.static_contexts(&planned, place);
            let own = names::own_name(job.name.as_ref(), &job.id, &contexts, &planned.matrix)
                .ok()
                .filter(|_| place.inputs.is_some() || !uses(job.name.as_ref(), "inputs"))
                .filter(|_| !uses(job.name.as_ref(), "needs"))
                .unwrap_or_else(|| job.id.clone());
            let parent = place.parent.as_ref().map(|(_, name)| name.as_str());
            planned.name = names::joined(parent, &own);
            if self.plan.jobs.len() >= MAX_PLANNED_JOBS {
                self.fail(job.at, format!("the run has more than {MAX_PLANNED_JOBS} jobs"));
                return;
            }
            match &job.kind {
                JobKind::Steps(_) => self.plan.jobs.push(planned),
                JobKind::Call(call) => self.call(call, planned, &contexts, place),
            }
        }
    }

    fn permissions(&mut self, workflow: &Workflow, job: &Job, place: &Place) -> Permissions {
        let declared = job.permissions.as_ref().or(workflow.permissions.as_ref());
        let Some(limit) = &place.limit else {
            return declared.cloned().unwrap_or_else(Permissions::restricted);
        };
        let Some(declared) = declared else { return limit.clone() };
        if let Some((key, wanted)) = declared.beyond(limit).next() {
            let allowed = limit.get(key);
            let message = format!(
                "job `{}` asks for `{key}: {wanted}`, but its caller only grants `{key}: {allowed}`",
                job.id
            );
            self.fail(job.at, message);
        }
        declared.clone()
    }

    /// What names, matrices and `with` see before any job has run.
    fn static_contexts(&self, job: &PlannedJob, place: &Place) -> Contexts {
        let inputs = place.inputs.clone().unwrap_or_default();
        self.contexts
            .clone()
            .with("inputs", inputs)
            .with("strategy", decide::strategy_context(job))
            .with("matrix", Value::from(&job.matrix))
    }

    fn instances(&mut self, job: &Job, place: &Place) -> Option<Vec<Instance>> {
        let Some(strategy) = &job.strategy else {
            return Some(vec![(serde_json::Value::Null, StrategyContext::default())]);
        };
        let tokens = [&strategy.matrix, &strategy.fail_fast, &strategy.max_parallel];
        let waits = |token: &Token| {
            uses(Some(token), "needs") || (place.inputs.is_none() && uses(Some(token), "inputs"))
        };
        if tokens.into_iter().flatten().any(waits) {
            let message = "a `strategy` computed from the outputs of other jobs is not supported on the one-machine plane yet";
            self.fail(strategy.at, message);
            return None;
        }
        let inputs = place.inputs.clone().unwrap_or_default();
        let contexts = self.contexts.clone().with("inputs", inputs);
        match instances(strategy, &contexts) {
            Ok(instances) => Some(instances),
            Err(message) => {
                let at = strategy.matrix.as_ref().and_then(|token| token.at);
                self.fail(at.unwrap_or(strategy.at), message);
                None
            }
        }
    }

    fn call(&mut self, call: &CallJob, mut job: PlannedJob, contexts: &Contexts, place: &Place) {
        let Some(callee) = self.resolve(call) else { return };
        let Some(trigger) = callee.workflow.on.workflow_call() else {
            let message =
                format!("`{}` cannot be called: it has no `on: workflow_call`", call.uses);
            self.fail(call.uses_at, message);
            return;
        };
        let sound = self.check_inputs(call, trigger) && self.check_secrets(call, trigger);
        let PlannedKind::Call(template) = &mut job.kind else { return };
        template.inputs.clone_from(&trigger.inputs);
        template.outputs.clone_from(&trigger.outputs);
        template.concurrency.clone_from(&callee.workflow.concurrency);
        let waits =
            |name| uses(call.with.as_ref(), name) && (name == "needs" || place.inputs.is_none());
        let mut inputs = None;
        if sound && !waits("needs") && !waits("inputs") {
            match call_inputs(template, contexts) {
                Ok(value) => inputs = Some(value),
                Err(message) => {
                    let at = call.with.as_ref().and_then(|with| with.at).unwrap_or(call.uses_at);
                    self.fail(at, message);
                }
            }
        }
        let within = Place {
            parent: Some((job.key.clone(), job.name.clone())),
            limit: Some(job.permissions.clone()),
            cache_mode: job.cache_mode,
            inputs,
        };
        let index = self.plan.jobs.len();
        self.plan.jobs.push(job);
        let groups = self.workflow(&callee, &within);
        if let Some(PlannedKind::Call(template)) =
            self.plan.jobs.get_mut(index).map(|job| &mut job.kind)
        {
            template.jobs = groups;
        }
    }

    fn resolve(&mut self, call: &CallJob) -> Option<Resolved> {
        let caller = self.stack.last()?.clone();
        if self.stack.len() > MAX_CALL_DEPTH {
            let message = format!("workflows call each other deeper than {MAX_CALL_DEPTH} levels");
            self.fail(call.uses_at, message);
            return None;
        }
        let callee = match (self.resolve)(&call.uses, &caller) {
            Ok(callee) => callee,
            Err(ResolveError::NotFound(message)) => {
                self.fail(call.uses_at, format!("cannot call `{}`: {message}", call.uses));
                return None;
            }
            Err(ResolveError::Invalid(problems)) => {
                self.fail(call.uses_at, format!("the called workflow `{}` has errors", call.uses));
                self.problems.extend(problems);
                return None;
            }
        };
        if self.stack.contains(&callee.source) {
            self.fail(call.uses_at, format!("`{}` calls itself", call.uses));
            return None;
        }
        if !self.plan.files.contains(&callee.source) && self.plan.files.len() >= MAX_FILES {
            let message = format!("the run has more than {MAX_FILES} workflow files");
            self.fail(call.uses_at, message);
            return None;
        }
        Some(callee)
    }
}

/// What the job says, else its file; never more than the call around it.
fn cache_mode(workflow: &Workflow, job: &Job, place: &Place) -> Option<CacheMode> {
    match (job.cache_mode.or(workflow.cache_mode), place.cache_mode) {
        (Some(own), Some(limit)) => Some(own.within(limit)),
        (own, limit) => own.or(limit),
    }
}

/// Whether an expression in the token names this context.
fn uses(token: Option<&Token>, context: &str) -> bool {
    let mut found = false;
    if let Some(token) = token {
        token.expressions(&mut |text| {
            found |= expr::parse(text).is_ok_and(|expr| expr.uses_context(context));
        });
    }
    found
}

fn instances(strategy: &Strategy, contexts: &Contexts) -> Result<Vec<Instance>, String> {
    let combinations = match &strategy.matrix {
        Some(token) => matrix::combinations(token, contexts)?,
        None => vec![Object::new()],
    };
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let job_total = small(combinations.len());
    let fail_fast = match &strategy.fail_fast {
        Some(token) => token::eval_bool(token, contexts, &NoFunctions)
            .map_err(|error| format!("`fail-fast`: {error}"))?,
        None => true,
    };
    let max_parallel = match &strategy.max_parallel {
        Some(token) => {
            let number = token::eval_number(token, contexts, &NoFunctions)
                .map_err(|error| format!("`max-parallel`: {error}"))?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the cast saturates, and the clamp follows"
            )]
            let whole = number as u32;
            whole.clamp(1, job_total.max(1))
        }
        None => job_total,
    };
    let alone = strategy.matrix.is_none();
    Ok(combinations
        .into_iter()
        .enumerate()
        .map(|(index, object)| {
            let matrix =
                if alone { serde_json::Value::Null } else { Value::from(object).to_json() };
            let job_index = small(index);
            (matrix, StrategyContext { fail_fast, max_parallel, job_index, job_total })
        })
        .collect())
}

/// What the runner is sent. Its tokens are of file 1: a message's table holds the job's own file.
fn template(workflow: &Workflow, job: &StepsJob) -> StepsTemplate {
    let place = |token: &Token| token.clone().in_file(1);
    let pair = |a: &Option<Token>, b: &Option<Token>| a.iter().chain(b).map(place).collect();
    StepsTemplate {
        runs_on: job.runs_on.clone(),
        env: pair(&workflow.env, &job.env),
        defaults: pair(&workflow.defaults, &job.defaults),
        outputs: job.outputs.as_ref().map(place),
        steps: job.steps.iter().map(|step| step.clone().in_file(1)).collect(),
        timeout_minutes: job.timeout_minutes.clone(),
        cancel_timeout_minutes: job.cancel_timeout_minutes.clone(),
        continue_on_error: job.continue_on_error.clone(),
    }
}
