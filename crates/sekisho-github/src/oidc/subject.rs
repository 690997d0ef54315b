//! `sub`: the subject, which names the repository in one of two ways.
//!
//! ```text
//! repo:OWNER/NAME:ref:refs/heads/main
//! repo:OWNER@OWNER_ID/NAME@ID:environment:production     repositories made since 2026-07-15
//! ```
//!
//! Source: protocol reference 7.4. A colon within a value is written `%3A`. An organisation can
//! choose another form altogether; such a subject is kept as it is.

/// Whom a token is about, in the issuer's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One of GitHub's two forms.
    Repository {
        /// The owner's name.
        owner: String,
        /// The repository's name, without its owner.
        name: String,
        /// Ids of owner and repository, in the form that has them.
        ids: Option<(u64, u64)>,
        /// What of the repository.
        context: SubjectContext,
    },
    /// A form that somebody chose.
    Custom(String),
}

/// The last part of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubjectContext {
    /// A job with a deployment environment.
    Environment(String),
    /// A job of a pull request.
    PullRequest,
    /// Any other: the full ref.
    Ref(String),
}

impl Subject {
    /// Reads a subject; what has neither of the two forms is custom.
    pub fn parse(text: &str) -> Self {
        parse(text).unwrap_or_else(|| Self::Custom(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Subject> {
    let (repository, context) = text.strip_prefix("repo:")?.split_once(':')?;
    let context = match context.split_once(':') {
        None if context == "pull_request" => SubjectContext::PullRequest,
        Some(("environment", name)) if is_value(name) => SubjectContext::Environment(plain(name)),
        Some(("ref", git_ref)) if is_value(git_ref) => SubjectContext::Ref(plain(git_ref)),
        _ => return None,
    };
    let (owner, name) = repository.split_once('/')?;
    if name.contains('/') {
        return None;
    }
    let (owner, owner_id) = with_id(owner)?;
    let (name, id) = with_id(name)?;
    let ids = match (owner_id, id) {
        (Some(owner_id), Some(id)) => Some((owner_id, id)),
        (None, None) => None,
        _ => return None,
    };
    Some(Subject::Repository { owner: owner.to_owned(), name: name.to_owned(), ids, context })
}

fn is_value(text: &str) -> bool {
    !text.is_empty() && !text.contains(':')
}

fn plain(text: &str) -> String {
    text.replace("%3A", ":").replace("%3a", ":")
}

/// `name` or `name@id`; names have no `@`.
fn with_id(text: &str) -> Option<(&str, Option<u64>)> {
    let (name, id) = match text.split_once('@') {
        Some((name, id)) => (name, Some(id.parse::<u64>().ok()?)),
        None => (text, None),
    };
    (!name.is_empty()).then_some((name, id))
}
