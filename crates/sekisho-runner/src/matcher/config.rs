//! The file that `add-matcher` names: bytes in, matchers out.

use std::collections::HashSet;

use fancy_regex::RegexBuilder;
use serde::Deserialize;

use super::{Groups, Matcher, Pattern};

/// Largest file, in bytes.
pub(crate) const MAX_CONFIG_LEN: u64 = 1024 * 1024;
/// Most patterns of one matcher.
const MAX_PATTERNS: usize = 20;
/// Most matchers of one file.
const MAX_OWNERS: usize = 100;
/// Size of one compiled expression, in bytes.
const MAX_REGEX_SIZE: usize = 1024 * 1024;
/// Steps back that an expression with look-around may take on one line: some milliseconds.
const MAX_BACKTRACKS: usize = 100_000;

/// Why matchers cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MatcherError {
    #[error("the file is not a problem matcher: {reason}")]
    Shape { reason: String },
    #[error("matcher `{owner}`: {reason}")]
    Matcher { owner: String, reason: String },
    #[error("there are too many problem matchers")]
    TooMany,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    problem_matcher: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    owner: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    from_path: String,
    #[serde(default)]
    pattern: Vec<PatternEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PatternEntry {
    #[serde(default)]
    regexp: String,
    file: Option<usize>,
    from_path: Option<usize>,
    line: Option<usize>,
    column: Option<usize>,
    severity: Option<usize>,
    code: Option<usize>,
    message: Option<usize>,
    #[serde(default, rename = "loop")]
    repeats: bool,
}

/// The owners that a file names, for taking its matchers away; they need not be valid.
pub(crate) fn owners(bytes: &[u8]) -> Result<Vec<String>, MatcherError> {
    Ok(read(bytes)?.into_iter().map(|entry| entry.owner).collect())
}

/// Reads a file: all of its matchers are valid, or none is taken.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Matcher>, MatcherError> {
    let mut seen = HashSet::new();
    let mut matchers = Vec::new();
    for entry in read(bytes)? {
        let owner = entry.owner.clone();
        let wrong = |reason: String| MatcherError::Matcher { owner: owner.clone(), reason };
        if entry.owner.trim().is_empty() {
            return Err(MatcherError::Shape { reason: "an `owner` is missing".to_owned() });
        }
        if !seen.insert(entry.owner.to_ascii_lowercase()) {
            return Err(wrong("the owner is there twice".to_owned()));
        }
        matchers.push(matcher(entry).map_err(wrong)?);
    }
    Ok(matchers)
}

fn read(bytes: &[u8]) -> Result<Vec<Entry>, MatcherError> {
    let shape = |reason: String| MatcherError::Shape { reason };
    let file: File =
        sekisho_github::lenient::from_slice(bytes).map_err(|error| shape(format!("{error}")))?;
    if file.problem_matcher.is_empty() {
        return Err(shape("`problemMatcher` is missing or empty".to_owned()));
    }
    if file.problem_matcher.len() > MAX_OWNERS {
        return Err(MatcherError::TooMany);
    }
    Ok(file.problem_matcher)
}

fn matcher(entry: Entry) -> Result<Matcher, String> {
    let severity = entry.severity.to_ascii_lowercase();
    if !matches!(severity.as_str(), "" | "error" | "warning" | "notice") {
        return Err(format!("severity `{}` is none of error, warning, notice", entry.severity));
    }
    let count = entry.pattern.len();
    if count == 0 || count > MAX_PATTERNS {
        return Err(format!("it has {count} patterns; 1 to {MAX_PATTERNS} are possible"));
    }
    let mut taken: HashSet<&'static str> = HashSet::new();
    let mut patterns = Vec::new();
    for (index, pattern) in entry.pattern.iter().enumerate() {
        let is_last = index + 1 == count;
        if pattern.repeats && (!is_last || count == 1) {
            return Err("only the last of several patterns can `loop`".to_owned());
        }
        if is_last && pattern.message.is_none() {
            return Err("the last pattern must say which group is the `message`".to_owned());
        }
        for (name, group) in fields(pattern) {
            if group.is_some() && !taken.insert(name) {
                return Err(format!("`{name}` is set by two patterns"));
            }
        }
        patterns.push(compile(pattern)?);
    }
    let state = vec![None; count - 1];
    let (owner, from_path) = (entry.owner, entry.from_path);
    Ok(Matcher { owner, severity, from_path, patterns, state, failures: 0 })
}

fn fields(pattern: &PatternEntry) -> [(&'static str, Option<usize>); 7] {
    [
        ("file", pattern.file),
        ("fromPath", pattern.from_path),
        ("line", pattern.line),
        ("column", pattern.column),
        ("severity", pattern.severity),
        ("code", pattern.code),
        ("message", pattern.message),
    ]
}

fn compile(pattern: &PatternEntry) -> Result<Pattern, String> {
    if pattern.regexp.is_empty() {
        return Err("a `regexp` is missing".to_owned());
    }
    let regex = RegexBuilder::new(&pattern.regexp)
        .backtrack_limit(MAX_BACKTRACKS)
        .delegate_size_limit(MAX_REGEX_SIZE)
        .build()
        .map_err(|error| format!("a `regexp` cannot be used: {error}"))?;
    let groups = regex.captures_len();
    for (name, group) in fields(pattern) {
        if group.is_some_and(|group| group >= groups) {
            return Err(format!("`{name}` is a group that the `regexp` does not have"));
        }
    }
    let groups = Groups {
        file: pattern.file,
        from_path: pattern.from_path,
        line: pattern.line,
        column: pattern.column,
        severity: pattern.severity,
        code: pattern.code,
        message: pattern.message,
    };
    Ok(Pattern { regex, groups, repeats: pattern.repeats })
}
