//! Exceptions: findings that somebody answers for, for a while.
//!
//! ```toml
//! [[exception]]
//! advisory = "CVE-2021-23337"        # an id or an alias
//! package = "lodash"
//! repository = "acme/app"            # or "acme/*" for all below
//! owner = "web team"
//! reason = "template() is never called with foreign text"
//! approver = "ann"
//! approved = "2026-11-23"
//! ends = "2027-01-31"                # the last day; at most 90 days after `approved`
//! justification = "vulnerable_code_not_in_execute_path"   # optional, of VEX
//! ```
//!
//! A secret is named by its fingerprint, `advisory = "secret:0123456789abcdef01234567"`, and the file
//! that has it, in the place of the package.
//!
//! A finding with an exception does not count for rules that enforce; it is shown all the same. Before
//! `approved` and after `ends`, in UTC, an exception is as if it were not there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};
use sekisho_advisory::Finding;
use sekisho_types::{Digest, LeakedSecret};
use serde::Deserialize;
use toml::Spanned;

use crate::facts::{Content, Target};
use crate::policies::{Place, place_of};

/// The longest exception, in days: a quarter, then somebody looks again.
pub const MAX_DAYS: i32 = 90;

/// Largest file, in bytes.
pub const MAX_EXCEPTIONS_BYTES: usize = 1024 * 1024;

/// Most exceptions in one file: beyond it nobody knows what is excepted.
pub const MAX_EXCEPTIONS: usize = 1000;

/// What stands before the fingerprint of a secret.
const SECRET: &str = "secret:";

/// Longest field, in bytes.
const MAX_FIELD_BYTES: usize = 500;

/// What VEX knows as reasons why a vulnerability does not matter.
///
/// Source: CISA, "VEX Status Justifications".
const JUSTIFICATIONS: [&str; 5] = [
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
];

/// One finding that somebody answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// An id of the vulnerability.
    pub advisory: String,
    /// The package that has it.
    pub package: String,
    /// Where: a repository at the gate, or all below one with `/*` behind it.
    pub repository: String,
    /// Who mends it in the end.
    pub owner: String,
    /// Why it may ship.
    pub reason: String,
    /// Who said so.
    pub approver: String,
    /// The first day.
    pub approved: Date,
    /// The last day.
    pub ends: Date,
    /// A VEX justification.
    pub justification: Option<String>,
}

/// Why a file of exceptions was not loaded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{}:{place}: {message}", file.display())]
pub struct ExceptionsError {
    /// As it was named.
    pub file: PathBuf,
    /// Where in it.
    pub place: Place,
    /// What is wrong.
    pub message: String,
}

/// The exceptions of a gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions {
    all: Vec<Exception>,
    /// Where in the text each one's last day stands.
    ends: Vec<Range<usize>>,
    text: Option<String>,
    hash: Option<Digest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    exception: Vec<Spanned<Raw>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    advisory: Spanned<String>,
    package: Spanned<String>,
    repository: Spanned<String>,
    owner: Spanned<String>,
    reason: Spanned<String>,
    approver: Spanned<String>,
    approved: Spanned<String>,
    ends: Spanned<String>,
    justification: Option<Spanned<String>>,
}

/// What is wrong, and where in the text.
type Fault = (Range<usize>, String);

impl Exceptions {
    /// Reads a file's text; `file` is its name in errors.
    ///
    /// # Errors
    ///
    /// [`ExceptionsError`] with file, line and column: no TOML, an unknown or missing field, an empty
    /// or overlong one, a date that is none, more than [`MAX_DAYS`], one exception twice.
    pub fn load(file: &Path, text: &str) -> Result<Self, ExceptionsError> {
        let fail = |(span, message): Fault| ExceptionsError {
            file: file.to_owned(),
            place: place_of(text, span.start).unwrap_or(Place { line: 1, column: 1 }),
            message,
        };
        if text.len() > MAX_EXCEPTIONS_BYTES {
            return Err(fail((0..0, format!("the file has over {MAX_EXCEPTIONS_BYTES} bytes"))));
        }
        let raw: RawFile = toml::from_str(text).map_err(|error| {
            fail((error.span().unwrap_or_default(), error.message().to_owned()))
        })?;
        if raw.exception.len() > MAX_EXCEPTIONS {
            return Err(fail((0..0, format!("there are more than {MAX_EXCEPTIONS} exceptions"))));
        }
        let mut all: Vec<Exception> = Vec::new();
        let mut ends = Vec::new();
        for spanned in raw.exception {
            let span = spanned.span();
            let raw = spanned.into_inner();
            ends.push(raw.ends.span());
            let exception = validate(raw).map_err(fail)?;
            let key =
                |it: &Exception| (it.advisory.clone(), it.package.clone(), it.repository.clone());
            if all.iter().any(|known| key(known) == key(&exception)) {
                let message = "this advisory, package and repository stand here twice";
                return Err(fail((span, message.to_owned())));
            }
            all.push(exception);
        }
        Ok(Self {
            all,
            ends,
            text: Some(text.to_owned()),
            hash: Some(Digest::sha256(text.as_bytes())),
        })
    }

