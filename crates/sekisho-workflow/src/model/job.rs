//! One entry of `jobs`.

use super::read::{Fields, Reader, is_identifier};
use super::scopes;
use super::{CallJob, CallSecrets, Job, JobKind, StepsJob, Strategy, WorkflowReference};
use crate::diagnostic::Position;
use crate::token::{Token, TokenKind};
use crate::yaml::{Key, Node, NodeValue};

/// Longest job id, in characters.
const MAX_ID_CHARS: usize = 99;

/// What a job that runs steps or calls a workflow may say.
const SHARED_KEYS: [&str; 7] =
    ["name", "needs", "if", "permissions", "cache-mode", "strategy", "concurrency"];

/// What only a job with steps may say.
const STEPS_KEYS: [&str; 8] = [
    "runs-on",
    "env",
    "defaults",
    "outputs",
    "steps",
    "timeout-minutes",
    "cancel-timeout-minutes",
    "continue-on-error",
];

/// What only a job that calls a workflow may say.
const CALL_KEYS: [&str; 3] = ["uses", "with", "secrets"];

/// What GitHub knows and one machine cannot do yet.
const UNSUPPORTED: [&str; 4] = ["container", "services", "environment", "snapshot"];

/// The job, and where each of its needs stands.
pub(super) type JobAndNeeds = (Job, Vec<Position>);

impl Reader {
    pub(super) fn job(&mut self, key: &Key, node: &Node) -> Option<JobAndNeeds> {
        self.check_job_id(key);
        let what = format!("jobs.{}", key.text);
        let known: Vec<&str> = [&SHARED_KEYS[..], &STEPS_KEYS, &CALL_KEYS, &UNSUPPORTED].concat();
        let fields = self.fields(node, &what, &known)?;
        for key in UNSUPPORTED {
            if let Some((key, _)) = fields.entry(key) {
                let message =
                    format!("`{}` is not supported on the one-machine plane yet", key.text);
                self.fail(key.at, message);
            }
        }
        let (needs, places) = fields
            .get("needs")
            .map(|node| self.names(node, "needs"))
            .unwrap_or_default()
            .into_iter()
            .unzip();
        let name = fields.get("name").and_then(|n| self.scalar(n, "name", Some(&scopes::JOB)));
        let condition = match fields.get("if") {
            Some(node) => self.condition(node, &scopes::JOB_IF).unwrap_or_default(),
            None => super::condition(None),
        };
        let job = Job {
            id: key.text.clone(),
            at: key.at,
            name: name.filter(|name| !name.is_null()),
            needs,
            condition,
            permissions: fields.get("permissions").and_then(|node| self.permissions(node)),
            cache_mode: fields.get("cache-mode").and_then(|node| self.cache_mode(node)),
            strategy: fields.get("strategy").and_then(|node| self.strategy(node)),
            concurrency: fields
                .get("concurrency")
                .and_then(|node| self.concurrency(node, &scopes::JOB)),
            kind: self.job_kind(key, &fields)?,
        };
        Some((job, places))
    }

    fn check_job_id(&mut self, key: &Key) {
        let id = &key.text;
        if !is_identifier(id) || id.starts_with("__") || id.chars().count() > MAX_ID_CHARS {
            let message = format!(
                "the job id `{id}` is invalid: it must begin with a letter or `_` (not `__`), hold only letters, digits, `_` and `-`, and be shorter than 100 characters"
            );
            self.fail(key.at, message);
        }
    }

    fn job_kind(&mut self, key: &Key, fields: &Fields<'_>) -> Option<JobKind> {
        let foreign = |keys: &[&str]| {
            keys.iter().find_map(|key| fields.entry(key).map(|(key, _)| key.clone()))
        };
        if let Some((uses_key, uses)) = fields.entry("uses") {
            if let Some(key) = foreign(&STEPS_KEYS) {
                let message = format!(
                    "`{}` cannot stand in a job that calls a workflow with `uses`",
                    key.text
                );
                self.fail(key.at, message);
            }
            return self.call_job(uses_key, uses, fields).map(JobKind::Call);
        }
        if let Some(key) = foreign(&["with", "secrets"]) {
            let message = format!("`{}` goes with `uses`, which this job does not have", key.text);
            self.fail(key.at, message);
        }
        let id = &key.text;
        match (fields.get("runs-on"), fields.get("steps")) {
            (Some(runs_on), Some(steps)) => {
                self.steps_job(runs_on, steps, fields).map(|job| JobKind::Steps(Box::new(job)))
            }
            (None, None) => {
                let message = format!("job `{id}` needs `runs-on` and `steps`, or `uses`");
                self.fail(key.at, message);
                None
            }
            (None, Some(steps)) => {
                self.fail(key.at, format!("job `{id}` needs `runs-on`"));
                // What else is wrong is worth knowing now.
                self.steps(steps);
                None
            }
            (Some(_), None) => {
                self.fail(key.at, format!("job `{id}` needs `steps`"));
                None
            }
        }
    }

