//! JavaScript actions: `node main.js`, and `post` at the job's end. A `pre` is refused, for it would have
//! to run before the job's first step; of a local action, which is not there by then, GitHub runs none.
//!
//! A program is looked for in the runner's `externals/node24` and `externals/node20`, where images of
//! runners have it, and then on the `PATH`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sekisho_github::wire::results::StepConclusion;
use sekisho_workflow::expr::Object;

use crate::console::{Commands, Console};
use crate::exec::{self, Invocation};
use crate::expression::judge;
use crate::job::script::as_list;
use crate::job::step::{WorkEnd, Workplace};
use crate::job::{Job, PostWork};
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
    /// What the main step has saved.
    pub(crate) state: Vec<(String, String)>,
}

// Its environment holds the job's token.
impl std::fmt::Debug for PostScript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostScript").field("script", &self.script).finish_non_exhaustive()
    }
}

impl Job {
    /// Runs the `main` of an action in `folder`, and registers its `post`.
    pub(crate) async fn javascript(
        &mut self,
        manifest: &Manifest,
        action: &JavaScript,
        origin: &ActionOrigin,
        place: &mut Workplace<'_>,
        commands: &mut Commands,
    ) -> anyhow::Result<WorkEnd> {
        match (&action.pre, &origin.repository) {
            (Some(_), Some(_)) => anyhow::bail!(
                "Action `{}` has a `pre` program, which is not supported by this runner",
                origin.name
            ),
            (Some(_), None) => {
                let name = &origin.name;
                let text =
                    format!("`pre` execution is not supported for local action from '{name}'");
                self.warn_step(commands, &text);
            }
            (None, _) => {}
        }
        self.log.write(&format!("##[group]Run {}", origin.name));
        self.log.write("with:");
        let inputs = self.inputs(manifest, place, commands)?;
        let mut shown: BTreeMap<&String, &String> = self.state.env.iter().collect();
        shown.extend(place.scope.env.iter().chain(place.env).map(|(name, value)| (name, value)));
        let shown: Vec<String> =
            shown.into_iter().map(|(name, value)| format!("  {name}: {value}")).collect();
        if !shown.is_empty() {
            self.log.write("env:");
            shown.iter().for_each(|line| self.log.write(line));
        }
        self.log.write("##[endgroup]");
        let scope = Scope { origin: Some(origin.clone()), ..place.scope.clone() };
        let view = self.view(place.spec, &scope, Some(place.files), place.env);
        let mut env = self.state.environment(&view);
        env.extend(self.state.action_environment());
        env.extend(input_variables(&inputs));
        let search = env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let program = self.node(&search.to_string_lossy())?;
        let script = script(&origin.folder, &action.main)?;
        if let Some(post) = &action.post {
            let post = PostScript {
                program: program.clone(),
                script: self::script(&origin.folder, post)?,
                condition: action.post_if.clone(),
                env: env.clone(),
                scope,
                action: place.spec.context_name.clone(),
                state: Vec::new(),
            };
            let name = format!("Post {}", self.display_name(place.spec, place.scope));
            place.post = Some(self.add_post(name, PostWork::Script(Box::new(post))));
        }
        self.node_script(program, &script, env, place.interrupt, commands).await
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
        let state = post.state.iter();
        env.extend(state.map(|(name, value)| (format!("STATE_{name}").into(), value.into())));
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
        let mut console = Console {
            log: &mut self.log,
            commands,
            matchers: &mut self.matchers,
            dirs: self.state.dirs(),
        };
        let ended = exec::run(&invocation, &mut console, interrupt, self.grace).await?;
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
