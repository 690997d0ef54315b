//! `on`: the events that start a workflow.

use super::read::{Fields, Reader, is_identifier};
use super::scopes;
use super::{CallTrigger, Event, EventKind, Input, InputKind, Output, SecretDefinition, Triggers};
use crate::diagnostic::did_you_mean;
use crate::filter::{Filter, Pattern, PullRequestFilter, PushFilter};
use crate::token::{Token, TokenKind};
use crate::yaml::{Key, Node, NodeValue};

/// Every event GitHub knows.
const EVENTS: [&str; 37] = [
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "create",
    "delete",
    "deployment",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "fork",
    "gollum",
    "image_version",
    "issue_comment",
    "issues",
    "label",
    "merge_group",
    "milestone",
    "page_build",
    "project",
    "project_card",
    "project_column",
    "public",
    "pull_request",
    "pull_request_comment",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_target",
    "push",
    "registry_package",
    "release",
    "repository_dispatch",
    "schedule",
    "status",
    "watch",
    "workflow_call",
    "workflow_dispatch",
    "workflow_run",
];

/// What may be said of an event that only GitHub raises.
const OTHER_KEYS: [&str; 9] = [
    "types",
    "branches",
    "branches-ignore",
    "tags",
    "paths",
    "paths-ignore",
    "workflows",
    "names",
    "versions",
];

/// Activities of a pull request, as GitHub names them.
const PULL_REQUEST_TYPES: [&str; 22] = [
    "assigned",
    "auto_merge_disabled",
    "auto_merge_enabled",
    "closed",
    "converted_to_draft",
    "demilestoned",
    "dequeued",
    "edited",
    "enqueued",
    "labeled",
    "locked",
    "milestoned",
    "opened",
    "ready_for_review",
    "reopened",
    "review_request_removed",
    "review_requested",
    "stacked",
    "synchronize",
    "unassigned",
    "unlabeled",
    "unlocked",
];

/// Most inputs of one workflow, as GitHub has it.
const MAX_INPUTS: usize = 100;

impl Reader {
    /// One name, several names, or names with what is said of them.
    pub(super) fn triggers(&mut self, node: &Node) -> Triggers {
        let mut events = Vec::new();
        match &node.value {
            NodeValue::Mapping(_) => {
                for (key, value) in self.entries(node, "on").unwrap_or_default() {
                    if self.known_event(&key.text, key.at) {
                        let kind = self.event(key, value);
                        events.extend(kind.map(|kind| Event {
                            name: key.text.clone(),
                            at: key.at,
                            kind,
                        }));
                    }
                }
            }
            NodeValue::Null => self.fail(node.at, "`on` must name at least one event"),
            _ => {
                for (name, at) in self.names(node, "on") {
                    if self.known_event(&name, at) {
                        events.push(Event { kind: bare(&name), name, at });
                    }
                }
            }
        }
        Triggers { events }
    }

    fn known_event(&mut self, name: &str, at: crate::diagnostic::Position) -> bool {
        let known = EVENTS.contains(&name);
        if !known {
            self.fail(at, format!("unknown event `{name}`{}", did_you_mean(name, EVENTS)));
        }
        known
    }

    fn event(&mut self, key: &Key, node: &Node) -> Option<EventKind> {
        if matches!(node.value, NodeValue::Null) {
            return Some(bare(&key.text));
        }
        match key.text.as_str() {
            "push" => self.push(node).map(EventKind::Push),
            name @ ("pull_request" | "pull_request_target") => {
                self.pull_request(node, name).map(EventKind::PullRequest)
            }
            "workflow_call" => self.workflow_call(node).map(EventKind::WorkflowCall),
            "workflow_dispatch" => {
                let fields = self.fields(node, "workflow_dispatch", &["inputs"])?;
                let inputs = fields.get("inputs").map(|node| self.inputs(node, false));
                Some(EventKind::WorkflowDispatch(inputs.unwrap_or_default()))
            }
            "schedule" => self.schedule(node),
            name => {
                self.fields(node, name, &OTHER_KEYS)?;
                self.token(node, None).map(EventKind::Other)
            }
        }
    }

    fn schedule(&mut self, node: &Node) -> Option<EventKind> {
        let NodeValue::Sequence(items) = &node.value else {
            self.fail(node.at, "`schedule` must be a sequence of `cron` entries");
            return None;
        };
        for item in items {
            let fields = self.fields(item, "schedule", &["cron", "timezone"])?;
            match fields.get("cron") {
                Some(cron) => {
                    self.name(cron, "cron");
                }
                None => self.fail(item.at, "an entry of `schedule` needs `cron`"),
            }
        }
        self.token(node, None).map(EventKind::Other)
    }

