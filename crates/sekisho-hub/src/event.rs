//! The events that start runs, and the `github` context that a run sees.

mod pull_request;

use sekisho_github::hub_api::RunHead;
use sekisho_workflow::plan::WorkflowSource;
use serde_json::{Value, json};

use crate::config::Config;
use crate::git::{Commit, GitError, Repository};
use crate::push::RefUpdate;
use crate::state::RepositoryIds;

pub(crate) use pull_request::{Activity, Changes, pull_request_event, pull_request_json};

/// What an object id is when there is no object.
const NO_OBJECT: &str = "0000000000000000000000000000000000000000";

/// What GitHub calls whoever acts with a job's token.
const JOBS: &str = "github-actions[bot]";

/// Whose doing something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor {
    pub(crate) name: String,
    /// What a job does starts nothing, lest it starts itself; but for what it asks for by name. It makes and
    /// changes no workflow either.
    pub(crate) is_job: bool,
}

impl Actor {
    /// Somebody.
    pub(crate) fn user(name: &str) -> Self {
        Self { name: name.to_owned(), is_job: false }
    }

    /// A job.
    pub(crate) fn job() -> Self {
        Self { name: JOBS.to_owned(), is_job: true }
    }
}

/// What there is to know of a push to one ref.
#[derive(Clone, Debug)]
pub(crate) struct PushFacts {
    /// Full.
    pub(crate) git_ref: String,
    /// The commit it named, if it named one.
    pub(crate) before: Option<String>,
    /// The commit it names.
    pub(crate) sha: String,
    /// The commit it named is not in its history.
    forced: bool,
    /// New ones, newest first.
    commits: Vec<Commit>,
    default_branch: String,
    pub(crate) actor: String,
}

/// The commit that a run is of, and whose doing it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunAt {
    /// Full.
    pub(crate) git_ref: String,
    pub(crate) sha: String,
    pub(crate) actor: String,
    /// Names of the branches of a pull request, without `refs/heads/`; empty for all else.
    pub(crate) base_ref: String,
    pub(crate) head_ref: String,
    /// What it is shown to be of, if that is something else.
    pub(crate) head: Option<RunHead>,
}

/// What a run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunIds<'a> {
    pub(crate) id: u64,
    pub(crate) number: u64,
    /// Its name.
    pub(crate) workflow: &'a str,
    pub(crate) source: &'a WorkflowSource,
}

impl PushFacts {
    /// Reads them from the repository.
    pub(crate) fn read(
        repository: &Repository,
        update: &RefUpdate,
        before: Option<String>,
        sha: String,
        actor: &str,
    ) -> Result<Self, GitError> {
        let forced = match &before {
            Some(before) => !repository.is_ancestor(before, &sha)?,
            None => false,
        };
        Ok(Self {
            git_ref: update.name.clone(),
            commits: repository.commits(before.as_deref(), &sha)?,
            before,
            sha,
            forced,
            default_branch: repository.default_branch_name()?,
            actor: actor.to_owned(),
        })
    }

    /// The commit that is now named.
    pub(crate) fn head(&self) -> Option<&Commit> {
        self.commits.iter().find(|commit| commit.sha == self.sha)
    }

    /// A run of what was pushed.
    pub(crate) fn run_at(&self) -> RunAt {
        RunAt {
            git_ref: self.git_ref.clone(),
            sha: self.sha.clone(),
            actor: self.actor.clone(),
            base_ref: String::new(),
            head_ref: String::new(),
            head: None,
        }
    }
}

/// Without `refs/heads/`, `refs/tags/` or `refs/pull/`.
pub(crate) fn short_ref(git_ref: &str) -> &str {
    let kinds = ["refs/heads/", "refs/tags/", "refs/pull/"];
    kinds.iter().find_map(|kind| git_ref.strip_prefix(kind)).unwrap_or(git_ref)
}

/// `branch` or `tag`.
pub(crate) fn ref_type(git_ref: &str) -> &'static str {
    if git_ref.starts_with("refs/tags/") { "tag" } else { "branch" }
}

