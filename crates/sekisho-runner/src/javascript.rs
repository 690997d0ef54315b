//! JavaScript actions: `pre` before the job's first step, `main`, and `post` at the job's end. Of a local
//! action, which is not there before the first step, no `pre` runs, as at GitHub.
//!
//! A program is looked for in the runner's `externals/node24` and `externals/node20`, where images of
//! runners have it, and then on the `PATH`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sekisho_github::wire::results::StepConclusion;
use sekisho_workflow::expr::Object;

use crate::console::Commands;
use crate::exec::Invocation;
use crate::expression::judge;
use crate::job::Job;
use crate::job::script::as_list;
use crate::job::step::{WorkEnd, Workplace};
use crate::manifest::{JavaScript, Manifest};
use crate::plan::Verdict;
use crate::shell;
use crate::state::{ActionOrigin, Scope, StepFiles};
use crate::stop::{Cause, Interrupt};

/// Folders of `externals` in which a node may be, the best first.
const EXTERNALS: [&str; 2] = ["node24", "node20"];

/// What a post step runs.
#[derive(Clone)]
pub(crate) struct PostScript {
    program: PathBuf,
    script: PathBuf,
    condition: String,
    /// The environment of the main step, inputs included.
    env: BTreeMap<OsString, OsString>,
    /// The action's scope: its contexts are those of the main step.
    scope: Scope,
    action: String,
    /// Which use of the action it is of: see [`Scope::key`].
    pub(crate) key: String,
}

// Its environment holds the job's token.
impl std::fmt::Debug for PostScript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostScript").field("script", &self.script).finish_non_exhaustive()
    }
}

impl Job {
    /// Runs the `main` of an action in its folder, or its `pre`, and registers its `post`.
    pub(crate) async fn javascript(
        &mut self,
        manifest: &Manifest,
        action: &JavaScript,
        origin: &ActionOrigin,
        place: &mut Workplace<'_>,
        commands: &mut Commands,
    ) -> anyhow::Result<WorkEnd> {
        if action.pre.is_some() && origin.repository.is_none() {
            let name = &origin.name;
            let text = format!("`pre` execution is not supported for local action from '{name}'");
            self.warn_step(commands, &text);
        }
        self.log.write(&format!("##[group]Run {}", origin.name));
        self.log.write("with:");
        let inputs = self.inputs(manifest, place, commands)?;
        self.show_env(place);
        self.log.write("##[endgroup]");
        let scope = Scope { origin: Some(origin.clone()), ..place.scope.clone() };
        let view = self.view(place.spec, &scope, Some(place.files), place.env);
        let mut env = self.state.environment(&view);
        env.extend(self.state.action_environment());
        env.extend(input_variables(&inputs));
        let search = env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let program = self.node(&search.to_string_lossy())?;
        let key = place.scope.key(place.spec);
        let name = if place.is_pre() { action.pre.as_ref() } else { None };
        let script = script(&origin.folder, name.unwrap_or(&action.main))?;
        if let Some(post) = &action.post {
            let post = PostScript {
                program: program.clone(),
                script: self::script(&origin.folder, post)?,
                condition: action.post_if.clone(),
                env: env.clone(),
                scope,
                action: place.spec.context_name.clone(),
                key: key.clone(),
            };
            let name = self.display_name(place.spec, place.scope);
            let name = name.strip_prefix("Pre ").filter(|_| place.is_pre()).unwrap_or(&name);
            self.add_post_script(format!("Post {name}"), post);
        }
        env.extend(self.saved_variables(&key));
        self.node_script(program, &script, env, place.interrupt, commands).await
    }

    /// `STATE_<name>`: what an earlier stage of an action has saved.
    fn saved_variables(&self, key: &str) -> Vec<(OsString, OsString)> {
        let saved = self.saved.get(key).into_iter().flatten();
        saved.map(|(name, value)| (format!("STATE_{name}").into(), value.into())).collect()
    }

