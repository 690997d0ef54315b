use serde_json::json;

use super::*;

fn database(records: &[serde_json::Value]) -> Database {
    let texts: Vec<String> = records.iter().map(ToString::to_string).collect();
    Database::from_json(texts.iter().map(|text| ("test", text.as_str())), Timestamp::UNIX_EPOCH)
        .unwrap()
}

fn record(id: &str, ecosystem: &str, name: &str, events: serde_json::Value) -> serde_json::Value {
    json!({
        "id": id, "modified": "2024-01-02T00:00:00Z", "published": "2024-01-01T00:00:00Z",
        "summary": format!("about {name}"),
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:H/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [{
            "package": {"ecosystem": ecosystem, "name": name},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
        }],
    })
}

fn package(ecosystem: &str, name: &str, version: &str) -> Package {
    Package {
        ecosystem: ecosystem.parse().unwrap(),
        name: name.into(),
        version: version.into(),
        source: None,
        layer: None,
        path: "app/package-lock.json".into(),
        dev: false,
        licence: None,
    }
}

/// (id, fixed) of each finding.
#[track_caller]
fn check(records: &[serde_json::Value], package: &Package, want: &[(&str, Option<&str>)]) {
    let matches = match_packages(std::slice::from_ref(package), &database(records));
    let found: Vec<_> =
        matches.findings.iter().map(|f| (f.id.as_str(), f.fixed.as_deref())).collect();
    assert_eq!(found, want, "{package:?}");
}

#[test]
fn a_range_begins_with_introduced_and_ends_before_fixed() {
    let events = json!([{"fixed": "1.2.6"}, {"introduced": "1.0.0"}]);
    let records = [record("A", "npm", "minimist", events)];
    for (version, hit) in
        [("0.9.9", false), ("1.0.0", true), ("1.2.5", true), ("1.2.6-rc.1", true), ("1.2.6", false)]
    {
        let want: &[_] = if hit { &[("A", Some("1.2.6"))] } else { &[] };
        check(&records, &package("npm", "minimist", version), want);
    }
    check(&records, &package("npm", "other", "1.0.0"), &[]);
}

#[test]
fn last_affected_is_affected_and_names_no_fix() {
    let records =
        [record("A", "npm", "x", json!([{"introduced": "0"}, {"last_affected": "2.0.0"}]))];
    check(&records, &package("npm", "x", "2.0.0"), &[("A", None)]);
    check(&records, &package("npm", "x", "2.0.1"), &[]);
}

#[test]
fn the_fix_is_the_nearest_one_above() {
    let events = json!([
        {"introduced": "0"}, {"fixed": "0.2.4"}, {"introduced": "1.0.0"}, {"fixed": "1.2.6"}
    ]);
    let records = [record("A", "npm", "minimist", events)];
    check(&records, &package("npm", "minimist", "0.2.3"), &[("A", Some("0.2.4"))]);
    check(&records, &package("npm", "minimist", "0.2.4"), &[]);
    check(&records, &package("npm", "minimist", "1.2.0"), &[("A", Some("1.2.6"))]);

    // The fix of one line lies inside another affected run: it is none.
    let mut overlap = record("A", "npm", "x", json!([{"introduced": "0"}, {"fixed": "1.0.0"}]));
    let more = json!({
        "package": {"ecosystem": "npm", "name": "x"},
        "ranges": [{"type": "SEMVER", "events": [{"introduced": "1.0.0"}, {"fixed": "1.5.0"}]}],
    });
    overlap["affected"].as_array_mut().unwrap().push(more);
    check(&[overlap], &package("npm", "x", "0.5.0"), &[("A", Some("1.5.0"))]);
}

#[test]
fn listed_versions_count_without_a_range() {
    let mut listed = record("A", "npm", "x", json!([{"introduced": "0"}, {"fixed": "0.0.1"}]));
    listed["affected"][0]["versions"] = json!(["1.1.4-bad"]);
    check(std::slice::from_ref(&listed), &package("npm", "x", "1.1.4-bad"), &[("A", None)]);
    check(&[listed], &package("npm", "x", "1.1.4"), &[]);
}

#[test]
fn what_does_not_parse_may_still_be_listed() {
    let mut listed = record("A", "npm", "x", json!([{"introduced": "September"}]));
    listed["affected"][0]["versions"] = json!(["1.0.0", "trunk"]);
    for version in ["1.0.0", "trunk"] {
        let matches = match_packages(&[package("npm", "x", version)], &database(&[listed.clone()]));
        assert_eq!(matches.findings.len(), 1, "{version}");
        assert_ne!(matches.not_assessed, []);
    }
}

#[test]
fn debian_compares_the_source_package() {
    let events = json!([{"introduced": "0"}, {"fixed": "2.36-9+deb12u3"}]);
    let records = [record("DSA-5514-1", "Debian:12", "glibc", events)];
    let mut libc = package("Debian:12", "libc6", "2.36-9+deb12u1+b1");
    check(&records, &libc, &[]);
    let version = "2.36-9+deb12u1".to_owned();
    libc.source = Some(crate::Source { name: "glibc".into(), version });
    check(&records, &libc, &[("DSA-5514-1", Some("2.36-9+deb12u3"))]);
    libc.ecosystem = "Debian:13".parse().unwrap();
    let matches = match_packages(&[libc], &database(&records));
    assert_eq!(matches.findings, []);
    assert_eq!(matches.not_assessed[0].reason, Reason::NoAdvisoryData);
}

