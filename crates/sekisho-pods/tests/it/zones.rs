//! Trust zones: a namespace, a runner group, a node.

use std::collections::BTreeMap;

use sekisho_api::{LABEL_TRUST_ZONE, PodTemplate, Reason, TrustZone};
use sekisho_pods::{GroupUse, check_group, check_namespace};
use serde_json::json;

use crate::try_of;

use TrustZone::{ForkPullRequest, ProtectedBranch, PullRequest};

fn labelled(zone: Option<&str>) -> BTreeMap<String, String> {
    zone.map(|zone| (LABEL_TRUST_ZONE.to_owned(), zone.to_owned())).into_iter().collect()
}

#[test]
fn a_namespace_has_one_zone() {
    let all = [ForkPullRequest, PullRequest, ProtectedBranch];
    for namespace in all {
        for zone in all {
            let result = check_namespace("ci", &labelled(Some(namespace.label())), zone);
            assert_eq!(result.is_ok(), namespace == zone, "{namespace:?} {zone:?}");
        }
    }
    assert_eq!(check_namespace("ci", &labelled(None), PullRequest), Ok(()));
    let error = check_namespace("ci", &labelled(None), ProtectedBranch).unwrap_err();
    assert_eq!(error.reason(), Reason::TrustZoneMismatch);
    assert_eq!(
        error.to_string(),
        "namespace `ci` has no label `runners.sekisho.dev/trust-zone`: `kubectl label namespace ci \
         runners.sekisho.dev/trust-zone=protected-branch`, if only jobs of this zone are to run in it"
    );
    let error =
        check_namespace("ci", &labelled(Some("pull-request")), ForkPullRequest).unwrap_err();
    assert_eq!(
        error.to_string(),
        "namespace `ci` is of zone `pull-request`, and the jobs are of `fork-pull-request`: move the \
         RunnerDeployment to a namespace of its zone"
    );
}

fn uses(deployment: &str, url: &str, group: &str, zone: TrustZone) -> GroupUse {
    GroupUse {
        deployment: deployment.into(),
        url: url.into(),
        group: group.into(),
        zone,
        created: 7,
    }
}

#[test]
fn a_runner_group_has_one_zone() {
    let acme = "https://github.com/acme";
    let this = uses("main/build", acme, "trusted", ProtectedBranch);
    let fine = [
        this.clone(),
        uses("main/other", acme, "trusted", ProtectedBranch),
        uses("fork/build", acme, "forks", ForkPullRequest),
        uses("fork/build", "https://github.com/other", "trusted", ForkPullRequest),
    ];
    assert_eq!(check_group(&this, &fine), Ok(()));
    let fork = uses("fork/build", "https://GitHub.com/acme", "Trusted", ForkPullRequest);
    let clash = [this.clone(), fork.clone()];
    let error = check_group(&this, &clash).unwrap_err();
    assert_eq!(error.reason(), Reason::GroupSharedAcrossZones);
    assert_eq!(
        error.to_string(),
        "runner group `trusted` at https://github.com/acme is also that of `fork/build`, whose zone is \
         `fork-pull-request` and not `protected-branch`: a group decides which repositories may use a \
         runner, so each zone needs its own"
    );
    assert_eq!(check_group(&fork, &clash), Ok(()), "of the same second, the first by name stays");
    let fork = GroupUse { created: 8, ..fork };
    let clash = [fork.clone(), this.clone()];
    assert_eq!(check_group(&this, &clash), Ok(()), "who comes later stops nobody");
    let error = check_group(&fork, &clash).unwrap_err();
    assert!(error.to_string().contains("is also that of `main/build`"), "{error}");
}

/// The scheduler heeds a required anti-affinity from both sides.
#[test]
fn forks_share_a_node_with_nobody() {
    let affinity = |zone| {
        let pod = try_of(&json!({}), &PodTemplate::default(), zone).unwrap();
        serde_json::to_value(pod.spec.unwrap().affinity).unwrap()
    };
    assert_eq!(affinity(PullRequest), json!(null));
    assert_eq!(affinity(ProtectedBranch), json!(null));
    assert_eq!(
        affinity(ForkPullRequest)["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"],
        json!([{
            "topologyKey": "kubernetes.io/hostname",
            "namespaceSelector": {},
            "labelSelector": { "matchExpressions": [
                { "key": "runners.sekisho.dev/trust-zone", "operator": "Exists" },
                { "key": "runners.sekisho.dev/trust-zone", "operator": "NotIn", "values": ["fork-pull-request"] }
            ] }
        }])
    );
}
