//! The command line: what can be asked for.

pub(crate) mod base;
pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod gate;
pub(crate) mod hub;
pub(crate) mod logs;
pub(crate) mod migrate;
pub(crate) mod operator;
pub(crate) mod policy;
pub(crate) mod run;
pub(crate) mod runner;
pub(crate) mod runners;
pub(crate) mod runs;
pub(crate) mod up;
pub(crate) mod why;

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Builds container images on machines you own, and lets none leave uninspected.
#[derive(Debug, Parser)]
#[command(
    name = "sekisho",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 nothing to act on, \
                  10 refused by the gate, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Args, Debug)]
pub(crate) struct GlobalArgs {
    /// Folder of the plane's data [default: $XDG_DATA_HOME/sekisho]
    #[arg(long, global = true, value_name = "DIR", env = "SEKISHO_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// How the answer on stdout looks
    #[arg(long, global = true, default_value_t, value_parser = FormParser, env = "SEKISHO_OUTPUT")]
    pub(crate) output: Output,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Show more of what goes on inside; twice for all of it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Show only the answer and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

/// Form of the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Human,
    /// For programs: one JSON document with a `schemaVersion`
    Json,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

/// Reads [`Output`], and says what is said with another word to who means that of docker.
#[derive(Clone)]
struct FormParser;

impl TypedValueParser for FormParser {
    type Value = Output;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Output, clap::Error> {
        let read = EnumValueParser::<Output>::new().parse_ref(command, argument, value);
        read.map_err(|mut error| {
            if command.get_name() == "build" {
                let tip = "where the image goes is said with `--out`, or `-o`".into();
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
            }
            error
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let all = Output::value_variants().iter();
        Some(Box::new(all.filter_map(ValueEnum::to_possible_value)))
    }
}

/// Use of colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, and as NO_COLOR and CLICOLOR_FORCE say
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the workflows of a folder or git repository, as a push to GitHub would
    Run(run::RunArgs),
    /// Start the plane and keep it up: git pushes start runs, images can be pulled
    Up(up::UpArgs),
    /// List the runs of this data folder
    Runs(runs::RunsArgs),
    /// Show the log of a run
    Logs(logs::LogsArgs),
    /// Build an image from a Dockerfile, without a daemon and without privilege
    Build(Box<build::BuildArgs>),
    /// Log in to a gate, or serve as one; approve what yours holds, verify and export its decisions
    Gate(gate::GateArgs),
    /// Golden bases, made of a distribution's own signed packages
    Base(base::BaseArgs),
    /// Make room in the builder's cache
    Cache(cache::CacheArgs),
    /// Check the gate's rules, and explain what it decided
    Policy(policy::PolicyArgs),
    /// Look at a GitHub, or at the hub that stands in for it
    Hub(hub::HubArgs),
    /// Install the operator, which runs jobs on Kubernetes
    Operator(operator::OperatorArgs),
    /// Look at the runners of a cluster
    Runners(runners::RunnersArgs),
    /// Say why a job waits, where it runs, or how it was lost
    Why(why::WhyArgs),
    /// Turn the configuration of other runners into Sekisho's
    Migrate(migrate::MigrateArgs),
    /// The program that takes one job
    Runner(runner::RunnerArgs),
}
