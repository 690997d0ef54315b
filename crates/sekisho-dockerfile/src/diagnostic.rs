//! What is wrong, and where.

use std::fmt;

use sekisho_types::Hint;

use crate::ast::Span;

/// Longest line that is shown, in bytes: generated files have lines that nobody wants to see.
const SOURCE_LINE_BYTES_MAX: usize = 400;

/// A mistake in a Dockerfile.
///
/// Its display form is
///
/// ```text
/// Dockerfile:3:1: unknown instruction `COPPY`
///   3 | COPPY a b
///     | ^
/// ```
///
/// and the hint, where there is one, comes by [`Hint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostic {
    /// As given to [`crate::parse`].
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line in question, as it stands in the file; empty when it is very long.
    pub source_line: String,
}

impl Diagnostic {
    /// A mistake at the start of `span` in `text`, the whole file.
    pub fn new(file: &str, text: &str, span: Span, message: impl Into<String>) -> Self {
        let line = text.lines().nth(span.line.saturating_sub(1) as usize).unwrap_or_default();
        let line = if line.len() > SOURCE_LINE_BYTES_MAX { "" } else { line };
        Self {
            file: file.to_owned(),
            line: span.line,
            column: span.column,
            message: message.into(),
            hint: None,
            source_line: line.trim_end().to_owned(),
        }
    }

    /// The same, with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Hint for Diagnostic {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        if self.source_line.is_empty() {
            return Ok(());
        }
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // A tab in front of the mark keeps its width only as a tab.
        let pad: String = self
            .source_line
            .chars()
            .take(self.column.saturating_sub(1) as usize)
            .map(|character| if character == '\t' { '\t' } else { ' ' })
            .collect();
        let source = &self.source_line;
        write!(f, "\n  {number} | {source}\n  {gutter} | {pad}^")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_line_and_a_mark() {
        let text = "FROM a\n\tCOPPY a b\n";
        let span = Span { line: 2, column: 2, end_line: 2 };
        let diagnostic = Diagnostic::new("Dockerfile", text, span, "unknown instruction `COPPY`");
        assert_eq!(
            diagnostic.to_string(),
            "Dockerfile:2:2: unknown instruction `COPPY`\n  2 | \tCOPPY a b\n    | \t^"
        );
    }
}
