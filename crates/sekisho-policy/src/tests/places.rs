//! Who may do what where, by example.

use super::{HEAD, identity, rules, target};
use crate::*;

#[track_caller]
fn check_push(name: &str, identity: &Identity, want: Decision, want_rules: &[&str]) {
    let verdict = Policies::default_set().may_push(identity, &target(name, identity));
    assert_eq!((verdict.decision, rules(&verdict)), (want, want_rules.to_vec()), "{name}");
}

#[test]
fn same_owner() {
    let (identity, policies) = (identity(), Policies::default_set());
    let other = Target { same_owner: false, ..target("acme/app", &identity) };
    let verdict = policies.may_push(&identity, &other);
    assert_eq!((verdict.decision, rules(&verdict)), (Decision::Deny, vec!["same-owner"]));
    assert_eq!(policies.may_delete(&identity, &other).decision, Decision::Deny);
    assert_eq!(policies.may_pull(None, &other).decision, Decision::Allow);
}

/// GitHub's 7 and GitLab's 7 are two.
#[test]
fn a_principal_is_named_by_its_issuer_too() {
    let policies = Policies::load(&format!(
        "@id(\"p\") permit (principal, action, resource); {HEAD} forbid (principal == \
         Workflow::\"https://gitlab.example#7\", action == Action::\"push\", resource);"
    ))
    .unwrap();
    let other = Identity { issuer: "https://gitlab.example".into(), ..identity() };
    for (identity, want) in [(identity(), Decision::Allow), (other, Decision::Deny)] {
        let verdict = policies.may_push(&identity, &target("acme/app", &identity));
        assert_eq!(verdict.decision, want, "{}", identity.issuer);
    }
}

#[test]
fn rules_can_speak_of_tags() {
    let rule = |rule: &str| {
        let text = format!("@id(\"p\") permit (principal, action, resource); {HEAD} {rule}");
        Policies::load(&text).unwrap()
    };
    let to = |tag: Option<&str>, overwrites| {
        let tag = tag.map(str::to_owned);
        Target { tag, overwrites, ..target("acme/app", &identity()) }
    };
    // Releases come from tags of the repository.
    let releases = rule(
        "forbid (principal, action in [Action::\"push\", Action::\"delete\"], resource) \
         when { context.tag like \"v*\" } unless { principal.ref_type == \"tag\" };",
    );
    let of_tag = Identity { ref_type: "tag".into(), ..identity() };
    for (identity, tag, want) in [
        (identity(), Some("v1"), Decision::Deny),
        (identity(), Some("latest"), Decision::Allow),
        (identity(), None, Decision::Allow),
        (of_tag, Some("v1"), Decision::Allow),
    ] {
        let target = to(tag, false);
        assert_eq!(releases.may_push(&identity, &target).decision, want, "{tag:?}");
        assert_eq!(releases.may_delete(&identity, &target).decision, want, "{tag:?}");
    }
    // A tag is written once.
    let once = rule(
        "forbid (principal, action in [Action::\"push\", Action::\"delete\"], resource) \
         when { context.overwrites };",
    );
    for (tag, overwrites, want) in [
        (Some("v1"), true, Decision::Deny),
        (Some("v1"), false, Decision::Allow),
        (None, false, Decision::Allow),
        (None, true, Decision::Deny),
    ] {
        assert_eq!(once.may_push(&identity(), &to(tag, overwrites)).decision, want, "{tag:?}");
    }
    let by_digest = rule(
        "forbid (principal, action == Action::\"push\", resource) when { context.by_digest };",
    );
    assert_eq!(by_digest.may_push(&identity(), &to(None, false)).decision, Decision::Deny);
    assert_eq!(by_digest.may_push(&identity(), &to(Some("v1"), false)).decision, Decision::Allow);
}

#[test]
fn pulls_can_be_forbidden() {
    let own = Policies::load(&format!(
        "@id(\"p\") permit (principal, action, resource); {HEAD} forbid (principal, action == \
         Action::\"pull\", resource) unless {{ principal.repository_owner == \"acme\" }};"
    ))
    .unwrap();
    let (acme, target) = (identity(), target("acme/app", &identity()));
    assert_eq!(own.may_pull(Some(&acme), &target).decision, Decision::Allow);
    let evil = Identity { repository_owner: "evil".into(), ..acme };
    for other in [Some(&evil), None] {
        assert_eq!(own.may_pull(other, &target).decision, Decision::Deny);
        assert_eq!(Policies::default_set().may_pull(other, &target).decision, Decision::Allow);
    }
}

#[test]
fn own_namespace() {
    let acme = identity();
    for own in ["acme/app", "acme/app/worker"] {
        check_push(own, &acme, Decision::Allow, &[]);
    }
    for foreign in ["acme/application", "acme/other", "app", "acme-evil/app", "evil/acme/app"] {
        check_push(foreign, &acme, Decision::Deny, &["own-namespace"]);
    }
    // Only the owner that was configured may leave its name away.
    let local =
        Identity { repository: "local/app".into(), repository_owner: "local".into(), ..acme };
    for own in ["app", "app/worker", "local/app"] {
        check_push(own, &local, Decision::Allow, &[]);
    }
    check_push("application", &local, Decision::Deny, &["own-namespace"]);
    // Registries have names in lower case, GitHub has not.
    let upper = Identity { repository: "Acme/App".into(), ..identity() };
    check_push("acme/app", &upper, Decision::Allow, &[]);
    check_push(
        "acme/app",
        &Identity::default(),
        Decision::Deny,
        &["own-namespace", "trusted-events"],
    );
}

#[test]
fn trusted_events() {
    for good in ["push", "release", "workflow_dispatch", "schedule", "merge_group", "local_user"] {
        let identity = Identity { event_name: good.into(), ..identity() };
        check_push("acme/app", &identity, Decision::Allow, &[]);
    }
    for bad in ["pull_request", "pull_request_target", "issue_comment", "workflow_run", "Push", ""]
    {
        let identity = Identity { event_name: bad.into(), ..identity() };
        check_push("acme/app", &identity, Decision::Deny, &["trusted-events"]);
    }
}
