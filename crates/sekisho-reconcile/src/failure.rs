//! What can fail outside, what is said about it, and when it is tried again.
//!
//! The table is total: whatever goes wrong has a stable [`Reason`], a sentence, and a pause.

use std::time::Duration;

use sekisho_api::Reason;
use sekisho_api::condition::{Claim, READY, Truth};

use crate::At;
use crate::backoff::{Jitter, pause};

/// An effect that did not happen. The texts are those of the API server or of GitHub, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The object was changed since it was read, exists already, or is gone (404, 409).
    #[error("what was read is not so any more: {detail}")]
    Conflict {
        /// Its words.
        detail: String,
    },
    /// The API server does not answer, or is too busy.
    #[error("the API server does not answer: {detail}")]
    ApiServer {
        /// What it was.
        detail: String,
    },
    /// The API server refuses the pod as it is (400, 422).
    #[error("the pod is not valid: {detail}")]
    PodInvalid {
        /// Its words.
        detail: String,
    },
    /// An admission rule refuses the pod (403).
    #[error("the pod is forbidden: {detail}")]
    PodForbidden {
        /// Its words.
        detail: String,
    },
    /// The API server refuses what is no pod (400, 403, 422): a right is missing, or a rule forbids it.
    #[error("the API server refuses it: {detail}")]
    Forbidden {
        /// Its words.
        detail: String,
    },
    /// There is no room in the namespace's quota (403, `exceeded quota`).
    #[error("the namespace's quota has no room: {detail}")]
    Quota {
        /// Its words.
        detail: String,
    },
    /// The lease that is needed to work on a deployment cannot be read or written.
    #[error("the lease cannot be had: {detail}")]
    LeaseNotTaken {
        /// The API server's words.
        detail: String,
    },
    /// The namespace is being deleted (403, `NamespaceTerminating`).
    #[error("the namespace is being deleted")]
    NamespaceTerminating,
    /// The name of a runner is taken by a runner that is not ours.
    #[error("GitHub has another runner of this name: {detail}")]
    NameTaken {
        /// Which.
        detail: String,
    },
    /// The runner has a job and cannot be removed (422).
    #[error("the runner has a job")]
    RunnerBusy,
    /// GitHub does not answer, or answers with nonsense.
    #[error("GitHub cannot be reached: {detail}")]
    Unreachable {
        /// What it was.
        detail: String,
    },
    /// GitHub does not take the request as it is (422).
    #[error("GitHub refuses the request: {detail}")]
    RequestRefused {
        /// Its words.
        detail: String,
    },
    /// GitHub's rate limit is used up.
    #[error("GitHub's rate limit is used up")]
    RateLimited {
        /// When it is tried again, where GitHub says so.
        until: Option<At>,
    },
    /// GitHub refuses the credentials (401).
    #[error("GitHub refuses the credentials: {detail}")]
    CredentialsRefused {
        /// Its words.
        detail: String,
    },
    /// The credentials lack a permission (403).
    #[error("the credentials lack a permission: {detail}")]
    PermissionMissing {
        /// Which, or GitHub's words.
        detail: String,
    },
    /// There is no such runner group.
    #[error("GitHub has no runner group `{group}`")]
    GroupNotFound {
        /// Its name.
        group: String,
    },
    /// The scale set is not there any more.
    #[error("the scale set is not there any more")]
    ScaleSetGone,
    /// A scale set of the name is there that was not made for this deployment.
    #[error(
        "scale set {set} of runner group `{group}` has the name `{name}`, and was not made for this RunnerDeployment"
    )]
    SetNotOurs {
        /// GitHub's number of it.
        set: String,
        /// The name.
        name: String,
        /// The group.
        group: String,
    },
    /// Another RunnerDeployment has a scale set of the name.
    #[error("`{other}` takes jobs as `{name}` in runner group `{group}`")]
    SetNameInUse {
        /// `namespace/name` of the other.
        other: String,
        /// The name.
        name: String,
        /// The group.
        group: String,
    },
    /// GitHub dropped labels without a word.
    #[error("GitHub did not take the labels {labels}")]
    LabelsDropped {
        /// Which, with commas between.
        labels: String,
    },
    /// Another session listens to the scale set.
    #[error("the session of scale set `{set}` is held by {owner}")]
    SessionHeld {
        /// The set's name.
        set: String,
        /// Who says it holds it; `somebody else` where GitHub does not say.
        owner: String,
    },
    /// There is no GitHubConnection of that name.
    #[error("there is no GitHubConnection `{name}` in this namespace")]
    ConnectionNotFound {
        /// Its name.
        name: String,
    },
    /// The GitHubConnection is not ready.
    #[error("GitHubConnection `{name}` is not ready: {detail}")]
    ConnectionNotReady {
        /// Its name.
        name: String,
        /// Its own reason.
        detail: String,
    },
    /// Certificates or proxy of the GitHubConnection cannot be used.
    #[error("GitHub cannot be asked: {detail}")]
    ConnectionInvalid {
        /// What is wrong.
        detail: String,
    },
    /// There is no RunnerClass of that name.
    #[error("there is no RunnerClass `{name}`")]
    ClassNotFound {
        /// Its name.
        name: String,
    },
    /// The secret or its key is not there.
    #[error("there is no key `{key}` in secret `{secret}`")]
    SecretNotFound {
        /// The secret's name.
        secret: String,
        /// The key.
        key: String,
    },
    /// The pod template cannot be read as a pod's.
    #[error("{detail}")]
    TemplateInvalid {
        /// The field, and what is wrong.
        detail: String,
    },
    /// The template asks for what the class's profile forbids.
    #[error("{detail}")]
    TemplateForbidden {
        /// The field, and the profile.
        detail: String,
    },
    /// The namespace belongs to another trust zone.
    #[error("the namespace is of trust zone `{namespace}`, and the RunnerDeployment of `{wanted}`")]
    TrustZoneMismatch {
        /// The namespace's.
        namespace: String,
        /// The deployment's.
        wanted: String,
    },
    /// A set of another trust zone uses the runner group.
    #[error("runner group `{group}` is used by `{other}`, which is of another trust zone")]
    GroupShared {
        /// The group.
        group: String,
        /// `namespace/name` of the other.
        other: String,
    },
}

