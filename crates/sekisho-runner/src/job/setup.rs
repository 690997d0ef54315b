//! "Set up job": folders, masks, environment, and a look at every step before the first one runs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sekisho_github::wire::job::{AgentJobRequestMessage, variable};
use sekisho_github::wire::results::StepConclusion;
use sekisho_workflow::token;
use uuid::Uuid;

use super::{Job, MainStep, PostWork};
use crate::console::Commands;
use crate::expression::StepFunctions;
use crate::mask::Masker;
use crate::plan::{Slot, Status};
use crate::spec::{StepSpec, Work};
use crate::state::{Scope, StepView};

/// Most steps of a job.
const MAX_STEPS: usize = 1000;

/// The job's masks; the flag says that something cannot be masked, so that nothing may be shown.
pub(super) fn masker(message: &AgentJobRequestMessage) -> (Masker, bool) {
    let mut masker = Masker::default();
    let mut failed = false;
    let mut add = |secret: &str| failed |= masker.add(secret).is_err();
    for value in message.variables.values().filter(|value| value.is_secret) {
        add(value.value.expose());
    }
    let tokens = [variable::TOKEN, variable::GITHUB_TOKEN];
    for value in tokens.iter().filter_map(|name| message.variable(name)) {
        add(value.value.expose());
        add(&STANDARD.encode(format!("x-access-token:{}", value.value.expose())));
    }
    for endpoint in &message.resources.endpoints {
        endpoint.authorization.parameters.values().for_each(|secret| add(secret.expose()));
    }
    for hint in &message.mask {
        let is = |kind: &str| hint.kind.eq_ignore_ascii_case(kind);
        if is("variable") {
            let value = message.variable(&hint.value).map(|value| value.value.expose());
            failed |= value.is_some_and(|value| masker.add(value).is_err());
        } else if is("regex") {
            failed |= masker.add_pattern(&hint.value).is_err();
        } else {
            failed = true;
        }
    }
    (masker, failed)
}

impl Job {
    /// Does the step; says whether the job can go on.
    pub(super) async fn set_up(&mut self) -> bool {
        let record = self.timeline.add(Uuid::new_v4(), "Set up job", "setup");
        let mut commands = Commands::default();
        self.begin_record(record).await;
        self.describe();
        let (specs, planned) = self.plan_steps();
        let result = match planned.and_then(|()| self.prepare()) {
            Ok(()) => self.fetch_actions(specs.iter().map(|(_, spec)| spec)).await,
            Err(error) => Err(error),
        };
        self.add_steps(specs, result.is_ok());
        let ok = result.is_ok() && !self.setup_failed;
        if self.setup_failed {
            self.fail_step(&mut commands, "A secret of the job cannot be masked.");
        }
        if let Err(message) = result {
            self.fail_step(&mut commands, &message);
        }
        if ok {
            let name = self.message.job_display_name.clone();
            self.log.write(&format!("Complete job name: {name}"));
        }
        let conclusion = if ok { StepConclusion::Success } else { StepConclusion::Failure };
        self.end_record(record, conclusion, commands).await;
        ok
    }

