//! A build on a terminal: what is done scrolls by, what runs stands at the end and is drawn anew.
//!
//! ```text
//!  ✓ #3 [build] COPY . .                                 CACHED
//!  ✓ #4 [tools] RUN make                                  12.3 s
//!  build
//!  └ ◐ #5 RUN cargo build                                  3.1 s
//!        │ Compiling serde v1.0
//!  docs
//!  ├ ◐ #7 RUN mdbook build                                 2.0 s
//!  └ ◐ #8 COPY --link logo.svg /                           0.1 s
//!  4 of 9 steps, 2 cached, 15.4 s
//! ```
//!
//! While only one stage runs, its steps say whose they are themselves.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sekisho_builder::{Event, Progress};

use super::{View, cut, describe, size, time};
use crate::printer::{Printer, Style};

/// How often what runs is drawn anew.
const INTERVAL: Duration = Duration::from_millis(100);

/// Lines of its output that a running step shows.
const LOG_LINES: usize = 3;

/// Running steps that are shown.
const RUNNING_MAX: usize = 8;

/// Where the terminal does not say how wide it is.
const WIDTH: usize = 80;

const SPINNER: [&str; 4] = ["◐", "◓", "◑", "◒"];

/// What is known of a build, and how it is drawn. No clock: times are given.
#[derive(Debug, Default)]
struct Board {
    planned: usize,
    done: usize,
    cached: usize,
    running: BTreeMap<usize, Running>,
}

#[derive(Debug)]
struct Running {
    stage: String,
    text: String,
    since: Duration,
    log: VecDeque<String>,
}

type Line = (Style, String);

impl Running {
    /// With its stage.
    fn whole(&self, number: usize) -> String {
        format!("#{number} [{}] {}", self.stage, self.text)
    }

    fn short(&self, number: usize) -> String {
        format!("#{number} {}", self.text)
    }
}

impl Board {
    /// Takes an event; gives the lines that stay.
    fn take(&mut self, event: &Event, at: Duration) -> Vec<Line> {
        match event {
            Event::Planned { steps } => {
                self.planned += steps;
                Vec::new()
            }
            Event::StepStarted { number, stage, text, .. } => {
                let (stage, text, log) = (stage.clone(), cut(text), VecDeque::new());
                let running = Running { stage, text, since: at, log };
                self.running.insert(*number, running);
                Vec::new()
            }
            Event::StepFinished { number, cached, duration, layer, used } => {
                self.done += 1;
                self.cached += usize::from(*cached);
                let label = self.running.remove(number).map(|one| one.whole(*number));
                let label = label.unwrap_or_default();
                let how =
                    if *cached { "CACHED".to_owned() } else { super::spent(*duration, *used) };
                let layer = layer.as_ref().filter(|_| !*cached);
                let layer =
                    layer.map_or(String::new(), |one| format!(", {}", size(one.size_bytes)));
                let style = if *cached { Style::Dim } else { Style::Plain };
                vec![(style, format!("✓ {label}  {how}{layer}"))]
            }
            Event::Log { number, line, .. } => {
                if let Some(running) = self.running.get_mut(number) {
                    if running.log.len() == LOG_LINES {
                        running.log.pop_front();
                    }
                    running.log.push_back(plain(line));
                }
                Vec::new()
            }
            other => describe(other, &mut BTreeMap::new()).into_iter().collect(),
        }
    }

    /// The lines that are drawn anew, cut to the width.
    fn live(&self, at: Duration, width: usize) -> Vec<Line> {
        let turn = (at.as_millis() / INTERVAL.as_millis()) as usize % SPINNER.len();
        let mut lines = Vec::new();
        // Stages in the order in which their oldest steps are.
        let mut stages: Vec<(&str, Vec<(usize, &Running)>)> = Vec::new();
        for (number, running) in self.running.iter().take(RUNNING_MAX) {
            match stages.iter_mut().find(|(stage, _)| *stage == running.stage) {
                Some((_, steps)) => steps.push((*number, running)),
                None => stages.push((&running.stage, vec![(*number, running)])),
            }
        }
        let several = stages.len() > 1;
        for (stage, steps) in stages {
            if several {
                lines.push((Style::Bold, fit(stage, width)));
            }
            let last = steps.len() - 1;
            for (place, (number, running)) in steps.into_iter().enumerate() {
                let (branch, below, label) = match (several, place == last) {
                    (false, _) => ("", "", running.whole(number)),
                    (true, false) => ("├ ", "│ ", running.short(number)),
                    (true, true) => ("└ ", "  ", running.short(number)),
                };
                let spent = time(at.saturating_sub(running.since));
                let text = format!("{branch}{} {label}  {spent}", SPINNER[turn]);
                lines.push((Style::Bold, fit(&text, width)));
                for line in &running.log {
                    lines.push((Style::Dim, fit(&format!("{below}    │ {line}"), width)));
                }
            }
        }
        let more = self.running.len().saturating_sub(RUNNING_MAX);
        if more > 0 {
            lines.push((Style::Dim, format!("  and {more} more")));
        }
        let total = self.planned.max(self.done + self.running.len());
        let text = format!("{} of {total} steps, {} cached, {}", self.done, self.cached, time(at));
        lines.push((Style::Dim, fit(&text, width)));
        lines
    }
}

