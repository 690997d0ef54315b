//! Pull requests: opened, brought up to date by pushes, closed; and the runs that come of it.
//!
//! | event | ref of its runs | workflow and commit | token |
//! |---|---|---|---|
//! | `pull_request` | `refs/pull/N/merge` | of the test merge | reads, and has no identity, if it is of a fork |
//! | `pull_request_target` | the base branch | of the base branch | as the workflow says |
//!
//! One that does not go together with its base starts no `pull_request`. Source: protocol reference
//! 6.3, 6.4.

use jiff::Timestamp;
use sekisho_github::hub_api::{Pushed, RunHead};

use crate::event::{self, RunAt};
use crate::git::{GitError, Repository};
use crate::names::{RepoName, is_plain_ref};
use crate::push::{MAX_PATHS, RefUpdate, tell, wants_no_run};
use crate::shared::Shared;
use crate::start::{Started, create, told, workflows};
use crate::state::{PullError, PullRequest, PullState, RepositoryIds, Side};

/// What is asked for when one is opened.
#[derive(Clone, Debug)]
pub(crate) struct NewPull {
    pub(crate) title: String,
    pub(crate) body: Option<String>,
    pub(crate) draft: bool,
    /// `branch` or `owner:branch`.
    pub(crate) head: String,
    /// The name of the head's repository, if it is not that of the base.
    pub(crate) head_repository: Option<String>,
    /// A branch.
    pub(crate) base: String,
}

/// Why something is not done with a pull request.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is none, or no repository.
    NotFound,
    /// GitHub's words for what is wrong with the request.
    Invalid(String),
    /// It cannot be merged now.
    NotMergeable(&'static str),
    /// A repository cannot be read.
    Git(GitError),
}

impl From<GitError> for Refused {
    fn from(error: GitError) -> Self {
        Self::Git(error)
    }
}

/// Opens one, and starts its runs. Blocking.
pub(crate) fn open(
    shared: &Shared,
    ids: &RepositoryIds,
    new: NewPull,
) -> Result<PullRequest, Refused> {
    let invalid = |why: String| Refused::Invalid(why);
    let (head_ids, branch) = head_of(shared, ids, &new)?;
    let found = |ids: &RepositoryIds| shared.git.repository(&ids.name).ok_or(Refused::NotFound);
    let (repository, from) = (found(ids)?, found(&head_ids)?);
    let base_sha = repository.resolve(&format!("refs/heads/{}", new.base))?;
    let base_sha = base_sha.filter(|_| is_plain_ref(&new.base));
    let base_sha =
        base_sha.ok_or_else(|| invalid("Validation Failed: base is invalid".to_owned()))?;
    let number = shared.change(|state, _| state.pulls.reserve(ids.id));
    let head_ref = PullRequest::head_ref(number);
    let head_sha = repository.take(&from, &branch, &head_ref)?;
    let head_sha =
        head_sha.ok_or_else(|| invalid("Validation Failed: head is invalid".to_owned()))?;
    let refuse = |why: String| {
        repository.remove_ref(&head_ref)?;
        Err(Refused::Invalid(why))
    };
    if repository.merge_base(&base_sha, &head_sha)?.is_none() {
        return refuse(format!("The {branch} branch has no history in common with {}", new.base));
    }
    if repository.is_ancestor(&head_sha, &base_sha)? {
        return refuse(format!("No commits between {} and {branch}", new.base));
    }
    let now = shared.clock.now();
    let side = |repository: &RepositoryIds, branch: String, sha| Side {
        repository: repository.clone(),
        branch,
        sha,
    };
    let mut pull = PullRequest {
        id: 0,
        number,
        title: new.title,
        body: new.body,
        draft: new.draft,
        state: PullState::Open,
        actor: shared.config.actor.clone(),
        head: side(&head_ids, branch, head_sha),
        base: side(ids, new.base, base_sha),
        merge_sha: None,
        created_at: now,
        updated_at: now,
    };
    pull.merge_sha = test_merge(&repository, &pull, now)?;
    let exists = exists(&pull);
    let opened = shared.change(|state, _| state.pulls.open(pull));
    let pull = match opened {
        Ok(pull) => pull,
        Err(error) => {
            repository.remove_ref(&PullRequest::merge_ref(number))?;
            return refuse(match error {
                PullError::Exists => exists,
                PullError::TooMany => "The hub holds too many pull requests".to_owned(),
            });
        }
    };
    shared.save_pulls();
    let actor = pull.actor.clone();
    happened(shared, &repository, &pull, ("opened", &actor), None)?;
    Ok(pull)
}