#[test]
fn aliases_are_one_finding() {
    let mut ghsa = record("GHSA-1", "npm", "x", json!([{"introduced": "0"}, {"fixed": "2.0.0"}]));
    ghsa["aliases"] = json!(["CVE-1"]);
    let mut cve = record("CVE-1", "npm", "x", json!([{"introduced": "0"}, {"fixed": "2.0.1"}]));
    cve["aliases"] = json!(["OTHER-1"]);
    cve["severity"] =
        json!([{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H"}]);
    let matches = match_packages(&[package("npm", "x", "1.0.0")], &database(&[cve, ghsa]));
    let [finding] = matches.findings.as_slice() else { panic!("{matches:?}") };
    assert_eq!(finding.id, "GHSA-1");
    assert_eq!(finding.aliases, ["CVE-1", "OTHER-1"]);
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(finding.fixed.as_deref(), Some("2.0.1"));
}

#[test]
fn aliases_join_through_a_third() {
    let with = |id: &str, aliases: &[&str]| {
        let mut record = record(id, "npm", "x", json!([{"introduced": "0"}]));
        record["aliases"] = json!(aliases);
        record
    };
    let records = [with("A", &["CVE-1"]), with("B", &["CVE-2"]), with("C", &["CVE-1", "CVE-2"])];
    check(&records, &package("npm", "x", "1.0.0"), &[("A", None)]);
    check(&records[..2], &package("npm", "x", "1.0.0"), &[("A", None), ("B", None)]);
}

#[test]
fn a_bundle_is_no_alias_of_what_it_bundles() {
    let mut bundle = record("DSA-1", "Debian:12", "x", json!([{"introduced": "0"}]));
    bundle["upstream"] = json!(["CVE-1", "CVE-2"]);
    let one = record("CVE-1", "Debian:12", "x", json!([{"introduced": "0"}]));
    let matches = match_packages(&[package("Debian:12", "x", "1.0")], &database(&[bundle, one]));
    let found: Vec<_> = matches.findings.iter().map(|f| (f.id.as_str(), f.aliases.len())).collect();
    assert_eq!(found, [("CVE-1", 0), ("DSA-1", 2)]);
}

#[test]
fn withdrawn_records_match_nothing() {
    let mut gone = record("A", "npm", "x", json!([{"introduced": "0"}]));
    gone["withdrawn"] = json!("2024-02-01T00:00:00Z");
    let kept = record("B", "npm", "y", json!([{"introduced": "0"}]));
    check(&[gone, kept], &package("npm", "x", "1.0.0"), &[]);
}

#[test]
fn a_version_that_does_not_parse_is_said() {
    let records = [record("A", "npm", "x", json!([{"introduced": "0"}]))];
    let matches = match_packages(&[package("npm", "y", "latest")], &database(&records));
    assert_eq!(
        matches.not_assessed,
        [NotAssessed {
            reason: Reason::UnparsableVersion,
            subject: "npm y".into(),
            detail: "`latest` is no semantic version: its parts are not numbers".into(),
            path: Some("app/package-lock.json".into()),
            layer: None,
        }]
    );
}

#[test]
fn the_source_s_word_goes_before_the_score() {
    let mut moderate = record("A", "npm", "x", json!([{"introduced": "0"}]));
    moderate["database_specific"] = json!({"severity": "MODERATE", "github_reviewed": true});
    let matches = match_packages(&[package("npm", "x", "1.0.0")], &database(&[moderate]));
    assert_eq!(matches.findings[0].severity, Severity::Medium);
    assert_eq!(matches.findings[0].score.map(|score| score.to_string()), Some("7.2".into()));
}

#[test]
fn what_a_record_says_uselessly_is_kept_in_ignored() {
    let bad = record("A", "npm", "x", json!([{"introduced": "not a version"}]));
    let foreign = record("B", "Hex", "y", json!([{"introduced": "0"}]));
    let mut commits = record("C", "npm", "z", json!([{"introduced": "0"}]));
    commits["affected"][0]["ranges"][0]["type"] = json!("GIT");
    let database = self::database(&[bad, foreign, commits.clone()]);
    let ignored: Vec<_> =
        database.ignored().iter().map(|i| (i.id.as_str(), i.problem.as_str())).collect();
    assert_eq!(
        ignored,
        [
            ("A", "`not a version` is no semantic version: its parts are not numbers"),
            ("B", "its versions cannot be compared"),
            ("C", "it names no versions"),
        ]
    );
    assert_eq!(database.records(), 3);
    // An image that holds such a package hears of it, once npm is covered at all.
    let other = record("D", "npm", "other", json!([{"introduced": "0"}]));
    let database = self::database(&[commits, other]);
    let matches = match_packages(&[package("npm", "z", "1.0.0")], &database);
    assert_eq!(matches.not_assessed[0].reason, Reason::UnusableAdvisory);
    assert_eq!(database.newest(), "2024-01-02T00:00:00Z".parse().ok());
}

#[test]
fn the_answer_does_not_depend_on_the_order_of_what_is_given() {
    let records = [
        record("A", "npm", "x", json!([{"introduced": "0"}])),
        record("B", "npm", "x", json!([{"introduced": "0"}, {"fixed": "3.0.0"}])),
        record("C", "npm", "y", json!([{"introduced": "0"}])),
    ];
    let packages =
        [package("npm", "y", "1.0.0"), package("npm", "x", "2.0.0"), package("npm", "x", "1.0.0")];
    let forward = match_packages(&packages, &database(&records));
    let (mut records, mut packages) = (records, packages);
    records.reverse();
    packages.reverse();
    assert_eq!(match_packages(&packages, &database(&records)), forward);
    assert_eq!(forward.findings.len(), 5);
}
