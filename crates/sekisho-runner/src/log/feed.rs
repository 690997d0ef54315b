//! The live feed: a websocket that may lose lines, and must never hold up the job.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use sekisho_github::secret::WireSecret;
use sekisho_github::wire::feed::{FeedFrame, MAX_LINE_CHARS, MAX_LINES};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::{Message, handshake::client::Request};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use uuid::Uuid;

/// Frames that may wait: with 100 lines of 1,024 characters each, some 25 MB at the very most.
const QUEUE_LEN: usize = 256;
/// Frames that are not full are sent at most this often.
const PACE: Duration = Duration::from_millis(50);
/// Until a connection stands, and until a frame is sent.
const DEADLINE: Duration = Duration::from_secs(5);
/// Connections that are tried; then the feed stays silent.
const MAX_CONNECTIONS: u32 = 3;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The sending end.
pub(crate) struct Feed {
    frames: mpsc::Sender<FeedFrame>,
    dropped: Arc<AtomicU64>,
    task: JoinHandle<u64>,
}

/// What became of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FeedEnd {
    /// Lines that were not sent.
    pub(crate) dropped: u64,
}

impl Feed {
    /// Starts the task; `None` when the URL is not one that we speak (only `ws:` is).
    pub(crate) fn start(url: &str, token: &WireSecret) -> Option<Self> {
        if !url.starts_with("ws://") {
            tracing::info!("the live feed is off: its URL is not a ws:// URL");
            return None;
        }
        let mut request = url.into_client_request().ok()?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let (frames, queue) = mpsc::channel(QUEUE_LEN);
        let task = tokio::spawn(run(request, queue));
        Some(Self { frames, dropped: Arc::new(AtomicU64::new(0)), task })
    }

    /// Queues lines; never waits.
    pub(crate) fn send(&mut self, step_id: Uuid, start_line: u64, mut lines: Vec<String>) {
        for line in &mut lines {
            if let Some((at, _)) = line.char_indices().nth(MAX_LINE_CHARS) {
                line.truncate(at);
            }
        }
        let count = lines.len();
        let frame = FeedFrame { count, value: lines, step_id, start_line: Some(start_line) };
        if self.frames.try_send(frame).is_err() {
            self.dropped.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Sends what waits, for a while, and says how much was lost.
    pub(crate) async fn close(self) -> FeedEnd {
        drop(self.frames);
        let abort = self.task.abort_handle();
        let lost = match tokio::time::timeout(DEADLINE, self.task).await {
            Ok(Ok(lost)) => lost,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the live feed's task failed");
                0
            }
            Err(_) => {
                abort.abort();
                0
            }
        };
        FeedEnd { dropped: self.dropped.load(Ordering::Relaxed) + lost }
    }
}

/// Sends frames until the queue ends; says how many lines were lost on the way.
async fn run(request: Request, mut queue: mpsc::Receiver<FeedFrame>) -> u64 {
    let mut connections = 0;
    let mut socket: Option<Socket> = None;
    let mut lost = 0;
    let (mut next, mut earliest) = (None, Instant::now());
    loop {
        let mut frame = match next.take() {
            Some(frame) => frame,
            None => match queue.recv().await {
                Some(frame) => frame,
                None => break,
            },
        };
        next = gather(&mut frame, &mut queue, earliest).await;
        if !send(&request, &mut socket, &mut connections, &frame).await {
            lost += frame.count as u64;
        }
        let more_waits = next.is_some() || frame.count >= MAX_LINES;
        earliest = if more_waits { Instant::now() } else { Instant::now() + PACE };
    }
    if let Some(mut socket) = socket {
        let _ = tokio::time::timeout(DEADLINE, socket.close(None)).await;
    }
    lost
}

/// Until `earliest`, appends frames that go on where `frame` ends; the first one that does not is
/// returned. Ends at once when the frame is full or the queue has ended.
async fn gather(
    frame: &mut FeedFrame,
    queue: &mut mpsc::Receiver<FeedFrame>,
    earliest: Instant,
) -> Option<FeedFrame> {
    while frame.count < MAX_LINES {
        // Cancel-safe: a frame is either received or still in the queue. What waits there is
        // taken even if `earliest` is over.
        let Ok(Some(more)) = tokio::time::timeout_at(earliest, queue.recv()).await else {
            return None;
        };
        let follows = frame.start_line.map(|start| start + frame.count as u64);
        let fits = frame.count + more.count <= MAX_LINES;
        if !fits || more.step_id != frame.step_id || more.start_line != follows {
            return Some(more);
        }
        frame.count += more.count;
        frame.value.extend(more.value);
    }
    None
}

async fn send(
    request: &Request,
    socket: &mut Option<Socket>,
    connections: &mut u32,
    frame: &FeedFrame,
) -> bool {
    let Ok(text) = serde_json::to_string(frame) else { return false };
    loop {
        if let Some(open) = socket {
            // What the service says is read, or its pings would fill the connection.
            while let Some(Some(Ok(_))) = futures_util::FutureExt::now_or_never(open.next()) {}
            let sent = tokio::time::timeout(DEADLINE, open.send(Message::text(text.clone()))).await;
            if matches!(sent, Ok(Ok(()))) {
                return true;
            }
            *socket = None;
        }
        if *connections >= MAX_CONNECTIONS {
            return false;
        }
        *connections += 1;
        let connecting = tokio_tungstenite::connect_async(request.clone());
        match tokio::time::timeout(DEADLINE, connecting).await {
            Ok(Ok((open, _))) => *socket = Some(open),
            Ok(Err(error)) => tracing::debug!(%error, "the live feed cannot connect"),
            Err(_) => tracing::debug!("the live feed cannot connect in time"),
        }
    }
}
