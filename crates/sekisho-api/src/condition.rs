//! Conditions: the closed set of reasons, and the one way to write them.

use std::fmt;

use jiff::Timestamp;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{Schema, SchemaGenerator, json_schema};

/// For what runs on: everything that was asked for is there.
pub const READY: &str = "Ready";

/// For what ends: a [`crate::Runner`]. `Unknown` while it lives, and its reason is then the state.
pub const SUCCEEDED: &str = "Succeeded";

/// For a [`crate::GitHubConnection`] that takes webhooks: what they are signed with is there.
pub const WEBHOOK: &str = "WebhookReady";

/// Most bytes of a message; the rest is cut off. The API server's own bound is 32 KiB.
pub const MESSAGE_LENGTH_MAX: usize = 1024;

macro_rules! reasons {
    ($(#[doc = $doc:literal] $name:ident => $next:expr,)*) => {
        /// Why a condition is as it is; also the reason of the event and the label of the metric.
        ///
        /// Closed and stable: a name is never given another meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $(#[doc = $doc] $name,)* }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The name, in CamelCase.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $doc.trim_ascii(),)* }
            }

            /// What a person can do about it; empty where nothing needs to be done.
            pub const fn next_step(self) -> &'static str {
                match self { $(Self::$name => $next,)* }
            }
        }
    };
}

