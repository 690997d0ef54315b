//! Steps.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::MAX_STEPS;
use super::read::{Fields, Reader, is_identifier};
use super::scopes;
use crate::diagnostic::Position;
use crate::token::Token;
use crate::yaml::{Node, NodeValue};

/// One step of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `id`, if the file gives one.
    pub id: Option<String>,
    /// `id`, or a generated name (`__run`, `__run_2`, `__owner_repo`), unique in the job.
    pub context_name: String,
    /// `name`; where there is none the runner makes one.
    pub name: Option<Token>,
    /// `if`, as [`super::condition`] has it.
    pub condition: String,
    /// What it does.
    pub action: StepAction,
    /// `env`, a mapping.
    pub env: Option<Token>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Token>,
    /// `timeout-minutes`.
    pub timeout_minutes: Option<Token>,
    /// Where it begins.
    pub at: Position,
}

impl Step {
    /// The same step with `file` set in all its tokens.
    #[must_use]
    pub fn in_file(mut self, file: u32) -> Self {
        let place = |token: Token| token.in_file(file);
        self.name = self.name.map(place);
        self.env = self.env.map(place);
        self.continue_on_error = self.continue_on_error.map(place);
        self.timeout_minutes = self.timeout_minutes.map(place);
        self.action = match self.action {
            StepAction::Run { script, shell, working_directory } => StepAction::Run {
                script: place(script),
                shell: shell.map(place),
                working_directory: working_directory.map(place),
            },
            StepAction::Uses { action, with } => StepAction::Uses { action, with: with.map(place) },
        };
        self
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StepAction {
    /// Runs a script.
    Run {
        /// `run`.
        script: Token,
        /// `shell`.
        shell: Option<Token>,
        /// `working-directory`.
        working_directory: Option<Token>,
    },
    /// Runs an action.
    Uses {
        /// `uses`.
        action: ActionReference,
        /// `with`, a mapping.
        with: Option<Token>,
    },
}

/// Which action a step uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActionReference {
    /// `owner/repo[/path]@ref`.
    Repository {
        /// `owner/repo`.
        name: String,
        /// The folder within it; empty for its root.
        path: String,
        /// A branch, a tag or a commit.
        reference: String,
    },
    /// `./path`, in the workspace.
    Local {
        /// As written, with `./`.
        path: String,
    },
    /// `docker://image`.
    Docker {
        /// Without `docker://`.
        image: String,
    },
}

/// What a step may say.
const KEYS: [&str; 11] = [
    "id",
    "name",
    "if",
    "run",
    "shell",
    "working-directory",
    "uses",
    "with",
    "env",
    "continue-on-error",
    "timeout-minutes",
];

/// Characters of an action's name that its steps' names keep.
const MAX_GENERATED_CHARS: usize = 96;

/// Steps in the background: known to GitHub, not to this plane.
const UNSUPPORTED: [&str; 5] = ["background", "wait", "wait-all", "cancel", "parallel"];

impl Reader {
    /// The steps of a job.
    pub(super) fn steps(&mut self, node: &Node) -> Vec<Step> {
        let NodeValue::Sequence(items) = &node.value else {
            self.fail(node.at, format!("`steps` must be a sequence, but is {}", node.kind()));
            return Vec::new();
        };
        if items.is_empty() || items.len() > MAX_STEPS {
            let message = format!("a job has between 1 and {MAX_STEPS} steps, not {}", items.len());
            self.fail(node.at, message);
        }
        let mut names = Names::default();
        let mut steps = Vec::new();
        for item in items.iter().take(MAX_STEPS) {
            steps.extend(self.step(item, &mut names));
        }
        steps
    }

    fn step(&mut self, node: &Node, names: &mut Names) -> Option<Step> {
        if let NodeValue::Mapping(entries) = &node.value {
            for (key, _) in entries {
                if UNSUPPORTED.contains(&key.text.as_str()) {
                    let message =
                        format!("`{}` is not supported on the one-machine plane yet", key.text);
                    self.fail(key.at, message);
                    return None;
                }
            }
        }
        let fields = self.fields(node, "step", &KEYS)?;
        let id = fields.get("id").and_then(|node| self.step_id(node, names));
        let name = fields.get("name").and_then(|n| self.scalar(n, "name", Some(&scopes::STEP)));
        let condition = match fields.get("if") {
            Some(node) => self.condition(node, &scopes::STEP_IF).unwrap_or_default(),
            None => super::condition(None),
        };
        let action = self.step_action(node, &fields)?;
        let env = fields.get("env").and_then(|n| self.string_map(n, "env", &scopes::STEP));
        let continue_on_error = fields
            .get("continue-on-error")
            .and_then(|n| self.boolean_token(n, "continue-on-error", &scopes::STEP));
        let timeout_minutes = fields
            .get("timeout-minutes")
            .and_then(|n| self.positive_token(n, "timeout-minutes", &scopes::STEP));
        let context_name = match &id {
            Some(id) => id.clone(),
            None => names.generate(&action),
        };
        Some(Step {
            id,
            context_name,
            name: name.filter(|name| !name.is_null()),
            condition,
            action,
            env,
            continue_on_error,
            timeout_minutes,
            at: node.at,
        })
    }