/// Without colours and other commands to the terminal: those are for a terminal of its own.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next() == Some('[') {
                    // ECMA-48: parameters, then one byte of `@` to `~`.
                    characters.by_ref().find(|c| ('@'..='~').contains(c));
                }
            }
            '\t' => text.push(' '),
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text
}

/// A line that would wrap could not be taken back.
fn fit(text: &str, width: usize) -> String {
    text.chars().take(width.saturating_sub(1)).collect()
}

/// Shared with the thread that draws.
struct State {
    board: Board,
    /// Lines on the screen that are to be drawn over.
    drawn: usize,
    over: bool,
}

/// Draws a build.
pub(super) struct Live {
    printer: Printer,
    begun: Instant,
    shared: Arc<(Mutex<State>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Live {
    #[expect(clippy::disallowed_methods, reason = "what a build shows is how long it takes")]
    pub(super) fn start(printer: Printer) -> Self {
        let begun = Instant::now();
        let state = State { board: Board::default(), drawn: 0, over: false };
        let shared = Arc::new((Mutex::new(state), Condvar::new()));
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            let (state, bell) = &*theirs;
            let mut state = lock(state);
            while !state.over {
                draw(&mut state, &[], begun.elapsed(), printer);
                state = bell
                    .wait_timeout(state, INTERVAL)
                    .map_or_else(|error| error.into_inner().0, |(state, _)| state);
            }
        });
        Self { printer, begun, shared, thread: Mutex::new(thread.ok()) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0).unwrap_or(WIDTH)
}

/// Takes back what was drawn, writes what stays, and draws what runs.
fn draw(state: &mut State, stay: &[Line], at: Duration, printer: Printer) {
    let live = if state.over { Vec::new() } else { state.board.live(at, width()) };
    let mut text = String::new();
    if state.drawn > 0 {
        // Up so many lines, and clear to the end of the screen.
        text.push_str(&format!("\x1b[{}A\r\x1b[J", state.drawn));
    }
    for (style, line) in stay.iter().chain(&live) {
        text.push_str(&printer.paint(*style, line));
        text.push('\n');
    }
    state.drawn = live.len();
    // A terminal that is gone is no reason to stop building.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

impl Progress for Live {
    fn event(&self, event: Event) {
        let mut state = lock(&self.shared.0);
        let at = self.begun.elapsed();
        let stay = state.board.take(&event, at);
        if !stay.is_empty() {
            draw(&mut state, &stay, at, self.printer);
        }
    }
}

impl View for Live {
    fn finish(&self) {
        {
            let mut state = lock(&self.shared.0);
            state.over = true;
            draw(&mut state, &[], self.begun.elapsed(), self.printer);
        }
        self.shared.1.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_stands_at_the_end() {
        let mut board = Board::default();
        let second = Duration::from_secs(1);
        assert!(board.take(&Event::Planned { steps: 3 }, Duration::ZERO).is_empty());
        let start = |number, text: &str| Event::StepStarted {
            number,
            stage: "build".to_owned(),
            text: text.to_owned(),
            line: 1,
        };
        board.take(&start(1, "FROM x"), Duration::ZERO);
        board.take(&start(2, "RUN make  all"), Duration::ZERO);
        let end = Event::StepFinished {
            number: 1,
            cached: true,
            duration: second,
            layer: None,
            used: None,
        };
        let stay = board.take(&end, second);
        assert_eq!(stay, [(Style::Dim, "✓ #1 [build] FROM x  CACHED".to_owned())]);
        for line in ["one", "two", "\x1b[31mthr\tee\x1b[0m\r", "four"] {
            let stream = sekisho_builder::Stream::Stdout;
            board.take(&Event::Log { number: 2, stream, line: line.to_owned() }, second);
        }
        let lines: Vec<String> = board.live(second, 40).into_iter().map(|(_, line)| line).collect();
        assert_eq!(
            lines,
            [
                "◑ #2 [build] RUN make all  1.0 s",
                "    │ two",
                "    │ thr ee",
                "    │ four",
                "1 of 3 steps, 1 cached, 1.0 s",
            ]
        );
        let other = |number, text: &str| Event::StepStarted {
            number,
            stage: "docs".to_owned(),
            text: text.to_owned(),
            line: 9,
        };
        board.take(&other(5, "RUN mdbook build"), second);
        board.take(&other(6, "COPY --link logo /"), second);
        let lines: Vec<String> = board.live(second, 40).into_iter().map(|(_, line)| line).collect();
        assert_eq!(
            lines,
            [
                "build",
                "└ ◑ #2 RUN make all  1.0 s",
                "      │ two",
                "      │ thr ee",
                "      │ four",
                "docs",
                "├ ◑ #5 RUN mdbook build  0 ms",
                "└ ◑ #6 COPY --link logo /  0 ms",
                "1 of 4 steps, 1 cached, 1.0 s",
            ]
        );
        let narrow = board.live(second, 10);
        assert!(narrow.iter().all(|(_, line)| line.chars().count() < 10), "{narrow:?}");
    }
}
