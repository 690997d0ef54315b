//! The events of a run, as they are streamed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Annotation, Conclusion, Status};

/// One line of a run's event stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// From 1, without gaps.
    pub n: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// The run as a whole changed. The last event of a stream is one with a conclusion.
    Run {
        /// Where it is now.
        status: Status,
        /// How it ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conclusion: Option<Conclusion>,
    },
    /// A job changed.
    Job {
        /// Which.
        job_id: u64,
        /// Its display name.
        name: String,
        /// Where it is now.
        status: Status,
        /// How it ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conclusion: Option<Conclusion>,
        /// Who has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        runner_name: Option<String>,
    },
    /// A step changed.
    Step {
        /// The job it is part of.
        job_id: u64,
        /// The runner's id for it.
        step_id: String,
        /// From 1.
        number: u64,
        /// Its display name.
        name: String,
        /// Where it is now.
        status: Status,
        /// How it ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conclusion: Option<Conclusion>,
    },
    /// Live log lines. A slow or broken connection loses some: the stored log has all of them.
    Log {
        /// The job they are of.
        job_id: u64,
        /// The runner's id of the step.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step_id: Option<String>,
        /// Which line of the step the first one is, as the runner counts: a jump says what is lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start_line: Option<u64>,
        /// Without line ends.
        lines: Vec<String>,
    },
    /// A remark on a job.
    Annotation {
        /// The job.
        job_id: u64,
        /// The remark.
        #[serde(flatten)]
        annotation: Annotation,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub_api::AnnotationLevel;

    #[track_caller]
    fn check(event: &Event, want: &str) {
        let text = serde_json::to_string(event).unwrap();
        assert_eq!(text, want);
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), *event);
    }

    fn event(kind: EventKind) -> Event {
        Event { n: 3, at: "2026-01-02T03:04:05.25Z".parse().unwrap(), kind }
    }

    #[test]
    fn events_are_one_flat_line() {
        check(
            &event(EventKind::Run { status: Status::InProgress, conclusion: None }),
            r#"{"n":3,"at":"2026-01-02T03:04:05.25Z","type":"run","status":"in_progress"}"#,
        );
        check(
            &event(EventKind::Log {
                job_id: 7,
                step_id: None,
                start_line: None,
                lines: vec!["a".into()],
            }),
            r#"{"n":3,"at":"2026-01-02T03:04:05.25Z","type":"log","job_id":7,"lines":["a"]}"#,
        );
        check(
            &event(EventKind::Annotation {
                job_id: 7,
                annotation: Annotation {
                    level: AnnotationLevel::Failure,
                    message: "m".into(),
                    path: None,
                    line: Some(2),
                },
            }),
            concat!(
                r#"{"n":3,"at":"2026-01-02T03:04:05.25Z","type":"annotation","job_id":7,"#,
                r#""level":"failure","message":"m","line":2}"#
            ),
        );
    }
}
