//! Annotations of a step, with the service's limits.

use sekisho_github::wire::run_service::{Annotation, AnnotationLevel};

use crate::command::Command;
use crate::mask::Masker;
use crate::matcher::Found;

/// Annotations of one level that a step may have; more are only in the log.
pub(crate) const MAX_PER_LEVEL: usize = 10;
/// Longest message, in characters.
pub(crate) const MAX_MESSAGE_CHARS: usize = 4096;
/// Longest title or path, in characters.
const MAX_FIELD_CHARS: usize = 1024;

/// What a step remarked. All of it is masked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Annotations(Vec<Annotation>);

impl Annotations {
    /// Adds a remark without a place.
    pub(crate) fn add(&mut self, masker: &Masker, level: AnnotationLevel, message: &str) {
        if self.has_room(level) {
            self.0.push(Annotation::new(level, shorten(masker, message, MAX_MESSAGE_CHARS)));
        }
    }

    /// Adds the remark of a `notice`, `warning` or `error` command.
    pub(crate) fn add_command(
        &mut self,
        masker: &Masker,
        level: AnnotationLevel,
        command: &Command,
    ) {
        if !self.has_room(level) {
            return;
        }
        let text = |key| command.get(key).map(|text| shorten(masker, text, MAX_FIELD_CHARS));
        let number = |key| command.get(key).and_then(|n| n.trim().parse().ok());
        let (line, column) = (number("line"), number("col"));
        let message = shorten(masker, &command.message, MAX_MESSAGE_CHARS);
        self.0.push(Annotation {
            title: text("title"),
            path: text("file"),
            start_line: line,
            end_line: number("endline").or(line),
            start_column: column,
            end_column: number("endcolumn").or(column),
            ..Annotation::new(level, message)
        });
    }

    /// Adds what a problem matcher has found, at a path that is known to be right.
    pub(crate) fn add_found(
        &mut self,
        masker: &Masker,
        level: AnnotationLevel,
        found: &Found,
        path: Option<&str>,
    ) {
        if !self.has_room(level) {
            return;
        }
        let number = |text: &str| text.parse().ok().filter(|number: &i64| *number > 0);
        let (line, column) = (number(&found.line), number(&found.column));
        let title = (!found.code.is_empty()).then(|| shorten(masker, &found.code, MAX_FIELD_CHARS));
        self.0.push(Annotation {
            title,
            path: path.map(|path| shorten(masker, path, MAX_FIELD_CHARS)),
            start_line: line,
            end_line: line,
            start_column: column,
            end_column: column,
            ..Annotation::new(level, shorten(masker, &found.message, MAX_MESSAGE_CHARS))
        });
    }

    /// The remarks, each with the number of its step.
    pub(crate) fn into_vec(self, step_number: u32) -> Vec<Annotation> {
        let number = |annotation| Annotation { step_number: Some(step_number), ..annotation };
        self.0.into_iter().map(number).collect()
    }

    fn has_room(&self, level: AnnotationLevel) -> bool {
        self.0.iter().filter(|a| a.level == level).count() < MAX_PER_LEVEL
    }
}

/// Masked first: a secret must not be cut in two and so escape.
fn shorten(masker: &Masker, text: &str, max_chars: usize) -> String {
    let masked = masker.mask(text);
    match masked.char_indices().nth(max_chars) {
        Some((at, _)) => masked[..at].to_owned(),
        None => masked.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_per_level_and_message() {
        let mut masker = Masker::default();
        masker.add("hunter2!").unwrap();
        let mut annotations = Annotations::default();
        for _ in 0..=MAX_PER_LEVEL {
            annotations.add(&masker, AnnotationLevel::Warning, "w");
        }
        let long = format!("{}hunter2!", "ü".repeat(MAX_MESSAGE_CHARS - 4));
        annotations.add(&masker, AnnotationLevel::Failure, &long);
        let list = annotations.into_vec(3);
        assert_eq!(list.len(), MAX_PER_LEVEL + 1);
        assert_eq!(list[MAX_PER_LEVEL].message.chars().count(), MAX_MESSAGE_CHARS - 1);
        assert!(list[MAX_PER_LEVEL].message.ends_with("ü***"));
        assert!(list.iter().all(|a| a.step_number == Some(3)));
    }

    #[test]
    fn a_command_has_a_place() {
        let command = Command::parse("::error file=a.c,line=3,endColumn=9,title=t::m").unwrap();
        let mut annotations = Annotations::default();
        annotations.add_command(&Masker::default(), AnnotationLevel::Failure, &command);
        let got = &annotations.into_vec(1)[0];
        assert_eq!(got.path.as_deref(), Some("a.c"));
        assert_eq!((got.start_line, got.end_line), (Some(3), Some(3)));
        assert_eq!((got.start_column, got.end_column), (None, Some(9)));
    }
}
