//! Which ARG and ENV an instruction sees.
//!
//! ```text
//! before the first FROM   ARGs, for FROM only; each sees those before it, and the platform's
//! in a stage              ARG name[=default]: the build's value, else the default, else the
//!                         global ARG's; from there on
//!                         ENV: from there on, and stays in the image
//!                         of an ARG and an ENV of one name the later one wins, as in BuildKit, whose
//!                         reference says that ENV always does
//! FROM stage              starts with the ARGs and ENVs of that stage
//! ```

use std::collections::BTreeMap;

use crate::ast::{Arg, Dockerfile};
use crate::diagnostic::Diagnostic;
use crate::expand::{ExpandError, expand};

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

/// The ARGs before the first FROM, with the build's values, and the platform's arguments
/// (`TARGETPLATFORM` …), which `platform` gives.
///
/// The result is for FROM, for [`crate::graph::order`], and for [`Scope::new`].
pub fn globals(
    file: &Dockerfile,
    build_args: &BuildArgs,
    platform: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Diagnostic> {
    let mut values = platform.clone();
    for instruction in &file.global_args {
        for arg in &instruction.node {
            let given = build_args.get(&arg.name).cloned();
            let value = match (given, &arg.default) {
                (Some(given), _) => Some(given),
                (None, Some(default)) => {
                    let lookup = |name: &str| values.get(name).cloned();
                    let value = expand(&default.raw, file.escape, &lookup)
                        .map_err(|error| file.diagnostic(default.span, error.to_string()))?;
                    Some(value)
                }
                // `ARG TARGETARCH` before FROM keeps what the platform says.
                (None, None) => None,
            };
            if let Some(value) = value {
                values.insert(arg.name.clone(), value);
            }
        }
    }
    Ok(values)
}

/// The variables of one stage, as its instructions change them.
///
/// A stage that is based on another one starts with a clone of that one's scope at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    globals: BTreeMap<String, String>,
    build_args: BuildArgs,
    /// In the order of their first declaration; `None` for one without a value.
    args: Vec<(String, Option<String>)>,
    /// ARGs with a value that came after the ENV of their name.
    over: Vec<String>,
    env: Vec<(String, String)>,
}

impl Scope {
    /// The variables at the start of a stage: `env` is that of its base image, as `NAME=value`.
    pub fn new(globals: &BTreeMap<String, String>, build_args: &BuildArgs, env: &[String]) -> Self {
        let mut scope = Self {
            globals: globals.clone(),
            build_args: build_args.clone(),
            args: Vec::new(),
            over: Vec::new(),
            env: Vec::new(),
        };
        for variable in env {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            scope.set_env(name, value);
        }
        scope
    }

    /// What `$name` is.
    pub fn get(&self, name: &str) -> Option<String> {
        let arg = || find(&self.args, name).cloned().flatten();
        match self.is_hidden(name) {
            true => find(&self.env, name).cloned(),
            false => arg(),
        }
    }

    /// Whether an ENV says what an ARG of the name would.
    fn is_hidden(&self, name: &str) -> bool {
        find(&self.env, name).is_some() && !self.over.iter().any(|one| one == name)
    }

    /// ARG: the build's value, else the default, else that of a global ARG of the name.
    ///
    /// An ARG with several names declares one after the other, so that each sees those before it.
    /// Gives the value.
    pub fn declare(&mut self, arg: &Arg, escape: char) -> Result<Option<String>, ExpandError> {
        let value = match (self.build_args.get(&arg.name), &arg.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(expand(&default.raw, escape, &|name| self.get(name))?),
            (None, None) => self.globals.get(&arg.name).cloned(),
        };
        set(&mut self.args, &arg.name, value.clone());
        if value.is_some() && self.is_hidden(&arg.name) {
            self.over.push(arg.name.clone());
        }
        Ok(value)
    }

    /// Whether an ARG of this stage, or of one below, has the name.
    pub fn is_declared(&self, name: &str) -> bool {
        find(&self.args, name).is_some()
    }

    /// Every ARG in order of its first declaration, with what a command sees of it; empty where it
    /// is not set. A history tells of them.
    pub fn declared(&self) -> Vec<(String, String)> {
        let names = self.args.iter().map(|(name, _)| name.clone());
        names.map(|name| (self.get(&name).unwrap_or_default(), name)).map(|(v, n)| (n, v)).collect()
    }

    /// ENV.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.over.retain(|one| one != name);
        set(&mut self.env, name, value.to_owned());
    }

    /// `NAME=value` of the ENVs, in order, for the image config.
    pub fn env(&self) -> Vec<String> {
        self.env.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// ARGs that have a value and are hidden by no ENV, in order: they belong into the key of a RUN,
    /// and into its history.
    pub fn run_args(&self) -> Vec<(String, String)> {
        self.args
            .iter()
            .filter(|(name, _)| !self.is_hidden(name))
            .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
            .collect()
    }

    /// What a RUN sees: proxies that the build was given, then [`Self::run_args`], then the ENVs.
    pub fn run_env(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        for name in PROXY_ARGS {
            if let Some(value) = self.build_args.get(name) {
                set(&mut all, name, value.clone());
            }
        }
        for (name, value) in self.run_args() {
            set(&mut all, &name, value);
        }
        for (name, value) in self.env.iter().filter(|(name, _)| self.is_hidden(name)) {
            set(&mut all, name, value.clone());
        }
        all
    }
}

