//! The glob dialect, and which pushes start a workflow.

use proptest::prelude::*;

use super::*;

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).expect(text)).collect()
}

#[test]
fn globs() {
    // pattern, what it matches, what it does not match
    let cases: [(&str, &[&str], &[&str]); 21] = [
        ("main", &["main"], &["Main", "mainx", "xmain", "main/x", ""]),
        ("*", &["main", "a.b", ""], &["a/b"]),
        ("**", &["main", "a/b/c", ""], &[]),
        ("feature/*", &["feature/a", "feature/"], &["feature/a/b", "feature"]),
        ("feature/**", &["feature/a", "feature/a/b"], &["feature"]),
        ("**/x", &["x", "a/x", "a/b/x"], &["ax", "a/bx", "x/a"]),
        ("docs/**/*.md", &["docs/a.md", "docs/a/b.md"], &["docs/a.txt", "a/docs/b.md"]),
        ("**/*-post.md", &["a-post.md", "x/y/a-post.md"], &["post.md"]),
        ("*.jsx?", &["a.js", "a.jsx"], &["a.jsxx", "a.j"]),
        ("v1+", &["v1", "v111"], &["v", "v12"]),
        ("v[12].[0-9]+.[0-9]+", &["v1.10.1", "v2.0.0"], &["v3.0.0", "v1..0", "v1.0"]),
        ("[CB]at", &["Cat", "Bat"], &["cat", "CBat"]),
        ("[a-]x", &["ax", "-x"], &["bx"]),
        ("a.b", &["a.b"], &["axb"]),
        ("a\\*b", &["a*b"], &["axb", "ab"]),
        ("a\\\\b", &["a\\b"], &["ab"]),
        ("[\\]]", &["]"], &["["]),
        ("(a|b)$^", &["(a|b)$^"], &["a", "b"]),
        ("releases/**-alpha", &["releases/10-alpha", "releases/a/b-alpha"], &["releases/10"]),
        ("***", &["a/b"], &[]),
        ("\\!x", &["!x"], &["x"]),
    ];
    for (text, yes, no) in cases {
        let pattern = Pattern::parse(text).expect(text);
        for name in yes {
            assert!(pattern.matches(name), "{text} should match {name:?}");
        }
        for name in no {
            assert!(!pattern.matches(name), "{text} should not match {name:?}");
        }
    }
}

#[test]
fn broken_patterns() {
    for (text, problem) in [
        ("", PatternProblem::Empty),
        ("!", PatternProblem::Empty),
        ("?x", PatternProblem::NothingToRepeat),
        ("+", PatternProblem::NothingToRepeat),
        ("*+", PatternProblem::NothingToRepeat),
        ("a++", PatternProblem::NothingToRepeat),
        ("[a", PatternProblem::UnclosedClass),
        ("[]", PatternProblem::EmptyClass),
        ("[b-a]", PatternProblem::EmptyClass),
        ("x\\", PatternProblem::TrailingEscape),
    ] {
        assert_eq!(Pattern::parse(text).expect_err(text).problem, problem, "{text}");
    }
    let long = "x".repeat(MAX_PATTERN_BYTES + 1);
    assert_eq!(Pattern::parse(&long).expect_err("long").problem, PatternProblem::TooLong);
    assert_eq!(
        Pattern::parse("[x").expect_err("open").to_string(),
        "invalid pattern `[x`: `[` is not closed"
    );
}

#[test]
fn the_last_match_decides() {
    let only = |texts: &[&str], name: &str| Filter::Only(patterns(texts)).allows(name);
    assert!(only(&["main", "rel/*"], "rel/1"));
    assert!(!only(&["main"], "other"));
    assert!(!only(&["rel/**", "!rel/**-alpha"], "rel/1-alpha"));
    assert!(only(&["rel/**", "!rel/**-alpha", "rel/keep-alpha"], "rel/keep-alpha"));
    assert!(only(&["!x", "*"], "x"), "a later positive pattern takes it back in");
    assert!(!only(&["!x"], "y"), "negative patterns alone match nothing");
    assert!(!only(&[], "y"));

    let ignore = |texts: &[&str], name: &str| Filter::Ignore(patterns(texts)).allows(name);
    assert!(!ignore(&["docs/**"], "docs/a"));
    assert!(ignore(&["docs/**"], "src/a"));
    assert!(ignore(&["docs/**", "!docs/keep"], "docs/keep"));
}

