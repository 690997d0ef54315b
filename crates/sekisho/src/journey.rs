//! The journey of a push, told live: events of a run in, lines for people out.
//!
//! A plain function of the events, so that what a person sees is tested without a plane.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sekisho_github::hub_api::{
    AnnotationLevel, Conclusion, Event, EventKind, Job, Run, Status, Step,
};

use crate::printer::Style;

/// Longest log line that is shown live, in characters; the archive has all of it.
const MAX_SHOWN: usize = 300;

/// One line: a mark, a word for the station, the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// How the station is shown.
    pub(crate) style: Style,
    /// Which station; empty for a log line.
    pub(crate) station: &'static str,
    /// What happened there.
    pub(crate) text: String,
}

/// What was told so far.
#[derive(Debug, Default)]
pub(crate) struct Journey {
    queued: BTreeMap<u64, Timestamp>,
    /// The last thing told of a job: events may repeat a state.
    jobs: BTreeMap<u64, (Status, Option<String>)>,
    /// Names of steps by their id. A step is told by the first line of its log, for its state
    /// comes another way and may be there before the last line of the step before it.
    steps: BTreeMap<String, String>,
    /// The step that the last line was of.
    current: Option<String>,
    /// Names of jobs by their id; told with a step where there are several.
    names: BTreeMap<u64, String>,
    /// Per step, the number of the line that comes next.
    next_lines: BTreeMap<String, u64>,
}

impl Journey {
    /// The lines of one event.
    pub(crate) fn tell(&mut self, event: &Event) -> Vec<Line> {
        match &event.kind {
            EventKind::Run { .. } => vec![],
            EventKind::Job { job_id, name, status, conclusion, runner_name } => {
                self.names.insert(*job_id, name.clone());
                let now = (*status, runner_name.clone());
                if self.jobs.insert(*job_id, now.clone()).as_ref() == Some(&now) {
                    return vec![];
                }
                self.job(event.at, *job_id, name, *status, *conclusion, runner_name.as_deref())
            }
            EventKind::Step { step_id, name, .. } => {
                self.steps.insert(step_id.clone(), name.clone());
                vec![]
            }
            EventKind::Log { job_id, step_id, start_line, lines } => {
                let gap = self.gap(step_id.as_deref(), *start_line, lines.len());
                let heading = self.heading(*job_id, step_id.as_deref());
                let lines = lines.iter().filter_map(|line| log(line));
                heading.into_iter().chain(gap).chain(lines).collect()
            }
            EventKind::Annotation { annotation, .. } => {
                let style = match annotation.level {
                    AnnotationLevel::Notice => Style::Plain,
                    AnnotationLevel::Warning => Style::Warn,
                    AnnotationLevel::Failure => Style::Bad,
                };
                let place = match (&annotation.path, annotation.line) {
                    (Some(path), Some(line)) => format!("{path}:{line}: "),
                    (Some(path), None) => format!("{path}: "),
                    _ => String::new(),
                };
                let text = format!("{place}{}", annotation.message);
                vec![Line { style, station: "note", text }]
            }
        }
    }

    /// What the live feed lost before these lines; the archive has it.
    fn gap(&mut self, step_id: Option<&str>, start: Option<u64>, count: usize) -> Option<Line> {
        let (id, start) = step_id.zip(start)?;
        let next = start.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        let lost = start.checked_sub(self.next_lines.insert(id.to_owned(), next)?)?;
        let text = format!("… {lost} lines are not shown here; `sekisho logs` has them");
        (lost > 0).then_some(Line { style: Style::Dim, station: "", text })
    }

    /// The line above a step's first line.
    fn heading(&mut self, job_id: u64, step_id: Option<&str>) -> Option<Line> {
        let id = step_id.filter(|id| self.current.as_deref() != Some(id))?;
        let name = self.steps.get(id)?;
        let job = self.names.get(&job_id).filter(|_| self.names.len() > 1);
        let text = job.map_or_else(|| name.clone(), |job| format!("`{job}`: {name}"));
        self.current = Some(id.to_owned());
        Some(Line { style: Style::Bold, station: "step", text })
    }

