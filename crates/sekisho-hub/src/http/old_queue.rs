//! The old queue, for runners that do not know of brokers or do not trust their configuration: it says
//! where it is, and sends each session to the broker, as github.com does.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use sekisho_github::lenient;
use sekisho_github::wire::session::TaskAgentSession;
use sekisho_github::wire::tenant::{
    BrokerMigration, ConnectionData, LocationServiceData, ServiceDefinition, resource,
};
use uuid::Uuid;

use super::broker::runner;
use super::reply::ServiceFault;
use crate::shared::Shared;

/// Template of the sessions' place.
const SESSIONS: &str = "/_apis/distributedtask/pools/{poolId}/sessions/{sessionId}";

/// `GET _apis/connectionData`
pub(super) async fn connection_data() -> Json<ConnectionData> {
    let sessions = ServiceDefinition {
        identifier: resource::SESSIONS.to_string(),
        relative_path: SESSIONS.to_owned(),
    };
    let location_service_data = LocationServiceData { service_definitions: vec![sessions] };
    Json(ConnectionData { location_service_data })
}

/// `POST _apis/distributedtask/pools/{pool}/sessions`: none is made here.
pub(super) async fn open(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<TaskAgentSession>, ServiceFault> {
    runner(&shared, &headers)?;
    let bad =
        |error| ServiceFault::broker(StatusCode::BAD_REQUEST, "BadRequest", &format!("{error}"));
    let mut session: TaskAgentSession = lenient::from_slice(&body).map_err(bad)?;
    session.session_id = Uuid::new_v4();
    session.encryption_key = None;
    let broker_base_url = format!("{}/_broker/", shared.config.base_url);
    session.broker_migration_message = Some(BrokerMigration { broker_base_url });
    Ok(Json(session))
}

/// `DELETE …/sessions/{session}`: there is nothing to delete.
pub(super) async fn close(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Result<StatusCode, ServiceFault> {
    runner(&shared, &headers)?;
    Ok(StatusCode::NO_CONTENT)
}
