//! From a workflow file at a commit to a run of it.

use sekisho_github::hub_api::WorkflowError;
use sekisho_workflow::Diagnostic;
use sekisho_workflow::diagnostic::Position;
use sekisho_workflow::expr::Value;
use sekisho_workflow::model::{self, Workflow, WorkflowReference};
use sekisho_workflow::plan::{self, Concurrency, ResolveError, Resolved, WorkflowSource};
use uuid::Uuid;

use crate::event::{self, RunAt};
use crate::git::{GitError, Repository};
use crate::names::{RepoName, is_plain_path};
use crate::shared::Shared;
use crate::state::{Kept, NewRun, RepositoryIds, RunFacts, contexts};

/// Where workflows are.
const WORKFLOWS: &str = ".github/workflows";
/// The largest workflow file, in bytes, as on GitHub.
const MAX_WORKFLOW: usize = 1024 * 1024;
/// Workflow files of one commit that are looked at.
const MAX_WORKFLOWS: usize = 200;

/// Why a run was started.
pub(crate) struct Started {
    /// The event's name.
    pub(crate) event: &'static str,
    /// `github.event`.
    pub(crate) payload: serde_json::Value,
    /// The `inputs` context.
    pub(crate) inputs: Value,
    /// It is asked for by somebody who may not write here: its token reads, and has no identity.
    pub(crate) untrusted: bool,
}

impl Started {
    /// By an event without inputs, that somebody raised who may write.
    pub(crate) fn by(event: &'static str, payload: serde_json::Value) -> Self {
        Self { event, payload, inputs: Value::object(NO_INPUTS), untrusted: false }
    }
}

/// The `inputs` context of an event without any.
const NO_INPUTS: Vec<(String, Value)> = Vec::new();

/// The workflows of a commit, in the order of their paths; what is wrong with the others.
pub(crate) fn workflows(
    repository: &Repository,
    sha: &str,
    errors: &mut Vec<WorkflowError>,
) -> Result<Vec<Workflow>, GitError> {
    let is_workflow = |path: &str| path.ends_with(".yml") || path.ends_with(".yaml");
    let files = repository.list(sha, WORKFLOWS)?;
    let mut found = Vec::new();
    for file in files.into_iter().filter(|file| is_workflow(&file.path)).take(MAX_WORKFLOWS) {
        let text = match repository.content(&file, MAX_WORKFLOW) {
            Ok(text) => text,
            Err(error @ GitError::TooLarge { .. }) => {
                let at = Position::START;
                errors.push(told(Diagnostic::new(file.path, at, error.to_string())));
                continue;
            }
            Err(error) => return Err(error),
        };
        match parse(&file.path, text) {
            Ok(workflow) => found.push(workflow),
            Err(diagnostics) => errors.extend(diagnostics.into_iter().map(told)),
        }
    }
    Ok(found)
}

fn parse(path: &str, text: Vec<u8>) -> Result<Workflow, Vec<Diagnostic>> {
    let text = String::from_utf8(text).map_err(|error| {
        let valid = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        let at = Position { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1 };
        vec![Diagnostic::new(path, at, "this line is not UTF-8")]
    })?;
    model::parse(path, &text)
}