reasons! {
    // A runner that lives: its states, in order.
    /// Nothing exists of it yet.
    Pending => "",
    /// Its pod waits for a node.
    Provisioning => "",
    /// It is registered; its pod starts.
    Starting => "",
    /// GitHub sees it, and it has no job.
    Idle => "",
    /// It has a job.
    Busy => "",
    /// Somebody else stops its pod while it has a job.
    Interrupted => "",
    /// Its job is over; registration, secret and pod are removed.
    Completing => "",

    // A runner that ended well.
    /// GitHub concluded its job, with whichever result.
    JobConcluded => "",
    /// It was not needed any more, and had no job.
    Retired => "",

    // A runner that ended badly.
    /// Its pod disappeared.
    PodLost => "look at the node's events; a lost job can be run again on GitHub",
    /// Its node disappeared or stopped answering.
    NodeLost => "look at the node; a lost job can be run again on GitHub",
    /// The API server does not accept the pod.
    PodRejected => "correct the pod template or the RunnerClass; the message says what is refused",
    /// The namespace's quota has no room for the pod.
    QuotaExceeded => "raise the ResourceQuota, or lower `spec.scaling.max`",
    /// An image of the pod cannot be pulled.
    ImagePullFailed => "check the image's name and the node's right to pull it",
    /// The pod did not start in time.
    PendingTimeout => "check that a node with these labels and resources can be had",
    /// The runner started and GitHub did not see it in time.
    RegistrationTimeout => "read the log of the container `runner`; egress to GitHub must be open",
    /// GitHub does not know the registration any more.
    RegistrationLost => "",
    /// The pod ended without a job.
    RunnerExited => "read the log of the container `runner`",
    /// A container of the pod needed more memory than it may have.
    OutOfMemory => "use a RunnerClass with more memory",
    /// The job ran for as long as it may.
    JobTimeout => "raise `spec.lifecycle.maxJobSeconds`, or make the job shorter",
    /// It was stopped with a job, and GitHub did not conclude the job in time.
    StoppedWithJob => "a lost job can be run again on GitHub",

    // What runs on.
    /// As many runners as are wanted are there.
    AllRunnersReady => "",
    /// Runners are being started or stopped.
    Scaling => "",
    /// Runners of a new revision replace those of an old one.
    RollingOut => "",
    /// Runners fail before they reach GitHub; the next attempt waits.
    BackingOff => "look at the newest failed runner: `kubectl get runners`",
    /// It is being deleted.
    Deleting => "",
    /// The connection works.
    Connected => "",
    /// The session at GitHub is open and polled.
    Polling => "",
    /// What webhooks are signed with is there.
    SecretFound => "",

    // What is missing.
    /// There is no connection of that name.
    ConnectionNotFound => "create the GitHubConnection that `spec.connectionRef` names",
    /// The connection is not ready.
    ConnectionNotReady => "look at the conditions of the GitHubConnection",
    /// Certificates or proxy of the connection cannot be used.
    ConnectionInvalid => "correct `spec.caBundle` or `spec.proxy` of the GitHubConnection",
    /// There is no class of that name.
    ClassNotFound => "create the RunnerClass that `spec.classRef` names",
    /// The secret, or its key, is not there.
    SecretNotFound => "create the secret, with the key that the message names",
    /// GitHub refuses the credentials.
    CredentialsRefused => "check that the GitHub App is installed, not suspended, and its key current",
    /// The credentials lack a permission.
    PermissionMissing => "grant the GitHub App the permission that the message names",
    /// GitHub has no runner group of that name.
    GroupNotFound => "create the runner group on GitHub, or correct `spec.group`",
    /// Another session holds the scale set.
    SessionHeldByOther => "stop the other listener, or wait until its session ends",
    /// GitHub cannot be reached.
    GitHubUnreachable => "check the egress of the operator, `spec.proxy` and `spec.caBundle` of the GitHubConnection, and https://www.githubstatus.com",
    /// GitHub does not take a request as it is.
    RequestRefused => "correct the labels or the group of the RunnerDeployment; the message has GitHub's words",
    /// GitHub's rate limit is used up.
    RateLimited => "",
    /// The pod template is not a pod's.
    TemplateInvalid => "correct `spec.template`; the message names the field",
    /// The template or the class asks for what the class's security profile forbids.
    TemplateForbidden => "remove the field from `spec.template`, or use a class that may have it",
    /// The namespace is of another trust zone.
    TrustZoneMismatch => "label the namespace with this trust zone, or move the RunnerDeployment",
    /// A set of another trust zone uses the same runner group.
    GroupSharedAcrossZones => "use one runner group for each trust zone",
    /// A scale set of this name is there that this RunnerDeployment did not make.
    ScaleSetNotOurs => "create a RunnerDeployment with another first label; or, if nobody uses that scale set, set `spec.acquisition.takeOver`",
    /// Another RunnerDeployment takes jobs under the same name in the same runner group.
    ScaleSetNameInUse => "create a RunnerDeployment with another first label, or use another runner group",
    /// GitHub did not take all labels: jobs that ask for the others wait for ever.
    LabelsDropped => "use one label for each RunnerDeployment, or `acquisition.mode: Registration`, or a GitHub Enterprise Server that takes more (3.21)",
    /// The API server does not let the operator do what it has to.
    Forbidden => "apply the operator's manifests of this version; or change the rule that the message names",
    /// The API server does not let the operator have the lease, and nobody works on it.
    LeaseNotTaken => "apply the operator's manifests of this version: it needs its right on leases; the message has the API server's words",
    /// The namespace is being deleted.
    NamespaceTerminating => "make the RunnerDeployment again where it is to stay",
}

/// The table of all reasons, as it stands in `docs/operator.md`.
pub fn markdown() -> String {
    let mut text = "| reason | what it means | what to do |\n|---|---|---|\n".to_owned();
    for reason in Reason::ALL {
        let step = match reason.next_step() {
            "" => "-",
            step => step,
        };
        text.push_str(&format!("| `{reason}` | {} | {step} |\n", reason.meaning()));
    }
    text.push('\n');
    text
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.name() == name)
            .ok_or_else(|| UnknownReason { name: name.chars().take(64).collect() })
    }
}

/// A reason that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("unknown reason `{name}`")]
pub struct UnknownReason {
    /// As it was written, at most 64 characters.
    pub name: String,
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Not decided yet.
    Unknown,
}