/// The `github` context: text where GitHub has text, also for numbers.
pub(crate) fn github_context(
    config: &Config,
    ids: &RepositoryIds,
    at: &RunAt,
    run: &RunIds<'_>,
    (event_name, event): (&str, Value),
) -> Value {
    let base = &config.base_url;
    json!({
        "actor": at.actor,
        "actor_id": ids.owner_id.to_string(),
        "triggering_actor": at.actor,
        "api_url": format!("{base}/api/v3"),
        "graphql_url": format!("{base}/api/graphql"),
        "server_url": config.server_url(),
        "base_ref": at.base_ref,
        "head_ref": at.head_ref,
        "ref": at.git_ref,
        "ref_name": short_ref(&at.git_ref),
        "ref_type": ref_type(&at.git_ref),
        "ref_protected": false,
        "sha": at.sha,
        "event_name": event_name,
        "event": event,
        "repository": ids.name.to_string(),
        "repository_id": ids.id.to_string(),
        "repository_owner": ids.name.owner(),
        "repository_owner_id": ids.owner_id.to_string(),
        "repository_visibility": "private",
        "repositoryUrl": format!("{base}/{}.git", ids.name),
        "retention_days": "90",
        "run_id": run.id.to_string(),
        "run_number": run.number.to_string(),
        "run_attempt": "1",
        "secret_source": "Actions",
        "workflow": run.workflow,
        "workflow_ref": run.source.workflow_ref(),
        "workflow_sha": run.source.sha,
    })
}

/// Payload of the `push` event.
pub(crate) fn push_event(base: &str, ids: &RepositoryIds, facts: &PushFacts) -> Value {
    let web = format!("{base}/{}", ids.name);
    let commits: Vec<Value> =
        facts.commits.iter().rev().map(|commit| commit_json(&web, commit)).collect();
    let head = facts.head().map(|commit| commit_json(&web, commit));
    json!({
        "ref": facts.git_ref,
        "before": facts.before.as_deref().unwrap_or(NO_OBJECT),
        "after": facts.sha,
        "base_ref": null,
        "created": facts.before.is_none(),
        "deleted": false,
        "forced": facts.forced,
        "compare": format!("{web}/compare/{}", facts.sha),
        "commits": commits,
        "head_commit": head,
        "repository": repository_json(&web, ids, &facts.default_branch),
        "pusher": { "name": facts.actor },
        "sender": { "login": facts.actor, "id": ids.owner_id },
    })
}

/// Payload of the `push` event for a ref that is gone.
pub(crate) fn deletion_event(
    base: &str,
    ids: &RepositoryIds,
    update: &RefUpdate,
    default_branch: &str,
    actor: &Actor,
) -> Value {
    let web = format!("{base}/{}", ids.name);
    json!({
        "ref": update.name,
        "before": update.before,
        "after": NO_OBJECT,
        "base_ref": null,
        "created": false,
        "deleted": true,
        "forced": false,
        "compare": format!("{web}/compare/{NO_OBJECT}"),
        "commits": [],
        "head_commit": null,
        "repository": repository_json(&web, ids, default_branch),
        "pusher": { "name": actor.name },
        "sender": { "login": actor.name, "id": ids.owner_id },
    })
}

/// A repository, as events tell of it.
fn repository_json(web: &str, ids: &RepositoryIds, default_branch: &str) -> Value {
    json!({
        "id": ids.id,
        "name": ids.name.name(),
        "full_name": ids.name.to_string(),
        "private": true,
        "visibility": "private",
        "fork": false,
        "owner": { "login": ids.name.owner(), "name": ids.name.owner(), "id": ids.owner_id },
        "default_branch": default_branch,
        "master_branch": default_branch,
        "html_url": web,
        "url": web,
        "clone_url": format!("{web}.git"),
    })
}

fn commit_json(web: &str, commit: &Commit) -> Value {
    json!({
        "id": commit.sha,
        "tree_id": commit.tree,
        "distinct": true,
        "message": commit.message,
        "timestamp": commit.timestamp,
        "url": format!("{web}/commit/{}", commit.sha),
        "author": { "name": commit.author_name, "email": commit.author_email },
        "committer": { "name": commit.committer_name, "email": commit.committer_email },
    })
}
