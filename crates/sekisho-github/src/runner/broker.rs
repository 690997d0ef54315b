//! Sessions and messages of the broker, and the acquiring of a job.

mod tenant;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rsa::RsaPrivateKey;
use tokio::sync::OnceCell;
use url::Url;
use uuid::Uuid;

use super::cipher::SessionKey;
use super::error::ClientError;
use super::http::{self, CALL_DEADLINE, MAX_ANSWER, retry};
use super::job::JobClient;
use super::routes::Routes;
use super::tenant_job::TenantJob;
use super::token::TokenSource;
use crate::http::ClientOptions;
use crate::jit::JitConfig;
use crate::retry::Policy;
use crate::wire::job::{AgentJobRequestMessage, TENANT_MESSAGE_TYPE};
use crate::wire::message::{
    Acknowledge, MessageQuery, RunnerJobRequest, RunnerStatus, TaskAgentMessage,
};
use crate::wire::run_service::AcquireJob;
use crate::wire::session::{TaskAgentReference, TaskAgentSession};
use crate::wire::tenant::resource;

/// How long a poll is waited for; the broker answers after about 50 s.
pub const POLL_DEADLINE: Duration = Duration::from_secs(65);
/// Acknowledging is best effort and must not delay the job.
const ACKNOWLEDGE_DEADLINE: Duration = Duration::from_secs(5);
/// Acquiring may have to read a large event.
const ACQUIRE_DEADLINE: Duration = Duration::from_secs(60);
/// Largest job message, in bytes: events are at most 25 MB.
const MAX_JOB_MESSAGE: usize = 32 * 1024 * 1024;
/// Acquiring is tried five times, 5 to 15 s apart.
const ACQUIRE: Policy =
    Policy { attempts: 5, base: Duration::from_secs(10), cap: Duration::from_secs(15) };

/// Who the runner says it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its version.
    pub version: String,
    /// `Linux`.
    pub os: &'static str,
    /// `X64`, `ARM64`, …
    pub architecture: &'static str,
    /// Who holds the session, for people: `host (PID: 42)`.
    pub owner: String,
}

/// Which queue a session or a message is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// A broker's.
    Broker,
    /// A tenant's: the old flow.
    Tenant,
}

/// A session. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Session {
    id: Uuid,
    queue: Queue,
    /// Opens the old queue's messages.
    key: Option<Arc<SessionKey>>,
}

/// A message, and where it came from.
#[derive(Clone, Debug)]
pub struct Polled {
    /// The message, opened.
    pub message: TaskAgentMessage,
    /// Its queue: see [`Client::delete_message`].
    pub queue: Queue,
}

/// A registered runner, talking to its broker or tenant.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    tokens: Arc<TokenSource>,
    /// `None` until a tenant names one.
    broker: Mutex<Option<Url>>,
    /// Set for the old flow.
    tenant: Option<Url>,
    routes: OnceCell<Arc<Routes>>,
    private_key: RsaPrivateKey,
    pool_id: i64,
    agent_id: i64,
    agent_name: String,
    identity: Identity,
}

impl Client {
    /// A client for a configuration. Does no IO.
    ///
    /// # Errors
    /// [`ClientError`] when the key or a URL cannot be used.
    pub fn new(config: &JitConfig, identity: Identity) -> Result<Self, ClientError> {
        let runner = &config.runner;
        let service = if runner.use_v2_flow { &runner.server_url_v2 } else { &runner.server_url };
        let what = "AuthorizationUrl";
        let authorization = http::base_url(&config.credentials.data.authorization_url, what)?;
        let private_key = config.private_key().map_err(|source| ClientError::Config { source })?;
        let (broker, tenant) = match runner.use_v2_flow {
            true => (Some(http::base_url(service, "ServerUrlV2")?), None),
            false => (None, Some(http::base_url(service, "ServerUrl")?)),
        };
        let user_agent = format!("sekisho-runner/{}", identity.version);
        let options = ClientOptions { user_agent, ..ClientOptions::default() };
        let urls: Vec<&Url> = broker.iter().chain(&tenant).chain([&authorization]).collect();
        let http = options.client(&urls).map_err(|source| ClientError::Client { source })?;
        Ok(Self {
            tokens: Arc::new(TokenSource::new(config, &private_key, http.clone())?),
            http,
            broker: Mutex::new(broker),
            tenant,
            routes: OnceCell::new(),
            private_key,
            pool_id: runner.pool_id,
            agent_id: runner.agent_id,
            agent_name: runner.agent_name.clone(),
            identity,
        })
    }

