//! `run:` steps.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;
use sekisho_workflow::token::{self, Token};
use uuid::Uuid;

use super::Job;
use super::step::{WorkEnd, Workplace};
use crate::console::{Commands, Console};
use crate::exec::{self, Ended, Invocation};
use crate::shell::{self, Shell};
use crate::stop::Interrupt;

impl Job {
    /// Writes the script, shows it, runs it.
    pub(super) async fn run_script(
        &mut self,
        place: &Workplace<'_>,
        commands: &mut Commands,
    ) -> anyhow::Result<WorkEnd> {
        let script = self.input(place, "script")?.unwrap_or_default();
        let view = self.view(place.spec, place.scope, Some(place.files), place.env);
        let env = self.state.environment(&view);
        let folder = self.working_folder(place)?;
        let path = env.get(&OsString::from("PATH")).cloned().unwrap_or_default();
        let path = path.to_string_lossy().into_owned();
        let find = |program: &str| shell::find(program, &path, &folder);
        let name = self.run_setting(place, "shell")?;
        if place.spec.in_action && name.is_none() {
            anyhow::bail!("Required property is missing: shell");
        }
        let shell = Shell::parse(name.as_deref(), find("bash").is_some())?;
        let program = std::iter::once(shell.program.as_str())
            .chain(shell.fallback)
            .find_map(find)
            .with_context(|| format!("shell `{}` is not on the PATH", shell.program))?;
        let file = self.write_script(&script, shell.extension)?;
        self.show_header(&script, &shell.describe(&program), place);
        let invocation = Invocation { program, args: shell.args(&file), folder, env: as_list(env) };
        let ended = self.run_program(&invocation, place.interrupt, commands).await;
        // The folder is emptied at the job's end anyway.
        let _ = fs_err::remove_file(&file);
        self.conclude(ended?, commands)
    }

    /// Runs a program to its end, its output through the console.
    pub(crate) async fn run_program(
        &mut self,
        invocation: &Invocation,
        interrupt: &Interrupt,
        commands: &mut Commands,
    ) -> anyhow::Result<Ended> {
        let mut console = Console {
            log: &mut self.log,
            commands,
            matchers: &mut self.matchers,
            dirs: self.state.dirs(),
        };
        exec::run(invocation, &mut console, interrupt, self.grace).await
    }

    /// Says how a process ended that must not fail.
    pub(crate) fn conclude(
        &mut self,
        ended: Ended,
        commands: &mut Commands,
    ) -> anyhow::Result<WorkEnd> {
        use std::os::unix::process::ExitStatusExt as _;
        match ended {
            Ended::Exited(status) if status.success() => Ok(WorkEnd::Success),
            Ended::Exited(status) => {
                // A shell reports a signal as 128 plus its number; so do we.
                let signal = status.signal().map(|signal| 128 + signal);
                let code = status.code().or(signal).unwrap_or(1);
                self.fail_step(commands, &format!("Process completed with exit code {code}."));
                Ok(WorkEnd::Failure)
            }
            Ended::Interrupted(cause) => Ok(WorkEnd::Interrupted(cause)),
        }
    }

    /// One of the step's inputs, evaluated; `None` where it is absent or empty.
    pub(crate) fn input(
        &self,
        place: &Workplace<'_>,
        name: &str,
    ) -> anyhow::Result<Option<String>> {
        let Some(token) = place.spec.inputs.get(name) else { return Ok(None) };
        let text = token::eval_string(token, place.contexts, &self.functions(place.scope));
        let text = text.with_context(|| format!("`{name}` of the step cannot be evaluated"))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// `shell` or `working-directory`: the step's, else the job's default, else the workflow's.
    fn run_setting(&self, place: &Workplace<'_>, name: &str) -> anyhow::Result<Option<String>> {
        let input = if name == "shell" { "shell" } else { "workingDirectory" };
        if let Some(value) = self.input(place, input)? {
            return Ok(Some(value));
        }
        if place.spec.in_action {
            return Ok(None);
        }
        let functions = self.functions(place.scope);
        for level in self.message.defaults.iter().rev() {
            let Some(token) = level.get("run").and_then(|run: &Token| run.get(name)) else {
                continue;
            };
            let value = token::eval_string(token, place.contexts, &functions)
                .with_context(|| format!("`defaults.run.{name}` cannot be evaluated"))?;
            if !value.is_empty() {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    fn working_folder(&self, place: &Workplace<'_>) -> anyhow::Result<PathBuf> {
        let workspace = &self.state.dirs().workspace;
        let setting = self.run_setting(place, "working-directory")?;
        let folder = setting.map_or_else(|| workspace.clone(), |folder| workspace.join(folder));
        if !folder.is_dir() {
            anyhow::bail!("The working directory `{}` does not exist", folder.display());
        }
        Ok(folder)
    }

    fn write_script(&self, script: &str, extension: &str) -> anyhow::Result<PathBuf> {
        let path = self.state.dirs().temp.join(format!("{}{extension}", Uuid::new_v4()));
        fs_err::write(&path, script.replace("\r\n", "\n")).context("writing the step's script")?;
        Ok(path)
    }

    fn show_header(&mut self, script: &str, shell: &str, place: &Workplace<'_>) {
        let first = script.trim_start().lines().next().unwrap_or_default();
        self.log.write(&format!("##[group]Run {first}"));
        for line in script.trim_end().lines() {
            self.log.write(&format!("\u{1b}[36;1m{line}\u{1b}[0m"));
        }
        self.log.write(&format!("shell: {shell}"));
        self.show_env(place);
        self.log.write("##[endgroup]");
    }

    /// Shows what the job and the step have set.
    pub(crate) fn show_env(&mut self, place: &Workplace<'_>) {
        let mut env: BTreeMap<&String, &String> = self.state.env.iter().collect();
        env.extend(place.scope.env.iter().chain(place.env).map(|(name, value)| (name, value)));
        let lines: Vec<String> =
            env.into_iter().map(|(name, value)| format!("  {name}: {value}")).collect();
        if !lines.is_empty() {
            self.log.write("env:");
            lines.iter().for_each(|line| self.log.write(line));
        }
    }
}

/// An environment as a process takes it.
pub(crate) fn as_list(env: BTreeMap<OsString, OsString>) -> Vec<(OsString, OsString)> {
    env.into_iter().collect()
}
