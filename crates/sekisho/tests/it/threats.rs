//! What is known about attacks: from the two files of it to the verdict on an image.

use crate::gate::project;
use crate::support::World;

/// As FIRST publishes it, with one line that matters.
fn forecast(probability: &str) -> String {
    format!(
        "#model_version:v2025.03.14,score_date:2026-11-20T00:00:00+0000\ncve,epss,percentile\n\
         CVE-1999-0001,0.99,0.99\nCVE-2011-4116,{probability},0.9\n"
    )
}

/// As CISA publishes it.
fn catalogue(cve: &str) -> String {
    format!(
        "{{\"title\": \"CISA Catalog\", \"count\": 1, \"vulnerabilities\": [{{\"cveID\": \"{cve}\", \
         \"vendorProject\": \"Perl\", \"dateAdded\": \"2026-11-20\"}}]}}"
    )
}

/// Beside a permit: what is more likely to be used than one in ten does not ship.
const OWN_BOUND: &str = "@id(\"default-permit\")\npermit (principal, action, resource);\n
@id(\"one-in-ten\")\n@mode(\"enforce\")\n@message(\"it is too likely to be used\")\n@fix(\"remove it\")
@docs(\"docs/policies.md\")\nforbid (principal, action == Action::\"carry\", resource)
when { resource.epss_ppm > 100000 };\n";

/// Records of one's own take the place of those that come along, from the next start on.
#[test]
fn advisories_of_ones_own_are_what_images_are_judged_by() {
    let world = World::new();
    let project = project(&world, "app", "perl");
    let run = |code| world.sekisho(&["run", &project]).exits(code);
    run(0);
    let record = |ecosystem: &str| {
        format!(
            "{{\"id\": \"OWN-2026-1\", \"modified\": \"2026-11-20T00:00:00Z\", \
             \"summary\": \"a record of our own\", \"severity\": [{{\"type\": \"CVSS_V3\", \
             \"score\": \"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H\"}}], \"affected\": [{{\
             \"package\": {{\"ecosystem\": \"{ecosystem}\", \"name\": \"perl\"}}, \"ranges\": [{{\
             \"type\": \"ECOSYSTEM\", \"events\": [{{\"introduced\": \"0\"}}, {{\"fixed\": \"99\"}}]}}]}}]}}"
        )
    };
    world.configure("gate/advisories/own.json", &record("Debian:12"));
    let said = run(10);
    said.says(&["severe-with-fix", "OWN-2026-1", "99", "against 1 advisories"]);
    assert!(!said.stderr.contains("CVE-2011-4116"), "{}", said.stderr);
    // Of another system's perl, and nothing of this one's: that is said, and not passed over.
    world.configure("gate/advisories/own.json", &record("Alpine:v3.20"));
    run(0).says(&["unjudged-content"]);

    world.configure("gate/advisories/own.json", "{}");
    let said = world.sekisho(&["up", "--port", "0"]).exits(1);
    said.says(&["own.json", "no advisory in OSV's schema"]);
}

#[test]
fn what_is_known_of_attacks_reaches_the_verdict() {
    let world = World::new();
    // CVE-2011-4116: without a fix, and of no severity that refuses.
    let project = project(&world, "app", "perl");
    let judged = |code| {
        let said = world.sekisho(&["run", &project, "--output", "json"]).exits(code).json();
        let verdict = &said["decisions"][0]["verdict"];
        let reasons = verdict["reasons"].as_array().unwrap().iter();
        let about = |reason: &serde_json::Value| {
            let findings = reason["findings"].as_array()?;
            findings.iter().any(|it| it["id"] == "CVE-2011-4116").then(|| reason["rule"].clone())
        };
        let mut rules: Vec<String> =
            reasons.filter_map(about).map(|rule| rule.as_str().unwrap().to_owned()).collect();
        rules.sort();
        (verdict["decision"].as_str().unwrap().to_owned(), rules)
    };
    let is = |decision: &str, rules: &[&str]| {
        (decision.to_owned(), rules.iter().map(|&rule| rule.to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(judged(0), is("warn", &["lesser-findings"]));

    world.configure("gate/epss.csv", &forecast("0.499999"));
    assert_eq!(judged(0), is("warn", &["lesser-findings"]));
    world.configure("gate/epss.csv", &forecast("0.5"));
    assert_eq!(judged(0), is("warn", &["lesser-findings", "likely-exploited"]));

    world.configure("gate/kev.json", &catalogue("CVE-1999-0001"));
    assert_eq!(judged(0), is("warn", &["lesser-findings", "likely-exploited"]));
    world.configure("gate/kev.json", &catalogue("CVE-2011-4116"));
    assert_eq!(judged(10), is("deny", &["known-exploited", "lesser-findings"]));
    let said = world.sekisho(&["policy", "explain", "5", "--output", "json"]).exits(0).json();
    assert_eq!(said["reproduced"], true);

    // A bound of one's own.
    world.configure("gate/policies.cedar", OWN_BOUND);
    assert_eq!(judged(10), is("deny", &["one-in-ten"]));
    world.configure("gate/epss.csv", &forecast("0.1"));
    assert_eq!(judged(0), is("allow", &[]));

    world.configure("gate/epss.csv", "cve,epss,percentile\nCVE-2011-4116\n");
    let said = world.sekisho(&["up", "--port", "0"]).exits(1);
    said.says(&["gate/epss.csv", "line 2"]);
}
