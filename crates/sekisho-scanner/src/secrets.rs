//! Secrets in the files that a layer adds.
//!
//! ```text
//!  file ─▶ 64 KiB at a time ─▶ one automaton of all prefixes ─▶ shape, checksum, randomness ─▶ place
//! ```
//!
//! Only what can hardly be anything else is taken for a secret: a prefix that its issuer chose so that
//! it can be found, the exact shape behind it, its checksum where the format has one, and characters
//! that look random. What is found is named by kind and place; the value itself is neither kept nor
//! shown, only a fingerprint of it under the plane's own key.

mod built;
mod detectors;

use std::io::{self, Read};
use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use ring::hmac;
use sekisho_types::LeakedSecret;

pub(crate) use self::built::Language;
use self::built::{ELF, MARKS};
use self::detectors::{DETECTORS, Detector};

/// How much of a file is looked at together, in bytes.
const WINDOW_BYTES: usize = 64 * 1024;

/// How far behind its prefix a secret may reach, in bytes: a private key of 4096 bits has 3.2 KiB, of
/// which the first part is enough.
const REACH_BYTES: usize = 2 * 1024;

/// How far before its prefix a secret may begin, in bytes: `-----BEGIN OPENSSH `.
const BACK_BYTES: usize = 64;

/// Most secrets of one layer that are named; the others are counted.
pub(crate) const MAX_SECRETS: usize = 100;

/// How much of a fingerprint is kept, in bytes: two of a plane's secrets do not meet in it.
const FINGERPRINT_BYTES: usize = 12;

/// Folders of what others made and packed, with tests, examples and documentation that hold keys for show.
/// Elsewhere a folder's name says nothing: `home/demo/.ssh` is somebody's.
const OTHERS_FOLDERS: [&str; 5] =
    ["usr/share/", "usr/lib/", "usr/local/share/", "usr/local/lib/", "usr/local/go/"];

/// Components of a path below which is the same.
const OTHERS_COMPONENTS: [&str; 3] = ["node_modules", "site-packages", "dist-packages"];

/// Components of a path below which tests, examples and documentation are.
const SAMPLE_FOLDERS: [&str; 22] = [
    "__tests__",
    "demo",
    "demos",
    "doc",
    "docs",
    "example",
    "examples",
    "fixture",
    "fixtures",
    "info",
    "man",
    "mock",
    "mocks",
    "sample",
    "samples",
    "spec",
    "specs",
    "test",
    "test-data",
    "testdata",
    "testing",
    "tests",
];

/// Parts of the name of a file of tests or examples.
const SAMPLE_NAMES: [&str; 7] =
    ["_test.", ".test.", ".spec.", "test_", ".example", ".sample", "_spec."];

static PREFIXES: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let mut builder = AhoCorasick::builder();
    builder.match_kind(MatchKind::LeftmostFirst);
    // It cannot fail: the patterns are a few short ones. A test asserts it.
    builder.build(DETECTORS.iter().map(|it| it.prefix).chain(MARKS.iter().map(|it| it.text))).ok()
});

/// A key that only the plane has, so that fingerprints say nothing to others.
#[derive(Clone)]
pub struct FingerprintKey(hmac::Key);

impl FingerprintKey {
    /// Of 32 random bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    fn fingerprint(&self, kind: &str, value: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(kind.as_bytes());
        context.update(b"\0");
        context.update(value);
        let tag = context.sign();
        tag.as_ref().iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FingerprintKey")
    }
}

/// A secret in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) kind: &'static str,
    pub(crate) value: &'a [u8],
    pub(crate) line: u64,
    pub(crate) offset: u64,
    /// Its checksum is right: nobody writes such a thing for show.
    checked: bool,
}

/// What the search came by.
pub(crate) enum Hit<'a> {
    Secret(Found<'a>),
    /// The program, if it is one, says of which packages it was built.
    Built(Language),
}

/// Looks for secrets in files, one after the other, with one buffer for all.
pub(crate) struct Finder {
    key: Option<FingerprintKey>,
    buffer: Vec<u8>,
}

impl Finder {
    pub(crate) fn new(key: Option<FingerprintKey>) -> Self {
        Self { key, buffer: Vec::new() }
    }

