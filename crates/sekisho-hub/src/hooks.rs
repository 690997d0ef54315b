//! Webhooks out: who is told of what happens, and what came of it.
//!
//! Each hook has a queue and a task of its own, so one that is slow keeps nobody else waiting.
//! As on GitHub a delivery that fails is not repeated; it is written down and can be asked for
//! again. Deliveries are forgotten with the process.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use sekisho_github::http::{self, ClientOptions};
use sekisho_github::webhook;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;
use uuid::Uuid;

use crate::OpenError;
use crate::clock::now;
use crate::config::Webhook;
use crate::state::Owner;

/// How long a receiver may take, as on GitHub.
const DEADLINE: Duration = Duration::from_secs(10);
/// Deliveries that wait for one receiver.
const MAX_QUEUED: usize = 10_000;
/// Deliveries of one hook that are remembered.
const MAX_REMEMBERED: usize = 500;
/// Of an answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// The answer's part that is remembered, in bytes.
const MAX_SHOWN: usize = 4 * 1024;

/// All hooks; a hook's number is its place, from 1.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    hooks: Vec<Hook>,
    last_delivery: AtomicU64,
}

/// Somebody who is told.
#[derive(Debug)]
pub(crate) struct Hook {
    pub(crate) id: u64,
    pub(crate) config: Webhook,
    queue: mpsc::Sender<Outgoing>,
    done: Arc<Mutex<VecDeque<Done>>>,
}

/// What is to be told.
#[derive(Clone, Debug)]
struct Outgoing {
    id: u64,
    guid: Uuid,
    redelivery: bool,
    /// Where it happened; `None`: nowhere, it is of the hook itself.
    repository: Option<String>,
    event: String,
    action: Option<String>,
    body: Arc<str>,
}

/// What was told, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    outgoing: Outgoing,
    at: Timestamp,
    duration: Duration,
    /// The answer's status, or why there is none.
    answer: Result<u16, String>,
    answer_body: String,
}

impl Hooks {
    /// Starts a task for each hook. Within a tokio runtime.
    pub(crate) fn start(
        hooks: &[Webhook],
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Result<Self, OpenError> {
        let mut started = Vec::new();
        for (place, config) in hooks.iter().enumerate() {
            let bad = || OpenError::Webhook(config.url.clone());
            let url = Url::parse(&config.url).map_err(|_| bad())?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(bad());
            }
            let options = ClientOptions {
                user_agent: "GitHub-Hookshot/sekisho".to_owned(),
                ..ClientOptions::default()
            };
            let client = options.client(&[&url]).map_err(|_| bad())?;
            let (queue, mut waiting) = mpsc::channel::<Outgoing>(MAX_QUEUED);
            let done = Arc::new(Mutex::new(VecDeque::new()));
            let hook = Hook { id: place as u64 + 1, config: config.clone(), queue, done };
            let deliverer = Deliverer {
                id: hook.id,
                config: config.clone(),
                url,
                client,
                done: Arc::clone(&hook.done),
            };
            let stopping = stopping.clone();
            tasks.spawn(async move {
                loop {
                    // What is under way when the hub stops is dropped, and so is what waits.
                    tokio::select! {
                        () = stopping.cancelled() => return,
                        next = waiting.recv() => match next {
                            Some(outgoing) => deliverer.deliver(outgoing).await,
                            None => return,
                        },
                    }
                }
            });
            started.push(hook);
        }
        let hooks = Self { hooks: started, last_delivery: AtomicU64::new(0) };
        hooks.hooks.iter().for_each(|hook| hooks.ping(hook));
        Ok(hooks)
    }

    /// Whether anybody wants to hear of it.
    pub(crate) fn is_wanted(&self, event: &str) -> bool {
        self.hooks.iter().any(|hook| hook.wants(event))
    }

    /// Tells everybody who wants to hear of it.
    pub(crate) fn tell(&self, event: &str, payload: &Value) {
        let action = payload["action"].as_str().map(str::to_owned);
        let repository = payload["repository"]["full_name"].as_str().map(str::to_owned);
        let body: Arc<str> = payload.to_string().into();
        let (id, guid, redelivery) = (0, Uuid::new_v4(), false);
        let event = event.to_owned();
        let outgoing = Outgoing { id, guid, redelivery, repository, event, action, body };
        for hook in self.hooks.iter().filter(|hook| hook.wants(&outgoing.event)) {
            self.send(hook, Outgoing { id: self.id(), ..outgoing.clone() });
        }
    }

    /// All hooks.
    pub(crate) fn all(&self) -> &[Hook] {
        &self.hooks
    }

    /// One of them.
    pub(crate) fn get(&self, id: u64) -> Option<&Hook> {
        self.hooks.iter().find(|hook| hook.id == id)
    }

    /// Says hello.
    pub(crate) fn ping(&self, hook: &Hook) {
        let zen = "Tag last.";
        let payload = json!({ "zen": zen, "hook_id": hook.id, "hook": hook.shown("") });
        let (guid, event, body) = (Uuid::new_v4(), "ping".to_owned(), payload.to_string().into());
        let (id, redelivery, repository, action) = (self.id(), false, None, None);
        self.send(hook, Outgoing { id, guid, redelivery, repository, event, action, body });
    }

