//! Semantic versions: `major.minor.patch[-pre][+build]`.
//!
//! Source: Semantic Versioning 2.0.0, sections 9 to 11. Pre-releases always take part, as OSV
//! wants it: a range that ends at `2.0.0` holds `2.0.0-rc.1`. Like OSV's tools we forgive a
//! leading `v`, missing parts (zero) and further numbers (read as build).

use std::cmp::Ordering;

use super::{MAX_LEN, Scheme, VersionError, compare_digits, take_while};

/// A parsed version.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    numbers: [&'a [u8]; 3],
    pre: &'a str,
}

impl<'a> Version<'a> {
    /// Parses a version.
    ///
    /// # Errors
    /// Too long, no number in front, an empty identifier, or a character that is not allowed.
    pub fn parse(text: &'a str) -> Result<Self, VersionError> {
        let fail = |problem| VersionError::new(Scheme::Semver, text, problem);
        if text.len() > MAX_LEN {
            return Err(fail("it is too long"));
        }
        let body = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (body, build) = body.split_once('+').unwrap_or((body, "0"));
        let (core, pre) = match body.split_once('-') {
            Some((_, "")) => return Err(fail("its pre-release is empty")),
            Some((core, pre)) => (core, pre),
            None => (body, ""),
        };
        let mut numbers: [&[u8]; 3] = [b"0"; 3];
        for (i, number) in core.split('.').enumerate() {
            let (digits, rest) = take_while(number.as_bytes(), |byte| byte.is_ascii_digit());
            if digits.is_empty() || !rest.is_empty() {
                return Err(fail("its parts are not numbers"));
            }
            if let Some(slot) = numbers.get_mut(i) {
                *slot = digits;
            }
        }
        let good = |id: &str| {
            !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !pre.is_empty() && !pre.split('.').all(good) || !build.split('.').all(good) {
            return Err(fail("it holds a character that is not allowed"));
        }
        Ok(Self { numbers, pre })
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        (0..3)
            .map(|i| compare_digits(self.numbers[i], other.numbers[i]))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| compare_pre(self.pre, other.pre))
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

fn compare_pre(left: &str, right: &str) -> Ordering {
    match (left.is_empty(), right.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(left), Some(right)) => compare_identifier(left, right),
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn compare_identifier(left: &str, right: &str) -> Ordering {
    let numeric = |id: &str| id.bytes().all(|byte| byte.is_ascii_digit());
    match (numeric(left), numeric(right)) {
        (true, true) => compare_digits(left.as_bytes(), right.as_bytes()),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => left.cmp(right),
    }
}
