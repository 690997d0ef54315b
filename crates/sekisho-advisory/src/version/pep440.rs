//! Python versions: `[epoch!]1.2.3[a|b|rc N][.post N][.dev N][+local]`.
//!
//! Source: PEP 440, with the spellings of its appendix B (`alpha`, `c`, `rev`, `1.0-1`, any of
//! `.`, `-`, `_` between the parts). Versions from before PEP 440 are refused.

use std::cmp::Ordering;

use super::{MAX_LEN, Scheme, VersionError, compare_digits, take_while};

/// A parsed version.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    epoch: &'a [u8],
    release: &'a [u8],
    pre: Option<(u8, &'a [u8])>,
    post: Option<&'a [u8]>,
    dev: Option<&'a [u8]>,
    local: Option<&'a [u8]>,
}

impl<'a> Version<'a> {
    /// Parses a version.
    ///
    /// # Errors
    /// Too long, or outside PEP 440.
    pub fn parse(text: &'a str) -> Result<Self, VersionError> {
        let fail = |problem| VersionError::new(Scheme::Pep440, text, problem);
        if text.len() > MAX_LEN {
            return Err(fail("it is too long"));
        }
        let text = text.trim().as_bytes();
        let text = text.strip_prefix(b"v").or(text.strip_prefix(b"V")).unwrap_or(text);
        let (epoch, text) = match take_digits(text) {
            ([_, ..], [b'!', rest @ ..]) => (take_digits(text).0, rest),
            _ => (&[][..], text),
        };
        let (release, rest) = take_release(text);
        if release.is_empty() {
            return Err(fail("it does not start with a number"));
        }
        let (pre, rest) = take_pre(rest);
        let (post, rest) = take_post(rest);
        let (dev, rest) = take_optional(rest, &[b"dev"]);
        let (local, rest) = match rest {
            [b'+', local @ ..] if good_local(local) => (Some(local), &[][..]),
            rest => (None, rest),
        };
        if !rest.is_empty() {
            return Err(fail("its end is not understood"));
        }
        Ok(Self { epoch, release, pre, post, dev, local })
    }

    /// A version that is only a `.dev` of its release comes before all pre-releases.
    fn pre_rank(&self) -> (u8, &'a [u8]) {
        match (self.pre, self.post, self.dev) {
            (Some((rank, number)), _, _) => (rank, number),
            (None, None, Some(_)) => (0, b""),
            _ => (9, b""),
        }
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (pre, other_pre) = (self.pre_rank(), other.pre_rank());
        compare_digits(self.epoch, other.epoch)
            .then_with(|| compare_release(self.release, other.release))
            .then_with(|| pre.0.cmp(&other_pre.0))
            .then_with(|| compare_digits(pre.1, other_pre.1))
            .then_with(|| compare_option(self.post, other.post))
            // No `.dev` is after every `.dev`.
            .then_with(|| match (self.dev, other.dev) {
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (left, right) => compare_option(left, right),
            })
            .then_with(|| compare_local(self.local, other.local))
    }
}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version<'_> {}

/// Orders two versions.
///
/// # Errors
/// One of them does not parse.
pub fn compare(left: &str, right: &str) -> Result<Ordering, VersionError> {
    Ok(Version::parse(left)?.cmp(&Version::parse(right)?))
}

fn take_digits(text: &[u8]) -> (&[u8], &[u8]) {
    take_while(text, |byte| byte.is_ascii_digit())
}

/// `1.2.3`, without a dot at its end: in `1.0.dev1` the last dot belongs to what follows.
fn take_release(text: &[u8]) -> (&[u8], &[u8]) {
    let mut end = take_digits(text).0.len();
    while let [b'.', rest @ ..] = &text[end..] {
        let digits = take_digits(rest).0.len();
        if end == 0 || digits == 0 {
            break;
        }
        end += 1 + digits;
    }
    text.split_at(end)
}

fn take_pre(text: &[u8]) -> (Option<(u8, &[u8])>, &[u8]) {
    const LABELS: [(u8, &[&[u8]]); 3] =
        [(1, &[b"alpha", b"a"]), (2, &[b"beta", b"b"]), (3, &[b"preview", b"pre", b"rc", b"c"])];
    LABELS
        .iter()
        .find_map(|(rank, names)| {
            let (number, rest) = take_labelled(text, names)?;
            Some((Some((*rank, number)), rest))
        })
        .unwrap_or((None, text))
}

fn take_post(text: &[u8]) -> (Option<&[u8]>, &[u8]) {
    if let [b'-', rest @ ..] = text
        && let (number @ [_, ..], rest) = take_digits(rest)
    {
        return (Some(number), rest);
    }
    take_optional(text, &[b"post", b"rev", b"r"])
}

fn take_optional<'a>(text: &'a [u8], labels: &[&[u8]]) -> (Option<&'a [u8]>, &'a [u8]) {
    match take_labelled(text, labels) {
        Some((number, rest)) => (Some(number), rest),
        None => (None, text),
    }
}

/// `[sep] label [sep] [number]`, for the first of the labels that fits.
fn take_labelled<'a>(text: &'a [u8], labels: &[&[u8]]) -> Option<(&'a [u8], &'a [u8])> {
    let body = skip_separator(text);
    let label = labels.iter().find(|label| {
        body.get(..label.len()).is_some_and(|start| start.eq_ignore_ascii_case(label))
    })?;
    let rest = &body[label.len()..];
    match take_digits(skip_separator(rest)) {
        // A separator with no number behind it belongs to the next part.
        ([], _) => Some((&[], rest)),
        found => Some(found),
    }
}

fn skip_separator(text: &[u8]) -> &[u8] {
    match text {
        [b'.' | b'-' | b'_', rest @ ..] => rest,
        text => text,
    }
}

fn good_local(local: &[u8]) -> bool {
    local
        .split(|byte| is_separator(*byte))
        .all(|part| !part.is_empty() && part.iter().all(u8::is_ascii_alphanumeric))
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'.' | b'-' | b'_')
}

/// `1.0` is `1.0.0`.
fn compare_release(left: &[u8], right: &[u8]) -> Ordering {
    let (mut left, mut right) = (left.split(|b| *b == b'.'), right.split(|b| *b == b'.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (left, right) => compare_digits(left.unwrap_or_default(), right.unwrap_or_default()),
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn compare_option(left: Option<&[u8]>, right: Option<&[u8]>) -> Ordering {
    match (left, right) {
        (Some(left), Some(right)) => compare_digits(left, right),
        (left, right) => left.is_some().cmp(&right.is_some()),
    }
}

/// Numbers are after words; more parts are after fewer.
fn compare_local(left: Option<&[u8]>, right: Option<&[u8]>) -> Ordering {
    let (Some(left), Some(right)) = (left, right) else {
        return left.is_some().cmp(&right.is_some());
    };
    let mut left = left.split(|byte| is_separator(*byte));
    let mut right = right.split(|byte| is_separator(*byte));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(left), Some(right)) => {
                match (left.iter().all(u8::is_ascii_digit), right.iter().all(u8::is_ascii_digit)) {
                    (true, true) => compare_digits(left, right),
                    (false, false) => {
                        let (left, right) = (left.iter(), right.iter());
                        left.map(u8::to_ascii_lowercase).cmp(right.map(u8::to_ascii_lowercase))
                    }
                    (left, right) => left.cmp(&right),
                }
            }
        };
        if order.is_ne() {
            return order;
        }
    }
}
