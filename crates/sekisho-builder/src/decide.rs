//! What an instruction asks for: a pure step from one state of a stage to the next.
//!
//! Metadata is changed here at once. What needs files or a sandbox comes back as an [`Action`]; whether
//! it is carried out or taken from the cache, the engine finds out by its key.

mod commands;
mod values;

use sekisho_dockerfile::expand::{ExpandError, expand, expand_words};
use sekisho_dockerfile::git::GitRef;
use sekisho_dockerfile::scope::Scope;
use sekisho_dockerfile::{
    Command, Diagnostic, Dockerfile, HealthcheckTest, Instruction, Mount, Pair, Span, Spanned, Word,
};
use sekisho_oci::{Empty, Healthcheck, RunConfig};
use sekisho_types::Digest;

use crate::chmod::Chmod;
use crate::files;
use values::{is_signal, plain_list, port_range, quoted_list};

/// What programs are looked for in, when the image does not say.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Most ports that one EXPOSE may name by ranges: all there are.
const MAX_PORTS: usize = 65_536;

/// What a stage knows of itself.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) config: RunConfig,
    pub(crate) author: Option<String>,
    pub(crate) scope: Scope,
    /// CMD was given in this stage, so ENTRYPOINT leaves it alone.
    pub(crate) own_cmd: bool,
}

/// What to do about an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing: the config says it all.
    Metadata,
    Run(RunStep),
    Copy(CopyStep),
    /// Make this folder, if it is not there.
    Workdir(String),
}

/// A RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunStep {
    pub(crate) args: Vec<String>,
    /// Everything the command sees, but `HOME`.
    pub(crate) env: Vec<(String, String)>,
    /// Names among them that must not matter to the result.
    pub(crate) free: Vec<String>,
    pub(crate) no_network: bool,
    /// With variables expanded, and with absolute targets.
    pub(crate) mounts: Vec<Mount>,
    /// A file to be shown, and what is in it: a here-document that is a script.
    pub(crate) script: Option<(String, String)>,
    /// The command on one line, for people.
    pub(crate) command: String,
}

/// A COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyStep {
    pub(crate) sources: Vec<CopySource>,
    pub(crate) destination: String,
    /// The destination as written, variables expanded: what the history shows.
    pub(crate) written: String,
    pub(crate) is_folder: bool,
    pub(crate) from_elsewhere: bool,
    pub(crate) chown: Option<String>,
    /// `--chmod`, expanded and as it means.
    pub(crate) chmod: Option<(String, Chmod)>,
    /// `--parents`: the folders on the way to a source come along.
    pub(crate) parents: bool,
    /// `--exclude`, in patterns of `.dockerignore`.
    pub(crate) exclude: Vec<String>,
    /// `--link`: links of the image are not followed at the destination.
    pub(crate) link: bool,
    /// ADD: local archives are unpacked.
    pub(crate) unpack: bool,
    /// ADD: archives from a URL too.
    pub(crate) unpack_remote: bool,
}

impl CopyStep {
    /// Whether nothing of the image below matters: `--link`, and no name to look up in it.
    pub(crate) fn stands_alone(&self) -> bool {
        let numeric = |text: &String| text.contains(':') && crate::users::is_numeric(text);
        self.link && self.chown.as_ref().is_none_or(numeric)
    }
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CopySource {
    /// A path or pattern.
    Path(String),
    /// A file of this name and content.
    Inline { name: String, content: String },
    /// ADD: a file of another machine.
    Remote { url: String, checksum: Option<Digest> },
    /// ADD: a commit of a git repository.
    Git { written: String, git: GitRef, keep_git_dir: bool },
}

impl CopySource {
    /// As people would call it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Path(path) => path,
            Self::Inline { name, .. } => name,
            Self::Remote { url, .. } => url,
            Self::Git { written, .. } => written,
        }
    }
}

/// An action, and how the image's history tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) action: Action,
    /// `None`: the history does not tell of it.
    pub(crate) created_by: Option<String>,
}

struct Decider<'a> {
    file: &'a Dockerfile,
    state: &'a mut State,
    span: Span,
}

/// Decides about one instruction, and changes the state's metadata by it.
pub(crate) fn decide(
    file: &Dockerfile,
    state: &mut State,
    instruction: &Spanned<Instruction>,
) -> Result<Decided, Diagnostic> {
    let mut decider = Decider { file, state, span: instruction.span };
    decider.instruction(&instruction.node)
}

