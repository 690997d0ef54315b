//! Bytes of a pipe to lines, with bounded memory.

use std::borrow::Cow;
use std::ops::Range;

/// Longest line that is kept whole, in bytes. A longer one is written as several lines; none of it
/// is lost.
pub(crate) const MAX_LINE_LEN: usize = 128 * 1024;

/// A line of a step's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line<'b> {
    /// Without its end; what is not UTF-8 is replaced.
    pub(crate) text: Cow<'b, str>,
    /// It goes on the line before, which was too long: it is no workflow command.
    pub(crate) continues: bool,
}

/// Collects bytes and hands out lines.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    bytes: Vec<u8>,
    /// Start of what has not been handed out.
    start: usize,
    /// Up to here there is no line end.
    scanned: usize,
    continues: bool,
}

impl LineBuffer {
    /// Takes a chunk, which should not be much larger than a pipe.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.bytes.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(chunk);
    }

    /// The next whole line. A line longer than [`MAX_LINE_LEN`] is cut where `secrets`, the places
    /// of secrets in it, allow; `longest` is the length of the longest secret.
    pub(crate) fn next_line(
        &mut self,
        longest: usize,
        secrets: impl Fn(&[u8]) -> Vec<Range<usize>>,
    ) -> Option<Line<'_>> {
        let (start, continues) = (self.start, self.continues);
        let end = memchr::memchr(b'\n', &self.bytes[self.scanned..]);
        if let Some(end) = end.map(|end| self.scanned + end) {
            if end - start <= MAX_LINE_LEN {
                (self.start, self.scanned, self.continues) = (end + 1, end + 1, false);
                return Some(Line::new(&self.bytes[start..end], continues));
            }
        } else {
            self.scanned = self.bytes.len();
        }
        let rest = &self.bytes[start..];
        // A secret that begins before the cut must be whole in `rest`, to be found.
        if rest.len() < MAX_LINE_LEN + longest {
            return None;
        }
        let cut = cut(rest, &secrets(rest));
        self.start += cut;
        self.scanned = self.scanned.max(self.start);
        self.continues = true;
        Some(Line { text: String::from_utf8_lossy(&self.bytes[start..start + cut]), continues })
    }

    /// What is left when the pipe has ended: a line without an end.
    pub(crate) fn last_line(&mut self) -> Option<Line<'static>> {
        let old = std::mem::take(self);
        let line = Line::new(old.bytes.get(old.start..)?, old.continues);
        let text = Cow::Owned(line.text.into_owned());
        (old.start < old.bytes.len()).then_some(Line { text, continues: line.continues })
    }
}

impl<'b> Line<'b> {
    fn new(bytes: &'b [u8], continues: bool) -> Self {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        Self { text: String::from_utf8_lossy(bytes), continues }
    }
}

/// Where to cut a long line: at [`MAX_LINE_LEN`], or before a secret or a character that stands
/// there; after the secret if there is nothing before it.
fn cut(line: &[u8], secrets: &[Range<usize>]) -> usize {
    let inside = secrets.iter().find(|s| s.start < MAX_LINE_LEN && MAX_LINE_LEN < s.end);
    match inside {
        Some(secret) if secret.start > 0 => return secret.start,
        Some(secret) => return secret.end,
        None => {}
    }
    let is_start = |at: &usize| line.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    (MAX_LINE_LEN - 3..=MAX_LINE_LEN).rev().find(is_start).unwrap_or(MAX_LINE_LEN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(buffer: &mut LineBuffer) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = buffer.next_line(0, |_| Vec::new()) {
            lines.push(line.text.into_owned());
        }
        lines
    }

    #[test]
    fn lines_end_with_lf_or_crlf() {
        let mut buffer = LineBuffer::default();
        buffer.push(b"a\r\nb\n\nc\xff");
        assert_eq!(lines(&mut buffer), ["a", "b", ""]);
        buffer.push(b"d");
        assert_eq!(lines(&mut buffer), [""; 0]);
        let last = Line { text: "c\u{fffd}d".into(), continues: false };
        assert_eq!(buffer.last_line(), Some(last));
        assert_eq!(buffer.last_line(), None);
    }

    #[test]
    fn a_long_line_is_cut_but_not_within_a_secret() {
        let secret = MAX_LINE_LEN - 5..MAX_LINE_LEN + 5;
        let mut buffer = LineBuffer::default();
        buffer.push(&vec![b'x'; MAX_LINE_LEN + 9]);
        assert_eq!(buffer.next_line(10, |_| vec![secret.clone()]), None);
        buffer.push(b"yz\n");
        let first = buffer.next_line(10, |_| vec![secret.clone()]).unwrap();
        assert_eq!((first.text.len(), first.continues), (MAX_LINE_LEN - 5, false));
        let second = buffer.next_line(10, |_| Vec::new()).unwrap();
        assert_eq!((second.text.len(), second.continues), (16, true));
        buffer.push(b"next\n");
        let next = Line { text: "next".into(), continues: false };
        assert_eq!(buffer.next_line(10, |_| Vec::new()), Some(next));
    }

    #[test]
    fn a_character_is_not_cut() {
        let mut buffer = LineBuffer::default();
        let text = format!("{}ü{}", "x".repeat(MAX_LINE_LEN - 1), "y".repeat(10));
        buffer.push(text.as_bytes());
        let first = buffer.next_line(0, |_| Vec::new()).unwrap();
        assert_eq!(first.text.len(), MAX_LINE_LEN - 1);
        assert_eq!(buffer.last_line().unwrap().text, format!("ü{}", "y".repeat(10)));
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(
            text in "[a-z\n]{0,200}", cuts in proptest::collection::vec(1..20_usize, 1..30),
        ) {
            let mut buffer = LineBuffer::default();
            let mut got = Vec::new();
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (chunk, after) = rest.split_at(rest.len().min(*cut));
                buffer.push(chunk);
                got.extend(lines(&mut buffer));
                rest = after;
            }
            got.extend(buffer.last_line().map(|line| line.text.into_owned()));
            let want: Vec<&str> = text.lines().collect();
            prop_assert_eq!(got, want);
        }
    }
}
