//! A pull request, as REST and the event show it.

use serde_json::{Value, json};

use super::repository_json;
use crate::state::{PullRequest, PullState, Side};

/// What happened to a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    Opened,
    Reopened,
    /// Or merged.
    Closed,
    /// Its head was pushed to.
    Synchronize {
        /// The commit that the head was before.
        before: String,
    },
    Edited(Changes),
}

/// What was edited: as it was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    title: Option<String>,
    body: Option<Option<String>>,
    /// Branch and commit.
    base: Option<(String, String)>,
}

impl Activity {
    /// GitHub's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Reopened => "reopened",
            Self::Closed => "closed",
            Self::Synchronize { .. } => "synchronize",
            Self::Edited(_) => "edited",
        }
    }
}

impl Changes {
    /// What was edited between two looks, if anything was.
    pub(crate) fn between(was: &PullRequest, is: &PullRequest) -> Option<Self> {
        let base = &was.base;
        let changes = Self {
            title: (was.title != is.title).then(|| was.title.clone()),
            body: (was.body != is.body).then(|| was.body.clone()),
            base: (base.branch != is.base.branch).then(|| (base.branch.clone(), base.sha.clone())),
        };
        (changes != Self::default()).then_some(changes)
    }

    fn json(&self) -> Value {
        let mut all = serde_json::Map::new();
        if let Some(title) = &self.title {
            all.insert("title".to_owned(), json!({ "from": title }));
        }
        if let Some(body) = &self.body {
            all.insert("body".to_owned(), json!({ "from": body }));
        }
        if let Some((branch, sha)) = &self.base {
            let base = json!({ "ref": { "from": branch }, "sha": { "from": sha } });
            all.insert("base".to_owned(), base);
        }
        all.into()
    }
}

/// Payload of `pull_request` and `pull_request_target`.
pub(crate) fn pull_request_event(
    base: &str,
    pull: &PullRequest,
    (activity, actor): (&Activity, &str),
    default_branch: &str,
) -> Value {
    let ids = &pull.base.repository;
    let mut payload = json!({
        "action": activity.name(),
        "number": pull.number,
        "pull_request": pull_request_json(base, pull, default_branch),
        "repository": repository_json(&format!("{base}/{}", ids.name), ids, default_branch),
        "sender": { "login": actor, "id": ids.owner_id, "type": "User" },
    });
    match activity {
        Activity::Synchronize { before } => {
            payload["before"] = before.clone().into();
            payload["after"] = pull.head.sha.clone().into();
        }
        Activity::Edited(changes) => payload["changes"] = changes.json(),
        Activity::Opened | Activity::Reopened | Activity::Closed => {}
    }
    payload
}

/// A pull request. `default_branch` is that of the repository that it is to go to.
pub(crate) fn pull_request_json(base: &str, pull: &PullRequest, default_branch: &str) -> Value {
    let ids = &pull.base.repository;
    let number = pull.number;
    let (closed_at, merged_at) = match pull.state {
        PullState::Open => (None, None),
        PullState::Closed { at } => (Some(at), None),
        PullState::Merged { at } => (Some(at), Some(at)),
    };
    let side = |side: &Side| {
        let ids = &side.repository;
        let web = format!("{base}/{}", ids.name);
        let mut repository = repository_json(&web, ids, default_branch);
        repository["fork"] = (ids.id != pull.base.repository.id).into();
        json!({
            "label": side.label(),
            "ref": side.branch,
            "sha": side.sha,
            "user": { "login": ids.name.owner(), "id": ids.owner_id, "type": "Organization" },
            "repo": repository,
        })
    };
    json!({
        "id": pull.id,
        "number": number,
        "state": if pull.is_open() { "open" } else { "closed" },
        "locked": false,
        "title": pull.title,
        "body": pull.body,
        "draft": pull.draft,
        "user": { "login": pull.actor, "id": ids.owner_id, "type": "User" },
        "head": side(&pull.head),
        "base": side(&pull.base),
        "merged": merged_at.is_some(),
        "mergeable": pull.is_open().then_some(pull.merge_sha.is_some()),
        "merge_commit_sha": pull.merge_sha,
        "created_at": pull.created_at,
        "updated_at": pull.updated_at,
        "closed_at": closed_at,
        "merged_at": merged_at,
        "author_association": if pull.is_of_fork() { "NONE" } else { "OWNER" },
        "html_url": format!("{base}/{}/pull/{number}", ids.name),
        "url": format!("{base}/api/v3/repos/{}/pulls/{number}", ids.name),
    })
}