impl Truth {
    /// As the API server writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What a condition is to say; [`set`] adds the times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// [`READY`] or [`SUCCEEDED`].
    pub kind: &'static str,
    /// Whether it holds.
    pub truth: Truth,
    /// Why.
    pub reason: Reason,
    /// A sentence for a person; without secrets.
    pub message: String,
}

/// Writes `claim` into `conditions`. `lastTransitionTime` moves only when the status does.
///
/// Returns whether anything changed, so that an unchanged status is not written.
pub fn set(
    conditions: &mut Vec<Condition>,
    claim: &Claim,
    generation: i64,
    now: Timestamp,
) -> bool {
    let mut next = Condition {
        type_: claim.kind.to_owned(),
        status: claim.truth.name().to_owned(),
        reason: claim.reason.name().to_owned(),
        message: cut(&claim.message),
        observed_generation: Some(generation),
        last_transition_time: Time(now),
    };
    match conditions.iter_mut().find(|known| known.type_ == claim.kind) {
        None => conditions.push(next),
        Some(known) => {
            if known.status == next.status {
                next.last_transition_time = known.last_transition_time.clone();
            }
            if *known == next {
                return false;
            }
            *known = next;
        }
    }
    true
}

/// Whether a condition holds, why, and its message; not decided yet, and `absent`, where there is none. A
/// reason of a later version is `absent` too: what it says is in the message.
pub fn told(conditions: &[Condition], kind: &str, absent: Reason) -> (Truth, Reason, String) {
    let Some(known) = find(conditions, kind) else {
        return (Truth::Unknown, absent, String::new());
    };
    let truth = match known.status.as_str() {
        "True" => Truth::True,
        "False" => Truth::False,
        _ => Truth::Unknown,
    };
    (truth, known.reason.parse().unwrap_or(absent), known.message.clone())
}

/// The condition of one kind.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|known| known.type_ == kind)
}

fn cut(message: &str) -> String {
    if message.len() <= MESSAGE_LENGTH_MAX {
        return message.to_owned();
    }
    let mut end = MESSAGE_LENGTH_MAX;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

/// `metav1.Condition`, a list-map by `type`, with the bounds of the API conventions.
pub(crate) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": { "type": "string", "maxLength": 316 },
                "status": { "type": "string", "enum": ["True", "False", "Unknown"] },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
                },
                "message": { "type": "string", "maxLength": 32768 },
                "observedGeneration": { "type": "integer", "format": "int64", "minimum": 0 },
                "lastTransitionTime": { "type": "string", "format": "date-time" }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn ready(truth: Truth, reason: Reason) -> Claim {
        Claim { kind: READY, truth, reason, message: String::new() }
    }

    #[test]
    fn the_transition_time_moves_with_the_status_alone() {
        let mut conditions = vec![];
        assert!(set(&mut conditions, &ready(Truth::False, Reason::Scaling), 1, at(10)));
        assert!(set(&mut conditions, &ready(Truth::False, Reason::BackingOff), 1, at(20)));
        assert_eq!(conditions[0].last_transition_time, Time(at(10)));
        assert!(!set(&mut conditions, &ready(Truth::False, Reason::BackingOff), 1, at(30)));
        assert!(set(&mut conditions, &ready(Truth::True, Reason::AllRunnersReady), 2, at(40)));
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].last_transition_time, Time(at(40)));
        assert_eq!(conditions[0].observed_generation, Some(2));
    }

    #[test]
    fn a_reason_is_read_as_it_is_written() {
        for reason in Reason::ALL {
            assert_eq!(reason.name().parse::<Reason>().unwrap(), *reason);
        }
        let error = "Exploded".parse::<Reason>().unwrap_err();
        assert_eq!(error.to_string(), "unknown reason `Exploded`");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = "ä".repeat(MESSAGE_LENGTH_MAX);
        assert_eq!(cut(&long), "ä".repeat(MESSAGE_LENGTH_MAX / 2));
    }
}
