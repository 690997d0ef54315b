use std::cmp::Ordering;
use std::collections::BTreeSet;

use sekisho_advisory::version::Scheme;

/// `a < b` lines, in both directions. Cases with one of the `refused` versions must fail to
/// parse, and each of those must occur.
#[track_caller]
#[expect(clippy::panic, reason = "a list that is not understood fails the test")]
fn check(file: &str, scheme: Scheme, refused: &[&str], at_least: usize) {
    let Some(text) = super::shared(&format!("version-vectors/{file}")) else { return };
    let mut unused: BTreeSet<&str> = refused.iter().copied().collect();
    let (mut done, mut wrong) = (0, Vec::new());
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with(['#', '/'])) {
        let parts: Vec<_> = line.split_whitespace().collect();
        let [left, operator, right] = parts[..] else { panic!("{file}: {line:?}") };
        let want = match operator {
            "<" => Ordering::Less,
            "=" => Ordering::Equal,
            ">" => Ordering::Greater,
            _ => panic!("{file}: {line:?}"),
        };
        let bad: Vec<_> = [left, right].into_iter().filter(|v| refused.contains(v)).collect();
        let got = scheme.compare(left, right);
        let good = match bad.is_empty() {
            true => got == Ok(want) && scheme.compare(right, left) == Ok(want.reverse()),
            false => got.is_err() && bad.iter().all(|version| scheme.check(version).is_err()),
        };
        bad.iter().for_each(|version| _ = unused.remove(version));
        done += 1;
        if !good {
            wrong.push(format!("{line}   got {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {done} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(unused.is_empty(), "not in {file}: {unused:?}");
    assert!(done >= at_least, "only {done} cases in {file}");
}

#[test]
fn debian() {
    check("debian-versions.txt", Scheme::Deb, &[], 25);
    check("debian-versions-generated.txt", Scheme::Deb, &[], 14_000);
}

#[test]
fn alpine() {
    check("alpine-versions.txt", Scheme::Apk, MALFORMED_APK, 700);
    check("alpine-versions-generated.txt", Scheme::Apk, &[], 13_000);
}

#[test]
fn semantic() {
    check("semver-versions.txt", Scheme::Semver, &[], 80);
}

#[test]
fn python() {
    check("pypi-versions.txt", Scheme::Pep440, LEGACY_PYTHON, 20);
    check("pypi-versions-generated.txt", Scheme::Pep440, LEGACY_PYTHON_GENERATED, 12_000);
}

/// Outside the grammar of apk-package(5). The releases of apk disagree about them, as the list's
/// own comments say; we refuse them, and a package with such a version counts as not assessed.
const MALFORMED_APK: &[&str] = &[
    ".1",
    ".2",
    "0...1...0",
    "0...1...0.r1",
    "0...1...0.r2",
    "0...1...0r1",
    "0...1...0r2",
    "0...1...1",
    "0...8",
    "0..1..0",
    "0..1..1",
    "0..8",
    "0.8.21.r1",
    "0.8.21.r2",
    "0.r1",
    "1--ruff1",
    "1-r",
    "1-r-0",
    "1-r-1",
    "1-r-2",
    "1-r0-1",
    "1-r0-2",
    "1-r0-ruff1",
    "1-r0-ruff2",
    "1-ruff",
    "1-ruff1",
    "1-ruff2",
    "1.0bc",
    "1.2.0A",
    "1.2.0D",
    "1.2_blah",
    "1.2_csv2",
    "10.2.22.r0",
    "10.2.24.r0",
    "23_foo",
    "a",
    "b",
    "c",
];

/// From before PEP 440.
const LEGACY_PYTHON: &[&str] = &[
    "-class.-jw.util.version.version-dev",
    "-class.-jw.util.version.version-pre",
    "-class.-jw.util.version.version-preview",
    "0.1-bulbasaur",
    "0.1-charmander",
    "0.9-doduo",
    "0.9-eevee",
    "0.9-fearow",
    "0.9-gyarados",
    "0.9-horsea",
    "0.9-ivysaur",
];

/// As above.
const LEGACY_PYTHON_GENERATED: &[&str] = &[
    "-class.-jw.util.version.Version-",
    "0.0.1-test1",
    "0.1-bulbasaur",
    "0.1-charmander",
    "0.3.1-p1",
    "0.3m1",
    "0.3m2",
    "0.3m3",
    "0.3m4",
    "0.3m5",
    "0.4.0-p1",
    "0.4m1",
    "0.4m2",
    "0.4m3",
    "0.4m4",
    "0.4m5",
    "0.5m1",
    "0.5m2",
    "0.5m3",
    "0.5m4",
    "0.5m5",
    "0.6m1",
    "0.6m2",
    "0.6m3",
    "0.6m4",
    "0.6m5",
    "0.6m6",
    "0.7.1.fix1",
    "0.7.10p1",
    "0.7.11p1",
    "0.7.11p2",
    "0.7.11p3",
    "0.7.4.svn.r2010",
    "0.8.1p1",
    "0.8.3p1",
    "0.8.4p1",
    "0.8.4p2",
    "0.8.6p1",
    "0.8.7p1",
    "0.9-doduo",
    "0.9-eevee",
    "0.9-fearow",
    "0.9-gyarados",
    "0.9-horsea",
    "0.9-ivysaur",
    "1.0beta6.1",
    "1.3.1-STAGING",
    "2.0.0-final",
    "2.0.1rc2-git",
    "2013-01-21T20:33:09+0100",
    "2013-01-23T17:11:52+0100",
    "2013-02-01T20:50:46+0100",
    "2013-02-02T19:59:03+0100",
    "2013-02-02T20:23:17+0100",
    "2013-02-08T17:40:57+0000",
    "2013-03-27T16:32:26+0100",
    "2013-05-09T12:47:53+0200",
    "2013-05-10T17:55:56+0200",
    "2013-05-14T20:16:05+0200",
    "2013-06-01T10:32:51+0200",
    "2013-07-19T09:11:08+0000",
    "2013-08-12T21:48:56+0200",
    "2013-09-11T19-27-10",
    "2013-12-23T17-51-15",
    "2014-01-12T15-52-10",
    "4.11-final",
    "5.0-final",
    "a3",
    "trunk",
];