/// Makes a run of a workflow.
pub(crate) fn create(
    shared: &Shared,
    ids: &RepositoryIds,
    at: &RunAt,
    workflow: Workflow,
    started: Started,
) -> Result<u64, Vec<Diagnostic>> {
    let path = workflow.path.clone();
    let name = workflow.display_name().to_owned();
    let (id, number) = shared.change(|state, _| state.reserve_run(&ids.name, &path));
    shared.save_repositories();
    let source = WorkflowSource {
        repository: ids.name.to_string(),
        path: path.clone(),
        git_ref: at.git_ref.clone(),
        sha: at.sha.clone(),
    };
    let run = event::RunIds { id, number, workflow: &name, source: &source };
    let Started { event, payload, inputs, untrusted } = started;
    let github = event::github_context(&shared.config, ids, at, &run, (event, payload));
    let facts_of_run = RunFacts {
        repository: ids.clone(),
        actor: at.actor.clone(),
        actor_id: ids.owner_id,
        github,
        vars: shared.config.vars.clone(),
    };
    let contexts = contexts(&facts_of_run, inputs);
    let root = Resolved { workflow, source };
    let resolve =
        |reference: &WorkflowReference, caller: &WorkflowSource| resolve(shared, reference, caller);
    let mut plan = plan::expand(&root, &resolve, &contexts)?;
    if untrusted {
        for job in &mut plan.jobs {
            job.permissions = job.permissions.read_only();
        }
    }
    let concurrency = match &root.workflow.concurrency {
        Some(token) => Some(Concurrency::read(token, &contexts).map_err(|message| {
            vec![Diagnostic::new(path.clone(), token.at.unwrap_or(Position::START), message)]
        })?),
        None => None,
    };
    let new = NewRun {
        id,
        number,
        git_ref: at.git_ref.clone(),
        sha: at.sha.clone(),
        event: event.to_owned(),
        head: at.head.clone(),
        workflow_name: name,
        workflow_path: path,
        plan_id: Uuid::new_v4(),
        guids: plan.jobs.iter().map(|_| Uuid::new_v4()).collect(),
        plan,
        contexts,
        concurrency,
        facts: facts_of_run,
    };
    match serde_json::to_vec(&Kept::of(&new)) {
        Ok(json) => shared.saver.plan(id, json),
        // It can still be run again by this process.
        Err(error) => tracing::error!("the plan of run {id} cannot be written down: {error}"),
    }
    Ok(shared.change(|state, now| state.create_run(new, now)))
}

/// Finds a called workflow in the hub's own repositories.
fn resolve(
    shared: &Shared,
    reference: &WorkflowReference,
    caller: &WorkflowSource,
) -> Result<Resolved, ResolveError> {
    let not_found = |why: String| ResolveError::NotFound(why);
    let (repository, path, wanted) = match reference {
        WorkflowReference::Local { path } => (&caller.repository, path, None),
        WorkflowReference::Remote { repository, path, reference } => {
            (repository, path, Some(reference))
        }
    };
    let name: RepoName = repository.parse().map_err(|error| not_found(format!("{error}")))?;
    let known = shared.look(|state| state.repositories.get(&name));
    let found = known.and_then(|known| {
        shared.git.repository(&known.name).map(|repository| (known.name, repository))
    });
    let Some((name, repository)) = found else {
        return Err(not_found(format!("the hub has no repository `{name}`: push it first")));
    };
    let failed = |error: GitError| not_found(error.to_string());
    let (git_ref, sha) = match wanted {
        None => (caller.git_ref.clone(), caller.sha.clone()),
        Some(wanted) => repository.resolve_named(wanted).map_err(failed)?.ok_or_else(|| {
            not_found(format!("`{name}` has no branch, tag or commit `{wanted}`"))
        })?,
    };
    let missing = || not_found(format!("`{name}` has no file `{path}` at `{git_ref}`"));
    if !is_plain_path(path) {
        return Err(missing());
    }
    let file = repository.find(&sha, path).map_err(failed)?.ok_or_else(missing)?;
    let text = repository.content(&file, MAX_WORKFLOW).map_err(failed)?;
    let workflow = parse(path, text).map_err(ResolveError::Invalid)?;
    let source = WorkflowSource { repository: name.to_string(), path: path.clone(), git_ref, sha };
    Ok(Resolved { workflow, source })
}

/// As whoever asked for the run is told.
pub(crate) fn told(diagnostic: Diagnostic) -> WorkflowError {
    WorkflowError {
        path: diagnostic.path,
        line: diagnostic.line,
        column: diagnostic.column,
        message: diagnostic.message,
    }
}
