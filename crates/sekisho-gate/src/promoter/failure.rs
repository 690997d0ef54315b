//! Why an order was not carried out, and what to do about it.

use http::StatusCode;
use sekisho_registry::RegistryError;
use sekisho_types::{Hint as _, causes};

use super::copy::CopyError;
use super::ecr::{self, EcrError};
use super::order::Refused;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{0}")]
    Route(String),
    #[error(transparent)]
    Login(#[from] EcrError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("{0}")]
    Busy(&'static str),
}

impl Failure {
    /// Whether the same may succeed a little later, with nobody having done anything.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            // The clocks meet again, or the next order is signed anew.
            Self::Refused(Refused::Stale(_)) | Self::Busy(_) => true,
            Self::Refused(_) | Self::Route(_) => false,
            Self::Login(error) => error.is_temporary(),
            Self::Copy(error) => error.is_retryable(),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Refused(_) => StatusCode::FORBIDDEN,
            _ if self.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// What whoever pushed is told of it: how this process logs in is not for them.
    pub(super) fn public(&self) -> String {
        match self {
            Self::Login(_) => {
                "the promoter cannot log in at the other registry; its log knows why".to_owned()
            }
            other => causes(other),
        }
    }

    /// The next step.
    pub(super) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Refused(Refused::Unsigned) => {
                "give the promoter the `.pub` file of the gate's key, in the folder `gate_keys`"
            }
            Self::Refused(Refused::Stale(_)) => "set the clocks of gate and promoter",
            Self::Refused(_) => "let gate and promoter be of one version",
            Self::Route(_) => "mend the route in promoter.toml",
            Self::Login(_) => return None,
            Self::Busy(_) => "push again in a while",
            Self::Copy(error) => return of_copy(error),
        };
        Some(hint.to_owned())
    }

    /// Whether a password that ended may be the reason: ECR says so by 401 or 403.
    pub(super) fn may_be_the_password(&self) -> bool {
        let Self::Copy(CopyError::Target { source, .. }) = self else { return false };
        matches!(source, RegistryError::Unauthorized { .. } | RegistryError::Denied { .. })
    }
}

fn of_copy(error: &CopyError) -> Option<String> {
    let (to, source) = match error {
        CopyError::Source(source) => return source.hint(),
        CopyError::Spool(_) => return Some("give the promoter's folder more room".to_owned()),
        CopyError::Image(_) => return Some("push it as fewer manifests".to_owned()),
        CopyError::Moved(_) => {
            return Some("let nobody but the promoter write there".to_owned());
        }
        CopyError::Target { to, source } => (to, source),
    };
    let host = to.split_once("://").map_or(to.as_str(), |(_, host)| host);
    let (registry, name) = host.split_once('/').unwrap_or((host, ""));
    Some(match (source, ecr::region(registry)) {
        (RegistryError::NotFound { .. }, Some(region)) => format!(
            "make the repository, or a template that makes it: `aws ecr create-repository --region {region} \
             --repository-name {name}`"
        ),
        (RegistryError::NotFound { .. }, None) => format!("make the repository `{name}` there"),
        (RegistryError::Denied { .. }, Some(_)) => {
            "give the promoter's role the rights of docs/promoter.md; a tag of an immutable repository cannot be \
             written again"
                .to_owned()
        }
        (RegistryError::Refused { .. }, _) => {
            "it may not take manifests of this kind; where that is the gate's own word, `attest = false` of the route \
             leaves it out"
                .to_owned()
        }
        _ => return source.hint(),
    })
}
