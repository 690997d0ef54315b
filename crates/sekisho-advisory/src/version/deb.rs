//! Debian versions: `[epoch:]upstream[-revision]`.
//!
//! Source: deb-version(7) and Debian policy 5.6.12. Digits compare as numbers, all else byte by
//! byte with letters before the other characters and `~` before everything, even the end.

use std::cmp::Ordering;

use super::{MAX_LEN, Scheme, VersionError, compare_digits, take_while};

/// A parsed version.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    epoch: &'a [u8],
    upstream: &'a [u8],
    revision: &'a [u8],
}

impl<'a> Version<'a> {
    /// Parses a version.
    ///
    /// dpkg warns of an upstream version that does not start with a digit and takes it all the
    /// same; so do we.
    ///
    /// # Errors
    /// Empty, too long, an epoch that is no number, or a character that policy does not allow.
    pub fn parse(text: &'a str) -> Result<Self, VersionError> {
        let fail = |problem| VersionError::new(Scheme::Deb, text, problem);
        if text.len() > MAX_LEN {
            return Err(fail("it is too long"));
        }
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, _)) if epoch.is_empty() || !epoch.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(fail("its epoch is no number"));
            }
            Some((epoch, rest)) => (epoch, rest),
            None => ("", text),
        };
        let (upstream, revision) = match rest.rsplit_once('-') {
            Some((_, "")) => return Err(fail("its revision is empty")),
            Some((upstream, revision)) => (upstream, revision),
            None => (rest, ""),
        };
        if upstream.is_empty() {
            return Err(fail("there is no upstream version"));
        }
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b".+~".contains(&byte);
        if !upstream.bytes().all(|byte| good(byte) || byte == b'-' || byte == b':')
            || !revision.bytes().all(good)
        {
            return Err(fail("it holds a character that is not allowed"));
        }
        Ok(Self {
            epoch: epoch.as_bytes(),
            upstream: upstream.as_bytes(),
            revision: revision.as_bytes(),
        })
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        compare_digits(self.epoch, other.epoch)
            .then_with(|| compare_part(self.upstream, other.upstream))
            .then_with(|| compare_part(self.revision, other.revision))
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

/// Alternates between a run of non-digits and a run of digits. A missing run of digits is zero.
fn compare_part(mut left: &[u8], mut right: &[u8]) -> Ordering {
    let other = |byte: u8| !byte.is_ascii_digit();
    while !(left.is_empty() && right.is_empty()) {
        let (left_text, left_rest) = take_while(left, other);
        let (right_text, right_rest) = take_while(right, other);
        let (left_digits, left_rest) = take_while(left_rest, |byte| byte.is_ascii_digit());
        let (right_digits, right_rest) = take_while(right_rest, |byte| byte.is_ascii_digit());
        let order = compare_text(left_text, right_text)
            .then_with(|| compare_digits(left_digits, right_digits));
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn compare_text(left: &[u8], right: &[u8]) -> Ordering {
    (0..left.len().max(right.len()))
        .map(|i| weight(left.get(i)).cmp(&weight(right.get(i))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

fn weight(byte: Option<&u8>) -> u16 {
    match byte {
        Some(b'~') => 0,
        None => 1,
        Some(&letter) if letter.is_ascii_alphabetic() => 2 + u16::from(letter),
        Some(&byte) => 300 + u16::from(byte),
    }
}