/// Why there cannot be two of the same branches.
fn exists(pull: &PullRequest) -> String {
    format!("A pull request already exists for {}.", pull.head.label())
}

/// Repository and branch of `branch` or `owner:branch`.
fn head_of(
    shared: &Shared,
    base: &RepositoryIds,
    new: &NewPull,
) -> Result<(RepositoryIds, String), Refused> {
    let (owner, branch) = match new.head.split_once(':') {
        Some((owner, branch)) => (owner, branch),
        None => (base.name.owner(), new.head.as_str()),
    };
    let name = new.head_repository.as_deref().unwrap_or(base.name.name());
    let name = RepoName::new(owner, name.rsplit('/').next().unwrap_or(name));
    let known = name.ok().and_then(|name| shared.look(|state| state.repositories.get(&name)));
    let invalid = || Refused::Invalid("Validation Failed: head is invalid".to_owned());
    Ok((known.ok_or_else(invalid)?, branch.to_owned()))
}

/// Makes the commit that would come of it, and has its ref name that; `None`, and no ref, if the two
/// do not go together.
fn test_merge(
    repository: &Repository,
    pull: &PullRequest,
    now: Timestamp,
) -> Result<Option<String>, GitError> {
    let (base, head) = (&pull.base.sha, &pull.head.sha);
    let name = PullRequest::merge_ref(pull.number);
    let merged = repository.merge(base, head, &format!("Merge {head} into {base}"), now)?;
    match &merged {
        Some(sha) => repository.set_ref(&name, sha)?,
        None => repository.remove_ref(&name)?,
    }
    Ok(merged)
}

/// One, and the repository that it is to go to.
fn find(
    shared: &Shared,
    ids: &RepositoryIds,
    number: u64,
) -> Result<(Repository, PullRequest), Refused> {
    let repository = shared.git.repository(&ids.name).ok_or(Refused::NotFound)?;
    let pull = shared.look(|state| state.pulls.get(ids.id, number).cloned());
    Ok((repository, pull.ok_or(Refused::NotFound)?))
}

/// Closes or opens one again, or changes its words. Blocking.
pub(crate) fn update(
    shared: &Shared,
    ids: &RepositoryIds,
    number: u64,
    change: Change,
) -> Result<PullRequest, Refused> {
    let (repository, mut pull) = find(shared, ids, number)?;
    let now = shared.clock.now();
    let words = change.title.is_some() || change.body.is_some();
    pull.title = change.title.unwrap_or(pull.title);
    pull.body = change.body.or(pull.body);
    let activity = match (pull.state, change.open) {
        (PullState::Open, Some(false)) => {
            pull.state = PullState::Closed { at: now };
            Some("closed")
        }
        (PullState::Closed { .. }, Some(true)) => {
            if shared.look(|state| state.pulls.is_taken(&pull)) {
                return Err(Refused::Invalid(exists(&pull)));
            }
            pull.state = PullState::Open;
            refresh(shared, &repository, &mut pull, now)?;
            Some("reopened")
        }
        (PullState::Merged { .. }, Some(true)) => {
            return Err(Refused::Invalid("Validation Failed: it is merged".to_owned()));
        }
        _ => words.then_some("edited"),
    };
    pull.updated_at = now;
    let actor = shared.config.actor.clone();
    keep(shared, &pull);
    if let Some(activity) = activity {
        happened(shared, &repository, &pull, (activity, &actor), None)?;
    }
    Ok(pull)
}

/// What is to be changed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) title: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) open: Option<bool>,
}

/// Merges one into its base, which is a push to that. Blocking. Gives the commit.
pub(crate) fn merge(
    shared: &Shared,
    ids: &RepositoryIds,
    number: u64,
    expected: Option<&str>,
) -> Result<String, Refused> {
    let (repository, mut pull) = find(shared, ids, number)?;
    if !pull.is_open() {
        return Err(Refused::NotMergeable("Pull Request is not open"));
    }
    let now = shared.clock.now();
    refresh(shared, &repository, &mut pull, now)?;
    if expected.is_some_and(|sha| sha != pull.head.sha) {
        return Err(Refused::NotMergeable(
            "Head branch was modified. Review and try the merge again.",
        ));
    }
    let message =
        format!("Merge pull request #{number} from {}\n\n{}", pull.head.label(), pull.title);
    let (before, head) = (pull.base.sha.clone(), pull.head.sha.clone());
    let merged = repository.merge(&before, &head, &message, now)?;
    let merged = merged.ok_or(Refused::NotMergeable("Pull Request is not mergeable"))?;
    let name = format!("refs/heads/{}", pull.base.branch);
    if !repository.move_ref(&name, &before, &merged)? {
        return Err(Refused::NotMergeable(
            "Base branch was modified. Review and try the merge again.",
        ));
    }
    let update = RefUpdate { name, before: Some(before), after: Some(merged.clone()) };
    // This is also how the hub sees that it is in.
    crate::push::pushed(shared, ids, &[update], &shared.config.actor);
    Ok(merged)
}

