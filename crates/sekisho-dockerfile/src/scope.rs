//! Which ARG and ENV an instruction sees.

use std::collections::BTreeMap;

use crate::ast::{Arg, Dockerfile};
use crate::diagnostic::Diagnostic;
use crate::expand::ExpandError;

/// Names that need no ARG to be given, are seen by every RUN, and are in no key or history.
pub const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Values of `--build-arg`.
pub type BuildArgs = BTreeMap<String, String>;

/// The ARGs before the first FROM, with the build's values and the platform's arguments
/// (`TARGETPLATFORM` …), which `platform` gives.
pub fn globals(
    file: &Dockerfile,
    build_args: &BuildArgs,
    platform: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Diagnostic> {
    let _ = (file, build_args, platform);
    unimplemented!("the scope")
}

/// The variables of one stage, as its instructions change them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    globals: BTreeMap<String, String>,
    build_args: BuildArgs,
    args: Vec<(String, Option<String>)>,
    env: Vec<(String, String)>,
}

impl Scope {
    /// The variables at the start of a stage: `env` is that of its base, as `NAME=value`.
    pub fn new(globals: &BTreeMap<String, String>, build_args: &BuildArgs, env: &[String]) -> Self {
        let _ = env;
        Self {
            globals: globals.clone(),
            build_args: build_args.clone(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    /// What `$name` is: ENV wins over ARG.
    pub fn get(&self, name: &str) -> Option<String> {
        let _ = name;
        unimplemented!("the scope")
    }

    /// ARG: the build's value, else the default, else that of a global ARG of the name.
    pub fn declare(&mut self, arg: &Arg, escape: char) -> Result<(), ExpandError> {
        let _ = (arg, escape);
        unimplemented!("the scope")
    }

    /// ENV.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let _ = (name, value);
    }

    /// `NAME=value` of the ENVs, in order, for the image config.
    pub fn env(&self) -> Vec<String> {
        self.env.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// What a RUN sees: the ARGs that have a value and are no ENV, and the ENVs.
    pub fn run_env(&self) -> Vec<(String, String)> {
        unimplemented!("the scope")
    }
}