    /// Opens the runner's session, at the broker or, in the old flow, at the tenant.
    ///
    /// # Errors
    /// [`ClientError`]; status 409 means that another process holds it.
    pub async fn create_session(&self) -> Result<Session, ClientError> {
        match self.tenant {
            Some(_) => self.create_tenant_session().await,
            None => self.create_broker_session().await,
        }
    }

    fn session_request(&self) -> TaskAgentSession {
        TaskAgentSession {
            session_id: Uuid::nil(),
            owner_name: self.identity.owner.clone(),
            agent: TaskAgentReference {
                id: self.agent_id,
                name: self.agent_name.clone(),
                version: self.identity.version.clone(),
                os_description: self.identity.os.to_owned(),
            },
            use_fips_encryption: true,
            encryption_key: None,
            broker_migration_message: None,
        }
    }

    async fn create_broker_session(&self) -> Result<Session, ClientError> {
        const OPERATION: &str = "creating a session";
        let body = self.session_request();
        let url = self.broker_url("session")?;
        let build = || self.http.post(url.clone()).json(&body);
        let answer = retry(Policy::QUICK, ClientError::is_transient, |_| {
            self.tokens.authorized(OPERATION, build, CALL_DEADLINE, MAX_ANSWER)
        });
        let session: TaskAgentSession = answer.await?.json(OPERATION)?;
        if session.encryption_key.is_some_and(|key| key.value.is_some()) {
            let reason = "an encrypted session, which only the old message queue has".to_owned();
            return Err(ClientError::Body { operation: OPERATION, reason });
        }
        Ok(Session { id: session.session_id, queue: Queue::Broker, key: None })
    }

