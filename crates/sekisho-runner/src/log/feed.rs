//! The live feed: a websocket that follows the spool files of the steps.
//!
//! ```text
//! step ─▶ spool file on disk ─▶ feed, at the pace of whoever reads it ─▶ websocket
//! ```
//!
//! What the service does not take yet stays on disk, so a slow or absent service costs no line and no
//! memory, and never holds up the job. Only what is left some seconds after the job's end is lost, and
//! counted. A file that was uploaded and removed meanwhile is still read: it is open.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use sekisho_github::retry::{Policy, jitter};
use sekisho_github::runner::{FeedStream, JobClient};
use sekisho_github::wire::feed::{FeedFrame, MAX_LINE_CHARS, MAX_LINES};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use url::Url;
use uuid::Uuid;

use crate::stop::Stop;

/// Bytes read from a spool file at once; more where one line is longer.
const CHUNK_LEN: usize = 64 * 1024;
/// Frames that are not full are sent at most this often.
const PACE: Duration = Duration::from_millis(50);
/// Until a connection stands, and until a frame is sent.
const DEADLINE: Duration = Duration::from_secs(5);
/// What is left at the job's end may take this long …
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);
/// … or this long, when there is no time left.
const HURRIED_DEADLINE: Duration = Duration::from_secs(1);
/// Between two connections that fail.
const RECONNECT: Policy =
    Policy { attempts: u32::MAX, base: Duration::from_millis(200), cap: Duration::from_secs(15) };

type Socket = WebSocketStream<FeedStream>;

/// The end that the log holds.
pub(crate) struct Feed {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// What became of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FeedEnd {
    /// Lines that were not sent.
    pub(crate) dropped: u64,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    news: Notify,
    /// Lines that were written, and that were sent.
    written: AtomicU64,
    sent: AtomicU64,
}

#[derive(Default)]
struct Queue {
    steps: VecDeque<Tail>,
    ended: bool,
}

/// A spool file as far as it goes: whole lines up to `bytes`.
#[derive(Clone)]
struct Tail {
    step: Uuid,
    file: Arc<std::fs::File>,
    bytes: u64,
    done: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    /// Starts the task; `None` when the URL is not one that we speak.
    pub(crate) fn start(url: &str, client: &JobClient) -> Option<Self> {
        let url = match client.feed_url(url) {
            Ok(url) => url,
            Err(error) => {
                tracing::warn!(%error, "the live feed is off");
                return None;
            }
        };
        let shared = Arc::new(Shared::default());
        let line = Line { url, client: client.clone(), socket: None, failures: 0 };
        let task = tokio::spawn(run(Arc::clone(&shared), line));
        Some(Self { shared, task })
    }

    /// A step begins; `file` is its spool file.
    pub(crate) fn begin(&self, step: Uuid, file: std::fs::File) {
        let tail = Tail { step, file: Arc::new(file), bytes: 0, done: false };
        self.shared.queue().steps.push_back(tail);
    }

    /// So many lines more, so many bytes, are in the file.
    pub(crate) fn wrote(&self, lines: u64, bytes: u64) {
        self.shared.written.fetch_add(lines, Ordering::Relaxed);
        if let Some(tail) = self.shared.queue().steps.back_mut() {
            tail.bytes += bytes;
        }
        self.shared.news.notify_one();
    }

    /// The step is over.
    pub(crate) fn end(&self) {
        if let Some(tail) = self.shared.queue().steps.back_mut() {
            tail.done = true;
        }
        self.shared.news.notify_one();
    }

    /// Sends what is left, for a while, and says how much was lost.
    pub(crate) async fn close(self, stop: &Stop) -> FeedEnd {
        self.shared.queue().ended = true;
        self.shared.news.notify_one();
        let abort = self.task.abort_handle();
        let rest = tokio::time::timeout(CLOSE_DEADLINE, self.task);
        match stop.hurry(HURRIED_DEADLINE, rest).await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => tracing::warn!(%error, "the live feed's task failed"),
            None | Some(Err(_)) => abort.abort(),
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FeedEnd { dropped: count(&self.shared.written).saturating_sub(count(&self.shared.sent)) }
    }
}

/// Follows one file after the other until the queue ends.
async fn run(shared: Arc<Shared>, mut line: Line) {
    let (mut offset, mut number) = (0_u64, 1_u64);
    let mut earliest = Instant::now();
    loop {
        let (tail, ended) = {
            let queue = shared.queue();
            (queue.steps.front().cloned(), queue.ended)
        };
        let Some(tail) = tail else {
            if ended {
                break;
            }
            shared.news.notified().await;
            continue;
        };
        if offset >= tail.bytes {
            if tail.done {
                shared.queue().steps.pop_front();
                (offset, number) = (0, 1);
            } else if ended {
                break;
            } else {
                shared.news.notified().await;
                tokio::time::sleep_until(earliest).await;
            }
            continue;
        }
        let Some(chunk) = read(&tail, offset).await else { break };
        offset += chunk.len() as u64;
        for frame in frames(&chunk, tail.step, number) {
            number += frame.count as u64;
            line.send(&frame).await;
            shared.sent.fetch_add(frame.count as u64, Ordering::Relaxed);
        }
        earliest = Instant::now() + PACE;
    }
    line.close().await;
}

