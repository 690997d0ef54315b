//! What a client is told when the other registry did not give what was asked for.

use jiff::SignedDuration;
use sekisho_registry::RegistryError;

use super::{BLOCKED, MAX_BLOCKED, Source};
use crate::error::{ApiError, Code};

/// Whether the registry may only be away, so that what is kept may be served.
pub(super) fn may_be_away(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::TooManyRequests { .. }
            | RegistryError::Unavailable { .. }
            | RegistryError::Transport { .. }
            | RegistryError::Deadline { .. }
    )
}

pub(super) fn wait(source: &Source, left: SignedDuration) -> ApiError {
    let message = format!("{} asks to be left alone for a while", source.registry.name);
    let seconds = left.as_secs().max(1).to_string();
    ApiError::new(Code::TooManyRequests, message).with_retry_after(&seconds)
}

/// What a client is told when the other registry did not give what was asked for.
pub(super) fn failed(source: &Source, error: &RegistryError, unknown: Code) -> ApiError {
    let name = &source.registry.name;
    tracing::warn!(repository = %source.name, "mirrored registry: {error}");
    match error {
        RegistryError::NotFound { .. } => {
            ApiError::new(unknown, format!("{name} has no such content"))
        }
        RegistryError::Denied { .. } | RegistryError::Unauthorized { .. } => {
            ApiError::new(Code::Denied, format!("{name} does not let this gate have it"))
        }
        RegistryError::TooManyRequests { retry_after, .. } => {
            let asked = retry_after.and_then(|it| SignedDuration::try_from(it).ok());
            wait(source, asked.unwrap_or(BLOCKED).min(MAX_BLOCKED))
        }
        RegistryError::Digest { .. } | RegistryError::Size { .. } => {
            let message = format!("{name} sent other content than it was asked for");
            ApiError::new(Code::Unavailable, message).with_status(http::StatusCode::BAD_GATEWAY)
        }
        _ => ApiError::new(Code::Unavailable, format!("{name} cannot be asked now")),
    }
}