    /// Turns the message's steps into ours; what is wrong with the others.
    fn plan_steps(&self) -> (Vec<(Uuid, StepSpec)>, Result<(), String>) {
        let (mut specs, mut problems) = (Vec::new(), Vec::new());
        if self.message.steps.len() > MAX_STEPS {
            return (specs, Err(format!("The job has more than {MAX_STEPS} steps.")));
        }
        for step in self.message.steps.iter().filter(|step| step.enabled) {
            match StepSpec::from_wire(step) {
                Ok(spec) => specs.push((step.id, spec)),
                Err(error) => problems.push(error.to_string()),
            }
        }
        (specs, if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) })
    }

    /// Shows all steps as pending: a hook, what actions want to be done before, the job's own.
    fn add_steps(&mut self, specs: Vec<(Uuid, StepSpec)>, fetched: bool) {
        if let Some(spec) = self.hooks.started.clone() {
            self.add_main(Uuid::new_v4(), spec);
        }
        if let Some(spec) = self.hooks.completed.clone() {
            // The first that is registered is the last that runs.
            self.add_post(spec.default_name.clone(), PostWork::Step(Box::new(spec)));
        }
        if fetched {
            let pres: Vec<StepSpec> = specs.iter().filter_map(|(_, s)| self.pre_of(s)).collect();
            pres.into_iter().for_each(|pre| self.add_main(Uuid::new_v4(), pre));
        }
        for (id, spec) in specs {
            self.add_main(id, spec);
        }
        self.timeline.publish();
    }

    fn add_main(&mut self, id: Uuid, spec: StepSpec) {
        let name = self.display_name(&spec, &Scope::default());
        let record = self.timeline.add(id, &name, spec.kind());
        self.main.push(MainStep { spec, record, slot: Slot::Pending, error: None });
    }

    /// The step's name, masked, as far as it can be evaluated now.
    pub(crate) fn display_name(&self, spec: &StepSpec, scope: &Scope) -> String {
        let view = StepView {
            scope,
            action: &spec.context_name,
            files: None,
            env: &[],
            status: Status::Success,
        };
        let name = spec.display.as_ref().and_then(|display| {
            let functions = StepFunctions::of_job(Status::Success, &self.state.dirs().workspace);
            token::eval_string(display, &self.state.contexts(&view), &functions).ok()
        });
        let name = name.filter(|name| !name.trim().is_empty());
        let name = name.as_deref().unwrap_or(&spec.default_name).trim();
        match spec.work {
            Work::Pre(_) => self.log.mask(&format!("Pre {name}")),
            _ => self.log.mask(name),
        }
    }

    fn describe(&mut self) {
        let text = |message: &AgentJobRequestMessage, name| {
            message.variable(name).map(|v| v.value.expose().to_owned()).filter(|v| !v.is_empty())
        };
        self.log.write(&format!("Current runner version: '{}'", self.version));
        self.log.write(&format!("Runner name: '{}'", self.runner.name));
        if let Some(group) = text(&self.message, variable::RUNNER_GROUP_NAME) {
            self.log.write(&format!("Runner group name: '{group}'"));
        }
        let permissions = text(&self.message, variable::TOKEN_PERMISSIONS);
        let permissions = permissions.and_then(|json| serde_json::from_str(&json).ok());
        if let Some(serde_json::Value::Object(permissions)) = permissions {
            self.log.write("##[group]GITHUB_TOKEN Permissions");
            for (name, access) in permissions {
                let access = access.as_str().unwrap_or_default();
                self.log.write(&format!("{name}: {access}"));
            }
            self.log.write("##[endgroup]");
        }
        let source = self.state.github("secret_source");
        if !source.is_empty() {
            self.log.write(&format!("Secret source: {source}"));
        }
        if let Some(file) = text(&self.message, variable::WORKFLOW_FILE) {
            let git_ref = text(&self.message, variable::WORKFLOW_FILE_REF).unwrap_or_default();
            let sha = text(&self.message, variable::WORKFLOW_FILE_SHA).unwrap_or_default();
            self.log.write(&format!("Uses: {file}@{git_ref} ({sha})"));
        }
    }

    fn prepare(&mut self) -> Result<(), String> {
        let present = |token: &Option<token::Token>| token.as_ref().is_some_and(|t| !t.is_null());
        if present(&self.message.job_container) || present(&self.message.job_service_containers) {
            return Err("`container` and `services` are not supported by this runner: it has no \
                        container engine. Use `run` steps, or build with `sekisho build`."
                .to_owned());
        }
        self.log.write("Prepare workflow directory");
        let dirs = self.state.dirs();
        dirs.create().map_err(|error| format!("{error:#}"))?;
        let event = self.state.event().to_json();
        let event = serde_json::to_vec(&event).map_err(|error| error.to_string())?;
        fs_err::write(&dirs.event, event).map_err(|error| error.to_string())?;
        for level in self.message.environment_variables.clone() {
            // Each level sees what the levels before it set.
            let scope = Scope::default();
            let view = StepView {
                scope: &scope,
                action: "",
                files: None,
                env: &[],
                status: Status::Success,
            };
            let functions = StepFunctions::of_job(Status::Success, &self.state.dirs().workspace);
            let pairs = token::eval_map(&level, &self.state.contexts(&view), &functions);
            let pairs = pairs.map_err(|error| format!("`env` cannot be evaluated. {error}"))?;
            self.state.env.extend(pairs);
        }
        Ok(())
    }
}
