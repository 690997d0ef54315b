//! The message session of a set: one long poll after the other.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;
use url::Url;
use uuid::Uuid;

use super::delivery::{Delivery, Recorded};
use super::error::ScaleSetError;
use super::life::{Ended, Life, Seen, Step, decide};
use super::tenant::{CALL_DEADLINE, Call, Tenant, parse, send};
use crate::http::Answer;
use crate::retry::jitter;
use crate::secret::WireSecret;
use crate::wire::scale_set::{
    API_VERSION, AcquiredJobs, MAX_CAPACITY, NewSession, QueueMessage, SCALE_SETS, Session,
    Statistics, exception,
};

/// How long a poll is waited for; the service answers after about 50 s.
pub const POLL_DEADLINE: Duration = Duration::from_secs(65);
/// Jobs that are acquired in one call.
const MAX_ACQUIRED: usize = 1_000;

/// Who listens.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Who holds the session, for people.
    pub owner: String,
    /// The session of an earlier process of ours: it is deleted if it is in the way.
    pub previous: Option<Uuid>,
}

/// Listens to one set, on a runtime of Tokio. Cancel-safe: what was not recorded and deleted comes again,
/// and a session that was asked for is waited for by the next call.
#[derive(Debug)]
pub struct Listener {
    tenant: Arc<Tenant>,
    set: i64,
    options: ListenerOptions,
    life: Life,
    next: Step,
    session: Option<Open>,
    /// A session that was asked for. The service tells its id once: an answer that nobody takes would
    /// leave a session that turns us away until it is forgotten.
    making: Option<JoinHandle<Result<Answer, ScaleSetError>>>,
    /// The message of [`Step::Deliver`].
    message: Option<QueueMessage>,
    last_trouble: Option<ScaleSetError>,
}

struct Open {
    id: Uuid,
    http: reqwest::Client,
    /// Its query may be a credential.
    queue: Url,
    token: WireSecret,
    statistics: Statistics,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a listener has to tell.
#[derive(Debug)]
pub enum Event {
    /// A session was created: here are the set's numbers, whatever messages come.
    Opened {
        /// To be remembered, for [`ListenerOptions::previous`].
        session: Uuid,
        /// The demand.
        statistics: Statistics,
    },
    /// Something happened.
    Message(Delivery),
    /// Nothing happened for a while.
    Idle,
    /// The service cannot be used at the moment. The listener goes on by itself.
    Trouble {
        /// How often in a row.
        failures: u32,
        /// What it was, where it was an error of a call.
        error: Option<ScaleSetError>,
    },
}

/// What came of acquiring jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// These are ours.
    Jobs(Vec<i64>),
    /// The service assigns jobs by itself, as github.com does: there is nothing to acquire.
    Automatic,
}

impl Listener {
    /// A listener that has no session yet.
    pub fn new(tenant: Arc<Tenant>, set: i64, options: ListenerOptions) -> Self {
        let life = Life::new(options.previous.is_some());
        let next = life.resume();
        let (session, making, message, last_trouble) = (None, None, None, None);
        Self { tenant, set, options, life, next, session, making, message, last_trouble }
    }

    /// Waits until there is something to tell. `capacity`: how many jobs the caller can have at a
    /// time, now; the service assigns no more.
    ///
    /// # Errors
    /// [`Ended`]: it is over for good.
    pub async fn next(&mut self, capacity: u32) -> Result<Event, Ended> {
        loop {
            let (seen, event) = match self.next.clone() {
                Step::Create { wait } => {
                    tokio::time::sleep(wait).await;
                    self.create().await
                }
                Step::RemovePrevious { wait } => {
                    tokio::time::sleep(wait).await;
                    (self.remove_previous().await, None)
                }
                Step::Poll { cursor, wait } => {
                    tokio::time::sleep(wait).await;
                    (self.poll(cursor, capacity).await, None)
                }
                Step::Renew { wait } => {
                    tokio::time::sleep(wait).await;
                    (self.renew().await, None)
                }
                Step::Deliver => {
                    self.next = self.life.resume();
                    match self.message.take() {
                        Some(message) => {
                            return Ok(Event::Message(Delivery::new(self.set, message)));
                        }
                        None => continue,
                    }
                }
                Step::Idle => {
                    self.next = self.life.resume();
                    return Ok(Event::Idle);
                }
                Step::End(ended) => return Err(ended),
            };
            let before = self.life.failures();
            (self.life, self.next) = decide(&self.life, &seen, jitter());
            if let Some(event) = event {
                return Ok(event);
            }
            if self.life.failures() > before {
                let (failures, error) = (self.life.failures(), self.last_trouble.take());
                return Ok(Event::Trouble { failures, error });
            }
        }
    }

