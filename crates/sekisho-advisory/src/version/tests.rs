//! Small cases of our own for every rule; the long lists are in `tests/it`.

use proptest::prelude::*;

use super::*;

#[track_caller]
fn ascending(scheme: Scheme, versions: &[&str]) {
    for (i, left) in versions.iter().enumerate() {
        for (j, right) in versions.iter().enumerate() {
            assert_eq!(scheme.compare(left, right), Ok(i.cmp(&j)), "{left} and {right}");
        }
    }
}

#[track_caller]
fn equal(scheme: Scheme, left: &str, right: &str) {
    assert_eq!(scheme.compare(left, right), Ok(Ordering::Equal), "{left} and {right}");
    assert_eq!(scheme.compare(right, left), Ok(Ordering::Equal), "{right} and {left}");
}

#[track_caller]
fn refused(scheme: Scheme, versions: &[&str]) {
    for version in versions {
        assert!(scheme.check(version).is_err(), "{version:?} was taken");
    }
}

#[test]
fn debian_order() {
    ascending(Scheme::Deb, &["1~~", "1~~a", "1~", "1", "1-0.1", "1-1~deb12u1", "1-1", "1-1+b1"]);
    ascending(Scheme::Deb, &["2.36-9+deb12u2", "2.36-9+deb12u3", "2.36-9+deb12u10", "1:0"]);
    ascending(Scheme::Deb, &["1.9", "1.9a", "1.9+x", "1.10"]);
    equal(Scheme::Deb, "0:1.0", "1.0-0");
    equal(Scheme::Deb, "1.007", "1.7");
    refused(Scheme::Deb, &["", ":1", "a:1", "1-", "1 2", "1_2", "1:", "-1", "é"]);
}

#[test]
fn alpine_order() {
    ascending(
        Scheme::Apk,
        &["1.2_alpha1", "1.2_beta", "1.2_rc1", "1.2_rc2", "1.2", "1.2_git20200101", "1.2_p1"],
    );
    ascending(
        Scheme::Apk,
        &["1.2-r0", "1.2-r1", "1.2-r10", "1.2a-r0", "1.2p", "1.2p1", "1.2p10", "1.2.1", "1.10"],
    );
    ascending(Scheme::Apk, &["0.1.0_alpha_pre2", "0.1.0_alpha", "1.05", "1.1"]);
    equal(Scheme::Apk, "1.2", "1.2-r0");
    refused(Scheme::Apk, &["", "a", "1..2", "1.", "1-r", "1-x", "1.2_foo", "1.2A", "1.2bc", "1_"]);
}

#[test]
fn semantic_order() {
    ascending(
        Scheme::Semver,
        &["1.0.0-0", "1.0.0-1", "1.0.0-a", "1.0.0-a.1", "1.0.0-a.a", "1.0.0-b", "1.0.0", "1.0.1"],
    );
    ascending(Scheme::Semver, &["4.17.15", "4.17.21", "4.18.0", "10.0.0"]);
    equal(Scheme::Semver, "v1.2.3+x", "1.2.3+y");
    equal(Scheme::Semver, "1.2", "1.2.0");
    refused(
        Scheme::Semver,
        &["", "x", "1.x", "1.2.3-", "1.2.3-a..b", "1.2.3+", "^1.2.3", "latest"],
    );
}

#[test]
fn python_order() {
    ascending(
        Scheme::Pep440,
        &[
            "1.0.dev1",
            "1.0a1.dev1",
            "1.0a1",
            "1.0b2",
            "1.0rc1",
            "1.0",
            "1.0+x",
            "1.0+1",
            "1.0.post1",
            "1.1",
            "1!0.1",
        ],
    );
    equal(Scheme::Pep440, "v1.0-ALPHA_1", "1.0.0a1");
    equal(Scheme::Pep440, "1.0-1", "1.0.post1");
    equal(Scheme::Pep440, "1.0.c.2", "1rc2");
    refused(Scheme::Pep440, &["", "x", "1.0-x", "1.0+", "2004d-custom", "1.0.", "!1"]);
}

#[test]
fn a_version_without_end_is_refused() {
    let long = "1.".repeat(MAX_LEN) + "1";
    for scheme in [Scheme::Deb, Scheme::Apk, Scheme::Semver, Scheme::Pep440] {
        let error = scheme.check(&long).unwrap_err();
        assert_eq!((error.problem, error.version.len()), ("it is too long", 64));
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9]{1,2}(\\.[0-9]{1,2}){0,2}[a-c]?(_(rc|p|alpha)[0-9]?){0,2}(-r[0-9])?",
        "([0-9]:)?[0-9][0-9a-b.+~]{0,4}(-[0-9a-b.+~]{1,3})?",
        "[0-9]\\.[0-9]\\.[0-9](-[0-9a-b]{1,2}(\\.[0-9a-b]){0,2})?",
        "([0-9]!)?[0-9](\\.[0-9]){0,2}(a[0-9]|rc[0-9])?(\\.post[0-9])?(\\.dev[0-9])?(\\+[0-9a-b.]{1,3})?",
        ".{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A total order, on whatever parses; and no text panics.
    #[test]
    fn every_scheme_is_an_order(a in text(), b in text(), c in text()) {
        for scheme in [Scheme::Deb, Scheme::Apk, Scheme::Semver, Scheme::Pep440] {
            let (Ok(ab), Ok(bc), Ok(ac)) =
                (scheme.compare(&a, &b), scheme.compare(&b, &c), scheme.compare(&a, &c))
            else {
                continue;
            };
            prop_assert_eq!(scheme.compare(&b, &a), Ok(ab.reverse()));
            prop_assert_eq!(scheme.compare(&a, &a), Ok(Ordering::Equal));
            if ab == bc || bc.is_eq() {
                prop_assert_eq!(ac, ab, "{} {} {} {}", scheme.as_str(), a, b, c);
            }
        }
    }
}