    /// Delivers something of a place once more. False if it is not remembered.
    pub(crate) fn redeliver(&self, hook: &Hook, place: &Owner, delivery: u64) -> bool {
        let Some(done) = hook.delivery(place, delivery) else { return false };
        self.send(hook, Outgoing { id: self.id(), redelivery: true, ..done.outgoing });
        true
    }

    fn id(&self) -> u64 {
        self.last_delivery.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn send(&self, hook: &Hook, outgoing: Outgoing) {
        if let Err(error) = hook.queue.try_send(outgoing) {
            let outgoing = match error {
                mpsc::error::TrySendError::Full(outgoing)
                | mpsc::error::TrySendError::Closed(outgoing) => outgoing,
            };
            tracing::warn!(hook = hook.id, "the hook is not told of {}", outgoing.event);
            let answer = Err("too many deliveries wait for this hook".to_owned());
            let (duration, answer_body) = (Duration::ZERO, String::new());
            remember(&hook.done, Done { outgoing, at: now(), duration, answer, answer_body });
        }
    }
}

impl Hook {
    fn wants(&self, event: &str) -> bool {
        let events = &self.config.events;
        events.is_empty() || events.iter().any(|one| one == event || one == "*")
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Done>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was told of a place, newest first.
    pub(crate) fn deliveries(&self, place: &Owner) -> Vec<Done> {
        self.lock().iter().rev().filter(|done| done.is_of(place)).cloned().collect()
    }

    /// One of them.
    pub(crate) fn delivery(&self, place: &Owner, id: u64) -> Option<Done> {
        let is_it = |done: &&Done| done.outgoing.id == id && done.is_of(place);
        self.lock().iter().find(is_it).cloned()
    }

    /// As REST shows it; the secret is not shown.
    pub(crate) fn shown(&self, api: &str) -> Value {
        let events = match self.config.events.as_slice() {
            [] => vec!["*".to_owned()],
            events => events.to_vec(),
        };
        json!({
            "type": "Repository", "id": self.id, "name": "web", "active": true, "events": events,
            "config": {
                "url": self.config.url, "content_type": "json", "insecure_ssl": "0",
                "secret": "********",
            },
            "url": format!("{api}/hooks/{}", self.id),
            "ping_url": format!("{api}/hooks/{}/pings", self.id),
            "deliveries_url": format!("{api}/hooks/{}/deliveries", self.id),
        })
    }
}

impl Done {
    /// A hook is told of all repositories; each place sees what was told of its own.
    fn is_of(&self, place: &Owner) -> bool {
        self.outgoing.repository.as_ref().is_none_or(|repository| place.has(repository))
    }

    /// As lists show it.
    pub(crate) fn shown(&self) -> Value {
        let (status, code) = match &self.answer {
            Ok(code @ 200..=299) => ("OK".to_owned(), *code),
            Ok(code) => (format!("Invalid HTTP Response: {code}"), *code),
            Err(why) => (why.clone(), 0),
        };
        json!({
            "id": self.outgoing.id, "guid": self.outgoing.guid, "delivered_at": self.at,
            "redelivery": self.outgoing.redelivery, "duration": self.duration.as_secs_f64(),
            "status": status, "status_code": code, "event": self.outgoing.event,
            "action": self.outgoing.action, "installation_id": null, "repository_id": null,
        })
    }

    /// With what was said.
    pub(crate) fn shown_whole(&self) -> Value {
        let mut shown = self.shown();
        let payload: Value = serde_json::from_str(&self.outgoing.body).unwrap_or_default();
        let headers = json!({
            "X-GitHub-Event": self.outgoing.event, "X-GitHub-Delivery": self.outgoing.guid,
        });
        shown["request"] = json!({ "headers": headers, "payload": payload });
        shown["response"] = json!({ "headers": {}, "payload": self.answer_body });
        shown
    }
}

fn remember(all: &Mutex<VecDeque<Done>>, done: Done) {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() >= MAX_REMEMBERED {
        all.pop_front();
    }
    all.push_back(done);
}

/// Delivers to one hook.
struct Deliverer {
    id: u64,
    config: Webhook,
    url: Url,
    client: http::Client,
    done: Arc<Mutex<VecDeque<Done>>>,
}

impl Deliverer {
    async fn deliver(&self, outgoing: Outgoing) {
        let (at, began) = (now(), tokio::time::Instant::now());
        let body = outgoing.body.as_bytes();
        let request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("x-github-event", &outgoing.event)
            .header("x-github-delivery", outgoing.guid.to_string())
            .header("x-github-hook-id", self.id)
            .header("x-github-hook-installation-target-type", "repository")
            .header("x-github-hook-installation-target-id", "0")
            .header("x-hub-signature-256", webhook::sign(&self.config.secret, body))
            .body(body.to_vec());
        let answered = http::send(request, DEADLINE, MAX_ANSWER).await;
        let (answer, answer_body) = match answered {
            Ok(answer) => {
                let shown = answer.body.get(..MAX_SHOWN).unwrap_or(&answer.body);
                (Ok(answer.status), String::from_utf8_lossy(shown).into_owned())
            }
            Err(error) => (Err(error.to_string()), String::new()),
        };
        let duration = began.elapsed();
        remember(&self.done, Done { outgoing, at, duration, answer, answer_body });
    }
}
