//! Trust zones are apart: one in a namespace, one in a runner group, one on a node.

use std::collections::BTreeMap;

use sekisho_api::{LABEL_TRUST_ZONE, Reason, TrustZone};
use serde_json::{Value, json};

/// Why a RunnerDeployment may not have runners where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// The namespace says nothing.
    #[error(
        "namespace `{namespace}` has no label `{LABEL_TRUST_ZONE}`: `kubectl label namespace {namespace} \
         {LABEL_TRUST_ZONE}={wanted}`, if only jobs of this zone are to run in it"
    )]
    NamespaceUnlabelled {
        /// The namespace.
        namespace: String,
        /// The zone of the RunnerDeployment.
        wanted: &'static str,
    },
    /// The namespace is of another zone.
    #[error(
        "namespace `{namespace}` is of zone `{found}`, and the jobs are of `{wanted}`: move the \
         RunnerDeployment to a namespace of its zone"
    )]
    Namespace {
        /// The namespace.
        namespace: String,
        /// What its label says.
        found: String,
        /// The zone of the RunnerDeployment.
        wanted: &'static str,
    },
    /// A set of another zone that was there before takes jobs for the same group.
    #[error(
        "runner group `{group}` at {url} is also that of `{other}`, whose zone is `{found}` and not \
         `{wanted}`: a group decides which repositories may use a runner, so each zone needs its own"
    )]
    Group {
        /// The runner group.
        group: String,
        /// The account.
        url: String,
        /// `namespace/name` of the other.
        other: String,
        /// Its zone.
        found: &'static str,
        /// The zone of this one.
        wanted: &'static str,
    },
}

impl ZoneError {
    /// The reason of the condition that tells of it.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::NamespaceUnlabelled { .. } | Self::Namespace { .. } => Reason::TrustZoneMismatch,
            Self::Group { .. } => Reason::GroupSharedAcrossZones,
        }
    }
}

/// Whether runners of `zone` may be in a namespace with these labels. One without a label holds only
/// [`TrustZone::PullRequest`], which is the default of a RunnerDeployment.
///
/// # Errors
/// Where the namespace is of another zone.
pub fn check_namespace(
    namespace: &str,
    labels: &BTreeMap<String, String>,
    zone: TrustZone,
) -> Result<(), ZoneError> {
    let (namespace, wanted) = (namespace.to_owned(), zone.label());
    match labels.get(LABEL_TRUST_ZONE) {
        Some(found) if found == wanted => Ok(()),
        None if zone == TrustZone::PullRequest => Ok(()),
        None => Err(ZoneError::NamespaceUnlabelled { namespace, wanted }),
        Some(found) => Err(ZoneError::Namespace { namespace, found: found.clone(), wanted }),
    }
}

/// A RunnerDeployment's use of a runner group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupUse {
    /// `namespace/name` of the RunnerDeployment.
    pub deployment: String,
    /// The account: `spec.url` of its GitHubConnection.
    pub url: String,
    /// The runner group. GitHub compares names without regard to case.
    pub group: String,
    /// Its zone.
    pub zone: TrustZone,
    /// When the RunnerDeployment was made, in seconds: the API server says so, and nobody else.
    pub created: i64,
}

impl GroupUse {
    /// Whether both use one group for different zones.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        self.deployment != other.deployment
            && same(&self.url, &other.url)
            && same(&self.group, &other.group)
            && self.zone != other.zone
    }

    /// Whether it was there before the other, and so may stay.
    pub fn is_older_than(&self, other: &Self) -> bool {
        (self.created, &self.deployment) < (other.created, &other.deployment)
    }
}

/// Whether nobody before `this` used its group for another zone. Who comes later is refused: else
/// whoever may make a RunnerDeployment could stop those that are there.
///
/// `all`: the uses of those that may work. One that is refused for itself takes no job of the group.
///
/// # Errors
/// With the oldest one that did.
pub fn check_group(this: &GroupUse, all: &[GroupUse]) -> Result<(), ZoneError> {
    let before = all.iter().filter(|other| this.clashes_with(other) && other.is_older_than(this));
    match before.min_by_key(|other| (other.created, &other.deployment)) {
        None => Ok(()),
        Some(other) => Err(ZoneError::Group {
            group: this.group.clone(),
            url: this.url.clone(),
            other: other.deployment.clone(),
            found: other.zone.label(),
            wanted: this.zone.label(),
        }),
    }
}

/// What keeps anybody's code off the nodes of the others. The scheduler honours it from both sides,
/// so it stands on the pods of forks alone, which are few.
pub(crate) fn anti_affinity(zone: TrustZone) -> Option<Value> {
    match zone {
        TrustZone::PullRequest | TrustZone::ProtectedBranch => None,
        TrustZone::ForkPullRequest => {
            let others = json!({ "matchExpressions": [
                { "key": LABEL_TRUST_ZONE, "operator": "Exists" },
                { "key": LABEL_TRUST_ZONE, "operator": "NotIn", "values": [zone.label()] }
            ] });
            let term = json!({
                "topologyKey": "kubernetes.io/hostname",
                "namespaceSelector": {},
                "labelSelector": others
            });
            Some(json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term] }))
        }
    }
}
