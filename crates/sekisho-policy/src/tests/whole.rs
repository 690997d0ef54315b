//! The default set as a whole, policies of one's own, and what must hold for any facts.

use proptest::prelude::*;

use super::*;

/// Every rule has its section, and its `@docs` leads there.
#[test]
fn every_rule_is_documented() {
    let text = include_str!("../../policies/default.cedar");
    let page = include_str!("../../../../docs/policies.md");
    let mut rules = 0;
    for part in text.split("\n\n").filter(|part| part.contains("forbid (")) {
        let id = part.split('"').nth(1).unwrap();
        let mode = part.split("@mode(\"").nth(1).unwrap().split('"').next().unwrap();
        let row = format!("| [`{id}`](#{id}) | {mode} |");
        assert!(page.contains(&row), "no row `{row}`");
        assert!(page.contains(&format!("\n## {id}\n")), "no section `{id}`");
        assert!(part.contains(&format!("@docs(\"docs/policies.md#{id}\")")), "{id}");
        rules += 1;
    }
    assert_eq!(rules, page.matches("\n| [`").count(), "a row without a rule");
}

/// The examples of the page are rules that a gate takes, beside its own.
#[test]
fn every_example_is_taken() {
    let page = include_str!("../../../../docs/policies.md");
    let examples: Vec<&str> =
        page.split("```cedar\n").skip(1).map(|part| part.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 3);
    let text = format!("{}\n{}", include_str!("../../policies/default.cedar"), examples.join("\n"));
    let policies = Policies::load(&text).unwrap();
    let of = |content: &Content| {
        let identity = identity();
        let verdict = policies.may_ship(&identity, &target("acme/app", &identity), content, NOW);
        (verdict.decision, rules(&verdict).join(" "))
    };
    let own = |signer: &str| Content { provenance_signers: [signer.into()].into(), ..content() };
    assert_eq!(of(&own("unsigned")), (Decision::Deny, "own-builder".to_owned()));
    assert_eq!(of(&own("release")), (Decision::Allow, String::new()));
    let statement = Content { statement: true, ..content() };
    assert_eq!(of(&statement), (Decision::Allow, String::new()));
}

/// Takes a rule out of the default set, and sees that its test above would fail.
#[test]
fn each_rule_is_needed() {
    let text = include_str!("../../policies/default.cedar");
    let bad_identity = Identity { event_name: "pull_request".into(), ..identity() };
    let bad_target = Target { same_owner: false, ..target("evil/app", &bad_identity) };
    let exploited = Finding { id: "E".into(), ..finding(Severity::High, Some("2")) };
    let likely = Finding { id: "L".into(), ..finding(Severity::High, Some("2")) };
    let bad_content = Content {
        user: String::new(),
        packages: 1,
        findings: vec![
            finding(Severity::High, Some("2")),
            finding(Severity::Low, None),
            exploited.clone(),
            likely.clone(),
        ],
        not_assessed: vec![
            not_assessed(sekisho_advisory::Reason::OverLimit),
            not_assessed(sekisho_advisory::Reason::UnknownOs),
            not_assessed(sekisho_advisory::Reason::MissingDatabase),
        ],
        newest_advisory: None,
        threats: [
            (exploited.id.clone(), Threat { exploited: true, epss_ppm: 0 }),
            (likely.id.clone(), Threat { exploited: false, epss_ppm: 500_000 }),
        ]
        .into(),
        secrets: vec![secret(false), secret(true)],
        base: Some(Base { name: String::new(), ..base(91) }),
        exposed_ports: ["22/tcp".to_owned()].into(),
        licences: [("AGPL-3.0-only".to_owned(), ["a".to_owned()].into())].into(),
        size_bytes: (2 << 30) + 1,
        package_names: ["Debian/hydra".to_owned()].into(),
        ..Content::default()
    };
    let ask = |policies: &Policies| {
        let push = policies.may_push(&bad_identity, &bad_target);
        let verdict = push.and(policies.may_ship(&bad_identity, &bad_target, &bad_content, NOW));
        let mut ids: Vec<String> = verdict.reasons.into_iter().map(|reason| reason.rule).collect();
        ids.sort();
        ids
    };
    let all = ask(&Policies::default_set());
    let parts: Vec<&str> = text.split("\n\n").collect();
    let mut rules = 0;
    for (position, part) in parts.iter().enumerate().filter(|(_, part)| part.contains("forbid (")) {
        let id = part.split('"').nth(1).unwrap();
        let mut rest = parts.clone();
        rest.remove(position);
        let without = Policies::load(&rest.join("\n\n")).unwrap();
        let want: Vec<String> = all.iter().filter(|rule| *rule != id).cloned().collect();
        assert_eq!(ask(&without), want, "without {id}");
        assert_ne!(want, all, "{id} matched nothing");
        rules += 1;
    }
    assert_eq!(rules, 22);
}

