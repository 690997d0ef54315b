//! What goes on in a build, for whoever interrupts it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use sekisho_builder::{Event, Progress};

use super::{View, cut};

/// Shows a build, and remembers where it is.
pub(crate) struct Watch {
    view: Arc<dyn View>,
    seen: Mutex<Seen>,
}

/// How far a build came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// By number.
    pub(super) running: BTreeMap<usize, Step>,
    pub(super) done: usize,
    /// Pushes that began.
    pub(super) pushing: Vec<String>,
    /// Those that ended.
    pub(super) pushed: Vec<String>,
    /// The image is complete: what follows are outputs.
    built: bool,
}

/// A step that began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(super) stage: String,
    pub(super) text: String,
    pub(super) line: u32,
}

impl Watch {
    pub(crate) fn new(view: Arc<dyn View>) -> Self {
        Self { view, seen: Mutex::default() }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Progress for Watch {
    fn event(&self, event: Event) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).take(&event);
        self.view.event(event);
    }
}

impl Seen {
    fn take(&mut self, event: &Event) {
        match event {
            Event::StepStarted { number, stage, text, line } => {
                let step = Step { stage: stage.clone(), text: text.clone(), line: *line };
                self.running.insert(*number, step);
            }
            Event::StepFinished { number, .. } => {
                self.running.remove(number);
                self.done += 1;
            }
            Event::Built { .. } => self.built = true,
            Event::PushStarted { reference } => self.pushing.push(reference.to_string()),
            Event::PushFinished { reference, .. } => {
                let name = reference.to_string();
                self.pushing.retain(|one| *one != name);
                self.pushed.push(name);
            }
            Event::Planned { .. }
            | Event::Log { .. }
            | Event::Note { .. }
            | Event::Pulled { .. }
            | Event::BlobPushed { .. } => {}
        }
    }

    /// What was going on.
    fn place(&self) -> String {
        let beside = match self.running.len() {
            0 | 1 => String::new(),
            2 => " and 1 step beside it".to_owned(),
            more => format!(" and {} steps beside it", more - 1),
        };
        match self.running.values().next() {
            Some(step) => format!("in line {}, `{}`{beside}", step.line, cut(&step.text)),
            None if !self.pushing.is_empty() => {
                format!("while {} was pushed", self.pushing.join(", "))
            }
            None if self.built => "while the image was written".to_owned(),
            None if self.done == 0 => "before the first step".to_owned(),
            None => "between two steps".to_owned(),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = match (self.built, self.pushing.is_empty()) {
            (_, false) => "the registry may have it in part, or whole",
            // A folder that files are written to is the user's own.
            (true, true) => "what was being written may be there in part",
            (false, true) => "nothing of it is left behind here",
        };
        write!(f, "interrupted {}: {left}", self.place())?;
        match self.done {
            _ if self.built => f.write_str("; the image is in the cache, for the next build"),
            0 => Ok(()),
            1 => f.write_str("; the step that was done is kept for the next build"),
            done => write!(f, "; the {done} steps that were done are kept for the next build"),
        }?;
        match self.pushed.is_empty() {
            true => Ok(()),
            false => write!(f, "; {} was pushed", self.pushed.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sekisho_types::Digest;

    use super::*;

    fn started(number: usize) -> Event {
        let (stage, text) = ("app".to_owned(), format!("RUN  step {number}"));
        Event::StepStarted { number, stage, text, line: 7 }
    }

    fn finished(number: usize) -> Event {
        let (duration, layer, used) = (Duration::ZERO, None, None);
        Event::StepFinished { number, cached: false, duration, layer, used }
    }

    #[test]
    fn an_interruption_says_where_it_was_and_what_is_kept() {
        let digest = Digest::sha256(b"");
        let built = Event::Built { manifest_digest: digest.clone(), size_bytes: 1 };
        let reference: sekisho_types::ImageReference = "127.0.0.1:1/a:v1".parse().unwrap();
        let push = Event::PushStarted { reference: reference.clone() };
        let pushed = Event::PushFinished { reference, digest, duration: Duration::ZERO };
        let mut seen = Seen::default();
        for (event, want) in [
            (
                Event::Planned { steps: 2 },
                "before the first step: nothing of it is left behind here",
            ),
            (started(1), "in line 7, `RUN step 1`: nothing of it is left behind here"),
            (
                started(2),
                "in line 7, `RUN step 1` and 1 step beside it: nothing of it is left behind here",
            ),
            (
                finished(1),
                "in line 7, `RUN step 2`: nothing of it is left behind here; the step that was done is kept \
                 for the next build",
            ),
            (
                finished(2),
                "between two steps: nothing of it is left behind here; the 2 steps that were done are kept \
                 for the next build",
            ),
            (
                built,
                "while the image was written: what was being written may be there in part; the image is \
                 in the cache, for the next build",
            ),
            (
                push,
                "while 127.0.0.1:1/a:v1 was pushed: the registry may have it in part, or whole; the image is in \
                 the cache, for the next build",
            ),
            (
                pushed,
                "while the image was written: what was being written may be there in part; the image is \
                 in the cache, for the next build; 127.0.0.1:1/a:v1 was pushed",
            ),
        ] {
            seen.take(&event);
            assert_eq!(seen.to_string(), format!("interrupted {want}"));
        }
    }
}
