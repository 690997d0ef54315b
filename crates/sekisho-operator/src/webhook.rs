//! GitHub's webhooks: they tell that jobs wait, and in which repository, so that its queue is read at once.
//!
//! ```text
//!  GitHub ─ workflow_job, signed ─▶ any replica ─ annotation on the GitHubConnection ─▶ all replicas
//!                                                  the one that holds a deployment's lease reads the queue
//! ```
//!
//! Nothing is taken from a webhook but that there is something to be read: who forges, repeats or loses one
//! changes when a queue is read, and nothing else. One that is lost is made good by the next poll.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use sekisho_api::{ANNOTATION_JOBS, AcquisitionMode, GitHubConnection};
use sekisho_github::rest::{Address, Repository};
use sekisho_github::webhook::{Delivery, JobActionKind, WebhookError, WebhookEvent};
use sekisho_reconcile::session::queue::{GATHER, is_for};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::context::{Context, Name};

/// The largest delivery that is read, in bytes: one about a job has some 30 KiB. What is larger is of
/// another event, and answered 413.
const BODY_MAX: usize = 1024 * 1024;
/// Deliveries that are read at a time; those beyond are told to come again.
const AT_ONCE: usize = 32;
/// Repositories that are told of at a time; beyond them the oldest are forgotten, and found by the poll.
const TOLD_MAX: usize = 100;
/// How often an annotation is written again that another replica changed meanwhile.
const CONFLICTS: usize = 5;

/// What replicas tell each other: the repositories, and when a webhook told of each, in milliseconds.
pub(crate) fn told(annotation: &str) -> BTreeMap<Repository, u64> {
    let read: BTreeMap<String, u64> = serde_json::from_str(annotation).unwrap_or_default();
    let named = |(name, at): (String, u64)| {
        let (owner, name) = name.split_once('/')?;
        Some((Repository::new(owner, name)?, at))
    };
    read.into_iter().filter_map(named).collect()
}

/// The annotation with news in it.
fn with(annotation: Option<&str>, news: &BTreeSet<Repository>, now: u64) -> String {
    let mut all = annotation.map(told).unwrap_or_default();
    // Never the same twice: it is by a change that others see that there is something to be read.
    let newest = all.values().max().map_or(0, |at| at + 1);
    all.extend(news.iter().map(|repository| (repository.clone(), now.max(newest))));
    let mut by_age: Vec<(Repository, u64)> = all.into_iter().collect();
    by_age.sort_by_key(|(_, at)| std::cmp::Reverse(*at));
    by_age.truncate(TOLD_MAX);
    let names: BTreeMap<String, u64> =
        by_age.into_iter().map(|(it, at)| (format!("{}/{}", it.owner, it.name), at)).collect();
    json!(names).to_string()
}

struct Door {
    context: Arc<Context>,
    at_once: Semaphore,
    /// What is to be written down, by connection; there is a task as long as there is an entry.
    news: Mutex<BTreeMap<Name, BTreeSet<Repository>>>,
}

/// `POST /webhooks/NAMESPACE/CONNECTION`
pub(crate) fn router(context: Arc<Context>) -> Router {
    let door = Door { context, at_once: Semaphore::new(AT_ONCE), news: Mutex::default() };
    Router::new()
        .route("/webhooks/{namespace}/{connection}", post(receive))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Arc::new(door))
}

async fn receive(
    State(door): State<Arc<Door>>,
    Path(name): Path<Name>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let Ok(_permit) = door.at_once.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many at a time");
    };
    let secret = {
        let memory = door.context.memory();
        memory.connections.get(&name).and_then(|it| it.webhook.clone())
    };
    // Without a secret nothing is signed with it: whether there is such a connection is nobody's business.
    let secrets: Vec<_> = secret.into_iter().collect();
    let (outcome, status, text) = match Delivery::receive(&secrets, &headers, &body) {
        Ok(delivery) => match of_us(&door.context, &name, &delivery.event) {
            Some(repository) => {
                write_down(&door, name, repository);
                ("noted", StatusCode::ACCEPTED, "its queue will be read")
            }
            None => ("ignored", StatusCode::OK, "nothing that concerns these runners"),
        },
        Err(WebhookError::Signature) => {
            ("unsigned", StatusCode::UNAUTHORIZED, "not signed with this connection's secret")
        }
        Err(WebhookError::TooLarge) => ("unread", StatusCode::PAYLOAD_TOO_LARGE, "too large"),
        Err(_) => ("unread", StatusCode::BAD_REQUEST, "this is no delivery of GitHub's"),
    };
    door.context.metrics.webhooks.get_or_create(&[("outcome", outcome)]).inc();
    (status, text)
}

