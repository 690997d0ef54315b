//! Watches: changes as they happen, one JSON object a line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use super::error::ApiError;
use super::list::partial;
use super::request::Request;
use super::selector::Selector;
use super::store::Change;
use super::{BOOKMARK_EVERY, Shared};

/// Changes that are read at once.
const BATCH: usize = 500;
/// How long a watch goes on if nothing is said.
const TIMEOUT: Duration = Duration::from_secs(300);

struct Watch {
    shared: Arc<Shared>,
    request: Request,
    selector: Selector,
    cursor: u64,
    bookmarked: u64,
    ready: VecDeque<Bytes>,
    version: Receiver<u64>,
    cuts: Receiver<u64>,
    end: Instant,
    over: bool,
}

/// Begins a watch.
pub(super) fn watch(
    shared: Arc<Shared>,
    request: Request,
) -> Result<impl Stream<Item = Result<Bytes, std::convert::Infallible>> + use<>, ApiError> {
    let selector = Selector::parse(
        &request.resource,
        request.param("labelSelector"),
        request.param("fieldSelector"),
    )?;
    let seconds = request.param("timeoutSeconds").parse().map_or(TIMEOUT, Duration::from_secs);
    let (version, cuts) = (shared.version.subscribe(), shared.cuts.subscribe());
    let mut watch = Watch {
        selector,
        cursor: 0,
        bookmarked: 0,
        ready: VecDeque::new(),
        version,
        cuts,
        end: Instant::now() + seconds,
        over: false,
        shared,
        request,
    };
    watch.begin()?;
    Ok(futures_util::stream::unfold(watch, |mut watch| async move {
        let line = watch.next().await?;
        Some((Ok(line), watch))
    }))
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into()
}

impl Watch {
    fn begin(&mut self) -> Result<(), ApiError> {
        let shared = Arc::clone(&self.shared);
        let state = shared.lock();
        let wanted = self.request.param("resourceVersion").to_owned();
        let initial = self.request.param("sendInitialEvents") == "true";
        if initial || matches!(wanted.as_str(), "" | "0") {
            self.cursor = state.store.version();
            let there: Vec<Arc<Value>> = state
                .store
                .list(&self.request.resource, &self.request.namespace, None)
                .map(|(_, object)| Arc::clone(object))
                .filter(|object| self.selector.matches(object))
                .collect();
            for object in there {
                self.tell("ADDED", &object);
            }
            if initial {
                self.bookmark(Some("true"));
            }
            return Ok(());
        }
        let bad = |_| ApiError::bad_request(format!("Invalid value: {wanted:?}: resourceVersion"));
        self.cursor = wanted.parse().map_err(bad)?;
        // Where that is forgotten already, the stream says so, as a real server's does.
        self.bookmarked = self.cursor;
        Ok(())
    }

    fn tell(&mut self, kind: &str, object: &Value) {
        let line = match self.request.metadata_only {
            true => line(kind, &partial(object)),
            false => line(kind, object),
        };
        self.ready.push_back(line);
    }

    fn bookmark(&mut self, initial: Option<&str>) {
        let resource = &self.request.resource;
        let mut object = json!({
            "apiVersion": resource.api_version(),
            "kind": resource.kind,
            "metadata": { "resourceVersion": self.cursor.to_string(), "creationTimestamp": null }
        });
        if let Some(value) = initial {
            object["metadata"]["annotations"]["k8s.io/initial-events-end"] = json!(value);
        }
        self.bookmarked = self.cursor;
        self.tell("BOOKMARK", &object);
    }

    fn read(&mut self) {
        let resource = self.request.resource.full_name();
        let shared = Arc::clone(&self.shared);
        let state = shared.lock();
        let store = &state.store;
        let Some(changes) = store.changes(&resource, &self.request.namespace, self.cursor, BATCH)
        else {
            drop(state);
            self.ready.push_back(line("ERROR", &ApiError::gone().to_value()));
            self.over = true;
            return;
        };
        self.cursor = match changes.last() {
            Some(last) if changes.len() == BATCH => last.version,
            _ => store.version(),
        };
        drop(state);
        for change in changes {
            self.change(&change);
        }
    }

    /// An object that leaves the selection is deleted for this watch; one that enters it, added.
    fn change(&mut self, change: &Change) {
        let was = change.before.as_ref().is_some_and(|before| self.selector.matches(before));
        let is = !change.deleted && self.selector.matches(&change.object);
        match (was, is) {
            (false, true) => self.tell("ADDED", &change.object),
            (true, true) => self.tell("MODIFIED", &change.object),
            (true, false) => self.tell("DELETED", &change.object),
            (false, false) => {}
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.over || self.cuts.has_changed().unwrap_or(true) {
                return None;
            }
            self.version.mark_unchanged();
            self.read();
            if !self.ready.is_empty() {
                continue;
            }
            let bookmarks = self.request.param("allowWatchBookmarks") == "true";
            tokio::select! {
                // All are cancel safe: what changed is still changed afterwards.
                changed = self.version.changed() => changed.ok()?,
                _ = self.cuts.changed() => return None,
                () = tokio::time::sleep_until(self.end) => return None,
                () = tokio::time::sleep(BOOKMARK_EVERY), if bookmarks && self.bookmarked < self.cursor => {
                    self.bookmark(None);
                }
            }
        }
    }
}
