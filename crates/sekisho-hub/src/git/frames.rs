//! pkt-line frames (gitprotocol-common(5)): just enough to add a message to a push's answer.

/// The frame that ends a message.
const FLUSH: &[u8] = b"0000";
/// The longest frame, in bytes, with its length.
const MAX_FRAME: usize = 65_520;
/// Band 2 of the sideband: what the other end prints after `remote: `.
const PROGRESS_BAND: u8 = 2;
/// The longest text we put into one frame, in bytes.
const MAX_TEXT: usize = 990;

/// A frame around `payload`, which is cut to what fits.
pub(super) fn frame(payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(MAX_FRAME - 4)];
    let mut out = format!("{:04x}", payload.len() + 4).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// A line for the person who pushes. Control characters are taken out: it goes to a terminal.
pub(super) fn progress(line: &str) -> Vec<u8> {
    let mut text: String = line.chars().filter(|c| !c.is_control()).collect();
    if text.len() > MAX_TEXT {
        let mut cut = MAX_TEXT;
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        text.truncate(cut);
    }
    frame(format!("{}{text}\n", char::from(PROGRESS_BAND)).as_bytes())
}

/// The start of an answer to `info/refs`.
pub(super) fn service_header(service: &str) -> Vec<u8> {
    let mut out = frame(format!("# service={service}\n").as_bytes());
    out.extend_from_slice(FLUSH);
    out
}

/// Lets a stream of frames through but for the flush frame at its very end, so that more can be
/// said before it.
#[derive(Debug, Default)]
pub(crate) struct HoldLastFlush {
    /// What is left to go in the frame that is under way, in bytes.
    inside: usize,
    /// The bytes of a length that is not complete yet.
    length: Vec<u8>,
    held: bool,
    /// The stream is not made of frames after all: everything goes through.
    broken: bool,
}

impl HoldLastFlush {
    /// What may be sent of what came so far.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + FLUSH.len());
        while !bytes.is_empty() {
            if self.broken {
                out.extend_from_slice(bytes);
                break;
            }
            if self.inside > 0 {
                let (now, later) = bytes.split_at(self.inside.min(bytes.len()));
                out.extend_from_slice(now);
                self.inside -= now.len();
                bytes = later;
                continue;
            }
            let (now, later) = bytes.split_at((4 - self.length.len()).min(bytes.len()));
            self.length.extend_from_slice(now);
            bytes = later;
            if self.length.len() == 4 {
                self.begin(&mut out);
            }
        }
        out
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.held) {
            out.extend_from_slice(FLUSH);
        }
        let length = std::mem::take(&mut self.length);
        // What reads numbers would take a sign, too.
        let is_hex = length.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(&length).ok().filter(|_| is_hex);
        match text.and_then(|text| usize::from_str_radix(text, 16).ok()) {
            Some(0) => self.held = true,
            // 1 and 2 are delimiters, which have no payload.
            Some(frame) if frame <= MAX_FRAME && frame != 3 => {
                self.inside = frame.saturating_sub(4);
                out.extend_from_slice(&length);
            }
            _ => {
                self.broken = true;
                out.extend_from_slice(&length);
            }
        }
    }

    /// Whether a message may be put in now: the stream ended with a flush frame.
    pub(crate) fn holds_flush(&self) -> bool {
        self.held && self.length.is_empty() && !self.broken
    }

    /// What was held back.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = if self.held { FLUSH.to_vec() } else { Vec::new() };
        out.extend(self.length);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &[u8], sent: &[u8], rest: &[u8], holds: bool) {
        for size in [1, 3, 7, input.len()] {
            let mut hold = HoldLastFlush::default();
            let out: Vec<u8> = input.chunks(size).flat_map(|chunk| hold.push(chunk)).collect();
            assert_eq!(out, sent, "in pieces of {size}");
            assert_eq!(hold.holds_flush(), holds);
            assert_eq!(hold.finish(), rest);
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost_or_added(
            pieces in proptest::collection::vec("(0000|0006ab|000|[0-9a-f]{1,6}|\\PC{0,4})", 0..12)
        ) {
            let mut hold = HoldLastFlush::default();
            let mut out: Vec<u8> = Vec::new();
            for piece in &pieces {
                out.extend(hold.push(piece.as_bytes()));
            }
            out.extend(hold.finish());
            assert_eq!(out, pieces.concat().into_bytes());
        }
    }

    #[test]
    fn only_the_last_flush_is_held() {
        check(b"0006ab0000", b"0006ab", b"0000", true);
        check(b"0006ab00000005c0000", b"0006ab00000005c", b"0000", true);
        check(b"0006ab", b"0006ab", b"", false);
        check(b"0006ab00", b"0006ab", b"00", false);
        check(b"nonsense0000", b"nonsense0000", b"", false);
        check(b"+0000000", b"+0000000", b"", false);
    }

    #[test]
    fn a_message_is_one_line_on_band_2() {
        assert_eq!(progress("a\u{1b}[31mb\nc"), b"000d\x02a[31mbc\n".to_vec());
        assert!(progress(&"é".repeat(9000)).len() < 1000);
        assert_eq!(
            service_header("git-upload-pack"),
            b"001e# service=git-upload-pack\n0000".to_vec()
        );
    }
}