    fn broker_url(&self, path: &str) -> Result<Url, ClientError> {
        let broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner);
        let broker = broker.as_ref().ok_or(ClientError::Message { what: "broker" })?;
        Ok(http::join(broker, path))
    }

    /// Closes the session; best effort, one try.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete_session(&self, session: &Session) -> Result<(), ClientError> {
        if session.queue == Queue::Tenant {
            return self.delete_tenant_session(session.id).await;
        }
        let url = self.broker_url("session")?;
        let build = || self.http.delete(url.clone());
        let deadline = ACKNOWLEDGE_DEADLINE;
        self.tokens
            .authorized("deleting the session", build, deadline, MAX_ANSWER)
            .await
            .map(|_| ())
    }

    /// Waits for a message, at most [`POLL_DEADLINE`]; `None` when there is none yet.
    ///
    /// Cancel-safe in so far as the broker sends a message again that was not acknowledged.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn poll(
        &self,
        session: &Session,
        status: RunnerStatus,
    ) -> Result<Option<Polled>, ClientError> {
        match session.queue {
            Queue::Broker => self.poll_broker(session, status).await,
            Queue::Tenant => self.poll_tenant(session, status).await,
        }
    }

    async fn poll_broker(
        &self,
        session: &Session,
        status: RunnerStatus,
    ) -> Result<Option<Polled>, ClientError> {
        const OPERATION: &str = "polling for a message";
        let url = self.broker_url("message")?;
        let build = || self.http.get(url.clone()).query(&self.query(session, status));
        let answer =
            self.tokens.authorized(OPERATION, build, POLL_DEADLINE, MAX_JOB_MESSAGE).await?;
        if answer.status != 200 || answer.body.is_empty() {
            return Ok(None);
        }
        let message = answer.json(OPERATION)?;
        Ok(Some(Polled { message, queue: Queue::Broker }))
    }

    /// Tells the broker that the job reference arrived. One try, within 5 s.
    ///
    /// # Errors
    /// [`ClientError`]; kind `AcknowledgeJobNotFound` means that the job is gone.
    pub async fn acknowledge(
        &self,
        session: &Session,
        request: &RunnerJobRequest,
    ) -> Result<(), ClientError> {
        let url = self.broker_url("acknowledge")?;
        let body = Acknowledge { runner_request_id: request.runner_request_id.clone() };
        let query = self.query(session, RunnerStatus::Busy);
        let build = || self.http.post(url.clone()).query(&query).json(&body);
        let operation = "acknowledging the job";
        self.tokens.authorized(operation, build, ACKNOWLEDGE_DEADLINE, MAX_ANSWER).await.map(|_| ())
    }

    /// Takes the job. Retried five times, except where the answer says that it is useless.
    ///
    /// # Errors
    /// [`ClientError`]; statuses 404, 409 and 422 mean that this job is not ours to take. One without a
    /// status may be about a job that is ours, and whose message was lost.
    pub async fn acquire(
        &self,
        request: &RunnerJobRequest,
    ) -> Result<AgentJobRequestMessage, ClientError> {
        const OPERATION: &str = "acquiring the job";
        let base = http::base_url(&request.run_service_url, "run_service_url")?;
        let url = http::join(&base, "acquirejob");
        let body = AcquireJob {
            job_message_id: request.runner_request_id.clone(),
            runner_os: self.identity.os.to_owned(),
            billing_owner_id: request.billing_owner_id.clone(),
        };
        let build = || self.http.post(url.clone()).json(&body);
        let lost = AtomicBool::new(false);
        let again = |error: &ClientError| {
            lost.fetch_or(error.is_lost_answer(), Ordering::Relaxed);
            error.is_transient()
        };
        let answer = retry(ACQUIRE, again, |_| {
            self.tokens.authorized(OPERATION, build, ACQUIRE_DEADLINE, MAX_JOB_MESSAGE)
        });
        match answer.await {
            Err(error) if error.status() == Some(409) && lost.load(Ordering::Relaxed) => {
                // Nobody else has it: it was given to us in the answer that did not arrive.
                let reason = "409 after an answer that was lost: the job is ours, but not here";
                Err(ClientError::Body { operation: OPERATION, reason: reason.to_owned() })
            }
            answer => answer?.json(OPERATION),
        }
    }

    /// The client for a job, which speaks with the job's own token. A job of the old flow is looked up
    /// first: where its tenant's endpoints are.
    ///
    /// # Errors
    /// [`ClientError`] when the message lacks endpoint, token or a usable URL.
    pub async fn job(&self, message: &AgentJobRequestMessage) -> Result<JobClient, ClientError> {
        if !message.message_type.eq_ignore_ascii_case(TENANT_MESSAGE_TYPE) {
            return JobClient::new(self.http.clone(), message, None);
        }
        let what = "endpoint `SystemVssConnection`";
        let endpoint = message.system_connection().ok_or(ClientError::Message { what })?;
        let what = "access token";
        let token = endpoint.access_token().ok_or(ClientError::Message { what })?;
        let base = http::base_url(&endpoint.url, "the tenant's URL")?;
        let routes = Routes::clone(&*self.discover(&base).await?);
        let (pool, request) = (self.pool_id.to_string(), message.request_id.to_string());
        let values = [("poolId", pool.as_str()), ("requestId", request.as_str())];
        let lock = match self.tenant {
            Some(_) => self.routes().await?.url(resource::JOB_REQUESTS, &values)?,
            None => routes.url(resource::JOB_REQUESTS, &values)?,
        };
        let (http, tokens) = (self.http.clone(), Arc::clone(&self.tokens));
        let job = TenantJob::new(http, tokens, lock, routes, message, token);
        JobClient::new(self.http.clone(), message, Some(job))
    }

    /// Drops the cached access token.
    pub fn forget_token(&self) {
        self.tokens.forget_all();
    }

    fn query(&self, session: &Session, status: RunnerStatus) -> MessageQuery {
        MessageQuery {
            session_id: session.id.to_string(),
            status,
            runner_version: self.identity.version.clone(),
            os: self.identity.os.to_owned(),
            architecture: self.identity.architecture.to_owned(),
            disable_update: true,
        }
    }
}
