//! What is known about vulnerabilities, and the order of versions.

use std::cmp::Ordering;

use jiff::Timestamp;
use sekisho_advisory::osv::Record;
use sekisho_advisory::version::Scheme;
use sekisho_advisory::{Database, Ecosystem, Package, Threats, cvss, match_packages};

use super::{must, parts, text, texts};
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "advisories",
        reads: "an advisory of OSV's",
        holds: "what is written is read again as the same; a fix that is told is above what is installed, and is one",
        seeds: || {
            texts(&[
                r#"{"schema_version":"1.6.0","id":"GHSA-1","modified":"2030-01-01T00:00:00Z","aliases":["CVE-2030-1"],"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],"affected":[{"package":{"ecosystem":"npm","name":"a"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"2.0.0"}]}],"versions":["1.0.0"]}]}"#,
                r#"{"id":"DSA-1","modified":"2030-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"Debian:12","name":"a"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"last_affected":"1:2.0-1"}]}],"ecosystem_specific":{"urgency":"high"}}]}"#,
                r#"{"id":"PYSEC-1","modified":"2030-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"PyPI","name":"A_a"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0.9"},{"fixed":"1.5"},{"introduced":"2"}]}]}]}"#,
            ])
        },
        words: &[
            "null",
            "\"withdrawn\":",
            "{\"introduced\":\"0\"}",
            "{\"fixed\":\"1\"}",
            "{\"fixed\":\"1.0.0-rc.1\"}",
            "{\"limit\":\"*\"}",
            "\"GIT\"",
            "\"Alpine:v3.20\"",
            "\"PyPI\"",
            "\"npm\"",
            "1.0.0-rc.1",
            "[]",
            "{}",
            "\"versions\":[",
            "\"introduced\":\"1.0.0\"",
        ],
        cost: 2,
        run: advisory,
    },
    Target {
        name: "versions",
        reads: "three versions, in each ecosystem's order",
        holds: "each equals itself, the other way round is the opposite, and what is below what is below is below",
        seeds: || {
            texts(&[
                "1:2.30-4+deb12u1\x002.30~rc1-1\x002.30-1",
                "1.2.3-r0\x001.2.3_alpha1-r2\x001.2.3_p1",
                "1.0.0-rc.1+b\x001.0.0\x001.0.0-rc.11",
                "1!2.0.post1.dev3+local\x002.0\x002.0rc1",
                "2024a\x002024.1\x0024",
            ])
        },
        words: &[
            "\0",
            ":",
            "-",
            "~",
            "+",
            ".",
            "0",
            "00",
            "_rc",
            "_p",
            "_pre",
            "-r1",
            ".dev",
            ".post",
            "!",
            "v",
            "a",
            "99999999999999999999",
            "_git20240101",
            ".0",
            "c",
            "rc",
            "alpha",
        ],
        cost: 1,
        run: versions,
    },
    Target {
        name: "scores",
        reads: "CVSS vectors, CISA's catalogue, FIRST's forecast, names of ecosystems",
        holds: "a score is from 0 to 10, whatever order its metrics stand in; a name is written as it was read",
        seeds: || {
            texts(&[
                "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H",
                "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N",
                "{\"vulnerabilities\":[{\"cveID\":\"CVE-2030-1\"}]}",
                "#model_version:v2\ncve,epss,percentile\nCVE-2030-1,0.5,0.9\n",
                "Ubuntu:24.04:LTS",
            ])
        },
        words: &[
            "CVSS:3.0/",
            "AV:P",
            "/S:U",
            "/E:X",
            "CVE-",
            ",",
            "\n",
            "1e-9",
            "NaN",
            "-0.1",
            "1.0",
            "\"cveID\":",
            "Debian:",
            "npm",
            "Alpine:v3.20",
        ],
        cost: 1,
        run: scores,
    },
];

fn advisory(input: &[u8]) {
    let text = text(input);
    if let Ok(record) = serde_json::from_str::<Record>(&text) {
        let written = must(serde_json::to_string(&record), "it is written");
        let again: Record = must(serde_json::from_str(&written), "what was written is read");
        assert_eq!(again, record);
    }
    let Ok(database) = Database::from_json([("a", &*text)], Timestamp::UNIX_EPOCH) else { return };
    assert!(database.records() <= 1);
    let package = |(ecosystem, name, version): (&str, &str, &str)| Package {
        ecosystem: Ecosystem::from(ecosystem.to_owned()),
        name: name.to_owned(),
        version: version.to_owned(),
        source: None,
        layer: None,
        path: "p".to_owned(),
        dev: false,
        licence: None,
    };
    let installed = [
        ("npm", "a", "1.0.0"),
        ("Debian:12", "a", "1:1.5-1"),
        ("Alpine:v3.20", "a", "1.0.0-r0"),
        ("PyPI", "a-a", "1.0"),
        ("Other", "a", "1"),
    ]
    .map(package);
    let found = match_packages(&installed, &database);
    for finding in &found.findings {
        let Some(fixed) = &finding.fixed else { continue };
        let scheme = finding.ecosystem.scheme();
        let order = scheme.map(|scheme| scheme.compare(fixed, &finding.installed));
        assert_eq!(order, Some(Ok(Ordering::Greater)), "{finding:?}");
        let mended = Package {
            version: fixed.clone(),
            ..package((&finding.ecosystem.to_string(), &finding.package, ""))
        };
        let again = match_packages(&[mended], &database);
        assert!(again.findings.is_empty(), "{fixed} is affected too: {finding:?}");
    }
    assert_eq!(match_packages(&installed, &database), found);
}

fn versions(input: &[u8]) {
    let three = parts::<3>(input).map(text);
    for scheme in [Scheme::Deb, Scheme::Apk, Scheme::Semver, Scheme::Pep440] {
        let name = scheme.as_str();
        let good: Vec<&str> =
            three.iter().map(|it| &**it).filter(|it| scheme.check(it).is_ok()).collect();
        let order = |a: &str, b: &str| must(scheme.compare(a, b), name);
        for a in &good {
            assert_eq!(order(a, a), Ordering::Equal, "{name}");
            for b in &good {
                assert_eq!(order(a, b), order(b, a).reverse(), "{name}: {a} and {b}");
                for c in &good {
                    let (ab, bc) = (order(a, b), order(b, c));
                    // What is equal to the middle one stands where it does.
                    if ab == bc || ab.is_eq() || bc.is_eq() {
                        assert_eq!(order(a, c), ab.then(bc), "{name}: {a}, {b}, {c}");
                    }
                }
            }
        }
    }
}

fn scores(input: &[u8]) {
    let text = text(input);
    if let Ok(score) = cvss::base_score(&text) {
        assert!((0.0..=10.0).contains(&score.value()), "{}", score.value());
        let mut metrics: Vec<&str> = text.split('/').collect();
        metrics[1..].reverse();
        assert_eq!(cvss::base_score(&metrics.join("/")), Ok(score));
    }
    let forecast = Threats::default().with_forecast(&text);
    assert_eq!(forecast.ok(), Threats::default().with_forecast(&text).ok());
    let _ = Threats::default().with_catalogue(input);
    let ecosystem = Ecosystem::from(text.clone().into_owned());
    assert_eq!(ecosystem.to_string(), text);
    let normal = ecosystem.normal_name(&text);
    assert_eq!(ecosystem.normal_name(&normal), normal);
}
