//! Namespaces: the operator's, and those of runners.

use std::str::FromStr;

use sekisho_api::{LABEL_TRUST_ZONE, SecurityProfile, TrustZone};
use serde_json::{Value, json};

use crate::{Install, labels};

/// A namespace of runners. It has one trust zone, and the API server holds its pods to one profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerNamespace {
    /// Its name.
    pub name: String,
    /// Whose code runs in it.
    pub zone: TrustZone,
    /// The loosest profile of a class that is used in it.
    pub profile: SecurityProfile,
}

impl Default for RunnerNamespace {
    fn default() -> Self {
        Self {
            name: "sekisho-runners".to_owned(),
            zone: TrustZone::default(),
            profile: SecurityProfile::default(),
        }
    }
}

/// Text that names no namespace of runners.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// Not a name of Kubernetes.
    #[error("`{0}` is no name of a namespace: at most 63 of a-z, 0-9 and `-`, not at its ends")]
    Name(String),
    /// Not a zone.
    #[error("`{0}` is no trust zone: fork-pull-request, pull-request or protected-branch")]
    Zone(String),
    /// Not a profile.
    #[error("`{0}` is no security profile: restricted, baseline or privileged")]
    Profile(String),
    /// One namespace for two things.
    #[error(
        "namespace `{0}` is named twice: the operator holds credentials and stands apart from runners, and a \
         namespace has one trust zone"
    )]
    Twice(String),
}

/// Whether no two of the namespaces are the same.
///
/// # Errors
/// With the first that is.
pub fn check(install: &Install) -> Result<(), NamespaceError> {
    let nodes = crate::node::name(install);
    let mut seen = vec![install.namespace.as_str(), nodes.as_str()];
    for runners in &install.runners {
        if seen.contains(&runners.name.as_str()) {
            return Err(NamespaceError::Twice(runners.name.clone()));
        }
        seen.push(&runners.name);
    }
    Ok(())
}

/// `NAME[=ZONE[:PROFILE]]`, for example `ci-main=protected-branch:privileged`.
impl FromStr for RunnerNamespace {
    type Err = NamespaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rest) = text.split_once('=').unwrap_or((text, ""));
        let (zone, profile) = rest.split_once(':').unwrap_or((rest, ""));
        let zones =
            [TrustZone::ForkPullRequest, TrustZone::PullRequest, TrustZone::ProtectedBranch];
        let profiles =
            [SecurityProfile::Restricted, SecurityProfile::Baseline, SecurityProfile::Privileged];
        Ok(Self {
            name: namespace_name(name)?,
            zone: match zone {
                "" => TrustZone::default(),
                zone => zones
                    .into_iter()
                    .find(|it| it.label() == zone)
                    .ok_or_else(|| NamespaceError::Zone(zone.to_owned()))?,
            },
            profile: match profile {
                "" => SecurityProfile::default(),
                profile => profiles
                    .into_iter()
                    .find(|it| standard(*it) == profile)
                    .ok_or_else(|| NamespaceError::Profile(profile.to_owned()))?,
            },
        })
    }
}

/// `name`, if it is one of a namespace (RFC 1123's label).
///
/// # Errors
/// If not.
pub fn namespace_name(name: &str) -> Result<String, NamespaceError> {
    let fine = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if fine { Ok(name.to_owned()) } else { Err(NamespaceError::Name(name.to_owned())) }
}

/// As the labels of <https://kubernetes.io/docs/concepts/security/pod-security-admission/> say it.
const fn standard(profile: SecurityProfile) -> &'static str {
    match profile {
        SecurityProfile::Restricted => "restricted",
        SecurityProfile::Baseline => "baseline",
        SecurityProfile::Privileged => "privileged",
    }
}

pub(crate) fn namespace(name: &str, profile: SecurityProfile) -> Value {
    let mut labels = labels();
    for mode in ["enforce", "audit", "warn"] {
        labels[format!("pod-security.kubernetes.io/{mode}")] = json!(standard(profile));
    }
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
}

pub(crate) fn of_operator(install: &Install) -> Value {
    namespace(&install.namespace, SecurityProfile::Restricted)
}

pub(crate) fn of_runners(runners: &RunnerNamespace) -> Value {
    let mut namespace = namespace(&runners.name, runners.profile);
    namespace["metadata"]["labels"][LABEL_TRUST_ZONE] = json!(runners.zone.label());
    namespace
}

/// A pod for which no other policy stands yet reaches nobody. The policy of a RunnerDeployment opens
/// what its class lists.
pub(crate) fn deny_all(namespace: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "name": "default-deny", "namespace": namespace, "labels": labels() },
        "spec": { "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }
    })
}
