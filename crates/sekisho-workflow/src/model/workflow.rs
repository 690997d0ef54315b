//! The top level of a workflow file.

use super::read::Reader;
use super::scopes;
use super::{EventKind, Job, MAX_JOBS, Triggers, Workflow};
use crate::diagnostic::{Diagnostic, Position, did_you_mean};
use crate::expr;
use crate::plan::literal_group;
use crate::token::Token;
use crate::yaml::{self, Node, NodeValue};

/// What the top level may say.
const KEYS: [&str; 10] = [
    "name",
    "description",
    "run-name",
    "on",
    "permissions",
    "cache-mode",
    "env",
    "defaults",
    "concurrency",
    "jobs",
];

/// Reads and checks one workflow file.
///
/// `path` is its path in the repository, for diagnostics.
///
/// # Errors
/// Up to [`crate::diagnostic::MAX_DIAGNOSTICS`] errors, in the order of the file.
pub fn parse(path: &str, text: &str) -> Result<Workflow, Vec<Diagnostic>> {
    let root = match yaml::parse(text) {
        Ok(root) => root,
        Err(error) => return Err(vec![Diagnostic::new(path, error.at, error.message)]),
    };
    if root.value == NodeValue::Null {
        return Err(vec![Diagnostic::new(path, Position::START, "the workflow file is empty")]);
    }
    let mut reader = Reader::new(path);
    match reader.workflow(path, &root) {
        Some(workflow) if reader.problems.is_empty() => Ok(workflow),
        _ => Err(reader.problems.into_vec()),
    }
}

impl Reader {
    fn workflow(&mut self, path: &str, root: &Node) -> Option<Workflow> {
        let fields = self.fields(root, "workflow", &KEYS)?;
        let name = fields.get("name").and_then(|node| self.text(node, "name"));
        // For people who read the file; nothing shows it.
        fields.get("description").and_then(|node| self.text(node, "description"));
        let run_name =
            fields.get("run-name").and_then(|n| self.nonempty(n, "run-name", &scopes::WORKFLOW));
        let on = match fields.get("on") {
            Some(node) => self.triggers(node),
            None => {
                self.fail(root.at, "`on` is missing: it names the events that start the workflow");
                Triggers::default()
            }
        };
        let permissions = fields.get("permissions").and_then(|node| self.permissions(node));
        let cache_mode = fields.get("cache-mode").and_then(|node| self.cache_mode(node));
        let env = fields.get("env").and_then(|n| self.string_map(n, "env", &scopes::WORKFLOW_ENV));
        let defaults = fields.get("defaults").and_then(|n| self.defaults(n, &scopes::WORKFLOW));
        let concurrency =
            fields.get("concurrency").and_then(|n| self.concurrency(n, &scopes::WORKFLOW));
        let mut workflow = Workflow {
            path: path.to_owned(),
            name: name.filter(|name| !name.trim().is_empty()),
            run_name,
            on,
            permissions,
            cache_mode,
            env,
            defaults,
            concurrency,
            jobs: Vec::new(),
        };
        match fields.get("jobs") {
            Some(node) => self.jobs(node, &mut workflow),
            None => self.fail(root.at, "`jobs` is missing"),
        }
        Some(workflow)
    }

    fn jobs(&mut self, node: &Node, workflow: &mut Workflow) {
        let Some(entries) = self.entries(node, "jobs") else { return };
        if entries.is_empty() || entries.len() > MAX_JOBS {
            let message =
                format!("a workflow has between 1 and {MAX_JOBS} jobs, not {}", entries.len());
            self.fail(node.at, message);
        }
        let ids: Vec<&str> =
            entries.iter().take(MAX_JOBS).map(|(key, _)| key.text.as_str()).collect();
        let mut jobs = Vec::new();
        for (key, node) in entries.iter().take(MAX_JOBS) {
            jobs.extend(self.job(key, node));
        }
        self.check_needs(&mut jobs, &ids);
        self.check_groups(workflow.concurrency.as_ref(), jobs.iter().map(|(job, _)| job));
        self.check_outputs(&workflow.on, &ids);
        workflow.jobs = jobs.into_iter().map(|(job, _)| job).collect();
    }

    /// A job that is in the group of its own run would wait for the run's end.
    fn check_groups<'a>(&mut self, own: Option<&Token>, jobs: impl Iterator<Item = &'a Job>) {
        let Some(group) = own.and_then(literal_group) else { return };
        for job in jobs {
            let Some(concurrency) = &job.concurrency else { continue };
            if literal_group(concurrency).is_some_and(|of| of.eq_ignore_ascii_case(group)) {
                let message = format!(
                    "job `{}` and its workflow are in the same concurrency group `{group}`: the \
                     job would wait for its own run",
                    job.id
                );
                self.fail(concurrency.at.unwrap_or(job.at), message);
            }
        }
    }

    /// The outputs of a called workflow may only name jobs that exist.
    fn check_outputs(&mut self, on: &Triggers, ids: &[&str]) {
        for event in &on.events {
            let EventKind::WorkflowCall(call) = &event.kind else { continue };
            for output in &call.outputs {
                let expr = output.value.as_expression().and_then(|text| expr::parse(text).ok());
                for path in expr.map(|expr| expr.paths_of("jobs")).unwrap_or_default() {
                    let Some(id) = path.first() else { continue };
                    if !ids.iter().any(|known| known.eq_ignore_ascii_case(id)) {
                        let hint = did_you_mean(id, ids.iter().copied());
                        let at = output.value.at.unwrap_or(output.at);
                        let message = format!(
                            "output `{}` names `{id}`, which is no job of this workflow{hint}",
                            output.name
                        );
                        self.fail(at, message);
                    }
                }
            }
        }
    }
}
