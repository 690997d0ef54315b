//! `.dockerignore`.

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
    patterns: Vec<()>,
}

impl Ignore {
    /// Reads the text of a `.dockerignore`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let _ = text;
        unimplemented!("the patterns")
    }

    /// From single patterns, as of `--exclude`.
    pub fn from_patterns<S: AsRef<str>>(patterns: &[S]) -> Result<Self, PatternError> {
        let _ = patterns;
        unimplemented!("the patterns")
    }

    /// No pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `path` (from the root of the context, with `/`, without a leading one) is left out.
    pub fn is_ignored(&self, path: &str) -> bool {
        let _ = path;
        unimplemented!("the patterns")
    }

    /// Whether an ignored folder need not be entered: no `!` pattern can bring back anything in it.
    pub fn can_skip(&self, directory: &str) -> bool {
        let _ = directory;
        unimplemented!("the patterns")
    }
}