    fn steps_job(&mut self, runs_on: &Node, steps: &Node, fields: &Fields<'_>) -> Option<StepsJob> {
        let runs_on = self.runs_on(runs_on);
        let env = fields.get("env").and_then(|n| self.string_map(n, "env", &scopes::JOB_ENV));
        let defaults = fields.get("defaults").and_then(|n| self.defaults(n, &scopes::JOB_DEFAULTS));
        let outputs =
            fields.get("outputs").and_then(|n| self.string_map(n, "outputs", &scopes::JOB_OUTPUTS));
        let mut minutes = |key: &str| {
            fields.get(key).and_then(|node| self.positive_token(node, key, &scopes::JOB))
        };
        let timeout_minutes = minutes("timeout-minutes");
        let cancel_timeout_minutes = minutes("cancel-timeout-minutes");
        let continue_on_error = fields
            .get("continue-on-error")
            .and_then(|n| self.boolean_token(n, "continue-on-error", &scopes::JOB));
        let steps = self.steps(steps);
        Some(StepsJob {
            runs_on: runs_on?,
            env,
            defaults,
            outputs,
            steps,
            timeout_minutes,
            cancel_timeout_minutes,
            continue_on_error,
        })
    }

    /// A label, labels, or `{group, labels}`; each may be an expression, and so may the whole.
    fn runs_on(&mut self, node: &Node) -> Option<Token> {
        match &node.value {
            NodeValue::Mapping(_) => {
                let fields = self.fields(node, "runs-on", &["group", "labels"])?;
                if fields.get("group").is_none() && fields.get("labels").is_none() {
                    self.fail(node.at, "`runs-on` needs `group` or `labels`");
                }
                if let Some(group) = fields.get("group") {
                    self.nonempty(group, "runs-on.group", &scopes::JOB);
                }
                if let Some(labels) = fields.get("labels") {
                    self.labels(labels, "runs-on.labels");
                }
            }
            _ => self.labels(node, "runs-on"),
        }
        self.token_once(node, &scopes::JOB)
    }

    fn labels(&mut self, node: &Node, what: &str) {
        let NodeValue::Sequence(items) = &node.value else {
            self.nonempty(node, what, &scopes::JOB);
            return;
        };
        if items.is_empty() {
            self.fail(node.at, format!("`{what}` must name at least one label"));
        }
        for item in items {
            self.nonempty(item, what, &scopes::JOB);
        }
    }

    fn call_job(&mut self, key: &Key, uses: &Node, fields: &Fields<'_>) -> Option<CallJob> {
        let text = self.name(uses, "uses")?;
        let reference = WorkflowReference::parse(&text);
        if reference.is_none() {
            let message = format!(
                "`{text}` is no workflow: expected `owner/repo/.github/workflows/file.yml@ref` or `./.github/workflows/file.yml`"
            );
            self.fail(uses.at, message);
        }
        let with = fields.get("with").and_then(|n| self.string_map(n, "with", &scopes::JOB));
        let secrets = match fields.get("secrets") {
            None => CallSecrets::None,
            Some(Node { value: NodeValue::String(text), .. }) if text == "inherit" => {
                CallSecrets::Inherit
            }
            Some(node) => self
                .string_map(node, "secrets", &scopes::JOB_ENV)
                .map_or(CallSecrets::None, CallSecrets::Map),
        };
        Some(CallJob { uses: reference?, uses_at: key.at, with, secrets })
    }

    fn strategy(&mut self, node: &Node) -> Option<Strategy> {
        let fields = self.fields(node, "strategy", &["matrix", "fail-fast", "max-parallel"])?;
        let fail_fast = fields
            .get("fail-fast")
            .and_then(|n| self.boolean_token(n, "fail-fast", &scopes::STRATEGY));
        let max_parallel = fields
            .get("max-parallel")
            .and_then(|n| self.positive_token(n, "max-parallel", &scopes::STRATEGY));
        let matrix = fields.get("matrix").and_then(|n| self.matrix(n));
        Some(Strategy { matrix, fail_fast, max_parallel, at: node.at })
    }

    fn matrix(&mut self, node: &Node) -> Option<Token> {
        let token = self.token(node, Some(&scopes::STRATEGY))?;
        if matches!(token.kind, TokenKind::Expression(_)) {
            return Some(token);
        }
        for (key, value) in self.entries(node, "matrix")? {
            let list = matches!(value.value, NodeValue::Sequence(_));
            let computed = matches!(&value.value, NodeValue::String(text) if text.contains("${{"));
            if !list && !computed {
                let message = format!("`matrix.{}` must be a sequence or an expression", key.text);
                self.fail(value.at, message);
            }
        }
        Some(token)
    }
}

impl WorkflowReference {
    /// Reads `uses` of a job; `None` when it names no workflow file.
    pub fn parse(text: &str) -> Option<Self> {
        let is_file = |path: &str| {
            path.strip_prefix(".github/workflows/").is_some_and(|file| {
                !file.contains('/') && (file.ends_with(".yml") || file.ends_with(".yaml"))
            })
        };
        if let Some(path) = text.strip_prefix("./") {
            return is_file(path).then(|| Self::Local { path: path.to_owned() });
        }
        let (location, reference) = text.split_once('@')?;
        let mut parts = location.splitn(3, '/');
        let (owner, name, path) = (parts.next()?, parts.next()?, parts.next()?);
        let legal = |part: &str| !part.is_empty() && !part.chars().any(char::is_whitespace);
        (legal(owner) && legal(name) && legal(reference) && is_file(path)).then(|| Self::Remote {
            repository: format!("{owner}/{name}"),
            path: path.to_owned(),
            reference: reference.to_owned(),
        })
    }
}