    /// What was loaded; `None` when nothing was.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Names the text; `None` when there is none.
    pub fn hash(&self) -> Option<&Digest> {
        self.hash.as_ref()
    }

    /// Every exception, in the order of the file.
    pub fn all(&self) -> &[Exception] {
        &self.all
    }

    /// The text in which one of [`Self::all`] ends on another day, and all else is as it was; `None`
    /// when there is no such one.
    pub fn with_end(&self, position: usize, day: Date) -> Option<String> {
        let (text, place) = (self.text.as_deref()?, self.ends.get(position)?);
        Some(format!("{}\"{day}\"{}", text.get(..place.start)?, text.get(place.end..)?))
    }

    /// The content without the secrets that somebody answers for, and those by what is said of them.
    pub(crate) fn split_secrets(
        &self,
        target: &Target,
        content: &Content,
        now: Timestamp,
    ) -> (Content, BTreeMap<String, Vec<String>>) {
        let mut waived: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut left = content.clone();
        left.secrets.retain(|secret| {
            let Some(exception) = self.covering_secret(&target.repository, secret, now) else {
                return true;
            };
            waived.entry(exception.message()).or_default().push(secret.to_string());
            false
        });
        (left, waived)
    }

    fn covering_secret(
        &self,
        repository: &str,
        secret: &LeakedSecret,
        now: Timestamp,
    ) -> Option<&Exception> {
        let today = now.to_zoned(TimeZone::UTC).date();
        self.all.iter().find(|it| {
            it.is_in_force(today)
                && it.package == secret.path
                && it.advisory.strip_prefix(SECRET).is_some_and(|print| print == secret.fingerprint)
                && !secret.fingerprint.is_empty()
                && covers(&it.repository, repository)
        })
    }

    /// The exception that covers a finding in a repository at a time.
    pub(crate) fn covering(
        &self,
        repository: &str,
        finding: &Finding,
        now: Timestamp,
    ) -> Option<&Exception> {
        let today = now.to_zoned(TimeZone::UTC).date();
        self.all.iter().find(|it| {
            it.is_in_force(today)
                && it.package == finding.package
                && (it.advisory == finding.id || finding.aliases.contains(&it.advisory))
                && covers(&it.repository, repository)
        })
    }
}

impl Exception {
    /// Whether it does something on that day, in UTC.
    pub fn is_in_force(&self, day: Date) -> bool {
        (self.approved..=self.ends).contains(&day)
    }

    /// What is said of a finding that it covers.
    pub(crate) fn message(&self) -> String {
        let justification = self.justification.as_deref().map(|it| format!(" ({it})"));
        format!(
            "waived until {} for {}, approved by {}: {}{}",
            self.ends,
            self.owner,
            self.approver,
            self.reason,
            justification.unwrap_or_default()
        )
    }
}

/// `acme/app` covers itself; `acme/*` covers all below `acme`.
fn covers(scope: &str, repository: &str) -> bool {
    match scope.strip_suffix("/*") {
        Some(above) => repository.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')),
        None => scope == repository,
    }
}

fn validate(raw: Raw) -> Result<Exception, Fault> {
    let (approved, ends) = (date(&raw.approved)?, date(&raw.ends)?);
    let days = approved
        .until((Unit::Day, ends))
        .map_err(|error| (raw.ends.span(), error.to_string()))?
        .get_days();
    if !(0..=MAX_DAYS).contains(&days) {
        let message =
            format!("ends {days} days after it was approved; allowed are 0 to {MAX_DAYS}");
        return Err((raw.ends.span(), message));
    }
    let scope = raw.repository.get_ref();
    let name = scope.strip_suffix("/*").unwrap_or(scope);
    if let Err(error) = name.parse::<sekisho_types::RepositoryName>() {
        return Err((raw.repository.span(), error.to_string()));
    }
    if let Some(justification) = &raw.justification
        && !JUSTIFICATIONS.contains(&justification.get_ref().as_str())
    {
        let message = format!("no VEX justification; use one of {}", JUSTIFICATIONS.join(", "));
        return Err((justification.span(), message));
    }
    Ok(Exception {
        advisory: text(raw.advisory)?,
        package: text(raw.package)?,
        repository: text(raw.repository)?,
        owner: text(raw.owner)?,
        reason: text(raw.reason)?,
        approver: text(raw.approver)?,
        approved,
        ends,
        justification: raw.justification.map(Spanned::into_inner),
    })
}

fn date(field: &Spanned<String>) -> Result<Date, Fault> {
    let text = field.get_ref();
    // Exactly a date: jiff would take the date of a date with a time too.
    let parsed = text.parse::<Date>().ok().filter(|_| text.len() == "2026-11-23".len());
    parsed.ok_or_else(|| (field.span(), format!("`{text}` is no date; write `2026-11-23`")))
}

/// A line with something on it.
fn text(field: Spanned<String>) -> Result<String, Fault> {
    let span = field.span();
    let text = field.into_inner();
    if text.trim().is_empty() {
        return Err((span, "it says nothing".to_owned()));
    }
    if text.len() > MAX_FIELD_BYTES || text.contains(char::is_control) {
        return Err((span, format!("write one line of at most {MAX_FIELD_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
