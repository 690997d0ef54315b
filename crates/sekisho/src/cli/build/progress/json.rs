//! A build as JSON, one object a line, for programs.

use sekisho_builder::{Event, Progress};
use serde_json::{Value, json};

use super::{Seen, View};
use crate::printer::Printer;

/// Writes each event.
pub(super) struct Lines {
    printer: Printer,
}

impl Lines {
    pub(super) fn new(printer: Printer) -> Self {
        Self { printer }
    }
}

impl Progress for Lines {
    fn event(&self, event: Event) {
        self.printer.always(&value(&event).to_string());
    }
}

impl View for Lines {
    fn finish(&self) {}
}

/// The event's kind, and what belongs to it.
fn value(event: &Event) -> Value {
    match event {
        Event::Planned { steps } => json!({ "event": "planned", "steps": steps }),
        Event::StepStarted { number, stage, text, line } => json!({
            "event": "step_started", "number": number, "stage": stage, "text": text, "line": line,
        }),
        Event::StepFinished { number, cached, duration, layer, used } => json!({
            "event": "step_finished", "number": number, "cached": cached,
            "duration_ms": duration.as_millis(), "layer": layer, "used": used,
        }),
        Event::Log { number, stream, line } => json!({
            "event": "log", "number": number, "stream": format!("{stream:?}").to_lowercase(),
            "line": line,
        }),
        Event::Note { text } => json!({ "event": "note", "text": text }),
        Event::Pulled { reference, digest, size_bytes, duration } => json!({
            "event": "pulled", "reference": reference.to_string(), "digest": digest.to_string(),
            "size_bytes": size_bytes, "duration_ms": duration.as_millis(),
        }),
        Event::Built { manifest_digest, size_bytes } => json!({
            "event": "built", "digest": manifest_digest.to_string(), "size_bytes": size_bytes,
        }),
        Event::PushStarted { reference } => {
            json!({ "event": "push_started", "reference": reference.to_string() })
        }
        Event::BlobPushed { digest, size_bytes, existed } => json!({
            "event": "blob_pushed", "digest": digest.to_string(), "size_bytes": size_bytes,
            "existed": existed,
        }),
        Event::PushFinished { reference, digest, duration } => json!({
            "event": "push_finished", "reference": reference.to_string(),
            "digest": digest.to_string(), "duration_ms": duration.as_millis(),
        }),
    }
}

/// The last object of a build that was interrupted.
pub(super) fn interrupted(seen: &Seen) -> Value {
    let running = seen.running.iter().map(|(number, step)| {
        json!({ "number": number, "stage": step.stage, "text": step.text, "line": step.line })
    });
    json!({
        "event": "interrupted", "running": running.collect::<Vec<_>>(), "steps_done": seen.done,
        "pushing": seen.pushing, "pushed": seen.pushed, "text": seen.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_objects_with_a_kind() {
        let event = Event::StepStarted {
            number: 2,
            stage: "build".to_owned(),
            text: "RUN a".to_owned(),
            line: 7,
        };
        assert_eq!(
            value(&event).to_string(),
            r#"{"event":"step_started","number":2,"stage":"build","text":"RUN a","line":7}"#
        );
    }
}
