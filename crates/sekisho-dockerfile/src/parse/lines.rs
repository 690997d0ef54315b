//! Physical lines → instructions: continuation lines, comments, heredocs.

use crate::ast::{Heredoc, Span};
use crate::parse::words;

/// One instruction with its arguments on one line, and where each part of it stood.
#[derive(Debug)]
pub(super) struct Line {
    /// Continuation lines joined, without blanks at its ends.
    pub(super) text: String,
    pub(super) heredocs: Vec<Heredoc>,
    segments: Vec<Segment>,
    end_line: u32,
}

/// A piece of a [`Line`] that stood on one line of the file.
#[derive(Debug)]
struct Segment {
    /// Byte offset into the text.
    start: usize,
    line: u32,
    column: u32,
}

impl Line {
    /// Where the byte at `offset` of the text stands in the file.
    pub(super) fn span(&self, offset: usize) -> Span {
        let after = self.segments.partition_point(|segment| segment.start <= offset);
        let segment = after.checked_sub(1).and_then(|at| self.segments.get(at));
        let Some(Segment { start, line, column }) = segment else { return Span::default() };
        let before = self.text.get(*start..offset).unwrap_or_default().chars().count();
        let column = column + u32::try_from(before).unwrap_or(u32::MAX - column);
        Span { line: *line, column, end_line: self.end_line }
    }
}

/// A mistake on a physical line.
#[derive(Debug)]
pub(super) struct LineError {
    pub(super) span: Span,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// After so many blank lines in instructions the author knows.
const BLANKS_MAX: usize = 10;

/// Walks over the lines of a file.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    /// With their newlines.
    lines: Vec<&'a str>,
    at: usize,
    escape: char,
    /// Blank lines in the middle of an instruction.
    pub(super) blanks: Vec<Span>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str, escape: char) -> Self {
        let lines = text.split_inclusive('\n').collect();
        Self { lines, at: 0, escape, blanks: Vec::new() }
    }

    fn number(&self) -> u32 {
        u32::try_from(self.at + 1).unwrap_or(u32::MAX)
    }

    /// The next instruction; `None` at the end of the file.
    pub(super) fn next_line(&mut self) -> Option<Result<Line, LineError>> {
        let mut line = loop {
            let raw = *self.lines.get(self.at)?;
            let trimmed = raw.trim_start();
            if !trimmed.is_empty() && !trimmed.starts_with('#') {
                let blanks = raw[..raw.len() - trimmed.len()].chars().count();
                let column = u32::try_from(blanks + 1).unwrap_or(1);
                break self.start(trimmed, column);
            }
            self.at += 1;
        };
        line.end_line = u32::try_from(self.at).unwrap_or(u32::MAX);
        line.text.truncate(line.text.trim_end().len());
        let marks = heredoc_marks(&line.text);
        for (offset, mark) in marks {
            match self.heredoc(mark, line.span(offset)) {
                Ok(heredoc) => line.heredocs.push(heredoc),
                Err(error) => return Some(Err(error)),
            }
            line.end_line = u32::try_from(self.at).unwrap_or(u32::MAX);
        }
        Some(Ok(line))
    }

    /// Joins a first line and what continues it; `self.at` is after them then.
    fn start(&mut self, first: &str, column: u32) -> Line {
        let (piece, mut more) = self.split_continuation(first);
        let mut line = Line {
            text: piece.to_owned(),
            heredocs: Vec::new(),
            segments: vec![Segment { start: 0, line: self.number(), column }],
            end_line: 0,
        };
        self.at += 1;
        while more {
            let Some(raw) = self.lines.get(self.at).copied() else { break };
            let trimmed = raw.trim_start();
            if trimmed.is_empty() && self.blanks.len() < BLANKS_MAX {
                let number = self.number();
                self.blanks.push(Span { line: number, column: 1, end_line: number });
            } else if !trimmed.is_empty() && !trimmed.starts_with('#') {
                let (piece, goes_on) = self.split_continuation(raw);
                let start = line.text.len();
                line.segments.push(Segment { start, line: self.number(), column: 1 });
                line.text.push_str(piece);
                more = goes_on;
            }
            self.at += 1;
        }
        line
    }

    /// A line without its end, and whether an escape character there continues it. Two of them do
    /// not: the first escapes the second.
    fn split_continuation<'l>(&self, raw: &'l str) -> (&'l str, bool) {
        let line = raw.trim_end_matches(['\r', '\n']);
        let trimmed = line.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.escape) {
            Some(rest) if !rest.ends_with(self.escape) => (rest, true),
            _ => (line, false),
        }
    }

    /// Reads the text of a heredoc up to its name on a line of its own.
    fn heredoc(&mut self, mark: Mark, at: Span) -> Result<Heredoc, LineError> {
        let number = self.number();
        let span = Span { line: number, column: 1, end_line: number };
        let mut content = String::new();
        while let Some(raw) = self.lines.get(self.at).copied() {
            self.at += 1;
            let line = if mark.chomp { raw.trim_start_matches('\t') } else { raw };
            if line.trim_end_matches(['\r', '\n']) == mark.name {
                let Mark { name, expand, chomp, fd } = mark;
                return Ok(Heredoc { name, expand, chomp, content, fd, span });
            }
            content.push_str(line);
        }
        Err(LineError {
            span: at,
            message: format!("heredoc `{}` does not end", mark.name),
            hint: Some(format!("put a line that is only `{}` after its text", mark.name)),
        })
    }
}

