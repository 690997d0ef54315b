//! Each rule of the default set by example.

mod places;
mod whole;

use jiff::{SignedDuration, Timestamp};
use sekisho_advisory::{Finding, NotAssessed, Threat};
use sekisho_types::{LeakedSecret, Severity};

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// What every rule says of itself.
const HEAD: &str = r#"@id("a") @mode("enforce") @message("m") @fix("f") @docs("d") "#;

fn identity() -> Identity {
    Identity {
        issuer: "http://127.0.0.1/_services/token".into(),
        repository: "acme/app".into(),
        repository_id: "7".into(),
        repository_owner: "acme".into(),
        repository_owner_id: "3".into(),
        event_name: "push".into(),
        git_ref: "refs/heads/main".into(),
        job_workflow_ref: "sekisho/pipeline/.github/workflows/image.yml@refs/tags/v1".into(),
        ..Identity::default()
    }
}

fn target(name: &str, identity: &Identity) -> Target {
    Target::of(&name.parse().unwrap(), identity, Some("local"))
}

fn finding(severity: Severity, fixed: Option<&str>) -> Finding {
    Finding {
        id: "GHSA-35jh-r3h4-6jhm".into(),
        aliases: vec!["CVE-2021-23337".into()],
        severity,
        score: None,
        ecosystem: "npm".parse().unwrap(),
        package: "lodash".into(),
        installed: "4.17.15".into(),
        fixed: fixed.map(str::to_owned),
        summary: String::new(),
        url: String::new(),
        published: None,
        layer: None,
        path: "app/package-lock.json".into(),
        dev: false,
    }
}

fn not_assessed(reason: sekisho_advisory::Reason) -> NotAssessed {
    NotAssessed {
        reason,
        subject: "app/package-lock.json".into(),
        detail: "it is no JSON".into(),
        path: None,
        layer: None,
    }
}

fn base(age_days: i64) -> Base {
    Base {
        name: "docker.io/library/debian:12".into(),
        created: Some(NOW - SignedDuration::from_hours(24 * age_days)),
        ..Base::default()
    }
}

fn secret(sample: bool) -> LeakedSecret {
    LeakedSecret {
        kind: "github-token".into(),
        layer: None,
        path: "app/.env".into(),
        line: 3,
        offset: 40,
        fingerprint: "00112233445566778899aabb".into(),
        sample,
    }
}

/// An image that no rule minds.
fn content() -> Content {
    Content {
        user: "1000".into(),
        packages: 2,
        newest_advisory: Some(NOW - SignedDuration::from_hours(24 * 30)),
        base: Some(base(90)),
        sbom: true,
        provenance: true,
        ..Content::default()
    }
}

fn rules(verdict: &Verdict) -> Vec<&str> {
    verdict.reasons.iter().map(|reason| reason.rule.as_str()).collect()
}

#[track_caller]
fn check_ship(content: &Content, want: Decision, want_rules: &[&str]) -> Verdict {
    let identity = identity();
    let verdict =
        Policies::default_set().may_ship(&identity, &target("acme/app", &identity), content, NOW);
    assert_eq!((verdict.decision, rules(&verdict)), (want, want_rules.to_vec()));
    verdict
}

/// A target that no rule minds.
pub(crate) fn any_target(repository: &str) -> Target {
    Target { in_namespace: true, ..target(repository, &identity()) }
}

#[test]
fn missing_database() {
    let not_assessed = vec![not_assessed(sekisho_advisory::Reason::MissingDatabase)];
    let held = check_ship(
        &Content { not_assessed, ..content() },
        Decision::Quarantine,
        &["missing-database"],
    );
    assert_eq!(held.reasons[0].about, ["app/package-lock.json: it is no JSON"]);
}

#[test]
fn attack_tools() {
    let with = |names: &[&str]| {
        let package_names = names.iter().map(|&name| name.to_owned()).collect();
        Content { package_names, ..content() }
    };
    let held = check_ship(
        &with(&["Debian/bash", "Debian/hydra"]),
        Decision::Quarantine,
        &["attack-tools"],
    );
    assert_eq!(held.reasons[0].mode, Mode::Quarantine);
    // Another ecosystem's package of that name is something else.
    check_ship(&with(&["npm/hydra", "Debian/hydra-doc"]), Decision::Allow, &[]);
}

