//! Filters of events: which branches, tags and paths start a workflow.
//!
//! The glob dialect: `*` any text without `/`; `**` any text; `**/` also nothing; `?` none or one
//! of the character before it; `+` one or more of it; `[abc]`, `[a-z]` one of these; `\` makes the
//! next character plain; `!` at the start negates. A pattern matches a whole name.

use serde::{Deserialize, Serialize};
use thiserror::Error;

mod glob;

pub use glob::Pattern;

/// Longest pattern, in bytes: a compiled pattern is larger than its text.
pub const MAX_PATTERN_BYTES: usize = 1024;

/// Changed paths that a `paths` filter looks at; with more, only the first ones count.
pub const MAX_PATHS: usize = 300;

/// A pattern that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid pattern `{pattern}`: {problem}")]
pub struct PatternError {
    /// As written.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: PatternProblem,
}

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PatternProblem {
    /// No text, or nothing after `!`.
    #[error("it is empty")]
    Empty,
    /// Over [`MAX_PATTERN_BYTES`].
    #[error("it is longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
    /// `[` without `]`.
    #[error("`[` is not closed")]
    UnclosedClass,
    /// `[]`, or a range that runs backwards.
    #[error("`[…]` must list characters or ranges like `a-z`")]
    EmptyClass,
    /// `?` or `+` with nothing before it.
    #[error("`?` and `+` repeat the character before them, and there is none")]
    NothingToRepeat,
    /// `\` at the end.
    #[error("`\\` at the end escapes nothing")]
    TrailingEscape,
    /// The pattern compiles to something too large.
    #[error("it is too complex")]
    TooComplex,
}

/// A list of patterns, as `branches:` or as `branches-ignore:` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// Only names that match; the last pattern that matches decides.
    Only(Vec<Pattern>),
    /// All names but those that match.
    Ignore(Vec<Pattern>),
}

impl Filter {
    /// Whether `name` passes.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::Only(patterns) => last_match(patterns, name),
            Self::Ignore(patterns) => !last_match(patterns, name),
        }
    }

    /// Whether a change of these paths passes: one path that passes is enough.
    pub fn allows_any<S: AsRef<str>>(&self, paths: &[S]) -> bool {
        paths.iter().take(MAX_PATHS).any(|path| self.allows(path.as_ref()))
    }
}

/// The last matching pattern decides; none matching means no.
fn last_match(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().rev().find(|pattern| pattern.matches(name)).is_some_and(|p| !p.is_negated())
}

/// The filters of `on.push`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushFilter {
    /// Branch names, without `refs/heads/`.
    pub branches: Option<Filter>,
    /// Tag names, without `refs/tags/`.
    pub tags: Option<Filter>,
    /// Changed files.
    pub paths: Option<Filter>,
}

impl PushFilter {
    /// Whether a push to `git_ref` (`refs/heads/…` or `refs/tags/…`) starts the workflow.
    ///
    /// `paths`: the files that the push changed; `None` when that is not known (a new branch
    /// without a common ancestor, a diff too large), which lets the push pass. Paths are not
    /// looked at for tags.
    pub fn matches<S: AsRef<str>>(&self, git_ref: &str, paths: Option<&[S]>) -> bool {
        if let Some(tag) = git_ref.strip_prefix("refs/tags/") {
            // Only `branches` given: tags do not match.
            return match &self.tags {
                Some(filter) => filter.allows(tag),
                None => self.branches.is_none(),
            };
        }
        let Some(branch) = git_ref.strip_prefix("refs/heads/") else { return false };
        let branch_passes = match &self.branches {
            Some(filter) => filter.allows(branch),
            None => self.tags.is_none(),
        };
        let paths_pass = match (&self.paths, paths) {
            (Some(filter), Some(paths)) => filter.allows_any(paths),
            _ => true,
        };
        branch_passes && paths_pass
    }
}

/// Activities of a pull request that start a workflow which names none.
pub const DEFAULT_PULL_REQUEST_TYPES: [&str; 3] = ["opened", "synchronize", "reopened"];

/// The filters of `on.pull_request` and `on.pull_request_target`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequestFilter {
    /// Activities; [`DEFAULT_PULL_REQUEST_TYPES`] if absent.
    pub types: Option<Vec<String>>,
    /// Names of the branch that it is to go to, without `refs/heads/`.
    pub branches: Option<Filter>,
    /// Changed files.
    pub paths: Option<Filter>,
}

impl PullRequestFilter {
    /// Whether an activity (`opened`, `synchronize`, …) of a pull request to the branch `base` starts
    /// the workflow.
    ///
    /// `paths`: the files that it changes since it left its base; `None` when that is not known, which
    /// lets it pass.
    pub fn matches<S: AsRef<str>>(&self, activity: &str, base: &str, paths: Option<&[S]>) -> bool {
        let type_passes = match &self.types {
            Some(types) => types.iter().any(|known| known == activity),
            None => DEFAULT_PULL_REQUEST_TYPES.contains(&activity),
        };
        let branch_passes = self.branches.as_ref().is_none_or(|filter| filter.allows(base));
        let paths_pass = match (&self.paths, paths) {
            (Some(filter), Some(paths)) => filter.allows_any(paths),
            _ => true,
        };
        type_passes && branch_passes && paths_pass
    }
}

#[cfg(test)]
mod tests;
