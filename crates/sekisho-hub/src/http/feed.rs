//! The live log: a websocket from the runner, whose lines become events.

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use sekisho_github::lenient;
use sekisho_github::wire::feed::{FeedFrame, MAX_LINE_CHARS, MAX_LINES};

use super::guard::bearer;
use crate::shared::Shared;
use crate::state::JobRef;
use crate::tokens::JobClaims;

/// The largest message, in bytes: the lines of one frame, escaped as JSON, with room.
const MAX_MESSAGE: usize = 1024 * 1024;

/// `GET /_run/feed`, upgraded to a websocket; with the job's token.
pub(super) async fn feed(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let claims = bearer(&headers).and_then(|token| shared.tokens.read::<JobClaims>(token));
    let Some(at) = claims.map(|claims| claims.at()) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    upgrade.on_upgrade(move |socket| async move {
        let stopping = shared.stopping.clone();
        // Cancel safe: a line that is lost here is in the log that is uploaded.
        let _ = stopping.run_until_cancelled(listen(&shared, at, socket)).await;
    })
}

async fn listen(shared: &Shared, at: JobRef, mut socket: WebSocket) {
    // Pings are answered, and a close is completed, by the library.
    while let Some(Ok(message)) = socket.recv().await {
        let bytes = match &message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return,
        };
        let Ok(frame) = lenient::from_slice::<FeedFrame>(bytes) else {
            tracing::debug!("job {}: a live log frame that is none", at.job);
            continue;
        };
        let lines: Vec<String> = frame.value.into_iter().take(MAX_LINES).map(cut).collect();
        let step_id = Some(frame.step_id.to_string());
        shared.change(|state, _| state.log(at, step_id, frame.start_line, lines));
    }
}

fn cut(line: String) -> String {
    // A frame's sender cuts at the same place, after a timestamp of its own.
    match line.char_indices().nth(2 * MAX_LINE_CHARS) {
        Some((end, _)) => line[..end].to_owned(),
        None => line,
    }
}
