//! The process' stdout, written by a thread of its own.

use std::io::Write;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// Chunks that may wait for the thread; each is at most about 100 KiB.
const QUEUE_LEN: usize = 16;
/// How long the last bytes may take: a reader that is gone must not keep the runner.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// Where the log goes as it happens.
pub(crate) struct Output {
    chunks: mpsc::Sender<Vec<u8>>,
    done: oneshot::Receiver<()>,
}

impl Output {
    /// Starts the thread.
    pub(crate) fn start(mut writer: Box<dyn Write + Send>) -> std::io::Result<Self> {
        let (chunks, mut queue) = mpsc::channel::<Vec<u8>>(QUEUE_LEN);
        let (finished, done) = oneshot::channel();
        std::thread::Builder::new().name("output".to_owned()).spawn(move || {
            let mut broken = false;
            while let Some(chunk) = queue.blocking_recv() {
                // A reader that has gone away is no reason to fail a job: the results service
                // has the log as well. The rest is taken and thrown away.
                broken = broken || writer.write_all(&chunk).and_then(|()| writer.flush()).is_err();
            }
            let _ = finished.send(());
        })?;
        Ok(Self { chunks, done })
    }

    /// Waits until there is room, then returns; the thread writes.
    pub(crate) async fn write(&self, chunk: Vec<u8>) {
        // The thread ends only when this sender is dropped.
        let _ = self.chunks.send(chunk).await;
    }

    /// Waits until all is written, for a while.
    pub(crate) async fn close(self) {
        drop(self.chunks);
        let _ = tokio::time::timeout(CLOSE_DEADLINE, self.done).await;
    }
}
