//! What a Dockerfile says, as values.

mod mount;

use std::time::Duration;

pub use mount::{CacheSharing, Mount, MountKind};

/// Where something stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Of the first character, from 1.
    pub line: u32,
    /// Of the first character, from 1, in characters.
    pub column: u32,
    /// Of the last line, heredocs included.
    pub end_line: u32,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub node: T,
    /// Where it stands.
    pub span: Span,
    /// For an instruction: its text with continuation lines joined, as a history shows it.
    pub text: String,
}

/// A piece of text that may hold variables, quotes and escapes: see [`crate::expand`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// As it stands, continuation lines joined.
    pub raw: String,
    /// Where it starts.
    pub span: Span,
}

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// As given to [`crate::parse`].
    pub file: String,
    /// The text.
    pub source: String,
    /// `\`, or the backtick of `# escape=`.
    pub escape: char,
    /// `# syntax=`: the image of a frontend.
    pub syntax: Option<Spanned<String>>,
    /// `# check=`.
    pub check: Option<Spanned<Check>>,
    /// ARGs before the first FROM.
    pub global_args: Vec<Spanned<Vec<Arg>>>,
    /// At least one.
    pub stages: Vec<Stage>,
    /// Blank lines in the middle of instructions.
    pub empty_continuations: Vec<Span>,
    /// What is allowed but dubious.
    pub warnings: Vec<crate::Diagnostic>,
}

impl Dockerfile {
    /// A diagnostic at `span` of this file.
    pub fn diagnostic(&self, span: Span, message: impl Into<String>) -> crate::Diagnostic {
        crate::Diagnostic::new(&self.file, &self.source, span, message)
    }
}

/// `# check=skip=a,b;error=true`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Rules that are off; `all` is every one.
    pub skip: Vec<String>,
    /// Experimental rules that are on.
    pub experimental: Vec<String>,
    /// A finding fails the build.
    pub error: bool,
}

impl Check {
    /// Reads `skip=a,b;error=true`, as after `# check=`.
    ///
    /// # Errors
    /// Says which part is no option.
    pub fn parse(text: &str) -> Result<Self, String> {
        crate::parse::check(text)
    }
}

/// From one FROM to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// From 0.
    pub index: usize,
    /// After `AS`, in lower case: names of stages know no case.
    pub name: Option<String>,
    /// What the stage starts from: an image, `scratch`, or an earlier stage.
    pub base: Word,
    /// `--platform=`.
    pub platform: Option<Word>,
    /// What follows, in order.
    pub instructions: Vec<Spanned<Instruction>>,
    /// Of the FROM.
    pub span: Span,
    /// The FROM, continuation lines joined.
    pub text: String,
}

/// One instruction. FROM is not among them: see [`Stage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// ADD: copy, fetch or unpack.
    Add(Add),
    /// ARG: variables of the build.
    Arg(Vec<Arg>),
    /// CMD: default arguments or command.
    Cmd(Command),
    /// COPY.
    Copy(Copy),
    /// ENTRYPOINT.
    Entrypoint(Command),
    /// ENV: variables of the image.
    Env(Vec<Pair>),
    /// EXPOSE: `port[/protocol]`, `from-to[/protocol]`.
    Expose(Vec<Word>),
    /// HEALTHCHECK.
    Healthcheck(Healthcheck),
    /// LABEL.
    Label(Vec<Pair>),
    /// MAINTAINER, deprecated: sets the author.
    Maintainer(String),
    /// ONBUILD: an instruction for a child build, also as text for the image config.
    Onbuild(Box<Spanned<Self>>),
    /// RUN.
    Run(Run),
    /// SHELL: what shell-form commands run with.
    Shell(Vec<String>),
    /// STOPSIGNAL.
    Stopsignal(Word),
    /// USER: `user[:group]`.
    User(Word),
    /// VOLUME.
    Volume(Vec<Word>),
    /// WORKDIR.
    Workdir(Word),
}

impl Instruction {
    /// Its here-documents, in order.
    pub fn heredocs(&self) -> Vec<&Heredoc> {
        let (sources, command) = match self {
            Self::Copy(copy) => (copy.sources.as_slice(), None),
            Self::Add(add) => (add.sources.as_slice(), None),
            Self::Run(run) => (&[][..], Some(&run.command)),
            _ => (&[][..], None),
        };
        if let Some(Command::Shell { heredocs, .. }) = command {
            return heredocs.iter().collect();
        }
        sources
            .iter()
            .filter_map(|source| match source {
                Source::Heredoc(heredoc) => Some(heredoc),
                Source::Path(_) => None,
            })
            .collect()
    }

