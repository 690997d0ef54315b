use proptest::prelude::*;

use super::*;

#[track_caller]
fn check(patterns: &str, path: &str, want: bool) {
    let ignore = Ignore::parse(&patterns.replace(' ', "\n")).unwrap();
    assert_eq!(ignore.is_ignored(path), want, "{patterns:?} on {path:?}");
}

#[test]
fn single_patterns() {
    for (pattern, fits, does_not) in [
        ("a", &["a", "a/b", "a/b/c"][..], &["b", "b/a", "ab"][..]),
        ("/a/", &["a", "a/b"], &["b/a"]),
        ("./a//b/../c", &["a/c"], &["a/b", "c"]),
        ("*", &["a", "a/b", ".git/x"], &[]),
        ("*.go", &["a.go", ".go", "a.go/b"], &["a/b.go", "a.gox"]),
        ("*/*.go", &["a/b.go"], &["b.go", "a/b/c.go"]),
        ("a?c", &["abc"], &["ac", "a/c", "abbc"]),
        ("**", &["a", "a/b"], &[]),
        ("**/", &["a", "a/b"], &[]),
        ("**/a", &["a", "b/a", "b/c/a", "b/a/c"], &["ba", "b/ba"]),
        ("**/*.go", &["a.go", "b/c.go"], &["a.gox"]),
        ("a/**", &["a/b", "a/b/c"], &["a", "b/a/c"]),
        ("a/**/b", &["a/b", "a/x/b", "a/x/y/b", "a/b/c"], &["a", "b", "a/xb"]),
        ("**/a/**", &["a/b", "x/a/b"], &["a", "x/a"]),
        ("a**/b", &["a/b", "ax/b", "ax/y/b"], &["b"]),
        ("**.go", &["a.go", "b/c.go", ".go"], &["a.gox"]),
        ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
        ("[^a-c]x", &["dx"], &["ax"]),
        ("[\\]a]", &["]", "a"], &["b"]),
        ("\\*", &["*"], &["a"]),
        ("a.b", &["a.b"], &["axb"]),
        ("a+(b)$^|{c}", &["a+(b)$^|{c}"], &["aab"]),
        ("é*", &["é", "éa"], &["e"]),
    ] {
        for path in fits {
            check(pattern, path, true);
        }
        for path in does_not {
            check(pattern, path, false);
        }
    }
}

#[test]
fn the_last_pattern_counts() {
    check("* !a", "a", false);
    check("* !a", "a/b", false);
    check("* !a", "b", true);
    check("* !a a/b", "a/b", true);
    check("!a *", "a", true);
    check("a !a/b", "a/b/c", false);
    check("a !a/b", "a/c", true);
    check("a !a/b a/b/c", "a/b/c", true);
    check("** !README.md", "README.md", false);
    check("*.md !README*.md README-secret.md", "README-secret.md", true);
    check("*.md !README*.md", "README-x.md", false);
    check("node_modules !**/keep", "node_modules/x/keep", false);
    check("", "a", false);
}

#[test]
fn lines_are_trimmed_and_comments_dropped() {
    let ignore = Ignore::parse("\u{feff}a \r\n\n# b\n  ! a/b  \n #c\n").unwrap();
    assert!(ignore.is_ignored("a/c"));
    assert!(!ignore.is_ignored("a/b"));
    assert!(!ignore.is_ignored("b"));
    // Only a `#` in the first column starts a comment.
    assert!(ignore.is_ignored("#c"));
    assert!(!ignore.is_empty());
    assert!(Ignore::default().is_empty());
}

#[test]
fn bad_patterns_say_where() {
    for (text, want) in [
        ("a\n!\n", "line 2: bad pattern `!`: `!` needs a pattern"),
        ("[a", "line 1: bad pattern `[a`: a `[` has no `]`, or nothing in it"),
        ("[]a]", "line 1: bad pattern `[]a]`: a `[` has no `]`, or nothing in it"),
        ("[b-a]", "line 1: bad pattern `[b-a]`: a range in `[` `]` is the wrong way round"),
        ("a\\", "line 1: bad pattern `a\\`: `\\` escapes nothing"),
    ] {
        assert_eq!(Ignore::parse(text).unwrap_err().to_string(), want);
    }
    assert_eq!(Ignore::from_patterns(&["[", "a"]).unwrap_err().line, 0);
    assert!(Ignore::parse(&"a\n".repeat(MAX_PATTERNS + 1)).is_err());
}

#[test]
fn folders_are_skipped_only_when_nothing_can_come_back() {
    let skip = |patterns: &str, directory: &str| {
        Ignore::parse(&patterns.replace(' ', "\n")).unwrap().can_skip(directory)
    };
    assert!(skip("a", "a"));
    assert!(!skip("a", "b"));
    assert!(!skip("a !a/b/c", "a"));
    assert!(!skip("a !a/b/c", "a/b"));
    assert!(skip("a !a/b/c", "a/x"));
    assert!(!skip("a !**/c", "a/x"));
    assert!(skip("a !b/*.c", "a"));
    assert!(!skip("a !a*", "a"));
}

fn any_patterns() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("!?[ab*?/]{1,6}", 1..5)
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]{1,2}", 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,60}", path in "\\PC{0,30}") {
        if let Ok(ignore) = Ignore::parse(&text) {
            ignore.is_ignored(&path);
            ignore.can_skip(&path);
        }
    }

    #[test]
    fn what_is_skipped_holds_nothing(patterns in any_patterns(), dir in any_path(), name in any_path()) {
        if let Ok(ignore) = Ignore::from_patterns(&patterns)
            && ignore.can_skip(&dir)
        {
            let inside = format!("{dir}/{name}");
            prop_assert!(ignore.is_ignored(&inside), "{patterns:?} {inside}");
        }
    }

    #[test]
    fn plain_names_are_folders_and_all_in_them(path in any_path(), below in any_path()) {
        let ignore = Ignore::from_patterns(std::slice::from_ref(&path)).unwrap();
        prop_assert!(ignore.is_ignored(&path));
        let inside = format!("{path}/{below}");
        prop_assert!(ignore.is_ignored(&inside));
        let longer = format!("{path}c/{below}");
        prop_assert!(!ignore.is_ignored(&longer));
    }
}