#[test]
fn severe_with_fix() {
    let findings = vec![
        finding(Severity::Medium, Some("4.17.19")),
        finding(Severity::High, Some("4.17.21")),
        finding(Severity::Critical, None),
        finding(Severity::Critical, Some("4.17.20")),
    ];
    let verdict = check_ship(
        &Content { findings, ..content() },
        Decision::Deny,
        &["severe-with-fix", "lesser-findings"],
    );
    assert_eq!(
        verdict.message(),
        "severe-with-fix: critical GHSA-35jh-r3h4-6jhm (CVE-2021-23337) in npm lodash 4.17.15, \
         fixed in 4.17.20, and 1 more. a critical or high vulnerability that has a fix does not \
         ship; update the package, and run the workflow again"
    );
    let first = verdict.message().chars().take(200).collect::<String>();
    for word in ["severe-with-fix", "GHSA-35jh-r3h4-6jhm", "4.17.15", "4.17.20", "1 more"] {
        assert!(first.contains(word), "{word} in {first}");
    }
}

#[test]
fn lesser_findings() {
    let development = Finding { dev: true, ..finding(Severity::Critical, Some("4.17.21")) };
    for lesser in [
        finding(Severity::Critical, None),
        finding(Severity::Medium, Some("1")),
        finding(Severity::Unknown, None),
        development,
    ] {
        let findings = vec![lesser];
        let verdict =
            check_ship(&Content { findings, ..content() }, Decision::Warn, &["lesser-findings"]);
        assert_eq!(verdict.message(), "");
    }
}

#[test]
fn unreadable_content() {
    use sekisho_advisory::Reason::{OverLimit, StaleIndex, UnreadableFile};
    for reason in [UnreadableFile, OverLimit, StaleIndex] {
        let not_assessed = vec![not_assessed(reason)];
        let content = Content { not_assessed, ..content() };
        let verdict = check_ship(&content, Decision::Deny, &["unreadable-content"]);
        assert!(
            verdict.message().starts_with(
                "unreadable-content: app/package-lock.json: it is no JSON. what could not be read"
            ),
            "{}",
            verdict.message()
        );
    }
}

#[test]
fn unjudged_content() {
    use sekisho_advisory::Reason::{NoAdvisoryData, UnknownOs, UnparsableVersion};
    for reason in [NoAdvisoryData, UnknownOs, UnparsableVersion] {
        let not_assessed = vec![not_assessed(reason)];
        check_ship(&Content { not_assessed, ..content() }, Decision::Warn, &["unjudged-content"]);
    }
}

#[test]
fn root_user() {
    for root in ["", "0", "root", "0:0", "root:staff"] {
        let content = Content { user: root.into(), ..content() };
        check_ship(&content, Decision::Warn, &["root-user"]);
    }
    for user in ["1", "65534:0", "app", "rooted"] {
        check_ship(&Content { user: user.into(), ..content() }, Decision::Allow, &[]);
    }
}

#[test]
fn old_advisories() {
    let newest_advisory = Some(NOW - SignedDuration::from_hours(24 * 31));
    let old = Content { newest_advisory, ..content() };
    check_ship(&old, Decision::Warn, &["old-advisories"]);
    check_ship(
        &Content { newest_advisory: None, ..content() },
        Decision::Warn,
        &["old-advisories"],
    );
    // Nothing to judge: old data does not matter.
    check_ship(&Content { packages: 0, ..old }, Decision::Allow, &[]);
}

#[test]
fn known_and_likely_exploited() {
    let known = finding(Severity::Low, None);
    let with = |exploited, epss_ppm| Content {
        findings: vec![known.clone()],
        threats: [(known.id.clone(), Threat { exploited, epss_ppm })].into(),
        ..content()
    };
    let verdict =
        check_ship(&with(true, 0), Decision::Deny, &["known-exploited", "lesser-findings"]);
    assert!(verdict.message().contains("CVE-2021-23337"), "{}", verdict.message());
    check_ship(&with(false, 499_999), Decision::Warn, &["lesser-findings"]);
    check_ship(&with(false, 500_000), Decision::Warn, &["lesser-findings", "likely-exploited"]);
    // Of another finding nothing is known.
    let mut other = with(true, 1_000_000);
    other.findings[0].id = "other".into();
    check_ship(&other, Decision::Warn, &["lesser-findings"]);
}

