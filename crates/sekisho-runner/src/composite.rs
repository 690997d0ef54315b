//! Actions: where they are, their inputs, and the steps of composite ones.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use sekisho_github::wire::launch::ActionRequest;
use sekisho_github::wire::results::StepConclusion;
use sekisho_workflow::expr::Object;
use sekisho_workflow::token;

use crate::console::Commands;
use crate::expression::judge;
use crate::job::Job;
use crate::job::step::{WorkEnd, Workplace, record_result};
use crate::manifest::{MAX_MANIFEST_LEN, Manifest, Runs};
use crate::plan::{Status, Verdict};
use crate::spec::{StepSpec, Work};
use crate::state::{ActionOrigin, Scope};
use crate::stop::Interrupt;

/// Actions within actions, the outermost included.
const MAX_DEPTH: usize = 10;

impl Job {
    /// Runs an action of the repository itself.
    pub(crate) async fn local_action(
        &mut self,
        path: &str,
        place: &mut Workplace<'_>,
        commands: &mut Commands,
    ) -> anyhow::Result<WorkEnd> {
        let folder = local_folder(&self.state.dirs().workspace, path)?;
        let origin = ActionOrigin { name: path.to_owned(), folder, repository: None };
        self.action(origin, place, commands).await
    }

    /// Runs an action of another repository, which was fetched before.
    pub(crate) async fn remote_action(
        &mut self,
        request: &ActionRequest,
        place: &mut Workplace<'_>,
        commands: &mut Commands,
    ) -> anyhow::Result<WorkEnd> {
        let folder = self.action_folder(request).map_err(anyhow::Error::msg)?;
        let path = Some(&request.path).filter(|path| !path.is_empty());
        let path = path.map(|path| format!("/{path}")).unwrap_or_default();
        let origin = ActionOrigin {
            name: format!("{}{path}@{}", request.action, request.version),
            folder,
            repository: Some((request.action.clone(), request.version.clone())),
        };
        self.action(origin, place, commands).await
    }

    /// The step that runs the `pre` of a step's action before the job's first step, if it has one; of a
    /// composite action, if one of those that it uses has one. An action that cannot be read has none:
    /// its step tells why. Actions of the workspace have none either, as at GitHub: they are not there
    /// yet.
    pub(crate) fn pre_of(&self, spec: &StepSpec) -> Option<StepSpec> {
        self.pre_within(spec, 1)
    }

    fn pre_within(&self, spec: &StepSpec, depth: usize) -> Option<StepSpec> {
        let (Work::Remote(request), true) = (&spec.work, depth <= MAX_DEPTH) else { return None };
        let folder = self.action_folder(request).ok()?;
        match load(&folder, &request.key()).ok()?.runs {
            Runs::JavaScript(action) => {
                action.pre.is_some().then(|| spec.pre(request, &action.pre_if))
            }
            Runs::Composite { steps } => {
                let has_pre = |step: &StepSpec| self.pre_within(step, depth + 1).is_some();
                steps.iter().any(has_pre).then(|| spec.pre(request, ""))
            }
        }
    }

    async fn action(
        &mut self,
        origin: ActionOrigin,
        place: &mut Workplace<'_>,
        commands: &mut Commands,
    ) -> anyhow::Result<WorkEnd> {
        let manifest = load(&origin.folder, &origin.name)?;
        match &manifest.runs {
            Runs::Composite { steps } if place.is_pre() => {
                let steps: Vec<StepSpec> = steps.iter().filter_map(|s| self.pre_of(s)).collect();
                self.composite(&manifest, &steps, origin, place, commands).await
            }
            Runs::Composite { steps } => {
                self.composite(&manifest, steps, origin, place, commands).await
            }
            Runs::JavaScript(action) => {
                self.javascript(&manifest, action, &origin, place, commands).await
            }
        }
    }