/// When the same is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// At once, with what is read anew; where that did not help, with longer and longer pauses.
    Now,
    /// With longer and longer pauses.
    Backoff {
        /// The first pause.
        base: Duration,
        /// The longest pause.
        cap: Duration,
    },
    /// Only somebody can put it right; it is looked at again when something is changed, and after so
    /// long in any case, for not every change can be seen.
    AwaitChange {
        /// So long.
        every: Duration,
    },
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// How often in a row something is tried at once.
pub const AT_ONCE: u32 = 3;
/// The first pause after that.
pub const AGAIN: Duration = Duration::from_millis(100);
/// The pause after the first failure of a call.
pub const BASE: Duration = secs(1);
/// The longest pause while a service is down: a recovery is noticed within it.
pub const CAP: Duration = secs(60);
/// The pause between two tries for room in a quota.
pub const QUOTA_PAUSE: Duration = secs(30);
/// How often what waits for somebody's change is looked at nonetheless.
pub const CHANGE_PAUSE: Duration = secs(120);
/// The longest pause that GitHub may ask for.
pub const RATE_LIMIT_CAP: Duration = secs(3600);

impl Failure {
    /// The stable reason; `None` where nobody needs to hear of it.
    pub const fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Conflict { .. } | Self::ApiServer { .. } | Self::RunnerBusy => return None,
            Self::PodInvalid { .. } | Self::PodForbidden { .. } => Reason::PodRejected,
            Self::Forbidden { .. } => Reason::Forbidden,
            Self::Quota { .. } => Reason::QuotaExceeded,
            Self::LeaseNotTaken { .. } => Reason::LeaseNotTaken,
            Self::NamespaceTerminating => Reason::NamespaceTerminating,
            Self::NameTaken { .. } | Self::ScaleSetGone => Reason::RegistrationLost,
            Self::Unreachable { .. } => Reason::GitHubUnreachable,
            Self::RequestRefused { .. } => Reason::RequestRefused,
            Self::RateLimited { .. } => Reason::RateLimited,
            Self::CredentialsRefused { .. } => Reason::CredentialsRefused,
            Self::PermissionMissing { .. } => Reason::PermissionMissing,
            Self::GroupNotFound { .. } => Reason::GroupNotFound,
            Self::SetNotOurs { .. } => Reason::ScaleSetNotOurs,
            Self::SetNameInUse { .. } => Reason::ScaleSetNameInUse,
            Self::LabelsDropped { .. } => Reason::LabelsDropped,
            Self::SessionHeld { .. } => Reason::SessionHeldByOther,
            Self::ConnectionNotFound { .. } => Reason::ConnectionNotFound,
            Self::ConnectionNotReady { .. } => Reason::ConnectionNotReady,
            Self::ConnectionInvalid { .. } => Reason::ConnectionInvalid,
            Self::ClassNotFound { .. } => Reason::ClassNotFound,
            Self::SecretNotFound { .. } => Reason::SecretNotFound,
            Self::TemplateInvalid { .. } => Reason::TemplateInvalid,
            Self::TemplateForbidden { .. } => Reason::TemplateForbidden,
            Self::TrustZoneMismatch { .. } => Reason::TrustZoneMismatch,
            Self::GroupShared { .. } => Reason::GroupSharedAcrossZones,
        })
    }

    /// When the same is tried again.
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Conflict { .. } => Retry::Now,
            Self::ApiServer { .. }
            | Self::LeaseNotTaken { .. }
            | Self::Unreachable { .. }
            | Self::RateLimited { .. }
            | Self::ScaleSetGone
            | Self::SessionHeld { .. } => Retry::Backoff { base: BASE, cap: CAP },
            Self::Quota { .. } | Self::RunnerBusy => {
                Retry::Backoff { base: QUOTA_PAUSE, cap: QUOTA_PAUSE }
            }
            Self::PodInvalid { .. }
            | Self::PodForbidden { .. }
            | Self::Forbidden { .. }
            | Self::NamespaceTerminating
            | Self::NameTaken { .. }
            | Self::RequestRefused { .. }
            | Self::CredentialsRefused { .. }
            | Self::PermissionMissing { .. }
            | Self::GroupNotFound { .. }
            | Self::SetNotOurs { .. }
            | Self::SetNameInUse { .. }
            | Self::LabelsDropped { .. }
            | Self::ConnectionNotFound { .. }
            | Self::ConnectionNotReady { .. }
            | Self::ConnectionInvalid { .. }
            | Self::ClassNotFound { .. }
            | Self::SecretNotFound { .. }
            | Self::TemplateInvalid { .. }
            | Self::TemplateForbidden { .. }
            | Self::TrustZoneMismatch { .. }
            | Self::GroupShared { .. } => Retry::AwaitChange { every: CHANGE_PAUSE },
        }
    }

    /// When the same is tried again at the latest, after `failures` in a row.
    pub fn next_attempt(&self, now: At, failures: u32, jitter: Jitter) -> At {
        let own = match self.retry() {
            Retry::Now if failures <= AT_ONCE => Duration::ZERO,
            Retry::Now => pause(AGAIN, CAP, failures - AT_ONCE, jitter),
            Retry::Backoff { base, cap } => pause(base, cap, failures, jitter),
            Retry::AwaitChange { every } => pause(every, every, 1, jitter),
        };
        match self {
            Self::RateLimited { until: Some(until) } => {
                (now + own).max((*until).min(now + RATE_LIMIT_CAP))
            }
            _ => now + own,
        }
    }

    /// What it was, and what can be done about it: one or two sentences.
    pub fn sentence(&self) -> String {
        match self.reason().map(Reason::next_step) {
            Some(next) if !next.is_empty() => format!("{self}; {next}"),
            _ => self.to_string(),
        }
    }

    /// The condition `Ready`, which does not hold; `None` where nobody needs to hear of it.
    pub fn claim(&self) -> Option<Claim> {
        let reason = self.reason()?;
        Some(Claim { kind: READY, truth: Truth::False, reason, message: self.sentence() })
    }
}

/// Something that failed, and is tried again. Kept in memory: after a restart it is tried at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What it was, the last time.
    pub failure: Failure,
    /// How often in a row.
    pub failures: u32,
    /// When it is tried again.
    pub next: At,
}

impl Trouble {
    /// After a failure; `before` is what was known of the one before it.
    pub fn after(before: Option<&Self>, failure: Failure, now: At, jitter: Jitter) -> Self {
        let failures = before.map_or(1, |before| before.failures.saturating_add(1));
        let next = failure.next_attempt(now, failures, jitter);
        Self { failure, failures, next }
    }

    /// Whether it is not to be tried yet.
    pub fn holds(&self, now: At) -> bool {
        now < self.next
    }
}

#[cfg(test)]
mod tests;
