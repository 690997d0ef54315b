//! Alpine versions: `1.2.3b_rc1_p2~0a1b2c-r4`.
//!
//! ```text
//! version = number *( "." number ) [ letter [ number ] ] *( "_" suffix [ number ] )
//!           [ "~" hex ] [ "-r" number ]
//! suffix  = "alpha" / "beta" / "pre" / "rc"               ; before the version without it
//!         / "cvs" / "svn" / "git" / "hg" / "p"            ; after it
//! ```
//!
//! Source: apk-package(5), "PACKAGE VERSION"
//! (<https://gitlab.alpinelinux.org/alpine/apk-tools/-/blob/master/doc/apk-package.5.scd>).
//! The number after the letter is not there, but in packages of every release: `sudo 1.9.5p2`.
//! Older versions of apk also order texts outside this grammar, each release differently; those
//! are refused here.

use std::cmp::Ordering;

use super::{MAX_LEN, Scheme, VersionError, compare_digits, take_while};

/// In their order; the empty one stands for the version without suffix.
const SUFFIXES: [&[u8]; 10] =
    [b"alpha", b"beta", b"pre", b"rc", b"", b"cvs", b"svn", b"git", b"hg", b"p"];

/// Where the empty suffix stands in [`SUFFIXES`].
const NO_SUFFIX: usize = 4;

/// A parsed version.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    numbers: &'a str,
    letter: Option<u8>,
    letter_number: &'a [u8],
    suffixes: &'a [u8],
    hash: &'a [u8],
    revision: &'a [u8],
}

impl<'a> Version<'a> {
    /// Parses a version.
    ///
    /// # Errors
    /// Too long, or outside the grammar.
    pub fn parse(text: &'a str) -> Result<Self, VersionError> {
        let fail = |problem| VersionError::new(Scheme::Apk, text, problem);
        if text.len() > MAX_LEN {
            return Err(fail("it is too long"));
        }
        let end = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (numbers, rest) = text.split_at(end);
        if numbers.split('.').any(str::is_empty) {
            return Err(fail("its parts are not numbers"));
        }
        let (letter, letter_number, rest) = match rest.as_bytes() {
            [letter @ b'a'..=b'z', rest @ ..] => {
                let (number, rest) = take_while(rest, |b| b.is_ascii_digit());
                (Some(*letter), number, rest)
            }
            rest => (None, &[][..], rest),
        };
        let (suffixes, rest) =
            take_while(rest, |b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit());
        let mut left = suffixes;
        while !left.is_empty() {
            (_, _, left) = next_suffix(left).ok_or_else(|| fail("its suffix is not known"))?;
        }
        let (hash, rest) = match rest {
            [b'~', rest @ ..] => take_while(rest, |b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
            rest => (&[][..], rest),
        };
        let (revision, rest) = match rest {
            [b'-', b'r', rest @ ..] => take_while(rest, |b| b.is_ascii_digit()),
            rest => (&b"0"[..], rest),
        };
        if revision.is_empty() || !rest.is_empty() {
            return Err(fail("its end is not understood"));
        }
        Ok(Self { numbers, letter, letter_number, suffixes, hash, revision })
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_numbers(self.numbers, other.numbers)
            .then_with(|| self.letter.cmp(&other.letter))
            .then_with(|| {
                self.letter_number.is_empty().cmp(&other.letter_number.is_empty()).reverse()
            })
            .then_with(|| compare_digits(self.letter_number, other.letter_number))
            .then_with(|| compare_suffixes(self.suffixes, other.suffixes))
            .then_with(|| self.hash.cmp(other.hash))
            .then_with(|| compare_digits(self.revision, other.revision))
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

/// The first number compares as a number. A later one with a zero in front compares as text, like
/// the digits after a decimal point: `1.05` is before `1.1`.
fn compare_numbers(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    let mut first = true;
    loop {
        let (left, right) = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(left), Some(right)) => (left.as_bytes(), right.as_bytes()),
        };
        let as_text = !first && (left[0] == b'0' || right[0] == b'0');
        let order = if as_text { left.cmp(right) } else { compare_digits(left, right) };
        if order.is_ne() {
            return order;
        }
        first = false;
    }
}

fn compare_suffixes(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while !(left.is_empty() && right.is_empty()) {
        let (left_rank, left_number, left_rest) = next_suffix(left).unwrap_or(MISSING);
        let (right_rank, right_number, right_rest) = next_suffix(right).unwrap_or(MISSING);
        let order =
            left_rank.cmp(&right_rank).then_with(|| compare_digits(left_number, right_number));
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

const MISSING: (usize, &[u8], &[u8]) = (NO_SUFFIX, b"", b"");

/// Rank, number and rest; `None` at the end or outside the grammar.
fn next_suffix(text: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let (name, rest) = take_while(text.strip_prefix(b"_")?, |b| b.is_ascii_lowercase());
    let rank = SUFFIXES.iter().position(|suffix| !suffix.is_empty() && *suffix == name)?;
    let (number, rest) = take_while(rest, |b| b.is_ascii_digit());
    Some((rank, number, rest))
}
