//! From a push to its runs.

use std::collections::BTreeMap;

use sekisho_github::hub_api::Pushed;
use sekisho_workflow::Diagnostic;
use sekisho_workflow::plan;

use crate::event::{self, Actor, PushFacts};
use crate::git::{GitError, Repository};
use crate::http::shown::workflow_id;
use crate::pull;
use crate::shared::Shared;
use crate::start::{Started, create, told, workflows};
use crate::state::RepositoryIds;

/// Refs of one push that start runs.
const MAX_REFS: usize = 20;
/// Changed paths that a filter is shown; with more of them, paths are not filtered.
pub(crate) const MAX_PATHS: usize = 3_000;
/// What a commit message says that wants no run.
const SKIP: [&str; 5] = ["[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]"];

/// One ref that a push moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefUpdate {
    /// Full.
    pub(crate) name: String,
    /// The object it named; `None` if it is new.
    pub(crate) before: Option<String>,
    /// The object it names; `None` if it was deleted.
    pub(crate) after: Option<String>,
}

/// What moved between two looks at the refs.
pub(crate) fn changed_refs(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<RefUpdate> {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let moved = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let update = |name: &String| RefUpdate {
        name: name.clone(),
        before: before.get(name).cloned(),
        after: after.get(name).cloned(),
    };
    moved.map(update).collect()
}

/// Starts the runs of everything that a push moved, if it may start any. Blocking. Gives what to tell the pusher.
pub(crate) fn pushed(
    shared: &Shared,
    repository: &RepositoryIds,
    updates: &[RefUpdate],
    actor: &Actor,
) -> Vec<String> {
    let mut messages = Vec::new();
    let mut outcomes: BTreeMap<String, Pushed> = BTreeMap::new();
    let moved = updates.iter().filter(|update| update.after.is_some());
    for (count, update) in moved.enumerate() {
        if count == MAX_REFS {
            messages.push(format!("note: only the first {MAX_REFS} refs of a push start runs"));
            break;
        }
        match start(shared, repository, update, actor) {
            Ok((sha, outcome)) => {
                messages.extend(tell(&outcome));
                let all = outcomes.entry(sha).or_default();
                all.runs.extend(outcome.runs);
                let new = outcome.errors.into_iter().filter(|error| !all.errors.contains(error));
                let new: Vec<_> = new.collect();
                all.errors.extend(new);
            }
            Err(error) => {
                tracing::error!("a push of {} starts no run: {error}", repository.name);
                messages.push(format!("error: {} starts no run: {error}", update.name));
            }
        }
    }
    for update in updates.iter().filter(|update| update.after.is_none()).take(MAX_REFS) {
        if let Err(error) = deleted(shared, repository, update, actor) {
            tracing::error!(
                "nobody is told that {} of {} is gone: {error}",
                update.name,
                repository.name
            );
        }
    }
    for (sha, outcome) in outcomes {
        shared.note_push(&repository.name, &sha, outcome);
    }
    messages.extend(pull::pushed(shared, repository, updates, actor));
    messages.dedup();
    messages
}

/// What an event led to, for whoever raised it.
pub(crate) fn tell(outcome: &Pushed) -> Vec<String> {
    let errors = outcome.errors.iter().map(|error| format!("error: {error}"));
    errors.chain(outcome.runs.iter().map(|run| format!("run {run} is queued"))).collect()
}

/// Starts the runs of a commit that is there already. Blocking. `None` if it is not there.
pub(crate) fn dispatched(
    shared: &Shared,
    repository: &RepositoryIds,
    git_ref: &str,
    sha: &str,
) -> Result<Option<Pushed>, GitError> {
    let Some(found) = shared.git.repository(&repository.name) else { return Ok(None) };
    if found.resolve(sha)?.is_none() {
        return Ok(None);
    }
    let after = Some(sha.to_owned());
    let update = RefUpdate { name: git_ref.to_owned(), before: None, after };
    let (sha, outcome) = start(shared, repository, &update, &Actor::user(&shared.config.actor))?;
    shared.note_push(&repository.name, &sha, outcome.clone());
    Ok(Some(outcome))
}

/// Whether a commit message says that the commit is to start nothing.
pub(crate) fn wants_no_run(message: &str) -> bool {
    let message = message.to_lowercase();
    SKIP.iter().any(|marker| message.contains(marker))
}

fn start(
    shared: &Shared,
    ids: &RepositoryIds,
    update: &RefUpdate,
    actor: &Actor,
) -> Result<(String, Pushed), GitError> {
    let missing = || GitError::Output { verb: "rev-parse" };
    let repository = shared.git.repository(&ids.name).ok_or_else(missing)?;
    let after = update.after.as_deref().unwrap_or_default();
    // A tag may name a tag object: what counts is its commit.
    let sha = repository.resolve(after)?.ok_or_else(missing)?;
    let before = match &update.before {
        Some(before) => repository.resolve(before)?,
        None => None,
    };
    let facts = PushFacts::read(&repository, update, before, sha.clone(), &actor.name)?;
    let payload = event::push_event(&shared.config.base_url, ids, &facts);
    if shared.hooks.is_wanted("push") {
        shared.hooks.tell("push", &payload);
    }
    let mut outcome = Pushed::default();
    let unwanted = facts.head().is_some_and(|commit| wants_no_run(&commit.message));
    if unwanted || actor.is_job {
        return Ok((sha, outcome));
    }
    let mut paths = None;
    for workflow in workflows(&repository, &sha, &mut outcome.errors)? {
        let Some(filter) = workflow.on.push() else { continue };
        if filter.paths.is_some() && paths.is_none() {
            paths = Some(changed_paths(&repository, &facts)?);
        }
        let changed = paths.as_ref().and_then(Option::as_deref);
        if !filter.matches(&update.name, changed) {
            continue;
        }
        let payload = payload.clone();
        match create(shared, ids, &facts.run_at(), workflow, Started::by("push", payload)) {
            Ok(run) => outcome.runs.push(run),
            Err(errors) => outcome.errors.extend(errors.into_iter().map(told)),
        }
    }
    Ok((sha, outcome))
}

/// Tells of a ref that is gone; nothing runs for it.
fn deleted(
    shared: &Shared,
    ids: &RepositoryIds,
    update: &RefUpdate,
    actor: &Actor,
) -> Result<(), GitError> {
    if !shared.hooks.is_wanted("push") {
        return Ok(());
    }
    let Some(repository) = shared.git.repository(&ids.name) else { return Ok(()) };
    let default_branch = repository.default_branch_name()?;
    let base = &shared.config.base_url;
    shared.hooks.tell("push", &event::deletion_event(base, ids, update, &default_branch, actor));
    Ok(())
}

/// Why a workflow was not started by hand.
#[derive(Debug)]
pub(crate) enum DispatchError {
    /// There is no such workflow.
    NotFound,
    /// GitHub's words for what is wrong with the request.
    Refused(String),
    /// The repository cannot be read.
    Git(GitError),
}

/// Starts one workflow, by its number or its file, at a ref, for whoever asks. Blocking. Gives the run.
pub(crate) fn workflow_dispatched(
    shared: &Shared,
    ids: &RepositoryIds,
    (wanted, git_ref): (&str, &str),
    inputs: &serde_json::Map<String, serde_json::Value>,
    actor: &Actor,
) -> Result<u64, DispatchError> {
    let refused = |why: String| DispatchError::Refused(why);
    let repository = shared.git.repository(&ids.name).ok_or(DispatchError::NotFound)?;
    let (git_ref, sha) = repository
        .resolve_named(git_ref)
        .map_err(DispatchError::Git)?
        .filter(|(name, _)| name.starts_with("refs/"))
        .ok_or_else(|| refused(format!("No ref found for: {git_ref}")))?;
    let mut errors = Vec::new();
    let all = workflows(&repository, &sha, &mut errors).map_err(DispatchError::Git)?;
    let is_it = |path: &str| {
        path == wanted
            || path.rsplit('/').next() == Some(wanted)
            || workflow_id(ids.id, path).to_string() == wanted
    };
    if let Some(error) = errors.iter().find(|error| is_it(&error.path)) {
        return Err(refused(format!("Invalid workflow file: {error}")));
    }
    let workflow = all.into_iter().find(|workflow| is_it(&workflow.path));
    let workflow = workflow.ok_or(DispatchError::NotFound)?;
    let declared = workflow
        .on
        .workflow_dispatch()
        .ok_or_else(|| refused("Workflow does not have 'workflow_dispatch' trigger".to_owned()))?;
    let typed = plan::dispatch_inputs(declared, inputs).map_err(refused)?;
    let update = RefUpdate { name: git_ref, before: None, after: Some(sha.clone()) };
    let facts = PushFacts::read(&repository, &update, None, sha, &actor.name);
    let facts = facts.map_err(DispatchError::Git)?;
    let mut payload = event::push_event(&shared.config.base_url, ids, &facts);
    if let Some(payload) = payload.as_object_mut() {
        payload.retain(|name, _| matches!(name.as_str(), "ref" | "repository" | "sender"));
        payload.insert("inputs".to_owned(), inputs.clone().into());
        payload.insert("workflow".to_owned(), workflow.path.clone().into());
    }
    let started = Started { inputs: typed, ..Started::by("workflow_dispatch", payload) };
    let told = |errors: Vec<Diagnostic>| {
        let text: Vec<String> = errors.iter().map(Diagnostic::to_string).collect();
        refused(format!("Invalid workflow file: {}", text.join("; ")))
    };
    create(shared, ids, &facts.run_at(), workflow, started).map_err(told)
}

/// `None`: not known, or too many.
fn changed_paths(
    repository: &Repository,
    facts: &PushFacts,
) -> Result<Option<Vec<String>>, GitError> {
    match &facts.before {
        Some(before) => repository.changed_paths(Some(before), &facts.sha, MAX_PATHS),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_that_moved() {
        let refs = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            list.iter().map(|(name, sha)| ((*name).to_owned(), (*sha).to_owned())).collect()
        };
        let before = refs(&[("refs/heads/a", "1"), ("refs/heads/b", "1"), ("refs/tags/t", "1")]);
        let after = refs(&[("refs/heads/a", "2"), ("refs/heads/b", "1"), ("refs/heads/c", "3")]);
        let update = |name: &str, before: Option<&str>, after: Option<&str>| RefUpdate {
            name: name.to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        };
        assert_eq!(
            changed_refs(&before, &after),
            [
                update("refs/heads/a", Some("1"), Some("2")),
                update("refs/heads/c", None, Some("3")),
                update("refs/tags/t", Some("1"), None),
            ]
        );
    }
}