/// Looks at both branches again.
fn refresh(
    shared: &Shared,
    repository: &Repository,
    pull: &mut PullRequest,
    now: Timestamp,
) -> Result<(), Refused> {
    let from = shared.git.repository(&pull.head.repository.name).ok_or(Refused::NotFound)?;
    let head = repository.take(&from, &pull.head.branch, &PullRequest::head_ref(pull.number))?;
    let base = repository.resolve(&format!("refs/heads/{}", pull.base.branch))?;
    let gone = || Refused::Invalid("Validation Failed: a branch is gone".to_owned());
    pull.head.sha = head.ok_or_else(gone)?;
    pull.base.sha = base.ok_or_else(gone)?;
    pull.merge_sha = test_merge(repository, pull, now)?;
    pull.updated_at = now;
    Ok(())
}

fn keep(shared: &Shared, pull: &PullRequest) {
    shared.change(|state, _| state.pulls.put(pull.clone()));
    shared.save_pulls();
}

/// Brings the pull requests up to date that a push is about, and starts their runs. Blocking. Gives
/// what to tell the pusher.
pub(crate) fn pushed(
    shared: &Shared,
    ids: &RepositoryIds,
    updates: &[RefUpdate],
    actor: &str,
) -> Vec<String> {
    let mut messages = Vec::new();
    for update in updates {
        let Some(branch) = update.name.strip_prefix("refs/heads/") else { continue };
        for pull in shared.look(|state| state.pulls.about(ids.id, branch)) {
            let number = pull.number;
            match moved(shared, (ids, branch), update, pull, actor) {
                Ok(outcome) => messages.extend(tell(&outcome)),
                Err(error) => {
                    tracing::error!("pull request {number} is not brought up to date: {error:?}");
                    messages
                        .push(format!("error: pull request {number} is not brought up to date"));
                }
            }
        }
    }
    messages
}

/// One of the branches of a pull request was pushed to, or is gone.
fn moved(
    shared: &Shared,
    (ids, branch): (&RepositoryIds, &str),
    update: &RefUpdate,
    mut pull: PullRequest,
    actor: &str,
) -> Result<Pushed, Refused> {
    let repository = shared.git.repository(&pull.base.repository.name).ok_or(Refused::NotFound)?;
    let now = shared.clock.now();
    let before = pull.head.sha.clone();
    let is_head = pull.head.repository.id == ids.id && pull.head.branch == branch;
    let activity = match &update.after {
        None => {
            pull.state = PullState::Closed { at: now };
            "closed"
        }
        Some(after) if !is_head => {
            if !repository.is_ancestor(&pull.head.sha, after)? {
                return Ok(Pushed::default());
            }
            pull.state = PullState::Merged { at: now };
            "closed"
        }
        Some(_) => {
            refresh(shared, &repository, &mut pull, now)?;
            "synchronize"
        }
    };
    pull.updated_at = now;
    keep(shared, &pull);
    let before = Some(before.as_str()).filter(|_| activity == "synchronize");
    Ok(happened(shared, &repository, &pull, (activity, actor), before)?)
}

/// Tells of an activity, and starts the runs of the workflows that wait for it.
fn happened(
    shared: &Shared,
    repository: &Repository,
    pull: &PullRequest,
    (activity, actor): (&str, &str),
    before: Option<&str>,
) -> Result<Pushed, GitError> {
    let default_branch = repository.default_branch_name()?;
    let base = &shared.config.base_url;
    let about = (activity, actor);
    let payload = event::pull_request_event(base, pull, about, &default_branch, before);
    if shared.hooks.is_wanted("pull_request") {
        shared.hooks.tell("pull_request", &payload);
    }
    let at = |git_ref: String, sha: &str| RunAt {
        git_ref,
        sha: sha.to_owned(),
        actor: actor.to_owned(),
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
    let target = format!("refs/heads/{}", pull.base.branch);
    events.push(("pull_request_target", at(target, &pull.base.sha)));
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
            if !filter.matches(activity, &pull.base.branch, changed) {
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
        if event == "pull_request" {
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