    fn push(&mut self, node: &Node) -> Option<PushFilter> {
        let known = ["branches", "branches-ignore", "tags", "tags-ignore", "paths", "paths-ignore"];
        let fields = self.fields(node, "push", &known)?;
        Some(PushFilter {
            branches: self.filter(&fields, "branches", "branches-ignore"),
            tags: self.filter(&fields, "tags", "tags-ignore"),
            paths: self.filter(&fields, "paths", "paths-ignore"),
        })
    }

    fn pull_request(&mut self, node: &Node, name: &str) -> Option<PullRequestFilter> {
        let known = ["types", "branches", "branches-ignore", "paths", "paths-ignore"];
        let fields = self.fields(node, name, &known)?;
        let types = fields.get("types").map(|node| {
            let mut types = Vec::new();
            for (activity, at) in self.names(node, "types") {
                if !PULL_REQUEST_TYPES.contains(&activity.as_str()) {
                    let hint = did_you_mean(&activity, PULL_REQUEST_TYPES);
                    self.fail(at, format!("unknown activity `{activity}` of `{name}`{hint}"));
                }
                types.push(activity);
            }
            types
        });
        Some(PullRequestFilter {
            types,
            branches: self.filter(&fields, "branches", "branches-ignore"),
            paths: self.filter(&fields, "paths", "paths-ignore"),
        })
    }

    fn filter(&mut self, fields: &Fields<'_>, only: &str, ignore: &str) -> Option<Filter> {
        match (fields.get(only), fields.entry(ignore)) {
            (Some(_), Some((key, _))) => {
                let message = format!("`{only}` and `{ignore}` cannot both be given");
                self.fail(key.at, message);
                None
            }
            (Some(node), None) => Some(Filter::Only(self.patterns(node, only))),
            (None, Some((_, node))) => Some(Filter::Ignore(self.patterns(node, ignore))),
            (None, None) => None,
        }
    }

