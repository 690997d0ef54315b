//! What calls answer when they fail, as decisions know it.

use sekisho_api::Reason;
use sekisho_github::http::HttpError;
use sekisho_github::rest::RestError;
use sekisho_github::scale_set::ScaleSetError;
use sekisho_pods::PodError;
use sekisho_reconcile::{At, Failure};

/// Of the API server, where a pod is made.
pub(crate) fn kube_pod(error: kube::Error) -> Failure {
    let code = match &error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    };
    match kube(error) {
        Failure::Forbidden { detail } if code == 403 => Failure::PodForbidden { detail },
        Failure::Forbidden { detail } => Failure::PodInvalid { detail },
        other => other,
    }
}

/// Of the API server. Its words are about objects, never about the content of secrets.
pub(crate) fn kube(error: kube::Error) -> Failure {
    let kube::Error::Api(status) = error else {
        return Failure::ApiServer { detail: error.to_string() };
    };
    let terminating = status.details.as_ref().is_some_and(|details| {
        details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
    });
    let detail = status.message.clone();
    match status.code {
        403 if terminating => Failure::NamespaceTerminating,
        403 if detail.contains("exceeded quota") || detail.contains("status unknown for quota") => {
            Failure::Quota { detail }
        }
        400 | 403 | 422 => Failure::Forbidden { detail },
        404 | 409 => Failure::Conflict { detail },
        _ => Failure::ApiServer { detail },
    }
}

/// Whether there is no such object.
pub(crate) fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether it is there already, or another version of it.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// An error with what caused it: that a certificate is not trusted stands at the end. No URL is in it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

/// Of GitHub's REST.
pub(crate) fn rest(error: &RestError) -> Failure {
    if let Some(until) = error.retry_at() {
        return Failure::RateLimited { until: Some(At::of(until)) };
    }
    let detail = chain(error);
    match (error, error.status()) {
        (RestError::Client(HttpError::Certificates(_) | HttpError::Proxy(_)), _) => {
            Failure::ConnectionInvalid { detail }
        }
        (RestError::Sign { .. }, _) | (_, Some(401)) => Failure::CredentialsRefused { detail },
        (_, Some(403 | 404)) => {
            let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
            Failure::PermissionMissing { detail: format!("{detail}{hint}") }
        }
        (_, Some(422)) => Failure::RequestRefused { detail },
        (_, Some(429)) => Failure::RateLimited { until: None },
        _ => Failure::Unreachable { detail },
    }
}

/// Of GitHub's REST, where a runner is removed: one with a job cannot be.
pub(crate) fn removal(error: &RestError) -> Failure {
    match error.status() {
        Some(422) => Failure::RunnerBusy,
        _ => rest(error),
    }
}

/// Of the Actions service.
pub(crate) fn scale_set(error: &ScaleSetError) -> Failure {
    match error {
        ScaleSetError::Rest { source } => return rest(source),
        ScaleSetError::NoSuchGroup { name } => {
            return Failure::GroupNotFound { group: name.clone() };
        }
        ScaleSetError::NameTaken { source, .. } => {
            return Failure::NameTaken { detail: source.to_string() };
        }
        _ => {}
    }
    if error.is_set_gone() {
        return Failure::ScaleSetGone;
    }
    if error.is_busy() {
        return Failure::RunnerBusy;
    }
    let detail = chain(error);
    match error.status() {
        Some(401) => Failure::CredentialsRefused { detail },
        Some(403) => Failure::PermissionMissing { detail },
        Some(429) => Failure::RateLimited { until: None },
        _ => Failure::Unreachable { detail },
    }
}

/// Of a pod that cannot be made.
pub(crate) fn pod(error: &PodError) -> Failure {
    let detail = error.to_string();
    match error.reason() {
        Reason::TemplateInvalid => Failure::TemplateInvalid { detail },
        _ => Failure::TemplateForbidden { detail },
    }
}