    /// Has everything that was not deleted sent again.
    pub fn replay(&mut self) {
        self.life.replay();
        if let Step::Poll { cursor, .. } = &mut self.next {
            *cursor = 0;
        }
    }

    /// The session, if there is one.
    pub fn session(&self) -> Option<Uuid> {
        self.session.as_ref().map(|open| open.id)
    }

    /// Deletes a message that was recorded. A 401 gets one more try with a new token.
    ///
    /// # Errors
    /// [`ScaleSetError`]: the message will come again, which does no harm to who records by
    /// `runner_request_id`.
    pub async fn delete(&mut self, recorded: Recorded) -> Result<(), ScaleSetError> {
        const OPERATION: &str = "deleting a message";
        if recorded.set != self.set {
            let (of, session) = (recorded.set, self.set);
            return Err(ScaleSetError::ForeignMessage { of, session });
        }
        for renewed in [false, true] {
            let open = self.session.as_ref().ok_or(ScaleSetError::NoSession)?;
            let mut url = open.queue.clone();
            url.set_path(&format!("{}/{}", url.path(), recorded.id));
            let request = open.http.delete(url).bearer_auth(open.token.expose());
            let answer = send(OPERATION, request, CALL_DEADLINE).await?;
            if answer.status == 401 && !renewed {
                self.renew_session().await?;
                continue;
            }
            if answer.status == 404 {
                return Ok(());
            }
            return ScaleSetError::check(OPERATION, answer).map(drop);
        }
        Ok(())
    }

    /// Acquires jobs that a message called available, for services that do not assign by themselves.
    /// At most 1,000 are asked for. A 401 gets one more try with a new token.
    ///
    /// # Errors
    /// [`ScaleSetError`].
    pub async fn acquire(&mut self, jobs: &[i64]) -> Result<Acquired, ScaleSetError> {
        const OPERATION: &str = "acquiring jobs";
        let path = format!("{SCALE_SETS}/{}/acquirejobs", self.set);
        let body = jobs.get(..jobs.len().min(MAX_ACQUIRED)).unwrap_or_default();
        let call = Call {
            operation: OPERATION,
            method: Method::POST,
            path: &path,
            query: &[],
            body: Some(json!(body)),
        };
        for renewed in [false, true] {
            let open = self.session.as_ref().ok_or(ScaleSetError::NoSession)?;
            let answer = self.tenant.request_as(&call, &open.token).await?;
            if answer.status == 401 && !renewed {
                self.renew_session().await?;
                continue;
            }
            let answer = match ScaleSetError::check(OPERATION, answer) {
                Err(error) if error.status() == Some(404) && !error.is_set_gone() => {
                    return Ok(Acquired::Automatic);
                }
                other => other?,
            };
            let acquired: AcquiredJobs = parse(OPERATION, &answer)?;
            return Ok(Acquired::Jobs(acquired.value));
        }
        Ok(Acquired::Jobs(Vec::new()))
    }

    /// Deletes the session, so that another can listen at once. One try.
    ///
    /// # Errors
    /// [`ScaleSetError`]: the service forgets the session by itself after a while.
    pub async fn close(mut self) -> Result<(), ScaleSetError> {
        if self.making.is_some() {
            self.create().await;
        }
        match self.session.take() {
            Some(open) => self.delete_session(open.id).await,
            None => Ok(()),
        }
    }

    async fn create(&mut self) -> (Seen, Option<Event>) {
        const OPERATION: &str = "creating a message session";
        self.session = None;
        let making = self.making.get_or_insert_with(|| {
            let (tenant, path) =
                (Arc::clone(&self.tenant), format!("{SCALE_SETS}/{}/sessions", self.set));
            let owner_name = self.options.owner.clone();
            let body = Some(json!(NewSession { session_id: Uuid::nil(), owner_name }));
            tokio::spawn(async move {
                let (operation, method) = (OPERATION, Method::POST);
                tenant.once(&Call { operation, method, path: &path, query: &[], body }).await
            })
        });
        // It ends otherwise only with the runtime.
        let made = making.await.unwrap_or(Err(ScaleSetError::NoSession));
        self.making = None;
        let made = made.and_then(|answer| self.open(OPERATION, &answer));
        match made {
            Ok(open) => {
                let event = Event::Opened { session: open.id, statistics: open.statistics };
                self.session = Some(open);
                (Seen::Created, Some(event))
            }
            Err(error) => (self.failed(error), None),
        }
    }

