//! Version ordering, one rule per family of ecosystems.
//!
//! Every parser borrows from its input and allocates nothing, and refuses what its rules do not
//! allow: a guessed order would be a silent false answer.

use std::cmp::Ordering;

pub mod apk;
pub mod deb;
pub mod pep440;
pub mod semver;

/// The longest version that is looked at, in bytes. The longest real one we know has 100.
pub const MAX_LEN: usize = 512;

/// Which rule orders an ecosystem's versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `dpkg --compare-versions`.
    Deb,
    /// `apk version -t`.
    Apk,
    /// Semantic Versioning 2.0.0.
    Semver,
    /// Python's PEP 440.
    Pep440,
}

impl Scheme {
    /// Orders two versions.
    ///
    /// # Errors
    /// One of them is no version of this scheme.
    pub fn compare(self, left: &str, right: &str) -> Result<Ordering, VersionError> {
        match self {
            Self::Deb => deb::compare(left, right),
            Self::Apk => apk::compare(left, right),
            Self::Semver => semver::compare(left, right),
            Self::Pep440 => pep440::compare(left, right),
        }
    }

    /// Says whether the text is a version of this scheme.
    ///
    /// # Errors
    /// Why it is none.
    pub fn check(self, version: &str) -> Result<(), VersionError> {
        self.compare(version, version).map(|_| ())
    }

    /// The name, for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deb => "Debian",
            Self::Apk => "Alpine",
            Self::Semver => "semantic",
            Self::Pep440 => "Python",
        }
    }
}

/// A text is no version.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{version}` is no {scheme} version: {problem}")]
pub struct VersionError {
    /// The text, cut at 64 characters.
    pub version: String,
    /// Whose rules it breaks.
    pub scheme: &'static str,
    /// What is wrong.
    pub problem: &'static str,
}

impl VersionError {
    fn new(scheme: Scheme, version: &str, problem: &'static str) -> Self {
        Self { version: version.chars().take(64).collect(), scheme: scheme.as_str(), problem }
    }
}

/// Orders two runs of decimal digits of any length.
fn compare_digits(left: &[u8], right: &[u8]) -> Ordering {
    let (left, right) = (trim_zeros(left), trim_zeros(right));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

fn trim_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    &digits[zeros..]
}

/// Splits after the leading run of bytes that `good` accepts.
fn take_while(text: &[u8], good: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|&&byte| good(byte)).count())
}

#[cfg(test)]
mod tests;
