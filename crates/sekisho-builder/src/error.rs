//! Why there is no image.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use sekisho_dockerfile::Diagnostic;
use sekisho_sandbox::SandboxError;
use sekisho_types::{Hint, ImageReference};

use crate::room;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile is wrong, asks for something that is not supported, or for a file that is not
    /// there. At least one; each names file, line and column.
    #[error("{}", Lines(.0))]
    Dockerfile(Vec<Diagnostic>),
    /// There is no Dockerfile.
    #[error("there is no Dockerfile at `{}`", .path.display())]
    NoDockerfile {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The context folder cannot be read.
    #[error("cannot read the build context `{}`", .path.display())]
    Context {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A context of elsewhere cannot be had.
    #[error("cannot get the build context")]
    Elsewhere(#[source] anyhow::Error),
    /// A file of the context that we read ourselves is none of the context.
    #[error("`{}` is a link that leads out of the build context", .path.display())]
    Outside {
        /// The link.
        path: PathBuf,
    },
    /// The context is larger than the limits allow.
    #[error("the build context has more than {limit} {what}")]
    ContextLimit {
        /// Of what.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// A `.dockerignore` is wrong.
    #[error("cannot read `{}`", .path.display())]
    Ignore {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        #[source]
        source: sekisho_dockerfile::ignore::PatternError,
    },
    /// A RUN ended with another code than 0.
    #[error("{0}")]
    StepFailed(Box<StepFailed>),
    /// A RUN could not be started, or was killed by its time limit.
    #[error("{file}:{line}: cannot run `{command}`")]
    Sandbox {
        /// The Dockerfile.
        file: String,
        /// From 1.
        line: u32,
        /// On one line.
        command: String,
        /// Why.
        #[source]
        source: SandboxError,
    },
    /// The engine that was asked for is not here.
    #[error("{problem}")]
    NoEngine {
        /// Which, and what to do.
        problem: &'static str,
    },
    /// A base image cannot be had.
    #[error("{file}:{line}: cannot get the image `{reference}`")]
    Base {
        /// The Dockerfile.
        file: String,
        /// From 1.
        line: u32,
        /// As written, variables expanded.
        reference: String,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// The registry refused the image by its rules. What it said is passed on as it is.
    #[error("{reference} was denied: {message}")]
    Denied {
        /// Where to.
        reference: Box<ImageReference>,
        /// For people.
        message: String,
        /// For programs: the rule, the findings.
        detail: serde_json::Value,
    },
    /// The push failed for another reason.
    #[error("cannot push {reference}")]
    Push {
        /// Where to.
        reference: Box<ImageReference>,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// The cache folder, or another place on this machine, failed.
    #[error("the build failed on this machine")]
    Machine(#[source] anyhow::Error),
    /// It was cancelled.
    #[error("the build was cancelled")]
    Cancelled,
}

/// A RUN that ended with another code than 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFailed {
    /// The Dockerfile.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// The command on one line.
    pub command: String,
    /// 128 + signal for one that was killed.
    pub exit_code: i32,
    /// Its last lines, both streams.
    pub tail: Vec<String>,
    /// What may help.
    pub hint: Option<String>,
}

impl fmt::Display for StepFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, command, exit_code, .. } = self;
        write!(f, "{file}:{line}: `{command}` exited with code {exit_code}")?;
        for line in &self.tail {
            write!(f, "\n  | {line}")?;
        }
        Ok(())
    }
}

struct Lines<'a>(&'a [Diagnostic]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(diagnostic, f)?;
        }
        Ok(())
    }
}

impl Hint for BuildError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Dockerfile(all) => all.iter().find_map(Hint::hint),
            Self::NoDockerfile { .. } => Some("name another file with `--file`".to_owned()),
            Self::Outside { .. } => Some(
                "put the file itself there, or name a Dockerfile of elsewhere with `--file`"
                    .to_owned(),
            ),
            Self::ContextLimit { .. } => {
                Some("leave out what the image does not need with `.dockerignore`".to_owned())
            }
            Self::Base { source, .. } => crate::golden::hint(source),
            Self::StepFailed(failed) => failed.hint.clone(),
            Self::Sandbox { source, .. } => source.hint(),
            Self::Denied { detail, .. } => {
                detail.get("hint").and_then(|hint| hint.as_str()).map(str::to_owned)
            }
            Self::Machine(error) if room::is_full(error.as_ref()) => Some(room::HINT.to_owned()),
            Self::Context { source, .. } if source.kind() == ErrorKind::PermissionDenied => Some(
                "make it readable for who builds, or leave it out with `.dockerignore`".to_owned(),
            ),
            Self::Context { .. }
            | Self::Elsewhere(_)
            | Self::NoEngine { .. }
            | Self::Ignore { .. }
            | Self::Push { .. }
            | Self::Machine(_)
            | Self::Cancelled => None,
        }
    }
}

impl From<Diagnostic> for BuildError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Dockerfile(vec![diagnostic])
    }
}

impl From<anyhow::Error> for BuildError {
    fn from(error: anyhow::Error) -> Self {
        Self::Machine(error)
    }
}