    /// Runs a composite action's steps in a scope of their own.
    async fn composite(
        &mut self,
        manifest: &Manifest,
        steps: &[StepSpec],
        origin: ActionOrigin,
        place: &mut Workplace<'_>,
        commands: &mut Commands,
    ) -> anyhow::Result<WorkEnd> {
        let depth = place.scope.depth + 1;
        if depth > MAX_DEPTH {
            anyhow::bail!("Composite actions are nested deeper than {MAX_DEPTH} levels");
        }
        self.log.write(&format!("##[group]Run {}", origin.name));
        let inputs = self.inputs(manifest, place, commands)?;
        self.log.write("##[endgroup]");
        let mut env = place.scope.env.clone();
        env.extend(place.env.iter().cloned());
        let mut scope = Scope {
            inputs: Some(inputs),
            steps: Object::new(),
            env,
            origin: Some(origin),
            // In a `pre-if` it is the job's status that counts.
            action_status: (!place.is_pre()).then_some(Status::Success),
            depth,
            path: place.scope.key(place.spec),
        };
        let mut end = WorkEnd::Success;
        for spec in steps {
            if let Some(cause) = place.interrupt.cause() {
                return Ok(WorkEnd::Interrupted(cause));
            }
            let verdict = {
                let contexts = self.state.contexts(&self.view(spec, &scope, None, &[]));
                judge(&spec.condition, &contexts, &self.functions(&scope))
            };
            let interrupt = match verdict {
                Ok(Verdict::Run { also_if_cancelled }) => Interrupt {
                    // It goes on if the action does, or if its own condition says so.
                    also_if_cancelled: place.interrupt.also_if_cancelled || also_if_cancelled,
                    ..place.interrupt.clone()
                },
                Ok(Verdict::Skip | Verdict::Error) => {
                    let skipped = StepConclusion::Skipped;
                    record_result(&mut scope, spec, &[], skipped, skipped);
                    continue;
                }
                Err(error) => {
                    let message = format!("The `if` of a step cannot be evaluated. {error}");
                    self.fail_step(commands, &message);
                    scope.action_status = scope.action_status.map(|_| Status::Failure);
                    end = WorkEnd::Failure;
                    continue;
                }
            };
            let outcome = Box::pin(self.execute(spec, &mut scope, &interrupt, commands)).await;
            if let Some(cause) = outcome.interrupted {
                return Ok(WorkEnd::Interrupted(cause));
            }
            if outcome.conclusion == StepConclusion::Failure {
                scope.action_status = scope.action_status.map(|_| Status::Failure);
                end = WorkEnd::Failure;
            }
        }
        if !place.is_pre() {
            place.outputs = self.action_outputs(manifest, &scope, place)?;
        }
        Ok(end)
    }

    /// `with:` over the manifest's defaults.
    pub(crate) fn inputs(
        &mut self,
        manifest: &Manifest,
        place: &Workplace<'_>,
        commands: &mut Commands,
    ) -> anyhow::Result<Object> {
        let functions = self.functions(place.scope);
        let given = token::eval_map(&place.spec.inputs, place.contexts, &functions)
            .context("`with` of the step cannot be evaluated")?;
        let mut inputs = Object::new();
        for input in &manifest.inputs {
            let value = match &input.default {
                Some(token) => token::eval_string(token, place.contexts, &functions)
                    .with_context(|| format!("the default of input `{}` is wrong", input.name))?,
                None => String::new(),
            };
            inputs.insert(&input.name, value);
        }
        let mut warnings = Vec::new();
        for (name, value) in given {
            let known = manifest.inputs.iter().find(|input| input.name.eq_ignore_ascii_case(&name));
            match known {
                None => warnings.push(format!("Unexpected input '{name}'.")),
                Some(input) => {
                    let deprecated = input.deprecated.iter();
                    warnings.extend(
                        deprecated.map(|why| format!("Input '{name}' is deprecated: {why}")),
                    );
                }
            }
            inputs.insert(name, value);
        }
        for input in manifest.inputs.iter().filter(|input| input.required) {
            if inputs.get(&input.name).is_none_or(|value| value.to_text().is_empty()) {
                warnings.push(format!("Input required and not supplied: {}", input.name));
            }
        }
        for warning in warnings {
            self.warn_step(commands, &warning);
        }
        for (name, value) in inputs.iter() {
            self.log.write(&format!("  {name}: {}", value.to_text()));
        }
        Ok(inputs)
    }

