//! The one place that writes to the terminal.
//!
//! stdout is the answer, so that it can be piped; everything else goes to stderr.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use serde::Serialize;

use crate::cli::{Color, GlobalArgs, Output};
use crate::settings;

/// How a piece of text is shown where there is colour. Text reads the same without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is.
    Plain,
    /// Not the point.
    Dim,
    /// Good.
    Good,
    /// Worth a look.
    Warn,
    /// Bad.
    Bad,
    /// A heading.
    Bold,
}

impl Style {
    /// ECMA-48, "Select graphic rendition".
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
            Self::Bold => "1",
        }
    }
}

/// Writes answers and remarks, in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    json: bool,
    quiet: bool,
    colour: bool,
}

impl Printer {
    /// What the flags, the environment and the terminal say.
    pub(crate) fn new(args: &GlobalArgs) -> Self {
        let colour = match args.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                settings::colour_wish().unwrap_or_else(|| std::io::stderr().is_terminal())
            }
        };
        Self { json: args.output == Output::Json, quiet: args.quiet, colour }
    }

    /// `--output json`.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// `--quiet`.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Colours a piece of a line.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        if self.colour && style != Style::Plain {
            format!("\x1b[{}m{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    /// Whether there is colour.
    pub(crate) fn has_colour(self) -> bool {
        self.colour
    }

    /// A line of the answer.
    pub(crate) fn answer(self, line: &str) -> anyhow::Result<()> {
        self.answer_text(&format!("{line}\n")).map(drop)
    }

    /// Lines of the answer, with their ends; `false` when nobody reads any more.
    pub(crate) fn answer_text(self, text: &str) -> anyhow::Result<bool> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(true),
            // Who closes the pipe has read enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error).context("writing the answer"),
        }
    }

    /// The whole answer, as one JSON document.
    pub(crate) fn answer_json<T: Serialize>(self, answer: &T) -> anyhow::Result<()> {
        self.answer(&serde_json::to_string_pretty(answer)?)
    }

    /// A line about what is going on; not with `--quiet`.
    pub(crate) fn note(self, line: &str) {
        if !self.quiet {
            self.always(line);
        }
    }

    /// A line that is shown whatever was asked for: an error.
    pub(crate) fn always(self, line: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}