    /// Reads a file to its end and tells each secret in it. Says of a program what it was built of, where
    /// the program says so.
    pub(crate) fn look(
        &mut self,
        path: &str,
        data: &mut dyn Read,
        tell: &mut dyn FnMut(LeakedSecret),
    ) -> io::Result<Option<Language>> {
        self.buffer.resize(WINDOW_BYTES, 0);
        let (key, sample) = (&self.key, is_sample(path));
        let mut head = [0; ELF.len()];
        let known = read_full(data, &mut head)?;
        let (head, mut built) = (&head[..known], None);
        search(&mut self.buffer, &mut head.chain(data), &mut |hit| {
            let found = match hit {
                Hit::Secret(found) => found,
                Hit::Built(language) => {
                    built = built.or(Some(*language).filter(|_| head == ELF));
                    return;
                }
            };
            let fingerprint = key.as_ref().map(|key| key.fingerprint(found.kind, found.value));
            tell(LeakedSecret {
                kind: found.kind.to_owned(),
                layer: None,
                path: path.to_owned(),
                line: found.line,
                offset: found.offset,
                fingerprint: fingerprint.unwrap_or_default(),
                sample: sample && !found.checked,
            });
        })?;
        Ok(built)
    }
}

/// The secrets in a text that is no layer's, such as an image's config; at most [`MAX_SECRETS`].
pub fn secrets_in(path: &str, bytes: &[u8], key: Option<&FingerprintKey>) -> Vec<LeakedSecret> {
    let mut found = Vec::new();
    add_secrets_in(path, bytes, key, &mut found);
    found
}

/// Adds the secrets in a text, up to [`MAX_SECRETS`] in all; gives how many more there are.
pub(crate) fn add_secrets_in(
    path: &str,
    bytes: &[u8],
    key: Option<&FingerprintKey>,
    found: &mut Vec<LeakedSecret>,
) -> u64 {
    let mut more = 0;
    // Reading from memory cannot fail.
    let _ = Finder::new(key.cloned()).look(path, &mut &*bytes, &mut |secret| {
        if found.len() < MAX_SECRETS {
            found.push(secret);
        } else {
            more += 1;
        }
    });
    more
}

fn is_sample(path: &str) -> bool {
    let among = |folder: &&str| path.starts_with(*folder);
    let of_others = OTHERS_FOLDERS.iter().any(among)
        || path.split('/').any(|part| OTHERS_COMPONENTS.contains(&part));
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let in_folder = parts.any(|part| SAMPLE_FOLDERS.contains(&part.to_ascii_lowercase().as_str()));
    of_others && (in_folder || SAMPLE_NAMES.iter().any(|part| name.contains(part)))
}

pub(crate) fn search(
    buffer: &mut [u8],
    data: &mut dyn Read,
    tell: &mut dyn FnMut(&Hit<'_>),
) -> io::Result<()> {
    let Some(prefixes) = &*PREFIXES else {
        return Err(io::Error::other("the prefixes of secrets are too many"));
    };
    let (mut filled, mut from) = (0, 0);
    // Of what has left the buffer.
    let (mut gone_bytes, mut gone_lines) = (0_u64, 0_u64);
    loop {
        let read = read_full(data, &mut buffer[filled..])?;
        let at_end = read < buffer.len() - filled;
        filled += read;
        let window = &buffer[..filled];
        // A prefix behind it is judged when what follows has been read.
        let limit = if at_end { filled } else { filled.saturating_sub(REACH_BYTES) };
        let mut at = from;
        while let Some(matched) = prefixes.find(&window[at..]) {
            let start = at + matched.start();
            if start >= limit {
                break;
            }
            let pattern = matched.pattern().as_usize();
            let Some(detector): Option<&Detector> = DETECTORS.get(pattern) else {
                let mark = &MARKS[pattern - DETECTORS.len()];
                if mark.stands_at(window, start) {
                    tell(&Hit::Built(mark.of));
                }
                at = start + mark.text.len();
                continue;
            };
            let Some(Range { start: begin, end }) = detector.judge(window, start) else {
                at = start + 1;
                continue;
            };
            tell(&Hit::Secret(Found {
                kind: detector.kind,
                value: &window[begin..end],
                line: gone_lines + lines(&window[..begin]) + 1,
                offset: gone_bytes + begin as u64,
                checked: detector.is_checked(),
            }));
            at = end.max(start + 1);
        }
        if at_end {
            return Ok(());
        }
        let next = at.max(limit);
        let keep = limit.saturating_sub(BACK_BYTES);
        gone_lines += lines(&window[..keep]);
        gone_bytes += keep as u64;
        buffer.copy_within(keep..filled, 0);
        filled -= keep;
        from = next - keep;
    }
}

fn lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

fn read_full(data: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match data.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
