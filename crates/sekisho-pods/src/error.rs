//! Why there is no pod.

use std::fmt;

use sekisho_api::Reason;

/// One field that may not be as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, for example `spec.template.spec.containers[runner].securityContext.privileged`.
    pub path: String,
    /// Why not, and what to do instead.
    pub sentence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.path, self.sentence)
    }
}

/// Why there is no pod.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The template is not a pod's.
    #[error("{0}")]
    Template(sekisho_api::TemplateError),
    /// A pod has no such field.
    #[error("`{path}`: a pod has no such field; check its spelling")]
    UnknownField {
        /// The field.
        path: String,
    },
    /// The template is laid over the pod, and the result is none.
    #[error("laid over the pod of the class, the template makes no pod: {0}")]
    Merged(sekisho_api::TemplateError),
    /// The template asks for what the class's security profile forbids, or for what is not its own.
    #[error("{}", list(.0))]
    Forbidden(
        /// At least one.
        Vec<Violation>,
    ),
    /// The class contradicts itself. Its schema refuses that; a definition may be older.
    #[error("RunnerClass: {0}")]
    Class(
        /// What contradicts what.
        &'static str,
    ),
}

impl PodError {
    /// The reason of the condition that tells of it.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Template(_) | Self::UnknownField { .. } | Self::Merged(_) => {
                Reason::TemplateInvalid
            }
            Self::Forbidden(_) | Self::Class(_) => Reason::TemplateForbidden,
        }
    }
}

fn list(violations: &[Violation]) -> String {
    violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("; ")
}