#[test]
fn without_a_permit_nothing_passes() {
    let none = Policies::load("").unwrap();
    let identity = identity();
    let verdict = none.may_push(&identity, &target("acme/app", &identity));
    assert_eq!((verdict.decision, rules(&verdict)), (Decision::Deny, vec!["no-permit"]));
}

#[test]
fn a_rule_that_cannot_be_evaluated_denies() {
    // An overflow is the one error that validation does not exclude.
    for mode in ["enforce", "warn"] {
        let text = format!(
            "@id(\"p\") permit (principal, action, resource);\n{}\n\
             forbid (principal, action == Action::\"ship\", resource)\n\
             when {{ resource.packages + 9223372036854775807 > 0 }};",
            HEAD.replace("enforce", mode)
        );
        let policies = Policies::load(&text).unwrap();
        let identity = identity();
        let content = Content { packages: 1, ..content() };
        let verdict = policies.may_ship(&identity, &target("acme/app", &identity), &content, NOW);
        assert_eq!((verdict.decision, rules(&verdict)), (Decision::Deny, vec!["policy-error"]));
    }
}

#[test]
fn a_mode_does_what_it_says() {
    let identity = identity();
    for (mode, want) in [
        ("enforce", Decision::Deny),
        ("quarantine", Decision::Quarantine),
        ("warn", Decision::Warn),
        ("audit", Decision::Allow),
    ] {
        let text = format!(
            "@id(\"p\") permit (principal, action, resource);\n{}\n\
             forbid (principal, action == Action::\"ship\", resource);",
            HEAD.replace("enforce", mode)
        );
        let policies = Policies::load(&text).unwrap();
        let ask = |policies: &Policies| {
            policies.may_ship(&identity, &target("acme/app", &identity), &content(), NOW)
        };
        let verdict = ask(&policies);
        assert_eq!((verdict.decision, rules(&verdict)), (want, vec!["a"]));
        assert_eq!(verdict.decision.passes(), want <= Decision::Warn);
        let said = |wanted: &str| if wanted == mode { vec!["a: m; f".to_owned()] } else { vec![] };
        let refusals = [said("enforce"), said("quarantine")].concat();
        assert_eq!(verdict.refusals(), refusals);
        assert_eq!(verdict.warnings(), said("warn"));
        assert_eq!(verdict.audits(), said("audit"));
        // A rule that lets pass permits nothing.
        let alone = text.split_once('\n').unwrap().1;
        let verdict = ask(&Policies::load(alone).unwrap());
        assert_eq!(verdict.decision, Decision::Deny, "{mode}");
        let denied = if mode == "enforce" { "a" } else { "no-permit" };
        assert_eq!(rules(&verdict)[0], denied);
    }
}

#[track_caller]
fn check_error(text: &str, want: &str) {
    assert_eq!(Policies::load(text).unwrap_err().to_string(), want, "{text}");
}