#[test]
fn secret_in_layer() {
    let secrets = vec![secret(false)];
    let leaked = Content { secrets, ..content() };
    let verdict = check_ship(&leaked, Decision::Deny, &["secret-in-layer"]);
    assert!(
        verdict.message().starts_with(
            "secret-in-layer: github-token in `app/.env`, line 3 (byte 40), \
             fingerprint 00112233445566778899aabb. whoever pulls"
        ),
        "{}",
        verdict.message()
    );
    check_ship(&Content { more_secrets: 1, ..content() }, Decision::Deny, &["secret-in-layer"]);
    let secrets = vec![secret(true)];
    check_ship(&Content { secrets, ..content() }, Decision::Warn, &["sample-secret"]);

    // Somebody answers for it.
    let text = "[[exception]]\nadvisory = \"secret:00112233445566778899aabb\"\npackage = \"app/.env\"\n\
                repository = \"acme/app\"\nowner = \"web\"\nreason = \"revoked\"\napprover = \"ann\"\n\
                approved = \"1970-01-01\"\nends = \"1970-01-02\"\n";
    let waiving = |text: &str| {
        let exceptions = Exceptions::load("e.toml".as_ref(), text).unwrap();
        let identity = identity();
        let policies = Policies::default_set().with_exceptions(exceptions);
        let verdict = policies.may_ship(&identity, &target("acme/app", &identity), &leaked, NOW);
        (verdict.decision, verdict.reasons[0].rule.clone())
    };
    assert_eq!(waiving(text), (Decision::Warn, "waived".into()));
    for other in [
        text.replace("aabb\"", "aabc\""),
        text.replace("app/.env", "app/.enw"),
        text.replace("acme/app", "acme/other"),
        text.replace("1970-01-01", "1970-01-02"),
    ] {
        assert_eq!(waiving(&other), (Decision::Deny, "secret-in-layer".into()), "{other}");
    }
}

#[test]
fn old_and_unknown_base() {
    let with = |base| Content { base, ..content() };
    check_ship(&with(Some(base(91))), Decision::Warn, &["old-base"]);
    let ageless = Base { created: None, ..base(0) };
    check_ship(&with(Some(ageless)), Decision::Allow, &[]);
    check_ship(&with(None), Decision::Allow, &["unknown-base"]);
}

#[test]
fn what_is_only_recorded() {
    let missing = |sbom, provenance| Content { sbom, provenance, ..content() };
    check_ship(&missing(false, true), Decision::Allow, &["missing-sbom"]);
    check_ship(&missing(true, false), Decision::Allow, &["missing-provenance"]);
    let large = |size_bytes| Content { size_bytes, ..content() };
    check_ship(&large(2 << 30), Decision::Allow, &[]);
    let verdict = check_ship(&large((2 << 30) + 1), Decision::Allow, &["large-image"]);
    assert_eq!(verdict.reasons[0].about, ["2147483649 bytes in 0 layers"]);
    let licensed = |licence: &str| Content {
        licences: [(licence.to_owned(), ["a".to_owned(), "b".to_owned()].into())].into(),
        ..content()
    };
    check_ship(&licensed("MIT"), Decision::Allow, &[]);
    let verdict = check_ship(&licensed("AGPL-3.0-only"), Decision::Allow, &["network-copyleft"]);
    assert_eq!(verdict.reasons[0].about, ["AGPL-3.0-only of a, b"]);
}

#[test]
fn remote_control_port() {
    for (port, want) in [("22/tcp", true), ("2375", true), ("80/tcp", false), ("2200/tcp", false)] {
        let exposed_ports = [port.to_owned()].into();
        let content = Content { exposed_ports, ..content() };
        let rules: &[&str] = if want { &["remote-control-port"] } else { &[] };
        let decision = if want { Decision::Warn } else { Decision::Allow };
        let verdict = check_ship(&content, decision, rules);
        if want {
            assert_eq!(verdict.reasons[0].about, [format!("port {port}")]);
        }
    }
}

#[test]
fn labels_can_be_asked_for() {
    let text = format!(
        "@id(\"p\") permit (principal, action, resource);\n{HEAD}\n\
         forbid (principal, action == Action::\"ship\", resource)\n\
         unless {{ resource.hasTag(\"team\") && resource.getTag(\"team\") == \"web\" }};"
    );
    let policies = Policies::load(&text).unwrap();
    let identity = identity();
    for (team, want) in [("web", Decision::Allow), ("other", Decision::Deny)] {
        let labels = [("team".to_owned(), team.to_owned())].into();
        let content = Content { labels, ..content() };
        let verdict = policies.may_ship(&identity, &target("acme/app", &identity), &content, NOW);
        assert_eq!(verdict.decision, want);
    }
}
