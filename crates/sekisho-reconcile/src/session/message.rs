//! What a message of a scale set, or a webhook, makes to be written down.
//!
//! The order is: acquire what is to be acquired, write everything down, acknowledge. A message that is
//! not acknowledged comes again, and everything here may be done again: what a Runner has recorded is
//! not changed by the same words.

use sekisho_api::JobResult;

use crate::At;
use crate::name::Mark;
use crate::runner::{Completion, Job, Pod, Record};

/// What a message tells of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It may be taken, and is not ours yet (GitHub Enterprise Server).
    Available {
        /// The id that it is acquired by.
        request: i64,
    },
    /// It is ours; which runner gets it is not known.
    Assigned,
    /// A runner has it.
    Started {
        /// The runner's name.
        runner: String,
        /// GitHub's number of the runner.
        registration: i64,
        /// The job.
        job: Job,
    },
    /// It is over.
    Completed {
        /// The runner that had it; `None` where none ever had.
        runner: Option<String>,
        /// The job; with a result.
        job: Job,
    },
    /// A part that cannot be read. It is counted, and stops nothing.
    Unreadable,
}

/// What there is to do about a message before it is acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Jobs to be acquired, each once.
    pub acquire: Vec<i64>,
    /// What is to be recorded, in this order.
    pub record: Vec<Recording>,
    /// Jobs that were over before a runner had them, by result.
    pub without_runner: Vec<JobResult>,
    /// Parts about runners that were not made in this namespace of this cluster.
    pub foreign: u32,
    /// Parts that could not be read.
    pub unreadable: u32,
}

/// Something to be recorded on a Runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// The Runner's name.
    pub runner: String,
    /// What happened.
    pub what: What,
}

/// What happened to a runner's job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It started.
    Started {
        /// GitHub's number of the runner.
        registration: i64,
        /// The job.
        job: Job,
    },
    /// It is over.
    Completed {
        /// The job; with a result.
        job: Job,
    },
}

/// Reads a message. All jobs that it offers are acquired: a message is acknowledged as a whole, and what
/// was not acquired by then is offered to nobody again. How many run at a time is the set's maximum.
pub fn read(events: &[Event], mark: &Mark) -> Reading {
    let mut reading = Reading::default();
    for event in events {
        match event {
            Event::Available { request } => {
                if !reading.acquire.contains(request) {
                    reading.acquire.push(*request);
                }
            }
            Event::Assigned => {}
            Event::Started { runner, registration, job } if mark.is_on(runner) => {
                let what = What::Started { registration: *registration, job: job.clone() };
                reading.record.push(Recording { runner: runner.clone(), what });
            }
            Event::Completed { runner: Some(runner), job } if mark.is_on(runner) => {
                // That it started is of no use to anybody any more.
                let started =
                    |what: &What| matches!(what, What::Started { job: it, .. } if it.id == job.id);
                reading.record.retain(|it| it.runner != *runner || !started(&it.what));
                let what = What::Completed { job: job.clone() };
                reading.record.push(Recording { runner: runner.clone(), what });
            }
            Event::Completed { runner: None, job } => {
                reading.without_runner.push(job.result.unwrap_or(JobResult::Other));
            }
            Event::Started { .. } | Event::Completed { .. } => reading.foreign += 1,
            Event::Unreadable => reading.unreadable += 1,
        }
    }
    reading
}

/// A Runner that something is to be recorded on. Read live: its resourceVersion is the precondition.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its status.
    pub record: &'a Record,
    /// It is being deleted.
    pub deleting: bool,
    /// The pod of its name.
    pub pod: Option<&'a Pod>,
}

/// How it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// It is already, or there is no Runner to record it on.
    Nothing,
    /// Replace the status, with the resourceVersion that was read as precondition; on a conflict read
    /// and decide again.
    Status(Box<Record>),
    /// Delete the Runner, with uid and resourceVersion as preconditions: its job is over.
    Delete,
}

/// Decides how it is recorded. `None`: there is no such Runner; it went, and needs no record.
pub fn record(what: &What, target: Option<Target<'_>>, now: At) -> Write {
    let Some(target) = target else { return Write::Nothing };
    match what {
        What::Started { registration, job } => target
            .record
            .started(job, *registration, target.pod, now)
            .map_or(Write::Nothing, |record| Write::Status(Box::new(record))),
        What::Completed { job } => match target.record.completed(job, target.deleting) {
            Completion::Nothing => Write::Nothing,
            Completion::Delete => Write::Delete,
            Completion::Write(record) => Write::Status(record),
        },
    }
}
