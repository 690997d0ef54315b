//! Problem matchers: lines of a step's output that tell of a problem, found by regular expressions.
//!
//! ```text
//! {"problemMatcher": [{"owner": "tsc", "severity": "error", "fromPath": "app/x.csproj",
//!    "pattern": [{"regexp": "^(.+)$", "file": 1},
//!                {"regexp": "^  (\\d+):(\\d+) (.+)$", "line": 1, "column": 2, "message": 3,
//!                 "loop": true}]}]}
//! ```
//!
//! Several patterns match consecutive lines, one each; the last one may `loop` over more. The newest
//! matcher is asked first, and the first one that finds something ends the search and resets the
//! others. Time is bounded: an expression that goes back too often fails, and a matcher that failed
//! [`MAX_FAILURES`] times is removed.
//!
//! Pure: which file a match means is for the caller to find out.

mod config;

use fancy_regex::{Captures, Regex};

pub(crate) use config::{MAX_CONFIG_LEN, MatcherError, owners, parse};

/// Most matchers of a job.
const MAX_MATCHERS: usize = 100;
/// A longer line is not looked at, in bytes.
const MAX_LINE_LEN: usize = 16 * 1024;
/// Failures of a matcher after which it is removed.
const MAX_FAILURES: u32 = 3;
/// Longest text that is taken out of a line, in bytes.
const MAX_FIELD_LEN: usize = 8 * 1024;

/// The matchers of a job, the newest first.
#[derive(Debug, Default)]
pub(crate) struct Matchers(Vec<Matcher>);

/// One matcher, and how far it has come.
#[derive(Debug)]
pub(crate) struct Matcher {
    owner: String,
    severity: String,
    from_path: String,
    patterns: Vec<Pattern>,
    /// What the first patterns have found, by their number: the last has no place here.
    state: Vec<Option<Found>>,
    failures: u32,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    groups: Groups,
    repeats: bool,
}

/// Which group of a pattern holds what.
#[derive(Clone, Copy, Debug, Default)]
struct Groups {
    file: Option<usize>,
    from_path: Option<usize>,
    line: Option<usize>,
    column: Option<usize>,
    severity: Option<usize>,
    code: Option<usize>,
    message: Option<usize>,
}

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) file: String,
    pub(crate) from_path: String,
    pub(crate) line: String,
    pub(crate) column: String,
    pub(crate) severity: String,
    pub(crate) code: String,
    pub(crate) message: String,
}

/// What came of a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) found: Option<Found>,
    /// Owners of matchers that were removed, for they failed too often.
    pub(crate) removed: Vec<String>,
}

impl Matchers {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one; it takes the place of one with the same owner.
    pub(crate) fn add(&mut self, matcher: Matcher) -> Result<(), MatcherError> {
        self.remove(&matcher.owner);
        if self.0.len() >= MAX_MATCHERS {
            return Err(MatcherError::TooMany);
        }
        self.0.insert(0, matcher);
        Ok(())
    }

    /// Removes the one of an owner.
    pub(crate) fn remove(&mut self, owner: &str) {
        self.0.retain(|matcher| !matcher.owner.eq_ignore_ascii_case(owner));
    }

    /// Looks at a line.
    pub(crate) fn look(&mut self, line: &str) -> Outcome {
        let mut outcome = Outcome::default();
        if self.0.is_empty() || line.len() > MAX_LINE_LEN {
            return outcome;
        }
        let line = without_colours(line);
        let mut by = None;
        for (index, matcher) in self.0.iter_mut().enumerate() {
            match matcher.look(&line) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    outcome.found = Some(found);
                    by = Some(index);
                    break;
                }
                Err(_) => matcher.failures += 1,
            }
        }
        if let Some(by) = by {
            let others = self.0.iter_mut().enumerate().filter(|(index, _)| *index != by);
            others.for_each(|(_, matcher)| matcher.reset());
        }
        let failed = self.0.extract_if(.., |matcher| matcher.failures >= MAX_FAILURES);
        outcome.removed = failed.map(|matcher| matcher.owner).collect();
        outcome
    }
}

impl Matcher {
    /// Who it belongs to.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    fn reset(&mut self) {
        self.state.fill(None);
    }

    /// One step of the state machine, the last pattern first: a line is matched against what the line
    /// before it has left.
    fn look(&mut self, line: &str) -> Result<Option<Found>, Box<fancy_regex::Error>> {
        let last = self.patterns.len() - 1;
        for index in (0..self.patterns.len()).rev() {
            let before = match index {
                0 => Some(Found::default()),
                _ => self.state[index - 1].clone(),
            };
            let Some(before) = before else {
                if index < last {
                    self.state[index] = None;
                }
                continue;
            };
            let pattern = &self.patterns[index];
            let captures = pattern.regex.captures(line).map_err(Box::new)?;
            let found = captures.map(|captures| pattern.groups.take(&captures, before.clone()));
            if index < last {
                self.state[index] = found;
            } else if let Some(mut found) = found {
                let repeats = pattern.repeats;
                self.reset();
                if repeats {
                    self.state[last - 1] = Some(before);
                }
                let defaults = [
                    (&mut found.severity, &self.severity),
                    (&mut found.from_path, &self.from_path),
                ];
                for (value, default) in defaults {
                    if value.is_empty() {
                        value.clone_from(default);
                    }
                }
                return Ok(Some(found));
            } else if last > 0 {
                self.state[last - 1] = None;
            }
        }
        Ok(None)
    }
}

impl Groups {
    fn take(&self, captures: &Captures<'_, str>, mut found: Found) -> Found {
        let fields = [
            (self.file, &mut found.file),
            (self.from_path, &mut found.from_path),
            (self.line, &mut found.line),
            (self.column, &mut found.column),
            (self.severity, &mut found.severity),
            (self.code, &mut found.code),
            (self.message, &mut found.message),
        ];
        for (group, field) in fields {
            let Some(group) = group else { continue };
            let text = captures.get(group).map_or("", |text| text.as_str()).trim();
            let end = text.floor_char_boundary(MAX_FIELD_LEN);
            text[..end].clone_into(field);
        }
        found
    }
}

/// The line without the escape sequences that colour it: `ESC [ digits ; … m`.
fn without_colours(line: &str) -> std::borrow::Cow<'_, str> {
    if !line.contains("\u{1b}[") {
        return line.into();
    }
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        text.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(after.len());
        rest = &after[end..];
        rest = rest.strip_prefix('m').unwrap_or(rest);
    }
    text.push_str(rest);
    text.into()
}

#[cfg(test)]
mod tests;