/// The repository whose queue is to be read: one of the connection, with a job for a deployment of it.
fn of_us(context: &Context, name: &Name, event: &WebhookEvent) -> Option<Repository> {
    let WebhookEvent::WorkflowJob(event) = event else { return None };
    if matches!(event.action, JobActionKind::Waiting | JobActionKind::Unknown) {
        return None;
    }
    let repository = Repository::new(&event.repository.owner.login, &event.repository.name)?;
    let connection = ObjectRef::new(&name.1).within(&name.0);
    let connection = context.stores.connections.get(&connection)?;
    let covers = Address::parse(&connection.spec.url, false).ok()?.scope().covers(&repository);
    let deployments = context.stores.deployments.state();
    let wanted = deployments.iter().any(|it| {
        it.namespace().as_ref() == Some(&name.0)
            && it.spec.connection_ref == name.1
            && it.spec.acquisition.mode == AcquisitionMode::Registration
            && is_for(&event.workflow_job.labels, &it.spec.labels)
    });
    (covers && wanted).then_some(repository)
}

/// Has it written down: at once, and what comes within a second together.
fn write_down(door: &Arc<Door>, name: Name, repository: Repository) {
    let mut news = door.news.lock().unwrap_or_else(PoisonError::into_inner);
    let first = !news.contains_key(&name);
    news.entry(name.clone()).or_default().insert(repository);
    drop(news);
    if first {
        let (door, stop) = (Arc::clone(door), door.context.stop.clone());
        let tasks = door.context.settings.tasks.clone();
        tasks.spawn(stop.run_until_cancelled_owned(async move {
            while let Some(repositories) = take(&door, &name) {
                if let Err(error) = annotate(&door.context, &name, &repositories).await {
                    tracing::warn!(
                        "a webhook could not be written down; the poll makes it good: {error}"
                    );
                }
                tokio::time::sleep(GATHER).await;
            }
        }));
    }
}

/// What is to be written down now; the entry goes when there is nothing.
fn take(door: &Door, name: &Name) -> Option<BTreeSet<Repository>> {
    let mut news = door.news.lock().unwrap_or_else(PoisonError::into_inner);
    let all = news.get_mut(name).map(std::mem::take).filter(|all| !all.is_empty());
    if all.is_none() {
        news.remove(name);
    }
    all
}

async fn annotate(
    context: &Context,
    name: &Name,
    repositories: &BTreeSet<Repository>,
) -> kube::Result<()> {
    let api = context.api::<GitHubConnection>(&name.0);
    let mut left = CONFLICTS;
    loop {
        let Some(live) = api.get_metadata_opt(&name.1).await? else { return Ok(()) };
        let known = live.annotations().get(ANNOTATION_JOBS).map(String::as_str);
        let patch = json!({ "metadata": {
            "resourceVersion": live.resource_version(),
            "annotations": { ANNOTATION_JOBS: with(known, repositories, context.now().as_millis()) }
        } });
        context.metrics.wrote("patch");
        let params = PatchParams::default();
        match api.patch_metadata(&name.1, &params, &Patch::Merge(patch)).await {
            Err(error) if crate::failure::is_conflict(&error) && left > 0 => left -= 1,
            other => return other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_webhooks_told_is_kept_and_always_changes() {
        let of = |names: &[&str]| -> BTreeSet<Repository> {
            names.iter().filter_map(|name| Repository::new("acme", name)).collect()
        };
        let first = with(None, &of(&["app"]), 5);
        assert_eq!(first, r#"{"acme/app":5}"#);
        let again = with(Some(&first), &of(&["app", "web"]), 5);
        assert_eq!(again, r#"{"acme/app":6,"acme/web":6}"#, "another, though no time passed");
        assert_eq!(told(&again), of(&["app", "web"]).into_iter().map(|it| (it, 6)).collect());
        assert_eq!(told("what a person wrote"), BTreeMap::new());
        let many: Vec<String> = (0..TOLD_MAX).map(|number| format!("r{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let full = with(Some(&again), &of(&many), 9);
        assert_eq!(told(&full).len(), TOLD_MAX);
        assert!(!told(&full).contains_key(&Repository::new("acme", "app").unwrap()), "the oldest");
    }
}