    /// In capitals, as in the reference.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// One variable of an ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// A shell name.
    pub name: String,
    /// After `=`; may use earlier variables. `None`: no default.
    pub default: Option<Word>,
    /// Where the name stands.
    pub span: Span,
}

/// One `key=value` of an ENV or LABEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Of an ENV: taken as it is, after expansion. Of a LABEL: may be quoted.
    pub key: Word,
    /// May be quoted.
    pub value: Word,
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Text for a shell.
    Shell {
        /// The line, continuation lines joined, heredoc marks included.
        line: String,
        /// In the order of their marks.
        heredocs: Vec<Heredoc>,
    },
    /// A program and its arguments, from a JSON array.
    Exec(Vec<String>),
}

impl Command {
    /// What is to be run for a shell form; `None` for the exec form.
    ///
    /// A RUN that is only `<<NAME` runs the text of its heredoc; with other words on the line, the
    /// shell itself reads the heredocs, which stand after it as in the file.
    pub fn script(&self) -> Option<Script> {
        match self {
            Self::Shell { line, heredocs } => Some(crate::parse::script_of(line, heredocs)),
            Self::Exec(_) => None,
        }
    }
}

/// What a shell-form command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// The last argument of the shell.
    Shell(String),
    /// A file that starts with `#!`, to be made executable and run without the shell.
    File {
        /// The heredoc's.
        name: String,
        /// Of the file.
        content: String,
    },
}

/// `<<NAME` … `NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The name, without quotes.
    pub name: String,
    /// The name was not quoted: variables in the text are expanded.
    pub expand: bool,
    /// `<<-`: tabs at the start of lines were stripped.
    pub chomp: bool,
    /// The lines between, each with its newline; tabs stripped where `chomp`.
    pub content: String,
    /// The file descriptor in front of `<<`, 0 without.
    pub fd: u32,
    /// Of the first line of the text.
    pub span: Span,
}

/// RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub command: Command,
    /// `--mount=`, in order.
    pub mounts: Vec<Mount>,
    /// `--network=`.
    pub network: Option<Network>,
    /// `--security=`.
    pub security: Option<Security>,
    /// `--device=`.
    pub devices: Vec<String>,
}

/// `--network=` of a RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// The build's.
    Default,
    /// Only loopback.
    None,
    /// The machine's.
    Host,
}

/// `--security=` of a RUN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// In the sandbox.
    Sandbox,
    /// Without one.
    Insecure,
}

/// What a COPY or ADD copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A path or pattern, or for ADD a URL.
    Path(Word),
    /// A file of the heredoc's name.
    Heredoc(Heredoc),
}

/// COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// At least one.
    pub sources: Vec<Source>,
    /// The last argument.
    pub destination: Word,
    /// `--from=`: a stage by name or index, or an image. Variables are not allowed in it.
    pub from: Option<Word>,
    /// `--chown=`: `user[:group]`.
    pub chown: Option<Word>,
    /// `--chmod=`: octal or symbolic.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude=`, in the patterns of [`crate::ignore`].
    pub exclude: Vec<Word>,
}

/// ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// At least one.
    pub sources: Vec<Source>,
    /// The last argument.
    pub destination: Word,
    /// `--chown=`.
    pub chown: Option<Word>,
    /// `--chmod=`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--exclude=`.
    pub exclude: Vec<Word>,
    /// `--checksum=`: a digest, or for git a commit.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// `--unpack`: `None` is the default, local archives only.
    pub unpack: Option<bool>,
}

/// HEALTHCHECK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// How.
    pub test: HealthcheckTest,
    /// `--interval=`.
    pub interval: Option<Duration>,
    /// `--timeout=`.
    pub timeout: Option<Duration>,
    /// `--start-period=`.
    pub start_period: Option<Duration>,
    /// `--start-interval=`.
    pub start_interval: Option<Duration>,
    /// `--retries=`.
    pub retries: Option<u32>,
}

/// How a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthcheckTest {
    /// Not at all, also if the base image does.
    None,
    /// By a command.
    Command(Command),
}
