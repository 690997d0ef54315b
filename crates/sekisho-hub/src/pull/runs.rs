//! What a pull request's activity leads to: hooks that are told, and runs.

use sekisho_github::hub_api::{Pushed, RunHead};

use crate::event::{self, Activity, Actor, RunAt};
use crate::git::{GitError, Repository};
use crate::push::{MAX_PATHS, wants_no_run};
use crate::shared::Shared;
use crate::start::{Started, create, told, workflows};
use crate::state::{PullRequest, PullState};

/// Tells of an activity, and starts the runs of the workflows that wait for it, if its actor may start
/// any.
pub(super) fn happened(
    shared: &Shared,
    repository: &Repository,
    pull: &PullRequest,
    activity: &Activity,
    actor: &Actor,
) -> Result<Pushed, GitError> {
    let default_branch = repository.default_branch_name()?;
    let base = &shared.config.base_url;
    let about = (activity, actor.name.as_str());
    let payload = event::pull_request_event(base, pull, about, &default_branch);
    if shared.hooks.is_wanted("pull_request") {
        shared.hooks.tell("pull_request", &payload);
    }
    if actor.is_job {
        return Ok(Pushed::default());
    }
    let at = |git_ref: String, sha: &str| RunAt {
        git_ref,
        sha: sha.to_owned(),
        actor: actor.name.clone(),
        base_ref: pull.base.branch.clone(),
        head_ref: pull.head.branch.clone(),
        head: Some(RunHead { branch: pull.head.branch.clone(), sha: pull.head.sha.clone() }),
    };
    let commits = repository.commits(None, &pull.head.sha)?;
    let skipped = commits.first().is_some_and(|commit| wants_no_run(&commit.message));
    let mut events = Vec::new();
    if let Some(merged) = pull.merge_sha.as_deref().filter(|_| !skipped) {
        events.push(("pull_request", at(PullRequest::merge_ref(pull.number), merged)));
    }
    // The base as it is now, which may have gone on since the two were looked at; or as it was, if gone.
    let target = format!("refs/heads/{}", pull.base.branch);
    let tip = repository.resolve(&target)?;
    let tip = tip.as_deref().unwrap_or(&pull.base.sha);
    events.push(("pull_request_target", at(target, tip)));
    let mut all = Pushed::default();
    let mut paths = None;
    for (event, at) in events {
        let mut outcome = Pushed::default();
        for workflow in workflows(repository, &at.sha, &mut outcome.errors)? {
            let Some(filter) = workflow.on.pull_request(event) else { continue };
            if filter.paths.is_some() && paths.is_none() {
                paths = Some(changed_paths(repository, pull)?);
            }
            let changed = paths.as_ref().and_then(Option::as_deref);
            if !filter.matches(activity.name(), &pull.base.branch, changed) {
                continue;
            }
            // Who opens one from elsewhere need not be allowed to write here. The workflow of the base
            // is that of people who are.
            let untrusted = event == "pull_request" && pull.is_of_fork();
            let started = Started { untrusted, ..Started::by(event, payload.clone()) };
            match create(shared, &pull.base.repository, &at, workflow, started) {
                Ok(run) => outcome.runs.push(run),
                Err(errors) => outcome.errors.extend(errors.into_iter().map(told)),
            }
        }
        // The commit of one that is merged is of a push, which has said what came of that.
        let is_merged = matches!(pull.state, PullState::Merged { .. });
        if event == "pull_request" && !is_merged {
            shared.note_push(&pull.base.repository.name, &at.sha, outcome.clone());
        }
        all.runs.extend(outcome.runs);
        all.errors.extend(outcome.errors);
    }
    Ok(all)
}

/// What it changes since it left its base, whatever that has changed since. `None`: not known, or too many.
fn changed_paths(
    repository: &Repository,
    pull: &PullRequest,
) -> Result<Option<Vec<String>>, GitError> {
    match repository.merge_base(&pull.base.sha, &pull.head.sha)? {
        Some(left) => repository.changed_paths(Some(&left), &pull.head.sha, MAX_PATHS),
        None => Ok(None),
    }
}