#[test]
fn a_bad_policy_is_refused_with_its_place() {
    let typo = format!(
        "{HEAD}\nforbid (principal, action == Action::\"carry\", resource)\n  when {{ resource.severty == \"high\" }};"
    );
    let error = Policies::load(&typo).unwrap_err();
    assert!(matches!(&error, PolicyError::Invalid { place: Some(Place { line: 3, .. }), .. }));
    assert!(error.to_string().contains("severty"), "{error}");
    let error = Policies::load("permit (principal, action, resource)\n\nforbid").unwrap_err();
    assert!(matches!(error, PolicyError::Invalid { place: Some(Place { line: 3, .. }), .. }));

    let rest = "forbid (principal, action, resource);";
    check_error(rest, "1:1: the policy `policy0` has no `@id`");
    check_error(&format!("@id(\"a\") {rest}"), "1:1: the policy `a` has no `@mode`");
    let before = "// no; policy\n@id(\"a;\\\";\") permit (principal, action, resource);\n\n  ";
    check_error(&format!("{before}{rest}"), "4:3: the policy `policy1` has no `@id`");
    check_error(
        &format!("{HEAD}@mesage(\"x\") {rest}"),
        "1:1: the policy `a` has `@mesage`, which means nothing here",
    );
    check_error(
        &format!("{}{rest}", HEAD.replace("enforce", "maybe")),
        "1:1: the policy `a` has the mode `maybe`; use `enforce`, `quarantine`, `warn` or `audit`",
    );
    check_error(
        &format!("{}{rest}", HEAD.replace("@fix(\"f\")", "")),
        "1:1: the policy `a` has no `@fix`",
    );
    check_error(&format!("{HEAD}{rest}\n{HEAD}{rest}"), "2:1: there are two policies `a`");
    let long = " ".repeat(MAX_POLICY_BYTES + 1);
    assert_eq!(Policies::load(&long).unwrap_err(), PolicyError::TooLarge(long.len()));
}

#[test]
fn a_sentence_is_one_line_whatever_things_are_called() {
    let named = Finding { package: "a\r\nb\u{1b}[2J".into(), ..finding(Severity::High, Some("2")) };
    let content = Content { packages: 1, findings: vec![named], ..content() };
    let identity = identity();
    let policies = Policies::default_set();
    let verdict = policies.may_ship(&identity, &target("acme/app", &identity), &content, NOW);
    assert!(verdict.message().contains("npm a  b [2J 4.17.15"), "{}", verdict.message());
    assert!(!verdict.message().contains(char::is_control));
}

#[test]
fn the_hash_names_the_text() {
    let permit = "@id(\"p\") permit (principal, action, resource);";
    let (a, b) = (Policies::load(permit).unwrap(), Policies::load(permit).unwrap());
    assert_eq!(a.hash(), b.hash());
    assert_ne!(a.hash(), Policies::default_set().hash());
}

fn any_finding() -> impl Strategy<Value = Finding> {
    (0..5_usize, any::<bool>(), any::<bool>(), "[a-c]", -3000..3000_i64).prop_map(
        |(severity, fixed, dev, package, hours)| Finding {
            dev,
            package,
            published: Some(NOW + SignedDuration::from_hours(hours)),
            ..finding(Severity::ALL[severity], fixed.then_some("2"))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn more_findings_never_help(
        findings in proptest::collection::vec(any_finding(), 0..6),
        extra in any_finding(),
        seed in any::<u64>(),
    ) {
        let policies = Policies::default_set();
        let identity = identity();
        let target = target("acme/app", &identity);
        let ask = |findings: Vec<Finding>| {
            policies.may_ship(&identity, &target, &Content { findings, ..content() }, NOW)
        };
        let before = ask(findings.clone());
        let mut more = findings.clone();
        more.push(extra);
        prop_assert!(ask(more).decision >= before.decision);

        // And their order does not matter, not even for what is named.
        let mut shuffled = findings;
        if !shuffled.is_empty() {
            let by = usize::try_from(seed % shuffled.len() as u64).unwrap();
            shuffled.rotate_left(by);
        }
        let after = ask(shuffled);
        prop_assert_eq!(after.refusals(), before.refusals());
        prop_assert_eq!(after.warnings(), before.warnings());
    }

    #[test]
    fn any_text_is_a_policy_or_an_error(text in "\\PC{0,60}") {
        let _ = Policies::load(&text);
    }
}