/// Values of the build that no ARG declares: worth a warning. Proxies need no ARG.
pub fn unused<'a>(file: &'a Dockerfile, build_args: &'a BuildArgs) -> Vec<&'a str> {
    let declares = |name: &str| {
        let in_stages = file.stages.iter().flat_map(|stage| &stage.instructions);
        let staged = in_stages.filter_map(|instruction| match &instruction.node {
            crate::Instruction::Arg(args) => Some(args),
            _ => None,
        });
        let global = file.global_args.iter().map(|instruction| &instruction.node);
        staged.chain(global).flatten().any(|arg| arg.name == name)
    };
    build_args
        .keys()
        .map(String::as_str)
        .filter(|name| !PROXY_ARGS.contains(name) && !declares(name))
        .collect()
}

fn find<'a, V>(list: &'a [(String, V)], name: &str) -> Option<&'a V> {
    list.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// Replaces in place, or appends.
fn set<V>(list: &mut Vec<(String, V)>, name: &str, value: V) {
    match list.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => list.push((name.to_owned(), value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Instruction, parse};

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn file(text: &str) -> Dockerfile {
        parse("D", text).unwrap()
    }

    #[test]
    fn globals_see_what_came_before() {
        let file = file("ARG A=1\nARG B=$A.$TARGETARCH C\nARG TARGETARCH\nFROM x\n");
        let platform = map(&[("TARGETARCH", "arm64")]);
        let values = globals(&file, &BuildArgs::new(), &platform).unwrap();
        assert_eq!(values, map(&[("A", "1"), ("B", "1.arm64"), ("TARGETARCH", "arm64")]));
        let given = map(&[("A", "2"), ("C", "3"), ("other", "4")]);
        let values = globals(&file, &given, &platform).unwrap();
        assert_eq!(
            values,
            map(&[("A", "2"), ("B", "2.arm64"), ("C", "3"), ("TARGETARCH", "arm64")])
        );
        assert_eq!(unused(&file, &given), ["other"]);
    }

    #[test]
    fn a_bad_global_says_where() {
        let file = file("ARG A=${B:?need}\nFROM x\n");
        let error = globals(&file, &BuildArgs::new(), &BTreeMap::new()).unwrap_err();
        assert_eq!((error.line, error.column), (1, 7));
        assert_eq!(error.message, "variable `B` is required: need");
    }

    #[test]
    fn a_stage_sees_what_docker_shows_it() {
        let file = file("FROM x\nARG G D=$E-d U P=\nARG D2=$D\n");
        let global = map(&[("G", "global"), ("hidden", "x")]);
        let given = map(&[("U", "user"), ("HTTP_PROXY", "proxy"), ("notdeclared", "n")]);
        let mut scope = Scope::new(&global, &given, &["E=env".to_owned(), "PATH=/bin".to_owned()]);
        assert_eq!(scope.get("G"), None);
        for instruction in &file.stages[0].instructions {
            let Instruction::Arg(args) = &instruction.node else { panic!() };
            for arg in args {
                scope.declare(arg, file.escape).unwrap();
            }
        }
        for (name, want) in [
            ("G", Some("global")),
            ("D", Some("env-d")),
            ("D2", Some("env-d")),
            ("U", Some("user")),
            ("P", Some("")),
            ("E", Some("env")),
            ("hidden", None),
            ("notdeclared", None),
            ("HTTP_PROXY", None),
        ] {
            assert_eq!(scope.get(name).as_deref(), want, "{name}");
        }
        scope.set_env("G", "env wins");
        scope.set_env("E", "new");
        assert_eq!(scope.get("G").as_deref(), Some("env wins"));
        assert_eq!(scope.env(), ["E=new", "PATH=/bin", "G=env wins"]);
        let names: Vec<String> = scope.run_env().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["HTTP_PROXY", "D", "U", "P", "D2", "E", "PATH", "G"]);
        assert_eq!(scope.run_args().len(), 4);
    }

    #[test]
    fn of_an_arg_and_an_env_the_later_one_wins() {
        let file = file("FROM x\nARG A=one B=one C D\nARG A=two\n");
        let mut scope = Scope::default();
        scope.set_env("A", "env");
        scope.set_env("C", "env");
        let mut args = file.stages[0].instructions.iter().flat_map(|one| match &one.node {
            Instruction::Arg(args) => args,
            _ => panic!(),
        });
        let mut declare = |scope: &mut Scope, count| {
            for arg in args.by_ref().take(count) {
                scope.declare(arg, file.escape).unwrap();
            }
        };
        declare(&mut scope, 4);
        let seen = |scope: &Scope| ["A", "B", "C", "D"].map(|name| scope.get(name));
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(seen(&scope), [some("one"), some("one"), some("env"), None]);
        assert_eq!(scope.env(), ["A=env", "C=env"], "the image's own");
        let run = |scope: &Scope| {
            let all: Vec<_> = scope.run_env().iter().map(|(n, v)| format!("{n}={v}")).collect();
            all.join(" ")
        };
        assert_eq!(run(&scope), "A=one B=one C=env");
        scope.set_env("A", "again");
        assert_eq!(run(&scope), "B=one A=again C=env");
        declare(&mut scope, 1);
        assert_eq!(run(&scope), "A=two B=one C=env");
        let declared = scope.declared();
        assert_eq!(declared[0], ("A".to_owned(), "two".to_owned()));
    }
}
