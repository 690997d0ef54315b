use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn matchers(all: &[Value]) -> Matchers {
    let mut matchers = Matchers::default();
    for value in all {
        let file = json!({"problemMatcher": [value]}).to_string();
        for matcher in parse(file.as_bytes()).unwrap() {
            matchers.add(matcher).unwrap();
        }
    }
    matchers
}

/// `file:line:column severity code message` of each line that told of something.
fn found(matchers: &mut Matchers, lines: &[&str]) -> Vec<String> {
    let text = |f: Found| {
        format!("{}:{}:{} {} {} {}", f.file, f.line, f.column, f.severity, f.code, f.message)
    };
    lines.iter().filter_map(|line| matchers.look(line).found.map(text)).collect()
}

fn gcc() -> Value {
    json!({"owner": "gcc", "pattern": [{
        "regexp": "^(.+?):(\\d+):(\\d+): (warning|error): (.+?)(?: \\[(.+)\\])?$",
        "file": 1, "line": 2, "column": 3, "severity": 4, "message": 5, "code": 6}]})
}

fn eslint() -> Value {
    json!({"owner": "eslint", "severity": "warning", "pattern": [
        {"regexp": "^(/.+)$", "file": 1},
        {"regexp": "^ +(\\d+):(\\d+) +(?<m>.+)$", "line": 1, "column": 2, "message": 3,
         "loop": true}]})
}

#[test]
fn one_pattern_takes_one_line() {
    let got = found(
        &mut matchers(&[gcc()]),
        &[
            "make: all",
            "a.c:3:7: error: no ';' [-Wx]",
            "\u{1b}[31ma.c:4:1: \u{1b}[1;35mwarning:\u{1b}[m odd",
        ],
    );
    assert_eq!(got, ["a.c:3:7 error -Wx no ';'", "a.c:4:1 warning  odd"]);
}

#[test]
fn a_loop_goes_on_until_a_line_does_not_match() {
    let lines = ["/a.js", "  1:2  one", "  3:4  two", "", "  5:6  not one", "/b.js", "  7:8  b"];
    let got = found(&mut matchers(&[eslint()]), &lines);
    let want = ["/a.js:1:2 warning  one", "/a.js:3:4 warning  two", "/b.js:7:8 warning  b"];
    assert_eq!(got, want);
}

#[test]
fn patterns_match_consecutive_lines_only() {
    let three = json!({"owner": "three", "pattern": [
        {"regexp": "^A (.+)$", "file": 1}, {"regexp": "^B (\\d+)$", "line": 1},
        {"regexp": "^C (.+)$", "message": 1}]});
    let lines = ["A f", "x", "B 1", "C no", "A f", "A g", "B 2", "C yes", "C no"];
    assert_eq!(found(&mut matchers(&[three]), &lines), ["g:2:   yes"]);
}

#[test]
fn the_newest_is_asked_first_and_resets_the_others() {
    let newer = json!({"owner": "n", "severity": "notice", "pattern": [
        {"regexp": "^( +1:2 +one)$", "message": 1}]});
    let mut all = matchers(&[eslint(), newer]);
    let got = found(&mut all, &["/a.js", "  1:2  one", "  3:4  two"]);
    assert_eq!(got, ["::1: notice  1:2  one".replace("::1:", "::")]);
    all.remove("N");
    assert_eq!(found(&mut all, &["/a.js", "  1:2  one"]).len(), 1);
    let again = json!({"owner": "ESLint", "pattern": [{"regexp": "^(x)$", "message": 1}]});
    let file = json!({"problemMatcher": [again]}).to_string();
    all.add(parse(file.as_bytes()).unwrap().remove(0)).unwrap();
    assert_eq!(
        found(&mut all, &["/a.js", "  1:2  one", "x"]),
        ["::  x".replace("::  x", "::   x")]
    );
}

#[test]
fn an_expression_that_takes_too_long_is_removed() {
    let slow = json!({"owner": "slow", "pattern": [
        {"regexp": "^(?=(a+)+$)(a|aa)+\\1b$", "message": 1}]});
    let mut all = matchers(&[gcc(), slow]);
    let line = "a".repeat(200);
    for _ in 1..MAX_FAILURES {
        assert_eq!(all.look(&line), Outcome::default());
    }
    assert_eq!(all.look(&line).removed, ["slow"]);
    assert_eq!(found(&mut all, &["a.c:3:7: error: x"]).len(), 1, "the other one stays");
}

#[test]
fn look_around_works() {
    let ahead = json!({"owner": "x", "pattern": [
        {"regexp": "^(?!ignored)(.+?)(?<=\\.c): (.+)$", "file": 1, "message": 2}]});
    let got = found(&mut matchers(&[ahead]), &["ignored.c: m", "b.c: m", "b.h: m"]);
    assert_eq!(got, ["b.c::   m"]);
}

#[test]
fn what_is_wrong_is_said() {
    let ok = json!({"regexp": "(x)", "message": 1});
    for (matcher, want) in [
        (json!({"pattern": [ok]}), "`owner` is missing"),
        (json!({"owner": "o", "pattern": []}), "matcher `o`: it has 0 patterns"),
        (json!({"owner": "o", "severity": "fatal", "pattern": [ok]}), "severity `fatal`"),
        (json!({"owner": "o", "pattern": [{"regexp": "(x)", "file": 1}]}), "the `message`"),
        (json!({"owner": "o", "pattern": [{"regexp": "(x", "message": 1}]}), "cannot be used"),
        (json!({"owner": "o", "pattern": [{"regexp": "x", "message": 1}]}), "does not have"),
        (json!({"owner": "o", "pattern": [{"message": 0}]}), "`regexp` is missing"),
        (json!({"owner": "o", "pattern": [{"regexp": "(x)", "message": 1, "loop": true}]}), "loop"),
        (json!({"owner": "o", "pattern": [ok, ok]}), "`message` is set by two patterns"),
    ] {
        let file = json!({"problemMatcher": [matcher]}).to_string();
        let error = parse(file.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(want), "got: {error}\nwant: {want}");
    }
    let twice = json!({"problemMatcher": [gcc(), gcc()]}).to_string();
    assert!(parse(twice.as_bytes()).unwrap_err().to_string().contains("twice"));
    assert!(parse(b"{}").is_err() && parse(b"[").is_err());
}

proptest! {
    #[test]
    fn any_file_and_any_line_are_read_without_panic(
        text in ".{0,80}",
        regexp in "[()?a-z.*+|\\\\\\[\\]^$<>=!0-9]{0,14}",
        lines in proptest::collection::vec(".{0,40}", 0..6),
    ) {
        let _ = parse(text.as_bytes());
        let file = json!({"problemMatcher": [{"owner": text, "pattern": [
            {"regexp": regexp, "file": 0}, {"regexp": regexp, "message": 0, "loop": true}]}]});
        let mut matchers = Matchers::default();
        for matcher in parse(file.to_string().as_bytes()).unwrap_or_default() {
            matchers.add(matcher).unwrap();
        }
        for line in &lines {
            let _ = matchers.look(line);
        }
    }
}
