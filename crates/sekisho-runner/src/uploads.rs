//! Logs and summaries on their way to the results service, beside the steps that still run.

use std::time::Duration;

use sekisho_github::runner::{ClientError, JobClient, LogKind};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::clock;
use crate::log::StepLog;
use crate::stop::Stop;

/// Uploads that may wait; a step that ends while so many wait is held up.
const QUEUE_LEN: usize = 64;
/// How long the job's end waits for uploads.
const CLOSE_DEADLINE: Duration = Duration::from_secs(300);
/// The same when there is no time left.
const HURRIED_DEADLINE: Duration = Duration::from_secs(5);

/// Something to upload, already masked.
#[derive(Debug)]
pub(crate) enum Upload {
    Log(StepLog),
    Summary { step: Uuid, markdown: Vec<u8> },
}

/// The queue and its task.
pub(crate) struct Uploads {
    queue: mpsc::Sender<Upload>,
    task: JoinHandle<u32>,
}

impl Uploads {
    /// Starts the task.
    pub(crate) fn start(client: JobClient) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE_LEN);
        Self { queue, task: tokio::spawn(run(client, receiver)) }
    }

    /// Queues an upload.
    pub(crate) async fn add(&self, upload: Upload) {
        // The task ends only when this sender is dropped.
        let _ = self.queue.send(upload).await;
    }

    /// Waits for all of them; says how many failed.
    pub(crate) async fn close(self, stop: &Stop) -> u32 {
        drop(self.queue);
        let abort = self.task.abort_handle();
        let done = tokio::time::timeout(CLOSE_DEADLINE, self.task);
        match stop.hurry(HURRIED_DEADLINE, done).await {
            Some(Ok(Ok(failed))) => failed,
            Some(Ok(Err(error))) => {
                tracing::warn!(%error, "the uploading task failed");
                1
            }
            None | Some(Err(_)) => {
                tracing::warn!("the uploads were not done in time");
                abort.abort();
                1
            }
        }
    }
}

async fn run(client: JobClient, mut queue: mpsc::Receiver<Upload>) -> u32 {
    let mut failed = 0;
    while let Some(upload) = queue.recv().await {
        let is_taken = match &upload {
            Upload::Log(_) => client.takes_logs(),
            Upload::Summary { .. } => client.takes_summaries(),
        };
        if !is_taken {
            continue;
        }
        if let Err(error) = upload_one(&client, &upload).await {
            failed += 1;
            let error = anyhow::Error::from(error);
            tracing::warn!(error = format!("{error:#}"), "an upload failed");
        }
        if let Upload::Log(log) = upload {
            // The folder is removed with the runner, so a file that stays is no harm.
            let _ = fs_err::remove_file(&log.path);
        }
    }
    failed
}

async fn upload_one(client: &JobClient, upload: &Upload) -> Result<(), ClientError> {
    match upload {
        Upload::Log(log) => {
            let file = tokio::fs::File::open(&log.path).await;
            let file = file.map_err(ClientError::reading_log)?;
            client.upload_log(LogKind::Step(log.step), file, log.lines, clock::now()).await
        }
        Upload::Summary { step, markdown } => {
            client.upload_summary(*step, markdown.clone(), clock::now()).await
        }
    }
}