    fn job(
        &mut self,
        at: Timestamp,
        id: u64,
        name: &str,
        status: Status,
        conclusion: Option<Conclusion>,
        runner: Option<&str>,
    ) -> Vec<Line> {
        let line = |style, station, text| vec![Line { style, station, text }];
        match status {
            Status::Pending => vec![],
            Status::Queued => {
                self.queued.insert(id, at);
                line(Style::Bold, "job", format!("`{name}` queued"))
            }
            Status::InProgress => {
                let waited = self.queued.get(&id).map(|queued| at.duration_since(*queued));
                let waited = waited.map_or(String::new(), |waited| {
                    format!(", {} ms after it was queued", waited.as_millis())
                });
                let runner = runner.unwrap_or("a runner");
                line(Style::Bold, "runner", format!("`{runner}` registered, took `{name}`{waited}"))
            }
            Status::Completed => {
                let (style, word) = outcome(conclusion);
                line(style, "job", format!("`{name}` {word}"))
            }
        }
    }
}

fn outcome(conclusion: Option<Conclusion>) -> (Style, &'static str) {
    match conclusion {
        Some(Conclusion::Success) => (Style::Good, "succeeded"),
        Some(Conclusion::Failure) | None => (Style::Bad, "failed"),
        Some(Conclusion::Cancelled) => (Style::Warn, "was cancelled"),
        Some(Conclusion::Skipped) => (Style::Dim, "skipped"),
    }
}

/// A line of the job's log; markers for GitHub's page are turned into what a terminal shows.
fn log(line: &str) -> Option<Line> {
    let line = without_time(line.trim_end());
    let (style, text) = if let Some(title) = line.strip_prefix("##[group]") {
        (Style::Dim, format!("▸ {title}"))
    } else if line == "##[endgroup]" {
        return None;
    } else if let Some(text) = line.strip_prefix("##[error]") {
        (Style::Bad, text.to_owned())
    } else if let Some(text) = line.strip_prefix("##[warning]") {
        (Style::Warn, text.to_owned())
    } else if let Some(text) = line.strip_prefix("##[notice]") {
        (Style::Plain, text.to_owned())
    } else {
        (Style::Plain, line.to_owned())
    };
    let cut = text.char_indices().nth(MAX_SHOWN).map(|(position, _)| position);
    let text = match cut {
        Some(position) => format!("{} …", &text[..position]),
        None => text,
    };
    Some(Line { style, station: "", text: plain(&text) })
}

/// Without the time in front that every line of a job's log has, `2026-01-02T03:04:05.1234567Z `:
/// who watches has a clock, and the archive keeps it.
fn without_time(line: &str) -> &str {
    const TIME: &[u8] = b"dddd-dd-ddTdd:dd:dd.dddddddZ ";
    let Some(head) = line.as_bytes().get(..TIME.len()) else { return line };
    let matches = head.iter().zip(TIME).all(|(byte, want)| match want {
        b'd' => byte.is_ascii_digit(),
        other => byte == other,
    });
    // What was matched is ASCII, so the rest begins at a character.
    if matches { line.get(TIME.len()..).unwrap_or(line) } else { line }
}

/// Without control characters: a log must not move the cursor or change the title of who reads it.
/// A colour is dropped whole, not shown as `[31m`.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' && characters.peek() == Some(&'[') {
            // ECMA-48, 5.4: parameters, then one final byte of 0x40 to 0x7e.
            characters.next();
            for parameter in characters.by_ref() {
                if ('\u{40}'..='\u{7e}').contains(&parameter) {
                    break;
                }
            }
        } else if character == '\t' || !character.is_control() {
            out.push(character);
        }
    }
    out
}

/// A step without a name is called by its script, which may be long.
fn short(name: &str) -> String {
    const MAX: usize = 30;
    let line = name.lines().next().unwrap_or_default();
    match line.char_indices().nth(MAX) {
        Some((position, _)) => format!("{}…", &line[..position]),
        None => line.to_owned(),
    }
}

/// How long each phase of a run took, in milliseconds.
pub(crate) fn phases(run: &Run) -> Vec<(String, i64)> {
    let between = |from: Option<Timestamp>, to: Option<Timestamp>| {
        Some(i64::try_from(to?.duration_since(from?).as_millis()).unwrap_or(i64::MAX))
    };
    let worked = |job: &&Job| job.started_at.is_some();
    let mut phases = Vec::new();
    for job in run.jobs.iter().filter(worked) {
        phases.extend(
            between(job.queued_at, job.started_at).map(|ms| ("wait for a runner".into(), ms)),
        );
        let took = |step: &Step| {
            between(step.started_at, step.completed_at).map(|ms| (short(&step.name), ms))
        };
        phases.extend(job.steps.iter().filter_map(took));
    }
    phases
}

#[cfg(test)]
mod tests;
