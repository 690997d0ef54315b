//! Fields that a workflow and a job share: `permissions`, `defaults`, `concurrency`.

use super::permissions::{self, Access, PERMISSION_KEYS, Permissions};
use super::read::Reader;
use crate::diagnostic::did_you_mean;
use crate::expr::Scope;
use crate::token::Token;
use crate::yaml::{Node, NodeValue};

impl Reader {
    /// `read-all`, `write-all`, or a mapping of permissions.
    pub(super) fn permissions(&mut self, node: &Node) -> Option<Permissions> {
        if let NodeValue::String(text) = &node.value {
            return match text.as_str() {
                "read-all" => Some(Permissions::read_all()),
                "write-all" => Some(Permissions::write_all()),
                other => {
                    let hint = did_you_mean(other, ["read-all", "write-all"]);
                    let message = format!(
                        "`permissions` must be `read-all`, `write-all` or a mapping, not `{other}`{hint}"
                    );
                    self.fail(node.at, message);
                    None
                }
            };
        }
        let fields = self.fields(node, "permissions", &PERMISSION_KEYS)?;
        let mut granted = Permissions::none();
        for (key, value) in fields.iter() {
            let Some(text) = self.text(value, &key.text) else { continue };
            let values = permissions::allowed(&key.text);
            if let Some(access) = values.iter().find(|access| access.to_string() == text) {
                granted = granted.with(&key.text, *access);
            } else {
                let values: Vec<String> = values.iter().map(Access::to_string).collect();
                let hint = did_you_mean(&text, values.iter().map(String::as_str));
                let list = values.join(", ");
                let message = format!("`{}` must be one of {list}, not `{text}`{hint}", key.text);
                self.fail(value.at, message);
            }
        }
        Some(granted)
    }

    /// `{run: {shell, working-directory}}`.
    pub(super) fn defaults(&mut self, node: &Node, scope: &Scope) -> Option<Token> {
        let fields = self.fields(node, "defaults", &["run"])?;
        if let Some(run) = fields.get("run") {
            let run = self.fields(run, "defaults.run", &["shell", "working-directory"])?;
            for (key, value) in run.iter() {
                self.nonempty(value, &format!("defaults.run.{}", key.text), scope);
            }
        }
        self.token_once(node, scope)
    }

    /// A group, or `{group, cancel-in-progress, queue}`.
    pub(super) fn concurrency(&mut self, node: &Node, scope: &Scope) -> Option<Token> {
        if !matches!(node.value, NodeValue::Mapping(_)) {
            return self.nonempty(node, "concurrency", scope);
        }
        let known = ["group", "cancel-in-progress", "queue"];
        let fields = self.fields(node, "concurrency", &known)?;
        match fields.get("group") {
            None => self.fail(node.at, "`concurrency` needs a `group`"),
            Some(group) => {
                self.nonempty(group, "concurrency.group", scope);
            }
        }
        if let Some(cancel) = fields.get("cancel-in-progress") {
            self.boolean_token(cancel, "concurrency.cancel-in-progress", scope);
        }
        if let Some(queue) = fields.get("queue")
            && let Some(text) = self.text(queue, "concurrency.queue")
            && text != "single"
            && text != "max"
        {
            self.fail(queue.at, format!("`queue` must be `single` or `max`, not `{text}`"));
        }
        self.token_once(node, scope)
    }

    /// A token whose expressions were checked field by field: not reported a second time.
    pub(super) fn token_once(&mut self, node: &Node, scope: &Scope) -> Option<Token> {
        crate::token::from_yaml(node, Some(scope)).ok()
    }
}