    fn step_id(&mut self, node: &Node, names: &mut Names) -> Option<String> {
        let id = self.name(node, "id")?;
        if !is_identifier(&id) || id.starts_with("__") {
            let message = format!(
                "the step id `{id}` is invalid: it must begin with a letter or `_` (not `__`) and hold only letters, digits, `_` and `-`"
            );
            self.fail(node.at, message);
            return None;
        }
        if !names.taken.insert(id.to_lowercase()) {
            self.fail(node.at, format!("the step id `{id}` is already used in this job"));
        }
        Some(id)
    }

    fn step_action(&mut self, node: &Node, fields: &Fields<'_>) -> Option<StepAction> {
        let unfit = |keys: &[&str]| {
            keys.iter().find_map(|key| fields.entry(key).map(|(key, _)| (key.at, key.text.clone())))
        };
        match (fields.get("run"), fields.get("uses")) {
            (Some(run), None) => {
                if let Some((at, key)) = unfit(&["with"]) {
                    self.fail(at, format!("`{key}` goes with `uses`, not with `run`"));
                }
                let script = self.scalar(run, "run", Some(&scopes::STEP))?;
                let mut text = |key: &str| {
                    fields.get(key).and_then(|node| self.nonempty(node, key, &scopes::STEP))
                };
                let shell = text("shell");
                let working_directory = text("working-directory");
                Some(StepAction::Run { script, shell, working_directory })
            }
            (None, Some(uses)) => {
                if let Some((at, key)) = unfit(&["shell", "working-directory"]) {
                    self.fail(at, format!("`{key}` goes with `run`, not with `uses`"));
                }
                let text = self.name(uses, "uses")?;
                let action = ActionReference::parse(&text);
                if action.is_none() {
                    let message = format!(
                        "`{text}` is no action: expected `owner/repo[/path]@ref`, `./path` or `docker://image`"
                    );
                    self.fail(uses.at, message);
                }
                let with =
                    fields.get("with").and_then(|n| self.string_map(n, "with", &scopes::STEP));
                Some(StepAction::Uses { action: action?, with })
            }
            (Some(_), Some(_)) => {
                let at = fields.entry("uses").map_or(node.at, |(key, _)| key.at);
                self.fail(at, "a step has either `run` or `uses`, not both");
                None
            }
            (None, None) => {
                self.fail(node.at, "a step needs `run` or `uses`");
                None
            }
        }
    }
}

impl ActionReference {
    /// Reads `uses` of a step; `None` when it is no action.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(image) = text.strip_prefix("docker://") {
            return (!image.is_empty()).then(|| Self::Docker { image: image.to_owned() });
        }
        if text.starts_with("./") || text == "." {
            return Some(Self::Local { path: text.to_owned() });
        }
        let (location, reference) = text.split_once('@')?;
        let mut parts = location.splitn(3, '/');
        let (owner, repository) = (parts.next()?, parts.next()?);
        let path = parts.next().unwrap_or_default().trim_matches('/');
        let legal = |part: &str| !part.is_empty() && !part.chars().any(char::is_whitespace);
        (legal(owner) && legal(repository) && legal(reference)).then(|| Self::Repository {
            name: format!("{owner}/{repository}"),
            path: path.to_owned(),
            reference: reference.to_owned(),
        })
    }

    fn generated_name(&self) -> String {
        let source = match self {
            Self::Repository { name, .. } => name,
            Self::Docker { image } => image,
            Self::Local { .. } => return "__self".to_owned(),
        };
        let legal = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        format!("__{}", source.chars().take(MAX_GENERATED_CHARS).map(legal).collect::<String>())
    }
}

/// The context names of a job's steps.
#[derive(Default)]
struct Names {
    /// In lower case.
    taken: HashSet<String>,
}

impl Names {
    fn generate(&mut self, action: &StepAction) -> String {
        let base = match action {
            StepAction::Run { .. } => "__run".to_owned(),
            StepAction::Uses { action, .. } => action.generated_name(),
        };
        let mut name = base.clone();
        let mut number = 1;
        while !self.taken.insert(name.to_lowercase()) {
            number += 1;
            name = format!("{base}_{number}");
        }
        name
    }
}