    fn action_outputs(
        &self,
        manifest: &Manifest,
        scope: &Scope,
        place: &Workplace<'_>,
    ) -> anyhow::Result<Vec<(String, String)>> {
        let contexts = self.state.contexts(&self.view(place.spec, scope, None, &[]));
        let functions = self.functions(scope);
        let evaluate = |(name, token): &(String, token::Token)| {
            let value = token::eval_string(token, &contexts, &functions)
                .with_context(|| format!("output `{name}` of the action cannot be evaluated"))?;
            Ok((name.clone(), value))
        };
        manifest.outputs.iter().map(evaluate).collect()
    }
}

/// The folder that `uses: ./path` names, which must be in the workspace, links followed.
fn local_folder(workspace: &Path, path: &str) -> anyhow::Result<PathBuf> {
    let relative = Path::new(path);
    let inside = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    if !relative.components().all(inside) {
        anyhow::bail!("`uses: {path}` leaves the workspace");
    }
    let missing = || {
        format!(
            "Can't find 'action.yml' or 'action.yaml' under '{path}'. Did you forget to run \
             actions/checkout before running your local action?"
        )
    };
    let folder = fs_err::canonicalize(workspace.join(relative)).with_context(missing)?;
    let workspace = fs_err::canonicalize(workspace).context("finding the workspace")?;
    if !folder.starts_with(&workspace) {
        anyhow::bail!("`uses: {path}` leaves the workspace");
    }
    if !folder.join("action.yml").is_file() && !folder.join("action.yaml").is_file() {
        anyhow::bail!(missing());
    }
    Ok(folder)
}

pub(crate) fn load(folder: &Path, path: &str) -> anyhow::Result<Manifest> {
    let names = ["action.yml", "action.yaml"];
    let name = names.into_iter().find(|name| folder.join(name).is_file()).unwrap_or(names[0]);
    let file = fs_err::File::open(folder.join(name)).context("opening the action's manifest")?;
    let mut text = String::new();
    let read = file.take(MAX_MANIFEST_LEN + 1).read_to_string(&mut text);
    read.with_context(|| format!("reading {path}/{name}"))?;
    if text.len() as u64 > MAX_MANIFEST_LEN {
        anyhow::bail!("{path}/{name} is larger than {} KiB", MAX_MANIFEST_LEN / 1024);
    }
    Manifest::parse(&text).map_err(|error| anyhow::anyhow!("{path}/{name}:{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_looked_for_in_the_workspace_only() {
        let temp = tempfile::tempdir().unwrap();
        let workspace = temp.path().join("w");
        fs_err::create_dir_all(workspace.join("a")).unwrap();
        fs_err::create_dir_all(temp.path().join("out")).unwrap();
        fs_err::write(workspace.join("a/action.yaml"), "").unwrap();
        fs_err::write(temp.path().join("out/action.yml"), "").unwrap();
        fs_err::os::unix::fs::symlink("../out", workspace.join("link")).unwrap();
        assert!(local_folder(&workspace, "./a").is_ok());
        for (path, want) in [
            ("./../out", "leaves the workspace"),
            ("./link", "leaves the workspace"),
            ("./none", "Can't find 'action.yml'"),
        ] {
            let error = format!("{:#}", local_folder(&workspace, path).unwrap_err());
            assert!(error.contains(want), "{error}");
        }
    }
}
