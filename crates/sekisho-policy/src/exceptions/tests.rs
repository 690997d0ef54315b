use proptest::prelude::*;
use sekisho_types::Severity;

use super::*;
use crate::{Content, Decision, Identity, Policies};

const GOOD: &str = r#"[[exception]]
advisory = "CVE-2021-23337"
package = "lodash"
repository = "acme/app"
owner = "web team"
reason = "template() is never called"
approver = "ann"
approved = "2026-11-01"
ends = "2027-01-30"
justification = "vulnerable_code_not_in_execute_path"
"#;

fn load(text: &str) -> Result<Exceptions, ExceptionsError> {
    Exceptions::load(Path::new("x.toml"), text)
}

#[track_caller]
fn check_error(from: &str, to: &str, want: &str) {
    assert!(GOOD.contains(from), "{from}");
    let error = load(&GOOD.replace(from, to)).unwrap_err().to_string();
    assert!(error.starts_with(want), "{error}, not {want}");
}

#[test]
fn a_bad_file_is_refused_with_its_place() {
    check_error("\"lodash\"", "\" \"", "x.toml:3:11: it says nothing");
    check_error("2027-01-30", "2027-01-31", "x.toml:9:8: ends 91 days after it was approved");
    check_error("2027-01-30", "2026-10-31", "x.toml:9:8: ends -1 days after");
    check_error("2027-01-30", "2027-02-30", "x.toml:9:8: `2027-02-30` is no date");
    check_error("2027-01-30", "2027-01-01T00:00:00", "x.toml:9:8: `2027-01-01T00:00:00` is no");
    check_error("acme/app", "Acme", "x.toml:4:14: ");
    check_error("acme/app", "*", "x.toml:4:14: ");
    check_error("vulnerable_code_not_in_execute_path", "because", "x.toml:10:17: no VEX");
    check_error("owner", "ownr", "x.toml:5:1: unknown field `ownr`");
    check_error("approver = \"ann\"\n", "", "x.toml:1:1: missing field `approver`");
    check_error("[[exception]]", "[[exception", "x.toml:1:");
    check_error("ann", &"a".repeat(501), "x.toml:7:12: write one line");
    let twice = load(&format!("{GOOD}\n{GOOD}")).unwrap_err();
    assert_eq!(twice.place.line, 12);
    let long = load(&" ".repeat(MAX_EXCEPTIONS_BYTES + 1)).unwrap_err();
    assert_eq!(long.place, Place { line: 1, column: 1 });
    assert_eq!(load("").unwrap().all, []);
}

fn finding(package: &str) -> Finding {
    Finding {
        id: "GHSA-35jh-r3h4-6jhm".into(),
        aliases: vec!["CVE-2021-23337".into()],
        severity: Severity::Critical,
        score: None,
        ecosystem: "npm".parse().unwrap(),
        package: package.into(),
        installed: "4.17.15".into(),
        fixed: Some("4.17.21".into()),
        summary: "Command Injection".into(),
        url: "https://osv.dev/GHSA-35jh-r3h4-6jhm".into(),
        published: None,
        layer: None,
        path: "app/package-lock.json".into(),
        dev: false,
    }
}

/// Asks about an image with these packages, all vulnerable, on a day.
fn ask(text: &str, repository: &str, packages: &[&str], now: &str) -> crate::Verdict {
    let policies = Policies::default_set().with_exceptions(load(text).unwrap());
    let now: Timestamp = now.parse().unwrap();
    let content = Content {
        user: "1".into(),
        packages: packages.len(),
        findings: packages.iter().map(|name| finding(name)).collect(),
        newest_advisory: Some(now),
        ..Content::default()
    };
    let target = crate::tests::any_target(repository);
    policies.may_ship(&Identity::default(), &target, &content, now)
}

#[track_caller]
fn check(text: &str, repository: &str, now: &str, want: Decision) {
    let verdict = ask(text, repository, &["lodash"], now);
    assert_eq!(verdict.decision, want, "{repository} {now}: {verdict:?}");
}

#[test]
fn a_waived_finding_ships_and_is_shown() {
    let verdict = ask(GOOD, "acme/app", &["lodash"], "2026-12-01T00:00:00Z");
    assert_eq!(verdict.decision, Decision::Warn);
    assert_eq!(
        verdict.warnings(),
        ["waived: critical GHSA-35jh-r3h4-6jhm (CVE-2021-23337) in npm lodash 4.17.15, fixed in \
          4.17.21. waived until 2027-01-30 for web team, approved by ann: template() is never \
          called (vulnerable_code_not_in_execute_path); mend it before the exception ends"]
    );
    // Another finding beside it counts as ever.
    let verdict = ask(GOOD, "acme/app", &["lodash", "minimist"], "2026-12-01T00:00:00Z");
    assert_eq!(verdict.decision, Decision::Deny);
    assert_eq!(verdict.reasons[0].findings[0].package, "minimist");
    assert_eq!(verdict.reasons[0].findings.len(), 1);
}

#[test]
fn an_exception_covers_its_scope_and_its_days() {
    let noon = "2026-12-01T12:00:00Z";
    check(GOOD, "acme/app", noon, Decision::Warn);
    check(GOOD, "acme/app/worker", noon, Decision::Deny);
    check(GOOD, "acme/other", noon, Decision::Deny);
    let all = GOOD.replace("acme/app", "acme/*");
    check(&all, "acme/app/worker", noon, Decision::Warn);
    check(&all, "acme", noon, Decision::Deny);
    check(&all, "acme-evil/app", noon, Decision::Deny);
    check(&GOOD.replace("CVE-2021-23337", "GHSA-35jh-r3h4-6jhm"), "acme/app", noon, Decision::Warn);
    check(&GOOD.replace("CVE-2021-23337", "CVE-2021-23338"), "acme/app", noon, Decision::Deny);
    check(&GOOD.replace("\"lodash\"", "\"lodash-es\""), "acme/app", noon, Decision::Deny);
    for (now, want) in [
        ("2026-10-31T23:59:59Z", Decision::Deny),
        ("2026-11-01T00:00:00Z", Decision::Warn),
        ("2027-01-30T23:59:59Z", Decision::Warn),
        ("2027-01-31T00:00:00Z", Decision::Deny),
    ] {
        check(GOOD, "acme/app", now, want);
    }
}

#[test]
fn what_could_not_be_asked_is_not_waived() {
    let exceptions = load(GOOD).unwrap();
    let policies = Policies::load("").unwrap().with_exceptions(exceptions);
    let now: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
    let content = Content { findings: vec![finding("lodash")], ..Content::default() };
    let target = crate::tests::any_target("acme/app");
    let verdict = policies.may_ship(&Identity::default(), &target, &content, now);
    assert_eq!(verdict.decision, Decision::Deny);
    assert!(verdict.reasons.iter().any(|it| it.rule == "no-permit" && !it.findings.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_exceptions_or_an_error(cut in 0..GOOD.len(), text in "(\\[\\[exception\\]\\]|ends|=|\"|\n|\\PC){0,12}") {
        let _ = load(&format!("{}{text}", &GOOD[..cut]));
    }
}
