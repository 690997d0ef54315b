//! A build on the terminal, or in a job's log: one line for each thing that happened.

mod json;
mod live;
mod watch;

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use sekisho_builder::{Event, LayerInfo, Progress, Used};

pub(super) use self::watch::{Seen, Watch};
use crate::printer::{Printer, Style};

/// Longest instruction that is shown, in characters.
const MAX_TEXT: usize = 90;

/// How a build is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Look {
    /// Live on a terminal, lines elsewhere
    #[default]
    Auto,
    /// One line for each thing that happened
    Plain,
    /// Live: what runs now stands at the end, what is done above it
    Tty,
    /// One JSON object a line, on stderr
    Json,
    /// Not at all
    Quiet,
}

/// Something that shows a build.
pub(super) trait View: Progress {
    /// The build is over: nothing more is drawn.
    fn finish(&self);
}

/// What shows a build in a way; of its own on a terminal, when that was left open.
pub(super) fn show(look: Look, printer: Printer) -> Arc<dyn View> {
    let terminal = std::io::stderr().is_terminal() && !printer.is_json();
    match look {
        Look::Quiet => Arc::new(Nothing),
        Look::Json => Arc::new(json::Lines::new(printer)),
        Look::Tty => Arc::new(live::Live::start(printer)),
        Look::Auto if terminal && printer.has_colour() && !printer.is_quiet() => {
            Arc::new(live::Live::start(printer))
        }
        Look::Auto | Look::Plain => Arc::new(Shown::new(printer)),
    }
}

/// Says how far a build came that was interrupted.
pub(super) fn interrupted(seen: &Seen, look: Look, printer: Printer) {
    printer.always(&match look {
        Look::Json => json::interrupted(seen).to_string(),
        _ => seen.to_string(),
    });
}

/// Shows nothing.
struct Nothing;

impl Progress for Nothing {
    fn event(&self, _event: Event) {}
}

impl View for Nothing {
    fn finish(&self) {}
}

/// Shows events as lines.
#[derive(Debug)]
struct Shown {
    printer: Printer,
    /// The instructions of the steps that began, by number: a step is told when it ends, and one
    /// that takes its time, a RUN, also when it begins.
    begun: Mutex<BTreeMap<usize, String>>,
}

impl Shown {
    fn new(printer: Printer) -> Self {
        Self { printer, begun: Mutex::default() }
    }
}

impl Progress for Shown {
    fn event(&self, event: Event) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((style, line)) = describe(&event, &mut begun) {
            self.printer.note(&self.printer.paint(style, &line));
        }
    }
}

impl View for Shown {
    fn finish(&self) {}
}

/// The line of an event, if there is something to say.
fn describe(event: &Event, begun: &mut BTreeMap<usize, String>) -> Option<(Style, String)> {
    Some(match event {
        Event::Planned { .. } => return None,
        Event::StepStarted { number, text, .. } => {
            let text = cut(text);
            let takes_time = text.starts_with("RUN ");
            begun.insert(*number, text.clone());
            if !takes_time {
                return None;
            }
            (Style::Bold, format!("#{number} {text}"))
        }
        Event::StepFinished { number, cached, duration, layer, used } => {
            let text = begun.remove(number).unwrap_or_default();
            let how = if *cached { "cached".to_owned() } else { spent(*duration, *used) };
            let layer =
                layer.as_ref().map_or(String::new(), |LayerInfo { digest, size_bytes, .. }| {
                    format!(", layer {} {}", digest.short(), size(*size_bytes))
                });
            (Style::Dim, format!("#{number} {text} → {how}{layer}"))
        }
        Event::Log { number, line, .. } => (Style::Plain, format!("#{number} | {line}")),
        Event::Note { text } => (Style::Dim, text.clone()),
        Event::Pulled { reference, digest, size_bytes, duration } => {
            let (size, time) = (size(*size_bytes), time(*duration));
            (Style::Dim, format!("pulled {} of {reference}, {size} in {time}", digest.short()))
        }
        Event::Built { manifest_digest, size_bytes } => {
            (Style::Good, format!("built {manifest_digest}, {}", size(*size_bytes)))
        }
        Event::PushStarted { reference } => (Style::Bold, format!("push {reference}")),
        Event::BlobPushed { digest, size_bytes, existed } => {
            let what = if *existed { "there already" } else { "pushed" };
            (Style::Dim, format!("push {} {}, {what}", digest.short(), size(*size_bytes)))
        }
        Event::PushFinished { reference, duration, .. } => {
            (Style::Good, format!("pushed {reference} in {}", time(*duration)))
        }
    })
}

/// One line of at most so many characters, runs of blanks as one.
pub(super) fn cut(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(MAX_TEXT) {
        Some((position, _)) => format!("{} …", &text[..position]),
        None => text,
    }
}

/// So many milliseconds.
pub(super) fn time_ms(milliseconds: u64) -> String {
    time(Duration::from_millis(milliseconds))
}

fn time(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// How long a step took; of a RUN also what it used of processors, and of memory at most.
fn spent(duration: Duration, used: Option<Used>) -> String {
    let took = time(duration);
    match used {
        Some(Used { cpu_ms, peak_rss_bytes }) => {
            format!("{took} ({} of processors, {})", time_ms(cpu_ms), size(peak_rss_bytes))
        }
        None => took,
    }
}

/// Powers of 1024, as files are counted.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut whole = bytes;
    let mut unit = 0;
    while whole >= 1024 * 1024 && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", whole / 1024, whole % 1024 * 10 / 1024, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1024 * 1024, "1.0 MiB"),
            (480 * 1024 * 1024, "480.0 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes), want);
        }
        assert_eq!(time(Duration::from_millis(999)), "999 ms");
        assert_eq!(time(Duration::from_millis(1250)), "1.2 s");
        let used = Used { cpu_ms: 1500, peak_rss_bytes: 3 << 20 };
        assert_eq!(
            spent(Duration::from_secs(1), Some(used)),
            "1.0 s (1.5 s of processors, 3.0 MiB)"
        );
        assert_eq!(cut(&"ü".repeat(91)), format!("{} …", "ü".repeat(90)));
    }
}
