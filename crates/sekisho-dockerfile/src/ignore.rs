//! `.dockerignore`.
//!
//! Not gitignore: patterns are anchored at the root of the context, `*` and `?` do not fit `/`,
//! `**` fits any number of folders, a pattern that fits a folder fits all in it, and of all patterns
//! that fit the last one counts; with `!` in front it brings back, also below an ignored folder.
//! Where the documentation is silent, the behaviour is that of moby's `patternmatcher`, which all
//! Docker builders use.

mod pattern;
#[cfg(test)]
mod tests;

use pattern::Pattern;

/// Largest `.dockerignore`, in bytes.
pub const MAX_IGNORE_BYTES: usize = 1024 * 1024;

/// Most patterns: every path of the context is held against each.
pub const MAX_PATTERNS: usize = 10_000;

/// Why a pattern is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: bad pattern `{pattern}`: {problem}")]
pub struct PatternError {
    /// From 1; 0 when the pattern is not of a file.
    pub line: u32,
    /// As written.
    pub pattern: String,
    /// What is wrong.
    pub problem: &'static str,
}

/// Compiled patterns.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    /// Starts with `!`.
    brings_back: bool,
}

impl Ignore {
    /// Reads the text of a `.dockerignore`: one pattern per line, `#` at the start of a line for
    /// comments.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_IGNORE_BYTES {
            let pattern = String::new();
            return Err(PatternError { line: 1, pattern, problem: "the file is too large" });
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.starts_with('#'));
        Self::compile(lines)
    }

    /// From single patterns, as of `--exclude`.
    pub fn from_patterns<S: AsRef<str>>(patterns: &[S]) -> Result<Self, PatternError> {
        Self::compile(patterns.iter().map(|pattern| (0, pattern.as_ref())))
    }

    fn compile<'a>(lines: impl Iterator<Item = (u32, &'a str)>) -> Result<Self, PatternError> {
        let mut rules = Vec::new();
        for (line, text) in lines {
            let raw = text.trim();
            if raw.is_empty() {
                continue;
            }
            let fail = |problem| PatternError { line, pattern: raw.to_owned(), problem };
            if rules.len() == MAX_PATTERNS {
                return Err(fail("there are too many patterns"));
            }
            let (brings_back, rest) = match raw.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, raw),
            };
            if rest.is_empty() {
                return Err(fail("`!` needs a pattern"));
            }
            let pattern = Pattern::parse(&clean(rest)).map_err(fail)?;
            rules.push(Rule { pattern, brings_back });
        }
        Ok(Self { rules })
    }

    /// No pattern at all.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a pattern starts with `!`.
    pub fn brings_back(&self) -> bool {
        self.rules.iter().any(|rule| rule.brings_back)
    }

    /// Whether `path` (from the root of the context, with `/`, without a leading one) is left out.
    pub fn is_ignored(&self, path: &str) -> bool {
        let mut ignored = false;
        for rule in &self.rules {
            // A rule that would not change the answer need not be held against the path.
            if rule.brings_back == ignored && rule.fits_it_or_a_parent(path) {
                ignored = !rule.brings_back;
            }
        }
        ignored
    }

    /// Whether an ignored folder need not be entered: no `!` pattern can bring back anything in it.
    ///
    /// `false` is always a safe answer; it is given whenever there is doubt.
    pub fn can_skip(&self, directory: &str) -> bool {
        self.is_ignored(directory)
            && !self
                .rules
                .iter()
                .any(|rule| rule.brings_back && rule.pattern.may_fit_below(directory))
    }
}

impl Rule {
    fn fits_it_or_a_parent(&self, path: &str) -> bool {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        self.pattern.fits(path) || parents.into_iter().any(|parent| self.pattern.fits(parent))
    }
}

/// Go's `filepath.Clean`, without a leading `/`: the root of the context is the root.
fn clean(pattern: &str) -> String {
    let rooted = pattern.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}
