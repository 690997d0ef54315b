//! The hooks of whoever runs the runner: a script before the job's first step, one after its last.
//!
//! <https://docs.github.com/actions/hosting-your-own-runners/managing-self-hosted-runners/running-scripts-before-or-after-a-job>

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Job;
use super::script::as_list;
use super::step::{WorkEnd, Workplace};
use crate::console::Commands;
use crate::exec::Invocation;
use crate::shell;
use crate::spec::{StepSpec, Work};

/// Names the script that runs before the first step.
const STARTED: &str = "ACTIONS_RUNNER_HOOK_JOB_STARTED";
/// Names the script that runs after the last step.
const COMPLETED: &str = "ACTIONS_RUNNER_HOOK_JOB_COMPLETED";
/// A hook has no outputs and no state.
const NOT_FOR_HOOKS: [&str; 2] = ["GITHUB_OUTPUT", "GITHUB_STATE"];

/// The hooks that the runner's environment names.
#[derive(Clone, Debug, Default)]
pub(super) struct Hooks {
    pub(super) started: Option<StepSpec>,
    pub(super) completed: Option<StepSpec>,
}

impl Hooks {
    /// Reads them; whether a script can be run shows when it is its turn.
    pub(super) fn from_environment(environment: &[(OsString, OsString)]) -> Self {
        let hook = |variable: &str, name: &str| {
            let found = environment.iter().find(|(key, _)| key == variable);
            let path = found.map(|(_, path)| PathBuf::from(path));
            let path = path.filter(|path| !path.as_os_str().is_empty())?;
            Some(StepSpec::own(name, Work::Hook { path, variable: variable.to_owned() }))
        };
        Self {
            started: hook(STARTED, "Set up runner"),
            completed: hook(COMPLETED, "Complete runner"),
        }
    }
}

impl Job {
    /// Runs a hook's script, with the environment of a step.
    pub(super) async fn run_hook(
        &mut self,
        path: &Path,
        variable: &str,
        place: &Workplace<'_>,
        commands: &mut Commands,
    ) -> anyhow::Result<WorkEnd> {
        if !path.is_absolute() || !path.is_file() {
            anyhow::bail!(
                "`{variable}` is `{}`, which is not the absolute path of a file",
                path.display()
            );
        }
        if path.extension() != Some(OsStr::new("sh")) {
            anyhow::bail!("`{variable}` names `{}`: only `.sh` files can be run", path.display());
        }
        let view = self.view(place.spec, place.scope, Some(place.files), place.env);
        let mut env = self.state.environment(&view);
        for name in NOT_FOR_HOOKS {
            env.remove(OsStr::new(name));
        }
        let search = env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let search = search.to_string_lossy().into_owned();
        let folder = self.state.dirs().workspace.clone();
        let program = ["bash", "sh"].iter().find_map(|name| shell::find(name, &search, &folder));
        let program = program.context("neither `bash` nor `sh` is on the PATH")?;
        self.log.write(&format!("A job hook of this runner's owner runs: {}", path.display()));
        let args = vec!["-e".into(), path.into()];
        let invocation = Invocation { program, args, folder, env: as_list(env) };
        let ended = self.run_program(&invocation, place.interrupt, commands).await?;
        self.conclude(ended, commands)
    }
}