    fn patterns(&mut self, node: &Node, what: &str) -> Vec<Pattern> {
        let names = self.names(node, what);
        let mut patterns = Vec::new();
        for (text, at) in names {
            match Pattern::parse(&text) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.fail(at, error.to_string()),
            }
        }
        patterns
    }

    fn workflow_call(&mut self, node: &Node) -> Option<CallTrigger> {
        let fields = self.fields(node, "workflow_call", &["inputs", "outputs", "secrets"])?;
        let mut call = CallTrigger::default();
        if let Some(node) = fields.get("inputs") {
            call.inputs = self.inputs(node, true);
        }
        if let Some(node) = fields.get("outputs") {
            call.outputs = self.outputs(node);
        }
        if let Some(node) = fields.get("secrets") {
            call.secrets = self.secret_definitions(node);
        }
        Some(call)
    }

    fn inputs(&mut self, node: &Node, call: bool) -> Vec<Input> {
        if matches!(node.value, NodeValue::Null) {
            return Vec::new();
        }
        let entries = self.entries(node, "inputs").unwrap_or_default();
        if entries.len() > MAX_INPUTS {
            self.fail(node.at, format!("`inputs` has more than {MAX_INPUTS} entries"));
        }
        let mut inputs = Vec::new();
        for (key, node) in entries.into_iter().take(MAX_INPUTS) {
            self.check_name(key, "input");
            inputs.extend(self.input(key, node, call));
        }
        inputs
    }

    fn check_name(&mut self, key: &Key, what: &str) {
        if !is_identifier(&key.text) {
            let message = format!(
                "the {what} name `{}` is invalid: it must begin with a letter or `_` and hold only letters, digits, `_` and `-`",
                key.text
            );
            self.fail(key.at, message);
        }
    }

    fn input(&mut self, key: &Key, node: &Node, call: bool) -> Option<Input> {
        let what = format!("inputs.{}", key.text);
        let mut input = Input {
            name: key.text.clone(),
            kind: InputKind::String,
            required: false,
            default: None,
            description: None,
            at: key.at,
        };
        if matches!(node.value, NodeValue::Null) && !call {
            return Some(input);
        }
        let known: &[&str] = if call {
            &["description", "required", "default", "type", "deprecationMessage"]
        } else {
            &["description", "required", "default", "type", "options", "deprecationMessage"]
        };
        let fields = self.fields(node, &what, known)?;
        input.description = fields.get("description").and_then(|n| self.text(n, "description"));
        input.required =
            fields.get("required").and_then(|n| self.boolean(n, "required")).unwrap_or(false);
        match fields.get("type") {
            Some(node) => input.kind = self.input_kind(node, &fields, call)?,
            None if call => self.fail(key.at, format!("`{what}` needs a `type`")),
            None => {}
        }
        if let Some(node) = fields.get("default") {
            let scope = call.then_some(&scopes::WORKFLOW);
            input.default = self.scalar(node, "default", scope);
            if let Some(default) = &input.default
                && !fits(default, &input.kind)
            {
                let message = format!("the `default` of `{what}` does not fit its `type`");
                self.fail(node.at, message);
            }
        }
        Some(input)
    }

    fn input_kind(&mut self, node: &Node, fields: &Fields<'_>, call: bool) -> Option<InputKind> {
        let text = self.text(node, "type")?;
        match text.as_str() {
            "string" => Some(InputKind::String),
            "boolean" => Some(InputKind::Boolean),
            "number" => Some(InputKind::Number),
            "environment" if !call => Some(InputKind::Environment),
            "choice" if !call => {
                let Some(options) = fields.get("options") else {
                    self.fail(node.at, "an input of type `choice` needs `options`");
                    return None;
                };
                let options = self.names(options, "options");
                Some(InputKind::Choice(options.into_iter().map(|(option, _)| option).collect()))
            }
            other => {
                let known: &[&str] = if call {
                    &["string", "boolean", "number"]
                } else {
                    &["string", "boolean", "number", "choice", "environment"]
                };
                let hint = did_you_mean(other, known.iter().copied());
                let list = known.join(", ");
                self.fail(node.at, format!("`type` must be one of {list}, not `{other}`{hint}"));
                None
            }
        }
    }

    fn outputs(&mut self, node: &Node) -> Vec<Output> {
        let mut outputs = Vec::new();
        for (key, node) in self.entries(node, "outputs").unwrap_or_default() {
            self.check_name(key, "output");
            let what = format!("outputs.{}", key.text);
            let Some(fields) = self.fields(node, &what, &["description", "value"]) else {
                continue;
            };
            match fields.get("value") {
                None => self.fail(key.at, format!("`{what}` needs a `value`")),
                Some(node) => {
                    let value = self.scalar(node, &what, Some(&scopes::CALL_OUTPUT));
                    outputs.extend(value.map(|value| Output {
                        name: key.text.clone(),
                        value,
                        at: key.at,
                    }));
                }
            }
        }
        outputs
    }

    fn secret_definitions(&mut self, node: &Node) -> Vec<SecretDefinition> {
        let mut secrets = Vec::new();
        for (key, node) in self.entries(node, "secrets").unwrap_or_default() {
            self.check_name(key, "secret");
            let mut required = false;
            if !matches!(node.value, NodeValue::Null) {
                let what = format!("secrets.{}", key.text);
                let fields = self.fields(node, &what, &["description", "required"]);
                let node = fields.and_then(|fields| fields.get("required"));
                required = node.and_then(|n| self.boolean(n, "required")).unwrap_or(false);
            }
            secrets.push(SecretDefinition { name: key.text.clone(), required, at: key.at });
        }
        secrets
    }
}

/// An event of which nothing is said.
fn bare(name: &str) -> EventKind {
    match name {
        "push" => EventKind::Push(PushFilter::default()),
        "pull_request" | "pull_request_target" => {
            EventKind::PullRequest(PullRequestFilter::default())
        }
        "workflow_call" => EventKind::WorkflowCall(CallTrigger::default()),
        "workflow_dispatch" => EventKind::WorkflowDispatch(Vec::new()),
        _ => EventKind::Other(Token::default()),
    }
}

/// Whether a default is of the input's type; an expression is seen when it is evaluated.
fn fits(default: &Token, kind: &InputKind) -> bool {
    match (&default.kind, kind) {
        (TokenKind::Expression(_) | TokenKind::Null, _)
        | (TokenKind::Bool(_), InputKind::Boolean)
        | (TokenKind::Number(_), InputKind::Number) => true,
        (TokenKind::String(text), InputKind::Choice(options)) => options.contains(text),
        (
            TokenKind::String(_) | TokenKind::Number(_) | TokenKind::Bool(_),
            InputKind::String | InputKind::Environment,
        ) => true,
        _ => false,
    }
}
