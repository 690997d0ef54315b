//! A step's output, line by line: workflow commands take effect, the rest goes into the log.

mod problems;

use sekisho_github::wire::run_service::AnnotationLevel;

use crate::annotation::Annotations;
use crate::command::{Command, is_stop_token};
use crate::dirs::Dirs;
use crate::log::{Line, LineBuffer, Log};
use crate::matcher::Matchers;

/// Outputs that a step may set by command; more are ignored, with an error.
const MAX_OUTPUTS: usize = 10_000;

/// What a step's output has brought about.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    /// Debug lines are shown.
    debug: bool,
    pub(crate) annotations: Annotations,
    /// `set-output`, in order.
    pub(crate) outputs: Vec<(String, String)>,
    /// `save-state` and `GITHUB_STATE`, in order, for the step's post step.
    pub(crate) state: Vec<(String, String)>,
    /// Markdown of the step's summary, not masked yet.
    pub(crate) summary: String,
    /// A command was wrong, so the step fails.
    pub(crate) failed: bool,
    echo: bool,
    /// Commands are off until this token.
    stopped: Option<String>,
    warned_old: bool,
}

impl Commands {
    /// Nothing yet; `debug` shows debug lines.
    pub(crate) fn new(debug: bool) -> Self {
        Self { debug, ..Self::default() }
    }
}

/// The way of a step's output into the log.
pub(crate) struct Console<'a> {
    pub(crate) log: &'a mut Log,
    pub(crate) commands: &'a mut Commands,
    pub(crate) matchers: &'a mut Matchers,
    pub(crate) dirs: &'a Dirs,
}

impl Console<'_> {
    /// Takes all whole lines out of the buffer.
    pub(crate) async fn take_lines(&mut self, lines: &mut LineBuffer) {
        loop {
            let masker = self.log.masker();
            let next = lines.next_line(masker.longest(), |bytes| masker.ranges(bytes));
            let Some(line) = next else { break };
            self.line(&line);
            if self.log.is_full() {
                self.log.flush().await;
            }
        }
        self.log.flush().await;
    }

    /// Takes the line without an end.
    pub(crate) async fn take_last_line(&mut self, lines: &mut LineBuffer) {
        self.take_lines(lines).await;
        if let Some(line) = lines.last_line() {
            self.line(&line);
        }
        self.log.flush().await;
    }

    /// One line.
    pub(crate) fn line(&mut self, line: &Line<'_>) {
        let command = if line.continues { None } else { Command::parse(&line.text) };
        let Some(command) = command else { return self.text(&line.text) };
        if let Some(token) = &self.commands.stopped {
            if command.name.eq_ignore_ascii_case(token) {
                self.commands.stopped = None;
            }
            return self.log.write(&line.text);
        }
        self.command(&command, &line.text);
    }

    fn command(&mut self, command: &Command, text: &str) {
        match command.name.as_str() {
            "debug" => {
                if self.commands.debug {
                    self.log.write(&format!("##[debug]{}", command.message));
                }
            }
            "notice" => self.annotate(AnnotationLevel::Notice, "notice", command),
            "warning" => self.annotate(AnnotationLevel::Warning, "warning", command),
            "error" => self.annotate(AnnotationLevel::Failure, "error", command),
            "group" => self.log.write(&format!("##[group]{}", command.message)),
            "endgroup" => self.log.write("##[endgroup]"),
            "add-mask" => self.add_mask(&command.message),
            "echo" => self.echo(command, text),
            "stop-commands" => self.stop(command, text),
            "set-output" => self.set_output(command, text),
            "save-state" => self.save_state(command, text),
            "set-env" | "add-path" => self.fail(&format!(
                "The `{}` command is disabled. Write to the file that `GITHUB_ENV` or \
                 `GITHUB_PATH` names instead.",
                command.name
            )),
            "add-matcher" => self.add_matchers(&command.message),
            "remove-matcher" => self.remove_matchers(command),
            _ => self.text(text),
        }
    }

    fn annotate(&mut self, level: AnnotationLevel, tag: &str, command: &Command) {
        self.commands.annotations.add_command(self.log.masker(), level, command);
        self.log.write(&format!("##[{tag}]{}", command.message));
    }

    fn add_mask(&mut self, value: &str) {
        if value.trim().is_empty() {
            return self.warn("Can't add secret mask for empty string in ##[add-mask] command.");
        }
        if let Err(error) = self.log.masker_mut().add(value) {
            self.fail(&format!("A value cannot be masked: {error}. No more of the log is shown."));
            // The value may come in any line from now on.
            self.log.mute();
        }
    }

    fn echo(&mut self, command: &Command, text: &str) {
        match command.message.trim().to_ascii_lowercase().as_str() {
            "on" => self.commands.echo = true,
            "off" => self.commands.echo = false,
            _ => {
                return self
                    .fail("Invalid echo command value. Possible values can be: 'on', 'off'.");
            }
        }
        self.echo_line(text);
    }

    fn stop(&mut self, command: &Command, text: &str) {
        if is_stop_token(&command.message) {
            self.commands.stopped = Some(command.message.clone());
            self.log.write(text);
        } else {
            self.fail(
                "Invalid stop token. It must not be empty, `pause-logging` or a command's name.",
            );
        }
    }

    fn set_output(&mut self, command: &Command, text: &str) {
        self.warn_old("set-output");
        match command.get("name") {
            Some(name) if self.commands.outputs.len() < MAX_OUTPUTS => {
                self.commands.outputs.push((name.to_owned(), command.message.clone()));
                self.echo_line(text);
            }
            Some(_) => self.fail("Too many outputs are set."),
            None => self.fail("Required field 'name' is missing in ##[set-output] command."),
        }
    }

    fn save_state(&mut self, command: &Command, text: &str) {
        self.warn_old("save-state");
        match command.get("name") {
            Some(name) if self.commands.state.len() < MAX_OUTPUTS => {
                self.commands.state.push((name.to_owned(), command.message.clone()));
                self.echo_line(text);
            }
            Some(_) => self.fail("Too many states are saved."),
            None => self.fail("Required field 'name' is missing in ##[save-state] command."),
        }
    }

    fn echo_line(&mut self, text: &str) {
        if self.commands.echo {
            self.log.write(text);
        }
    }

    fn warn_old(&mut self, name: &str) {
        if !std::mem::replace(&mut self.commands.warned_old, true) {
            self.warn(&format!(
                "The `{name}` command is deprecated. Use the files that `GITHUB_OUTPUT` and \
                 `GITHUB_STATE` name."
            ));
        }
    }

    pub(super) fn warn(&mut self, message: &str) {
        let level = AnnotationLevel::Warning;
        self.commands.annotations.add(self.log.masker(), level, message);
        self.log.warning(message);
    }

    pub(super) fn fail(&mut self, message: &str) {
        let level = AnnotationLevel::Failure;
        self.commands.annotations.add(self.log.masker(), level, message);
        self.log.error(message);
        self.commands.failed = true;
    }
}
