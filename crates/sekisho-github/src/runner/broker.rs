//! Sessions and messages of the broker, and the acquiring of a job.

use std::time::Duration;

use reqwest::RequestBuilder;
use url::Url;
use uuid::Uuid;

use super::error::ClientError;
use super::http::{self, Answer, CALL_DEADLINE, MAX_ANSWER};
use super::job::JobClient;
use super::token::TokenSource;
use crate::jit::JitConfig;
use crate::retry::{Policy, retry};
use crate::wire::job::AgentJobRequestMessage;
use crate::wire::message::{
    Acknowledge, MessageQuery, RunnerJobRequest, RunnerStatus, TaskAgentMessage,
};
use crate::wire::run_service::AcquireJob;
use crate::wire::session::{TaskAgentReference, TaskAgentSession};

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

/// A registered runner, talking to its broker.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    tokens: TokenSource,
    broker: Url,
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
        let urls = [&*config.runner.server_url_v2, &*config.credentials.data.authorization_url];
        let http = http::client(&urls, &format!("sekisho-runner/{}", identity.version))?;
        Ok(Self {
            tokens: TokenSource::new(config, http.clone())?,
            http,
            broker: http::base_url(&config.runner.server_url_v2, "ServerUrlV2")?,
            agent_id: config.runner.agent_id,
            agent_name: config.runner.agent_name.clone(),
            identity,
        })
    }

    /// Opens the runner's session.
    ///
    /// # Errors
    /// [`ClientError`]; status 409 means that another process holds it.
    pub async fn create_session(&self) -> Result<Uuid, ClientError> {
        const OPERATION: &str = "creating a session";
        let body = TaskAgentSession {
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
        };
        let url = http::join(&self.broker, "session");
        let build = || self.http.post(url.clone()).json(&body);
        let answer = retry(Policy::QUICK, ClientError::is_transient, |_| {
            self.authorized(OPERATION, build, CALL_DEADLINE, MAX_ANSWER)
        });
        let session: TaskAgentSession = answer.await?.json(OPERATION)?;
        if session.encryption_key.is_some_and(|key| key.value.is_some()) {
            let reason = "an encrypted session, which only the old message queue has".to_owned();
            return Err(ClientError::Body { operation: OPERATION, reason });
        }
        Ok(session.session_id)
    }

    /// Closes the session; best effort, one try.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete_session(&self) -> Result<(), ClientError> {
        let url = http::join(&self.broker, "session");
        let build = || self.http.delete(url.clone());
        let deadline = ACKNOWLEDGE_DEADLINE;
        self.authorized("deleting the session", build, deadline, MAX_ANSWER).await.map(|_| ())
    }

    /// Waits for a message, at most [`POLL_DEADLINE`]; `None` when there is none yet.
    ///
    /// Cancel-safe in so far as the broker sends a message again that was not acknowledged.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn poll(
        &self,
        session: Uuid,
        status: RunnerStatus,
    ) -> Result<Option<TaskAgentMessage>, ClientError> {
        const OPERATION: &str = "polling for a message";
        let url = http::join(&self.broker, "message");
        let build = || self.http.get(url.clone()).query(&self.query(session, status));
        let answer = self.authorized(OPERATION, build, POLL_DEADLINE, MAX_ANSWER).await?;
        if answer.status != 200 || answer.body.is_empty() {
            return Ok(None);
        }
        answer.json(OPERATION).map(Some)
    }

    /// Tells the broker that the job reference arrived. One try, within 5 s.
    ///
    /// # Errors
    /// [`ClientError`]; kind `AcknowledgeJobNotFound` means that the job is gone.
    pub async fn acknowledge(
        &self,
        session: Uuid,
        request: &RunnerJobRequest,
    ) -> Result<(), ClientError> {
        let url = http::join(&self.broker, "acknowledge");
        let body = Acknowledge { runner_request_id: request.runner_request_id.clone() };
        let query = self.query(session, RunnerStatus::Busy);
        let build = || self.http.post(url.clone()).query(&query).json(&body);
        let operation = "acknowledging the job";
        self.authorized(operation, build, ACKNOWLEDGE_DEADLINE, MAX_ANSWER).await.map(|_| ())
    }

    /// Takes the job. Retried five times, except where the answer says that it is useless.
    ///
    /// # Errors
    /// [`ClientError`]; statuses 404, 409 and 422 mean that this job is not ours to take.
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
        let answer = retry(ACQUIRE, ClientError::is_transient, |_| {
            self.authorized(OPERATION, build, ACQUIRE_DEADLINE, MAX_JOB_MESSAGE)
        });
        answer.await?.json(OPERATION)
    }

    /// The client for an acquired job, which speaks with the job's own token.
    ///
    /// # Errors
    /// [`ClientError`] when the message lacks endpoint, token or a usable URL.
    pub fn job(&self, message: &AgentJobRequestMessage) -> Result<JobClient, ClientError> {
        JobClient::new(self.http.clone(), message)
    }

    /// Drops the cached access token.
    pub fn forget_token(&self) {
        self.tokens.forget_all();
    }

    fn query(&self, session: Uuid, status: RunnerStatus) -> MessageQuery {
        MessageQuery {
            session_id: session.to_string(),
            status,
            runner_version: self.identity.version.clone(),
            os: self.identity.os.to_owned(),
            architecture: self.identity.architecture.to_owned(),
            disable_update: true,
        }
    }

    /// Sends with the runner's token. A 401 gets one more try with a new token.
    async fn authorized(
        &self,
        operation: &'static str,
        build: impl Fn() -> RequestBuilder,
        deadline: Duration,
        max_body: usize,
    ) -> Result<Answer, ClientError> {
        let token = self.tokens.get().await?;
        let request = build().bearer_auth(token.expose());
        let answer = http::send(operation, request, deadline, max_body).await?;
        if answer.status != 401 {
            return answer.success(operation);
        }
        self.tokens.forget(&token);
        let token = self.tokens.get().await?;
        let request = build().bearer_auth(token.expose());
        http::send(operation, request, deadline, max_body).await?.success(operation)
    }
}
