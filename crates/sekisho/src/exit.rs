//! How a command ends: its exit code, and its errors in words.

use std::process::ExitCode;

use sekisho_types::Hint;

use crate::printer::{Printer, Style};

/// Exit codes, as `sekisho --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// The command failed, or the run did.
    Failed,
    /// A migration is not whole: something in it is blocked.
    Blocked,
    /// There was nothing to act on.
    Nothing,
    /// The gate refused the image.
    Denied,
    /// Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The number. 2, wrong usage, is also clap's.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Blocked => 2,
            Self::Nothing => 3,
            Self::Denied => 10,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error with the next step to take.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Hinted {
    message: String,
    hint: String,
}

impl Hint for Hinted {
    fn hint(&self) -> Option<String> {
        Some(self.hint.clone())
    }
}

/// Makes an error that tells what to do next.
pub(crate) fn hinted(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Hinted { message: message.into(), hint: hint.into() }.into()
}

/// Shows an error: what, the chain of causes, the next step.
pub(crate) fn show(printer: Printer, error: &anyhow::Error) {
    printer.always(&format!("{} {error}", printer.paint(Style::Bad, "error:")));
    for cause in error.chain().skip(1) {
        printer.always(&format!("  {} {cause}", printer.paint(Style::Dim, "caused by:")));
    }
    let hint = error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()?.hint());
    if let Some(hint) = hint {
        printer.always(&format!("  {} {hint}", printer.paint(Style::Bold, "hint:")));
    }
}