/// `<<NAME` in a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) name: String,
    pub(super) expand: bool,
    pub(super) chomp: bool,
    pub(super) fd: u32,
}

/// The marks of an instruction that may have heredocs, each with its offset.
fn heredoc_marks(text: &str) -> Vec<(usize, Mark)> {
    if !text.contains("<<") {
        return Vec::new();
    }
    let (mut name, mut rest) = words::split_first(text);
    if name.eq_ignore_ascii_case("ONBUILD") {
        (name, rest) = words::split_first(rest);
    }
    let may_have = ["RUN", "COPY", "ADD"].iter().any(|known| name.eq_ignore_ascii_case(known));
    if !may_have || words::json(rest).is_some() {
        return Vec::new();
    }
    let start = text.len() - rest.len();
    words::quoted(rest, '\\')
        .into_iter()
        .filter_map(|(offset, word)| Some((start + offset, heredoc_mark(&word)?)))
        .collect()
}

/// `[fd]<<[-]name`, where the name may be quoted.
pub(super) fn heredoc_mark(word: &str) -> Option<Mark> {
    let (fd, rest) = word.split_once("<<")?;
    let (chomp, raw) = match rest.strip_prefix('-') {
        Some(raw) => (true, raw),
        None => (false, rest),
    };
    let is_word = words::quoted(raw, '\\').len() == 1;
    if !is_word || raw.contains('<') || !fd.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fd = if fd.is_empty() { 0 } else { fd.parse().ok()? };
    let name = words::unquote(raw);
    if name.is_empty() {
        return None;
    }
    Some(Mark { expand: name == raw, name, chomp, fd })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(String, Span)> {
        let mut lines = Lines::new(text, '\\');
        let mut all = Vec::new();
        while let Some(line) = lines.next_line() {
            let line = line.unwrap();
            let span = line.span(0);
            all.push((line.text, span));
        }
        all
    }

    #[test]
    fn joins_continuation_lines() {
        let text = "# c\n\n  RUN a \\\n# inside\n\n  && b \\  \n&& c\r\nCMD x\\\\\nUSER \\";
        let at = |line, column, end_line| Span { line, column, end_line };
        assert_eq!(
            lines(text),
            [
                ("RUN a   && b && c".to_owned(), at(3, 3, 7)),
                ("CMD x\\\\".to_owned(), at(8, 1, 8)),
                ("USER".to_owned(), at(9, 1, 9)),
            ]
        );
    }

    #[test]
    fn knows_where_a_part_stood() {
        let mut lines = Lines::new("RUN é \\\n  x", '\\');
        let line = lines.next_line().unwrap().unwrap();
        assert_eq!(line.text, "RUN é   x");
        assert_eq!((line.span(4).line, line.span(4).column), (1, 5));
        assert_eq!((line.span(6).line, line.span(6).column), (1, 6));
        assert_eq!((line.span(9).line, line.span(9).column), (2, 3));
    }

    #[test]
    fn reads_heredocs() {
        let text = "RUN <<A 3<<-'B C' cat\n$x\nA\n\ty\n\t\tB C\nB C \n\tB C\nCMD z\n";
        let mut lines = Lines::new(text, '\\');
        let line = lines.next_line().unwrap().unwrap();
        assert_eq!(line.heredocs[0].content, "$x\n");
        assert!(line.heredocs[0].expand);
        let second = &line.heredocs[1];
        assert_eq!((second.name.as_str(), second.fd, second.chomp), ("B C", 3, true));
        assert_eq!((second.content.as_str(), second.expand, second.span.line), ("y\n", false, 4));
        let text = "RUN <<EOF\nx\n";
        let error = Lines::new(text, '\\').next_line().unwrap().unwrap_err();
        assert_eq!((error.message.as_str(), error.span.column), ("heredoc `EOF` does not end", 5));
    }

    #[test]
    fn knows_marks() {
        for (word, want) in [
            ("<<EOF", Some(("EOF", true, false, 0))),
            ("<<-\"EOF\"", Some(("EOF", false, true, 0))),
            ("4<<'a b'", Some(("a b", false, false, 4))),
            ("<<", None),
            ("<<-", None),
            ("<<<word", None),
            ("a<<b", None),
        ] {
            let mark = heredoc_mark(word);
            let seen = mark.as_ref().map(|m| (m.name.as_str(), m.expand, m.chomp, m.fd));
            assert_eq!(seen, want, "{word}");
        }
    }
}
