//! The admin port: `/livez`, `/readyz`, `/metrics`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::context::Context;

/// What Prometheus asks for.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(context)
}

/// Alive while the worker turns: a key that hangs is given up before that.
pub(crate) async fn live(State(context): State<Arc<Context>>) -> (StatusCode, String) {
    let age = context.pulse.age();
    if age < context.settings.late {
        return (StatusCode::OK, "ok".to_owned());
    }
    let seconds = age.as_secs();
    (StatusCode::SERVICE_UNAVAILABLE, format!("the worker did not turn for {seconds} s"))
}

/// Ready when all stores are full, and until the shutdown begins.
async fn ready(State(context): State<Arc<Context>>) -> impl IntoResponse {
    if context.stop.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping");
    }
    match context.stores.are_full() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the stores are being filled"),
    }
}

async fn metrics(State(context): State<Arc<Context>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, TEXT)], context.metrics())
}