impl Decider<'_> {
    fn error(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        self.file.diagnostic(span, message)
    }

    fn unsupported<T>(&self, what: &str) -> Result<T, Diagnostic> {
        Err(self.error(self.span, format!("{what} is not supported yet")))
    }

    fn for_buildkit<T>(&self, what: &str) -> Result<T, Diagnostic> {
        let hint = "build it with `--engine buildkit` where there is one";
        self.unsupported(what).map_err(|error: Diagnostic| error.with_hint(hint))
    }

    fn expand(&self, word: &Word) -> Result<String, Diagnostic> {
        expand(&word.raw, self.file.escape, &|name| self.state.scope.get(name))
            .map_err(|error| self.bad(word.span, &error))
    }

    fn bad(&self, span: Span, error: &ExpandError) -> Diagnostic {
        self.error(span, error.to_string())
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<Decided, Diagnostic> {
        let created_by = match instruction {
            Instruction::Run(run) => return self.run(run),
            Instruction::Copy(copy) => return self.copy(copy),
            Instruction::Add(add) => return self.add(add),
            Instruction::Workdir(word) => return self.workdir(word),
            Instruction::Onbuild(inner) => {
                self.onbuild(inner);
                return Ok(Decided { action: Action::Metadata, created_by: None });
            }
            Instruction::Arg(args) => self.arg(args)?,
            Instruction::Env(pairs) => self.env(pairs)?,
            Instruction::Label(pairs) => self.label(pairs)?,
            Instruction::Cmd(command) => {
                let args = self.command(command)?;
                self.state.own_cmd = true;
                let told = format!("CMD {}", quoted_list(&args));
                self.state.config.cmd = Some(args);
                self.state.config.args_escaped = true;
                told
            }
            Instruction::Entrypoint(command) => {
                let args = self.command(command)?;
                if !self.state.own_cmd {
                    self.state.config.cmd = None;
                }
                let told = format!("ENTRYPOINT {}", quoted_list(&args));
                self.state.config.entrypoint = Some(args);
                told
            }
            Instruction::Expose(words) => self.expose(words)?,
            Instruction::Shell(shell) => {
                self.state.config.shell = Some(shell.clone());
                format!("SHELL {}", plain_list(shell))
            }
            Instruction::User(word) => {
                // None is root, as in BuildKit.
                let user = self.expand(word)?;
                self.state.config.user.clone_from(&user);
                format!("USER {user}")
            }
            Instruction::Stopsignal(word) => self.stopsignal(word)?,
            Instruction::Volume(words) => self.volume(words)?,
            Instruction::Healthcheck(check) => {
                let check = self.healthcheck(check)?;
                let told = format!("HEALTHCHECK {}", values::healthcheck(&check));
                self.state.config.healthcheck = Some(check);
                told
            }
            Instruction::Maintainer(name) => {
                self.state.author = Some(name.clone());
                format!("MAINTAINER {name}")
            }
        };
        Ok(Decided { action: Action::Metadata, created_by: Some(created_by) })
    }

    fn arg(&mut self, args: &[sekisho_dockerfile::Arg]) -> Result<String, Diagnostic> {
        let mut told = "ARG".to_owned();
        for arg in args {
            let declared = self.state.scope.declare(arg, self.file.escape);
            let value = declared.map_err(|error| self.bad(arg.span, &error))?;
            let value = value.map(|value| format!("={value}")).unwrap_or_default();
            told.push_str(&format!(" {}{value}", arg.name));
        }
        Ok(told)
    }

    fn volume(&mut self, words: &[Word]) -> Result<String, Diagnostic> {
        let mut names = Vec::new();
        for word in words {
            let name = self.expand(word)?;
            if name.is_empty() {
                return Err(self.error(word.span, "VOLUME is empty after expansion"));
            }
            names.push(name);
        }
        let told = format!("VOLUME {}", plain_list(&names));
        let volumes = names.into_iter().map(|name| (name, Empty {}));
        self.state.config.volumes.extend(volumes);
        Ok(told)
    }

    /// The config keeps the instruction as text, here-documents after it.
    fn onbuild(&mut self, inner: &Spanned<Instruction>) {
        let mut text = inner.text.clone();
        for heredoc in inner.node.heredocs() {
            text.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
        }
        self.state.config.on_build.push(text);
    }

    fn stopsignal(&mut self, word: &Word) -> Result<String, Diagnostic> {
        let signal = self.expand(word)?;
        if !is_signal(&signal) {
            let message = format!("`{signal}` is no signal: write `SIGTERM`, `TERM` or `15`");
            return Err(self.error(word.span, message));
        }
        self.state.config.stop_signal = Some(signal.clone());
        Ok(format!("STOPSIGNAL {signal}"))
    }

    fn env(&mut self, pairs: &[Pair]) -> Result<String, Diagnostic> {
        // All values see the variables as they were before the instruction.
        let mut set = Vec::new();
        for pair in pairs {
            set.push((self.expand(&pair.key)?, self.expand(&pair.value)?));
        }
        for (name, value) in &set {
            if name.is_empty() {
                return Err(self.error(self.span, "ENV names an empty variable"));
            }
            self.state.scope.set_env(name, value);
        }
        self.state.config.env = self.state.scope.env();
        let told: Vec<_> = set.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Ok(format!("ENV {}", told.join(" ")))
    }

    fn label(&mut self, pairs: &[Pair]) -> Result<String, Diagnostic> {
        let mut told = Vec::new();
        for pair in pairs {
            let (key, value) = (self.expand(&pair.key)?, self.expand(&pair.value)?);
            told.push(format!("{key}={value}"));
            self.state.config.labels.insert(key, value);
        }
        Ok(format!("LABEL {}", told.join(" ")))
    }

    fn expose(&mut self, words: &[Word]) -> Result<String, Diagnostic> {
        let mut ports = Vec::new();
        // BuildKit tells them in the order of what is written.
        let mut words: Vec<&Word> = words.iter().collect();
        words.sort_by(|a, b| a.raw.cmp(&b.raw));
        for word in words {
            let texts =
                expand_words(&word.raw, self.file.escape, &|name| self.state.scope.get(name))
                    .map_err(|error| self.bad(word.span, &error))?;
            for text in texts {
                let expanded = port_range(&text).ok_or_else(|| {
                    let message = format!("`{text}` is no port: write `80`, `80/udp` or `80-90`");
                    self.error(word.span, message)
                })?;
                ports.extend(expanded);
                if ports.len() > MAX_PORTS {
                    let message = format!("EXPOSE names more than {MAX_PORTS} ports");
                    return Err(self.error(word.span, message));
                }
            }
        }
        let told = format!("EXPOSE {}", plain_list(&ports));
        let ports = ports.into_iter().map(|port| (port, Empty {}));
        self.state.config.exposed_ports.extend(ports);
        Ok(told)
    }

    fn healthcheck(
        &self,
        check: &sekisho_dockerfile::Healthcheck,
    ) -> Result<Healthcheck, Diagnostic> {
        let test = match &check.test {
            HealthcheckTest::None => vec!["NONE".to_owned()],
            HealthcheckTest::Command(Command::Exec(args)) => {
                std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect()
            }
            HealthcheckTest::Command(Command::Shell { line, heredocs }) => {
                if !heredocs.is_empty() {
                    return self.unsupported("a here-document in HEALTHCHECK");
                }
                vec!["CMD-SHELL".to_owned(), line.clone()]
            }
        };
        let nanos = |time: Option<std::time::Duration>| {
            time.and_then(|time| u64::try_from(time.as_nanos()).ok()).unwrap_or_default()
        };
        Ok(Healthcheck {
            test,
            interval: nanos(check.interval),
            timeout: nanos(check.timeout),
            start_period: nanos(check.start_period),
            start_interval: nanos(check.start_interval),
            retries: check.retries.unwrap_or_default().into(),
        })
    }

    fn shell(&self) -> Vec<String> {
        let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
        self.state.config.shell.clone().unwrap_or_else(default)
    }

    fn command(&self, command: &Command) -> Result<Vec<String>, Diagnostic> {
        match command {
            Command::Exec(args) => Ok(args.clone()),
            Command::Shell { line, heredocs } if heredocs.is_empty() => {
                let mut args = self.shell();
                args.push(line.clone());
                Ok(args)
            }
            Command::Shell { .. } => self.unsupported("a here-document outside RUN, COPY and ADD"),
        }
    }

    fn workdir_now(&self) -> String {
        let now = &self.state.config.working_dir;
        if now.is_empty() { "/".to_owned() } else { now.clone() }
    }

    fn workdir(&mut self, word: &Word) -> Result<Decided, Diagnostic> {
        // As in BuildKit (`NormalizePath` in its util/system/path.go): none is the present one, and one from the root
        // stays as it is written.
        let written = self.expand(word)?;
        let path = files::absolute(&self.workdir_now(), &written);
        let told = if written.starts_with('/') { &written } else { &path };
        self.state.config.working_dir.clone_from(told);
        let created_by = Some(format!("WORKDIR {told}"));
        // The root is there, whoever owns it.
        let action = if path == "/" { Action::Metadata } else { Action::Workdir(path) };
        Ok(Decided { action, created_by })
    }
}

#[cfg(test)]
mod tests;
