//! The old flow's session and queue, and the move to a broker.
//!
//! ```text
//! connectionData ─▶ session ─┬─ with a broker in it ──▶ a session there, and nothing more here
//!                            └─▶ poll ─┬─ job, cancellation: deleted when it is dealt with
//!                                      └─ BrokerMigration ─▶ the broker is asked, same session
//! ```

use std::sync::Arc;

use url::Url;
use uuid::Uuid;

use super::{Client, Polled, Queue, Session, TaskAgentMessage, TaskAgentSession};
use crate::lenient;
use crate::retry::Policy;
use crate::runner::cipher::SessionKey;
use crate::runner::error::ClientError;
use crate::runner::http::{self, CALL_DEADLINE, MAX_ANSWER, retry};
use crate::runner::routes::Routes;
use crate::wire::message::{MessageType, RunnerStatus};
use crate::wire::tenant::{BrokerMigration, CONNECTION_DATA, ConnectionData, resource};

use super::{ACKNOWLEDGE_DEADLINE, MAX_JOB_MESSAGE, POLL_DEADLINE};

/// Largest answer that says where everything is.
const MAX_CONNECTION_DATA: usize = 8 * 1024 * 1024;

impl Client {
    /// Where the tenant's endpoints are; asked once.
    pub(in crate::runner) async fn routes(&self) -> Result<&Arc<Routes>, ClientError> {
        let base = self.tenant.as_ref().ok_or(ClientError::Message { what: "tenant" })?;
        self.routes.get_or_try_init(|| self.discover(base)).await
    }

    pub(super) async fn discover(&self, base: &Url) -> Result<Arc<Routes>, ClientError> {
        const OPERATION: &str = "asking where the endpoints are";
        let url = http::join(base, CONNECTION_DATA);
        let query = [("connectOptions", "1"), ("lastChangeId", "-1"), ("lastChangeId64", "-1")];
        let build = || self.http.get(url.clone()).query(&query);
        let answer = retry(Policy::QUICK, ClientError::is_transient, |_| {
            self.tokens.authorized(OPERATION, build, CALL_DEADLINE, MAX_CONNECTION_DATA)
        });
        let data: ConnectionData = answer.await?.json(OPERATION)?;
        Ok(Arc::new(Routes::new(base.clone(), data)))
    }

    pub(super) async fn create_tenant_session(&self) -> Result<Session, ClientError> {
        const OPERATION: &str = "creating a session";
        let body = self.session_request();
        let pool = self.pool_id.to_string();
        let url = self.routes().await?.url(resource::SESSIONS, &[("poolId", &pool)])?;
        let build = || self.http.post(url.clone()).json(&body);
        let answer = retry(Policy::QUICK, ClientError::is_transient, |_| {
            self.tokens.authorized(OPERATION, build, CALL_DEADLINE, MAX_ANSWER)
        });
        let session: TaskAgentSession = answer.await?.json(OPERATION)?;
        if let Some(migration) = session.broker_migration_message {
            self.use_broker(&migration)?;
            return self.create_broker_session().await;
        }
        let key = SessionKey::of_session(session.encryption_key.as_ref(), &self.private_key)?;
        Ok(Session { id: session.session_id, queue: Queue::Tenant, key: key.map(Arc::new) })
    }

    pub(super) async fn delete_tenant_session(&self, id: Uuid) -> Result<(), ClientError> {
        let (pool, id) = (self.pool_id.to_string(), id.to_string());
        let values = [("poolId", pool.as_str()), ("sessionId", id.as_str())];
        let url = self.routes().await?.url(resource::SESSIONS, &values)?;
        let build = || self.http.delete(url.clone());
        let deadline = ACKNOWLEDGE_DEADLINE;
        self.tokens
            .authorized("deleting the session", build, deadline, MAX_ANSWER)
            .await
            .map(|_| ())
    }

    /// Asks the queue, and the broker where the queue says so.
    pub(super) async fn poll_tenant(
        &self,
        session: &Session,
        status: RunnerStatus,
    ) -> Result<Option<Polled>, ClientError> {
        const OPERATION: &str = "polling for a message";
        let pool = self.pool_id.to_string();
        let url = self.routes().await?.url(resource::MESSAGES, &[("poolId", &pool)])?;
        let query = self.query(session, status);
        let build = || self.http.get(url.clone()).query(&query).query(&[("lastMessageId", "0")]);
        let answer =
            self.tokens.authorized(OPERATION, build, POLL_DEADLINE, MAX_JOB_MESSAGE).await?;
        if answer.status != 200 || answer.body.is_empty() {
            return Ok(None);
        }
        let mut message: TaskAgentMessage = answer.json(OPERATION)?;
        if let (Some(iv), Some(key)) = (message.iv.take().filter(|iv| !iv.is_empty()), &session.key)
        {
            message.body = key.open(&iv, &message.body)?;
        }
        if MessageType::parse(&message.message_type) != Some(MessageType::BrokerMigration) {
            return Ok(Some(Polled { message, queue: Queue::Tenant }));
        }
        let migration: BrokerMigration = lenient::from_str(&message.body).map_err(|_| {
            let reason = "a move to a broker that it does not name".to_owned();
            ClientError::Body { operation: OPERATION, reason }
        })?;
        self.use_broker(&migration)?;
        self.poll_broker(session, status).await
    }

    /// Takes a message from the queue for good: it is dealt with. Best effort, one try; messages of a
    /// broker need nothing.
    pub async fn delete_message(&self, session: &Session, polled: &Polled) {
        if polled.queue != Queue::Tenant {
            return;
        }
        let deleted = async {
            let (pool, id) = (self.pool_id.to_string(), polled.message.message_id.to_string());
            let values = [("poolId", pool.as_str()), ("messageId", id.as_str())];
            let url = self.routes().await?.url(resource::MESSAGES, &values)?;
            let query = [("sessionId", session.id.to_string())];
            let build = || self.http.delete(url.clone()).query(&query);
            self.tokens
                .authorized("deleting a message", build, ACKNOWLEDGE_DEADLINE, MAX_ANSWER)
                .await
        };
        if let Err(error) = deleted.await {
            tracing::warn!(%error, "a message could not be deleted");
        }
    }

    fn use_broker(&self, migration: &BrokerMigration) -> Result<(), ClientError> {
        let base = http::base_url(&migration.broker_base_url, "brokerBaseUrl")?;
        *self.broker.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(base);
        Ok(())
    }
}
