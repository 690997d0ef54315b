//! Two of the examples against the advisories in the binary.

use std::path::Path;

use jiff::Timestamp;
use sekisho_advisory::{Database, Finding};
use sekisho_scanner::{Report, embedded_advisories, inspect};

use crate::{file, layer};

#[expect(clippy::unwrap_used, reason = "the data is in the binary")]
fn database() -> Database {
    embedded_advisories(Timestamp::UNIX_EPOCH).unwrap()
}

/// What the gate would say of the example's image.
#[expect(clippy::unwrap_used, reason = "the examples are in the repository")]
fn scan(example: &str) -> Report {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(example);
    let read = |name: &str| fs_err::read_to_string(folder.join(name)).unwrap();
    let image = layer(&[
        file("srv/app/package-lock.json", read("package-lock.json")),
        file("srv/app/package.json", read("package.json")),
        file("srv/app/server.js", read("server.js")),
    ]);
    inspect(&[image], &database())
}

#[test]
fn scratch_has_no_findings() {
    let report = scan("scratch");
    assert_eq!(report.findings, []);
    assert_eq!(report.not_assessed, []);
    let packages: Vec<_> =
        report.packages.iter().map(|p| (p.name.as_str(), p.version.as_str())).collect();
    assert_eq!(packages, [("escape-html", "1.0.3"), ("ms", "2.1.3")]);
}

#[test]
fn vulnerable_has_exactly_these() {
    let report = scan("vulnerable");
    let line = |f: &Finding| {
        let fixed = f.fixed.as_deref().unwrap_or("-");
        let score = f.score.map(|score| score.to_string()).unwrap_or_default();
        format!(
            "{} {} {score} {} {} -> {fixed}",
            f.aliases.join(","),
            f.severity,
            f.package,
            f.installed
        )
    };
    assert_eq!(
        report.findings.iter().map(line).collect::<Vec<_>>(),
        [
            "CVE-2021-44906 critical 9.8 minimist 1.2.5 -> 1.2.6",
            "CVE-2020-8203 high 7.4 lodash 4.17.15 -> 4.17.20",
            "CVE-2021-23337 high 7.2 lodash 4.17.15 -> 4.17.21",
            "CVE-2020-28500 medium 5.3 lodash 4.17.15 -> 4.17.21",
        ]
    );
    assert_eq!(report.not_assessed, []);
    let worst = &report.findings[0];
    assert_eq!(worst.id, "GHSA-xvch-5gv4-984h");
    assert_eq!(worst.url, "https://github.com/advisories/GHSA-xvch-5gv4-984h");
    assert_eq!(worst.path, "srv/app/package-lock.json");
    assert_eq!(worst.layer, report.packages[0].layer);
    assert!(worst.layer.is_some());
}

#[test]
fn the_data_says_how_old_it_is() {
    let data = scan("scratch").data;
    assert_eq!(data.newest, "2025-02-14T15:55:59Z".parse().ok());
    assert_eq!(data.records, 22);
}

#[test]
fn every_record_is_embedded_and_used_in_full() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/advisories");
    let files = fs_err::read_dir(folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ext| ext == "json"))
        .count();
    let database = database();
    assert_eq!(database.records(), files);
    assert_eq!(database.ignored(), []);
    let ecosystems: Vec<_> = database.ecosystems().into_iter().map(ToString::to_string).collect();
    assert_eq!(ecosystems, ["Debian:11", "Debian:12", "Alpine:v3.20", "npm", "PyPI"]);
}

#[test]
fn a_debian_image_is_matched_by_source() {
    let status = "Package: libc6\nStatus: install ok installed\nSource: glibc\nVersion: 2.36-9+deb12u1\n\n\
                  Package: libcurl4\nStatus: install ok installed\nSource: curl\nVersion: 7.88.1-10+deb12u4\n";
    let image =
        layer(&[file("etc/os-release", crate::DEBIAN), file("var/lib/dpkg/status", status)]);
    let report = inspect(&[image], &database());
    let [finding] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert_eq!((finding.id.as_str(), finding.package.as_str()), ("DSA-5514-1", "libc6"));
    assert_eq!(finding.fixed.as_deref(), Some("2.36-9+deb12u3"));
    assert_eq!(finding.aliases, ["CVE-2023-4911"]);
}

/// What is left open in every Debian 12, and so in `examples/hello`: minor, and without a fix.
#[test]
fn what_debian_leaves_open_is_low_and_has_no_fix() {
    let package = |name: &str, version: &str, source: &str| {
        format!("Package: {name}\nStatus: install ok installed\n{source}Version: {version}\n\n")
    };
    let status = [
        package("coreutils", "9.1-1", ""),
        package("gpgv", "2.2.40-1.1+deb12u1", "Source: gnupg2\n"),
        package("perl-base", "5.36.0-7+deb12u2", "Source: perl\n"),
    ];
    let image = layer(&[
        file("etc/os-release", crate::DEBIAN),
        file("var/lib/dpkg/status", status.concat()),
    ]);
    let report = inspect(&[image], &database());
    let mut found: Vec<_> = report
        .findings
        .iter()
        .map(|f| (f.id.as_str(), f.package.as_str(), f.severity.to_string(), f.fixed.as_deref()))
        .collect();
    found.sort();
    let low = || "low".to_owned();
    let want = [
        ("CVE-2011-4116", "perl-base", low(), None),
        ("CVE-2016-2781", "coreutils", low(), None),
        ("CVE-2022-3219", "gpgv", low(), None),
    ];
    assert_eq!(found, want);
}
