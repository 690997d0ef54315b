//! Places, scalars and limits of the YAML reader.

use super::*;

fn at(line: u32, column: u32) -> Position {
    Position { line, column }
}

#[track_caller]
fn root(text: &str) -> Node {
    parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[track_caller]
fn value_of(text: &str) -> NodeValue {
    match root(&format!("k: {text}")).value {
        NodeValue::Mapping(mut entries) => entries.remove(0).1.value,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn fails(text: &str, line: u32, column: u32, message: &str) {
    let error = parse(text).expect_err(text);
    assert_eq!((error.at, error.message.as_str()), (at(line, column), message), "{text:?}");
}

#[test]
fn core_scalars() {
    let text = |text: &str| NodeValue::String(text.to_owned());
    for (source, want) in [
        ("", NodeValue::Null),
        ("~", NodeValue::Null),
        ("null", NodeValue::Null),
        ("NULL", NodeValue::Null),
        ("nULL", text("nULL")),
        ("true", NodeValue::Bool(true)),
        ("False", NodeValue::Bool(false)),
        ("on", text("on")),
        ("yes", text("yes")),
        ("off", text("off")),
        ("'true'", text("true")),
        ("\"1\"", text("1")),
        ("1", NodeValue::Number(1.0)),
        ("-12", NodeValue::Number(-12.0)),
        ("+3", NodeValue::Number(3.0)),
        ("1.50", NodeValue::Number(1.5)),
        (".5", NodeValue::Number(0.5)),
        ("1.", NodeValue::Number(1.0)),
        ("1e3", NodeValue::Number(1000.0)),
        ("1E-2", NodeValue::Number(0.01)),
        ("0x1F", NodeValue::Number(31.0)),
        ("0o17", NodeValue::Number(15.0)),
        ("010", NodeValue::Number(10.0)),
        (".inf", NodeValue::Number(f64::INFINITY)),
        ("-.INF", NodeValue::Number(f64::NEG_INFINITY)),
        ("1_000", text("1_000")),
        ("1.2.3", text("1.2.3")),
        ("0x", text("0x")),
        ("0x+1", text("0x+1")),
        (".", text(".")),
        ("1e", text("1e")),
        ("inf", text("inf")),
        ("2024-01-01", text("2024-01-01")),
        ("!!str 12", text("12")),
        ("! 12", text("12")),
        ("!!int 12", NodeValue::Number(12.0)),
        ("!!bool true", NodeValue::Bool(true)),
        ("!<tag:yaml.org,2002:str> 1", text("1")),
        ("!<tag:yaml.org,2002:null> ~", NodeValue::Null),
    ] {
        assert_eq!(value_of(source), want, "{source:?}");
    }
    assert!(matches!(value_of(".nan"), NodeValue::Number(n) if n.is_nan()));
}

#[test]
fn nodes_know_their_place() {
    let node = root("on: push\njobs:\n  build:\n    - a\n    -  'b'\n");
    let NodeValue::Mapping(entries) = &node.value else { panic!("{node:?}") };
    assert_eq!((entries[0].0.text.as_str(), entries[0].0.at), ("on", at(1, 1)));
    assert_eq!(entries[0].1.at, at(1, 5));
    let NodeValue::Mapping(jobs) = &entries[1].1.value else { panic!("{node:?}") };
    assert_eq!(jobs[0].0.at, at(3, 3));
    let NodeValue::Sequence(items) = &jobs[0].1.value else { panic!("{node:?}") };
    assert_eq!((items[0].at, items[1].at), (at(4, 7), at(5, 8)));
}

#[test]
fn places_within_text() {
    for (source, offset, want) in [
        ("k: hello", 2, at(1, 6)),
        ("k: 'hello'", 2, at(1, 7)),
        ("k: \"hello\"", 2, at(1, 7)),
        // Escapes make columns unknowable: the start is as near as it gets.
        ("k: 'it''s x'", 5, at(1, 4)),
        ("k: one\n  two", 5, at(1, 4)),
        ("k: &a hello", 2, at(1, 4)),
        ("k: |\n  ab\n  cd\n", 1, at(2, 4)),
        ("k: |\n  ab\n  cd\n", 4, at(3, 4)),
        ("k: |\n\n\n    ab\n     cd\n", 3, at(4, 6)),
        ("k: |\n\n    ab\n     cd\n", 6, at(4, 7)),
        ("k: |2\n   ab\n", 1, at(2, 4)),
        ("k: >\n  ab\n  cd\n", 4, at(2, 3)),
    ] {
        let NodeValue::Mapping(entries) = root(source).value else { panic!("{source}") };
        assert_eq!(entries[0].1.position_of(offset), want, "{source:?} at {offset}");
    }
}

#[test]
fn what_is_no_workflow_yaml() {
    fails("a: 1\nb: 2\na: 3\n", 3, 1, "`a` is already defined");
    fails("a:\n  <<: b\n", 2, 3, "merge keys (`<<`) are not part of the workflow syntax");
    fails("a: 1\n---\nb: 2\n", 3, 1, "a file holds one YAML document; this begins a second one");
    fails("a: !foo 1", 1, 4, "the tag `!foo` does not fit its value or the workflow syntax");
    fails("a: !!int x", 1, 4, "the tag `!!int` does not fit its value or the workflow syntax");
    fails("a: !!int '1'", 1, 4, "the tag `!!int` does not fit its value or the workflow syntax");
    fails("[1]: 2", 1, 1, "a key must be text");
    fails("a: &x [*x]", 1, 8, "an alias may not refer to a value that contains it");
    fails("a: b: c", 1, 5, "invalid YAML: mapping values are not allowed in this context");
    fails("a: *q", 1, 4, "invalid YAML: while parsing node, found unknown anchor");
}

#[test]
fn aliases_repeat_values() {
    let node = root("a: &x {k: [1, 2]}\nb: *x\nc: &t text\nd: *t\n");
    let NodeValue::Mapping(entries) = node.value else { panic!("no mapping") };
    assert_eq!(entries[0].1, entries[1].1);
    assert_eq!(entries[3].1.value, NodeValue::String("text".into()));
}

#[test]
fn an_empty_file_is_null() {
    for text in ["", "# only a comment\n", "---\n", "\u{feff}"] {
        assert_eq!(root(text).value, NodeValue::Null, "{text:?}");
    }
    assert!(matches!(root("\u{feff}a: 1").value, NodeValue::Mapping(_)));
}

#[test]
fn limits() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse(&deep(MAX_DEPTH)).is_ok());
    fails(&deep(MAX_DEPTH + 2), 1, 52, "the file is nested deeper than 50 levels");
    // A million brackets must not reach the stack of this or of the parser below.
    assert!(parse(&"[".repeat(MAX_FILE_BYTES)).is_err());
    assert!(parse(&"- ".repeat(MAX_FILE_BYTES / 2)).is_err());

    let large = " ".repeat(MAX_FILE_BYTES + 1);
    fails(&large, 1, 1, "the file has 1048577 bytes, more than 1048576");

    // Each line repeats the one above nine times: 9^9 values of a few hundred bytes.
    let mut bomb = String::from("a0: &a0 [x]\n");
    for level in 1..10 {
        let above = format!("*a{},", level - 1).repeat(9);
        bomb.push_str(&format!("a{level}: &a{level} [{above}]\n"));
    }
    let error = parse(&bomb).expect_err("a bomb");
    assert_eq!(error.message, "the file has more than 200000 values");

    // Aliases add depth where the text has none.
    let mut tower = String::from("a0: &a0 [x]\n");
    for level in 1..60 {
        tower.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert_eq!(
        parse(&tower).expect_err("a tower").message,
        "the alias nests deeper than 50 levels"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[-a-c:?&*!|>'\"%@{}\\[\\],#\n \t0-9.<$]{0,60}") {
        let _ = parse(&text);
    }
}