    fn open(&self, operation: &'static str, answer: &Answer) -> Result<Open, ScaleSetError> {
        let session: Session = parse(operation, answer)?;
        let queue = Url::parse(&session.message_queue_url).ok();
        let queue = queue.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let queue = queue.ok_or(ScaleSetError::Url { operation })?;
        Ok(Open {
            id: session.session_id,
            http: self.tenant.client(operation, &queue)?,
            queue,
            token: session.message_queue_access_token,
            statistics: session.statistics,
        })
    }

    async fn remove_previous(&mut self) -> Seen {
        let Some(previous) = self.options.previous else { return Seen::PreviousRemoved };
        if let Err(error) = self.delete_session(previous).await
            && error.is_transient()
        {
            return self.failed(error);
        }
        // Deleted, or somebody else's by now, or long gone: creating tells.
        self.options.previous = None;
        Seen::PreviousRemoved
    }

    async fn delete_session(&self, id: Uuid) -> Result<(), ScaleSetError> {
        let path = format!("{SCALE_SETS}/{}/sessions/{id}", self.set);
        let operation = "deleting a message session";
        let call = Call { operation, method: Method::DELETE, path: &path, query: &[], body: None };
        self.tenant.once(&call).await.map(drop)
    }

    async fn renew(&mut self) -> Seen {
        match self.renew_session().await {
            Ok(()) => Seen::Renewed,
            Err(error) => self.failed(error),
        }
    }

    async fn renew_session(&mut self) -> Result<(), ScaleSetError> {
        let id = self.session().ok_or(ScaleSetError::NoSession)?;
        let path = format!("{SCALE_SETS}/{}/sessions/{id}", self.set);
        let operation = "renewing a queue token";
        let call = Call { operation, method: Method::PATCH, path: &path, query: &[], body: None };
        let answer = self.tenant.once(&call).await?;
        self.session = Some(self.open(operation, &answer)?);
        Ok(())
    }

    async fn poll(&mut self, cursor: i64, capacity: u32) -> Seen {
        const OPERATION: &str = "polling for messages";
        let Some(open) = &self.session else { return Seen::Expired };
        let mut url = open.queue.clone();
        if cursor > 0 {
            url.query_pairs_mut().append_pair("lastMessageId", &cursor.to_string());
        }
        let request = open
            .http
            .get(url)
            .bearer_auth(open.token.expose())
            .header(reqwest::header::ACCEPT, format!("application/json; api-version={API_VERSION}"))
            .header(MAX_CAPACITY, capacity);
        let answer = match send(OPERATION, request, POLL_DEADLINE).await {
            Ok(answer) => answer,
            Err(error) => return self.failed(error),
        };
        match answer.status {
            401 => Seen::Unauthorized,
            202 | 204 => Seen::Nothing,
            200 if answer.body.is_empty() => Seen::Nothing,
            200 => match parse::<QueueMessage>(OPERATION, &answer) {
                Ok(message) => {
                    let id = message.message_id;
                    self.message = Some(message);
                    Seen::Message { id }
                }
                Err(error) => self.failed(error),
            },
            _ => match ScaleSetError::check(OPERATION, answer) {
                Ok(_) => Seen::Nothing,
                Err(error) => self.failed(error),
            },
        }
    }

    /// What a failed call means for the session.
    fn failed(&mut self, error: ScaleSetError) -> Seen {
        let seen = if error.is(exception::SESSION_CONFLICT) {
            Seen::Conflict
        } else if error.is(exception::SESSION_EXPIRED) {
            Seen::Expired
        } else if error.is_set_gone() {
            Seen::SetGone
        } else if let Some(wait) = error.throttled() {
            Seen::Throttled { wait }
        } else if error.is_transient() {
            Seen::Trouble
        } else {
            match &error {
                ScaleSetError::Status { status, .. } => Seen::Refused { status: *status },
                // No client, an odd address: it may be put right meanwhile.
                _ => Seen::Trouble,
            }
        };
        self.last_trouble = Some(error);
        seen
    }
}