#[test]
fn pushes() {
    let filter = |branches: &[&str], tags: &[&str], paths: &[&str]| {
        let only = |texts: &[&str]| (!texts.is_empty()).then(|| Filter::Only(patterns(texts)));
        PushFilter { branches: only(branches), tags: only(tags), paths: only(paths) }
    };
    let src: Option<&[&str]> = Some(&["src/a", "README"]);
    let docs: Option<&[&str]> = Some(&["docs/a"]);
    for (filter, git_ref, paths, want) in [
        (filter(&[], &[], &[]), "refs/heads/x", src, true),
        (filter(&[], &[], &[]), "refs/tags/x", src, true),
        (filter(&[], &[], &[]), "refs/pull/1/merge", src, false),
        (filter(&["main"], &[], &[]), "refs/heads/main", src, true),
        (filter(&["main"], &[], &[]), "refs/heads/x", src, false),
        (filter(&["main"], &[], &[]), "refs/tags/main", src, false),
        (filter(&[], &["v*"], &[]), "refs/tags/v1", src, true),
        (filter(&[], &["v*"], &[]), "refs/heads/v1", src, false),
        (filter(&["**"], &["v*"], &[]), "refs/tags/v1", src, true),
        (filter(&["**"], &["v*"], &[]), "refs/tags/x", src, false),
        (filter(&[], &[], &["src/**"]), "refs/heads/x", src, true),
        (filter(&[], &[], &["src/**"]), "refs/heads/x", docs, false),
        (filter(&[], &[], &["src/**"]), "refs/heads/x", None, true),
        (filter(&[], &[], &["src/**"]), "refs/heads/x", Some(&[]), false),
        (filter(&[], &["v*"], &["src/**"]), "refs/tags/v1", docs, true),
        (filter(&["main"], &[], &["src/**"]), "refs/heads/x", src, false),
        (filter(&["main"], &[], &["src/**"]), "refs/heads/main", docs, false),
    ] {
        assert_eq!(filter.matches(git_ref, paths), want, "{filter:?} {git_ref} {paths:?}");
    }
    let ignore =
        PushFilter { paths: Some(Filter::Ignore(patterns(&["docs/**"]))), ..PushFilter::default() };
    assert!(ignore.matches("refs/heads/x", Some(&["docs/a", "src/b"])));
    assert!(!ignore.matches("refs/heads/x", docs));
}

#[test]
fn pull_request_filters() {
    let named = |types: &[&str]| PullRequestFilter {
        types: Some(types.iter().map(|name| (*name).to_owned()).collect()),
        ..PullRequestFilter::default()
    };
    let to = |branches: &[&str]| PullRequestFilter {
        branches: Some(Filter::Only(patterns(branches))),
        ..PullRequestFilter::default()
    };
    let of = |paths: &[&str]| PullRequestFilter {
        paths: Some(Filter::Only(patterns(paths))),
        ..PullRequestFilter::default()
    };
    let (src, docs): (Option<&[&str]>, Option<&[&str]>) = (Some(&["src/a"]), Some(&["docs/a"]));
    for (filter, activity, base, paths, want) in [
        (PullRequestFilter::default(), "opened", "main", src, true),
        (PullRequestFilter::default(), "synchronize", "main", src, true),
        (PullRequestFilter::default(), "reopened", "main", src, true),
        (PullRequestFilter::default(), "closed", "main", src, false),
        (named(&["closed"]), "closed", "main", src, true),
        (named(&["closed"]), "opened", "main", src, false),
        (to(&["rel/**"]), "opened", "rel/1", src, true),
        (to(&["rel/**"]), "opened", "main", src, false),
        (of(&["src/**"]), "opened", "main", src, true),
        (of(&["src/**"]), "opened", "main", docs, false),
        (of(&["src/**"]), "opened", "main", None, true),
    ] {
        assert_eq!(filter.matches(activity, base, paths), want, "{filter:?} {activity} {base}");
    }
}

proptest! {
    #[test]
    fn patterns_never_panic_and_survive_serde(
        text in "[a-c*?+!\\[\\]\\\\/-]{0,12}",
        name in "[a-c/]{0,8}",
    ) {
        if let Ok(pattern) = Pattern::parse(&text) {
            pattern.matches(&name);
            let json = serde_json::to_string(&pattern).expect("writes");
            prop_assert_eq!(serde_json::from_str::<Pattern>(&json).expect("reads"), pattern);
        }
    }

    #[test]
    fn a_plain_name_matches_only_itself(name in "[a-z/.$^(){}|]{1,10}", other in "[a-z/.]{1,10}") {
        let pattern = Pattern::parse(&name).expect("plain");
        prop_assert!(pattern.matches(&name));
        prop_assert_eq!(pattern.matches(&other), name == other);
    }
}
