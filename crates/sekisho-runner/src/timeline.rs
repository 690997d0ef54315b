//! The job's steps as the service shows them, and the task that tells it.

use std::time::Duration;

use jiff::Timestamp;
use sekisho_github::runner::JobClient;
use sekisho_github::wire::results::{StepConclusion, StepStatus, StepUpdate};
use sekisho_github::wire::run_service::{Annotation, Conclusion, StepResult, StepState};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long the last update may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after an update that failed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Longest name of a step, in characters.
const MAX_NAME_CHARS: usize = 512;

/// One step.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: Uuid,
    /// Masked.
    name: String,
    /// `run`, or the action's name.
    kind: String,
    started: Option<Timestamp>,
    completed: Option<Timestamp>,
    conclusion: Option<StepConclusion>,
    log_lines: Option<i64>,
    annotations: Vec<Annotation>,
}

/// How a step ended.
#[derive(Debug)]
pub(crate) struct StepEnd {
    pub(crate) at: Timestamp,
    pub(crate) conclusion: StepConclusion,
    pub(crate) log_lines: Option<i64>,
    pub(crate) annotations: Vec<Annotation>,
}

/// All steps, in the order of their numbers.
pub(crate) struct Timeline {
    records: Vec<Record>,
    updates: watch::Sender<Vec<StepUpdate>>,
    task: JoinHandle<()>,
}

impl Timeline {
    /// Starts the task that sends updates.
    pub(crate) fn start(client: JobClient) -> Self {
        let (updates, receiver) = watch::channel(Vec::new());
        Self { records: Vec::new(), updates, task: tokio::spawn(send(client, receiver)) }
    }

    /// Adds a step at the end; its number is the answer plus one.
    pub(crate) fn add(&mut self, id: Uuid, name: &str, kind: &str) -> usize {
        self.records.push(Record {
            id,
            name: shorten(name),
            kind: kind.to_owned(),
            started: None,
            completed: None,
            conclusion: None,
            log_lines: None,
            annotations: Vec::new(),
        });
        self.records.len() - 1
    }

    /// The step's id.
    pub(crate) fn id(&self, index: usize) -> Uuid {
        self.records[index].id
    }

    /// 1-based.
    pub(crate) fn number(index: usize) -> u32 {
        u32::try_from(index + 1).unwrap_or(u32::MAX)
    }

    /// Gives the step its final name.
    pub(crate) fn rename(&mut self, index: usize, name: &str) {
        self.records[index].name = shorten(name);
    }

    /// The step runs.
    pub(crate) fn begin(&mut self, index: usize, at: Timestamp) {
        self.records[index].started = Some(at);
        self.publish();
    }

    /// The step is over.
    pub(crate) fn end(&mut self, index: usize, end: StepEnd) {
        let record = &mut self.records[index];
        record.completed = Some(end.at);
        record.conclusion = Some(end.conclusion);
        record.log_lines = end.log_lines;
        record.annotations = end.annotations;
        self.publish();
    }

    /// Tells the service how things stand.
    pub(crate) fn publish(&self) {
        let updates = self.records.iter().enumerate().map(|(index, record)| StepUpdate {
            external_id: record.id,
            number: Self::number(index),
            name: record.name.clone(),
            status: record.status().number(),
            started_at: record.started,
            completed_at: record.completed,
            conclusion: record.conclusion.map_or(0, StepConclusion::number),
        });
        // The task ends only when this sender is dropped.
        let _ = self.updates.send(updates.collect());
    }

    /// Sends the last update, for a while, and gives the results for `completejob`.
    pub(crate) async fn close(self) -> Vec<StepResult> {
        self.publish();
        drop(self.updates);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(CLOSE_DEADLINE, self.task).await.is_err() {
            abort.abort();
        }
        let results = self.records.into_iter().enumerate();
        results.map(|(index, record)| record.into_result(Self::number(index))).collect()
    }
}

impl Record {
    fn status(&self) -> StepStatus {
        match (self.completed, self.started) {
            (Some(_), _) => StepStatus::Completed,
            (None, Some(_)) => StepStatus::InProgress,
            (None, None) => StepStatus::Pending,
        }
    }

    fn into_result(self, number: u32) -> StepResult {
        let status = match self.status() {
            StepStatus::Completed => StepState::Completed,
            StepStatus::InProgress => StepState::InProgress,
            StepStatus::Pending => StepState::Pending,
        };
        StepResult {
            external_id: self.id,
            number,
            name: self.name,
            action_name: None,
            git_ref: None,
            kind: Some(self.kind),
            status,
            conclusion: self.conclusion.map(wire_conclusion),
            started_at: self.started,
            completed_at: self.completed,
            completed_log_url: None,
            completed_log_lines: self.log_lines,
            annotations: self.annotations,
        }
    }
}

fn wire_conclusion(conclusion: StepConclusion) -> Conclusion {
    match conclusion {
        StepConclusion::Success => Conclusion::Succeeded,
        StepConclusion::Failure => Conclusion::Failed,
        StepConclusion::Cancelled => Conclusion::Canceled,
        StepConclusion::Skipped => Conclusion::Skipped,
    }
}

fn shorten(name: &str) -> String {
    let line = name.lines().next().unwrap_or_default();
    line.chars().take(MAX_NAME_CHARS).collect()
}

/// Sends the newest state whenever there is one. What came between two sends is never seen, and
/// need not be: each update holds all steps.
async fn send(client: JobClient, mut updates: watch::Receiver<Vec<StepUpdate>>) {
    let mut change_order = 0;
    while updates.changed().await.is_ok() {
        let steps = updates.borrow_and_update().clone();
        change_order += 1;
        if let Err(error) = client.update_steps(steps, change_order).await {
            tracing::warn!(%error, "the steps' states could not be sent");
            tokio::time::sleep(RETRY_PAUSE).await;
            if error.is_transient() && !updates.has_changed().unwrap_or(true) {
                updates.mark_changed();
            }
        }
    }
}