    /// Whether a post step runs.
    pub(crate) fn judge_post(&self, post: &PostScript) -> Result<Verdict, String> {
        if post.condition.is_empty() {
            return Ok(Verdict::Run { also_if_cancelled: true });
        }
        let view = crate::state::StepView {
            scope: &post.scope,
            action: &post.action,
            files: None,
            env: &[],
            status: self.status(),
        };
        let functions = self.functions(&Scope::default());
        judge(&post.condition, &self.state.contexts(&view), &functions)
            .map_err(|error| format!("The `post-if` of the action cannot be evaluated. {error}"))
    }

    /// Runs a post step: the main step's environment, with what it has saved.
    pub(crate) async fn post_script(
        &mut self,
        post: &PostScript,
        commands: &mut Commands,
        interrupt: &Interrupt,
    ) -> StepConclusion {
        self.log.write("Post job cleanup.");
        let end = self.post_work(post, commands, interrupt).await.unwrap_or_else(|error| {
            self.fail_step(commands, &format!("{error:#}"));
            WorkEnd::Failure
        });
        let failed = std::mem::take(&mut commands.failed);
        match end {
            WorkEnd::Success if !failed => StepConclusion::Success,
            WorkEnd::Interrupted(Cause::Cancelled | Cause::OutOfTime) => {
                self.fail_step(commands, "The operation was canceled.");
                StepConclusion::Cancelled
            }
            _ => StepConclusion::Failure,
        }
    }

    async fn post_work(
        &mut self,
        post: &PostScript,
        commands: &mut Commands,
        interrupt: &Interrupt,
    ) -> anyhow::Result<WorkEnd> {
        let files = StepFiles::create(self.state.dirs())?;
        let view = crate::state::StepView {
            scope: &post.scope,
            action: &post.action,
            files: Some(&files),
            env: &[],
            status: self.status(),
        };
        // What later steps have added is there too; the main step's own wins, its files excepted.
        let now = self.state.environment(&view);
        let mut env = now.clone();
        env.extend(post.env.clone());
        for name in [
            "GITHUB_ENV",
            "GITHUB_PATH",
            "GITHUB_OUTPUT",
            "GITHUB_STATE",
            "GITHUB_STEP_SUMMARY",
            "PATH",
        ] {
            let value = now.get(OsStr::new(name)).cloned().unwrap_or_default();
            env.insert(name.into(), value);
        }
        env.extend(self.saved_variables(&post.key));
        let program = post.program.clone();
        let end = self.node_script(program, &post.script, env, interrupt, commands).await;
        let (_, files_ok) = self.take_files(&files, commands);
        files.remove();
        match end? {
            WorkEnd::Success if !files_ok => Ok(WorkEnd::Failure),
            end => Ok(end),
        }
    }

    async fn node_script(
        &mut self,
        program: PathBuf,
        script: &Path,
        env: BTreeMap<OsString, OsString>,
        interrupt: &Interrupt,
        commands: &mut Commands,
    ) -> anyhow::Result<WorkEnd> {
        let folder = self.state.dirs().workspace.clone();
        let invocation =
            Invocation { program, args: vec![script.into()], folder, env: as_list(env) };
        let ended = self.run_program(&invocation, interrupt, commands).await?;
        self.conclude(ended, commands)
    }

    fn node(&self, search: &str) -> anyhow::Result<PathBuf> {
        let dirs = self.state.dirs();
        let externals = EXTERNALS.map(|name| dirs.externals.join(name).join("bin/node"));
        let found = externals.into_iter().find(|path| path.is_file());
        found.or_else(|| shell::find("node", search, &dirs.workspace)).context(
            "JavaScript actions need Node.js: there is no `node` in the runner's `externals` and \
             none on the PATH",
        )
    }
}

/// `INPUT_<NAME>`: upper case, blanks as `_`, all else as it is.
fn input_variables(inputs: &Object) -> Vec<(OsString, OsString)> {
    let name = |name: &str| format!("INPUT_{}", name.replace(' ', "_").to_uppercase());
    inputs.iter().map(|(key, value)| (name(key).into(), value.to_text().into())).collect()
}

/// A script of an action, which must be within its folder.
fn script(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join(name);
    let real = fs_err::canonicalize(&path).context("finding the action's script")?;
    let folder = fs_err::canonicalize(folder).context("finding the action")?;
    if !real.starts_with(&folder) || !real.is_file() {
        anyhow::bail!("`{name}` is not a file of the action");
    }
    Ok(real)
}