/// Whole lines from `offset` on; at least one, however long it is.
async fn read(tail: &Tail, offset: u64) -> Option<Vec<u8>> {
    let left = usize::try_from(tail.bytes - offset).ok()?;
    let mut length = CHUNK_LEN;
    loop {
        let (file, wanted) = (Arc::clone(&tail.file), length.min(left));
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; wanted];
            file.read_exact_at(&mut bytes, offset).map(|()| bytes)
        });
        let mut bytes = match reading.await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the live feed cannot read a step's log");
                return None;
            }
            Err(_) => return None,
        };
        match memchr::memrchr(b'\n', &bytes) {
            Some(end) => {
                bytes.truncate(end + 1);
                return Some(bytes);
            }
            None if wanted == left => return Some(bytes),
            None => length = length.saturating_mul(2),
        }
    }
}

/// The lines of a chunk in frames; lines that are too long for the feed are cut.
fn frames(chunk: &[u8], step_id: Uuid, number: u64) -> impl Iterator<Item = FeedFrame> {
    let text = String::from_utf8_lossy(chunk);
    let lines: Vec<String> = text.lines().map(|line| shorten(line).to_owned()).collect();
    let mut start = number;
    let mut lines = lines.into_iter();
    std::iter::from_fn(move || {
        let value: Vec<String> = lines.by_ref().take(MAX_LINES).collect();
        let count = value.len();
        let frame = FeedFrame { count, value, step_id, start_line: Some(start) };
        start += count as u64;
        (count > 0).then_some(frame)
    })
}

fn shorten(line: &str) -> &str {
    // Bytes are counted first: almost every line is short.
    if line.len() <= MAX_LINE_CHARS {
        return line;
    }
    line.char_indices().nth(MAX_LINE_CHARS).map_or(line, |(at, _)| &line[..at])
}

/// The connection, made anew whenever it breaks.
struct Line {
    url: Url,
    client: JobClient,
    socket: Option<Socket>,
    failures: u32,
}

impl Line {
    /// Sends, for as long as it takes.
    async fn send(&mut self, frame: &FeedFrame) {
        // Strings and numbers always serialize.
        let Ok(text) = serde_json::to_string(frame) else { return };
        let text = tokio_tungstenite::tungstenite::Utf8Bytes::from(text);
        loop {
            if let Some(open) = &mut self.socket {
                // What the service says is read, or its pings would fill the connection.
                while let Some(Some(Ok(_))) = open.next().now_or_never() {}
                let sent = open.send(Message::Text(text.clone()));
                if matches!(tokio::time::timeout(DEADLINE, sent).await, Ok(Ok(()))) {
                    self.failures = 0;
                    return;
                }
                self.socket = None;
            }
            self.connect().await;
        }
    }

    async fn connect(&mut self) {
        let key = generate_key();
        let opening = self.client.open_websocket(&self.url, &key);
        match tokio::time::timeout(DEADLINE, opening).await {
            Ok(Ok((accept, stream))) if accept == derive_accept_key(key.as_bytes()) => {
                let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None);
                self.socket = Some(socket.await);
                return;
            }
            Ok(Ok(_)) => tracing::debug!("the live feed is answered by something else"),
            Ok(Err(error)) => tracing::debug!(%error, "the live feed cannot connect"),
            Err(_) => tracing::debug!("the live feed cannot connect in time"),
        }
        self.failures = self.failures.saturating_add(1);
        tokio::time::sleep(RECONNECT.delay(self.failures, jitter())).await;
    }

    async fn close(self) {
        if let Some(mut socket) = self.socket {
            let _ = tokio::time::timeout(DEADLINE, socket.close(None)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(text: &[u8]) -> Tail {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, text).unwrap();
        Tail { step: Uuid::nil(), file: Arc::new(file), bytes: text.len() as u64, done: true }
    }

    #[tokio::test]
    async fn a_file_is_read_in_whole_lines_whatever_their_length() {
        let mut text = Vec::new();
        for length in [10, CHUNK_LEN - 1, 3 * CHUNK_LEN, 0, 5 * CHUNK_LEN] {
            text.extend(vec![b'x'; length]);
            text.push(b'\n');
        }
        let tail = tail(&text);
        let mut got = Vec::new();
        while (got.len() as u64) < tail.bytes {
            let chunk = read(&tail, got.len() as u64).await.unwrap();
            assert_eq!(chunk.last(), Some(&b'\n'));
            got.extend(chunk);
        }
        assert!(got == text);
    }

    #[test]
    fn frames_are_full_numbered_and_cut() {
        let long = "ü".repeat(MAX_LINE_CHARS + 1);
        let text = format!("{}{long}\n", "a\n".repeat(MAX_LINES + 1));
        let frames: Vec<FeedFrame> = frames(text.as_bytes(), Uuid::nil(), 7).collect();
        let shape: Vec<_> = frames.iter().map(|f| (f.count, f.start_line)).collect();
        assert_eq!(shape, [(MAX_LINES, Some(7)), (2, Some(7 + MAX_LINES as u64))]);
        assert_eq!(frames[1].value[1].chars().count(), MAX_LINE_CHARS);
    }
}
