//! The language, rule by rule, as tables of expression and value.

use serde_json::json;

use super::*;

mod errors;
mod wire;

/// Status functions of a job that goes well; `hashFiles` echoes its patterns.
pub(super) struct Job;

impl Functions for Job {
    fn status(&self, name: &str) -> Option<bool> {
        Some(matches!(name, "success" | "always"))
    }

    fn hash_files(&self, patterns: &[String]) -> Result<String, String> {
        if patterns.iter().any(|p| p == "fail") {
            Err("no such folder".into())
        } else {
            Ok(patterns.join("+"))
        }
    }
}

fn contexts() -> Contexts {
    let mut env = Object::case_sensitive();
    env.insert("Path", "upper");
    env.insert("path", "lower");
    let github = json!({
        "ref": "refs/heads/Main", "run_id": "7", "event": {
            "commits": [
                {"id": "a1", "author": {"name": "Ann"}, "files": ["x", "y"]},
                {"id": "b2", "files": ["z"]},
                {"author": {"name": null}},
                "odd",
            ],
            "empty": {}, "none": null, "list": ["zero", "one", "two"], "0.5": "half", "": "blank",
        },
    });
    Contexts::new().with("github", github).with("env", env).with("numbers", json!([1, 2, 3]))
}

#[track_caller]
pub(super) fn eval(text: &str) -> Result<Value, ExprError> {
    evaluate(&parse(text)?, &contexts(), &Job)
}

#[track_caller]
fn check(text: &str, want: impl Into<Value>) {
    let want = want.into();
    assert_eq!(eval(text), Ok(want), "{text}");
}

#[track_caller]
fn check_all<const N: usize>(cases: [(&str, serde_json::Value); N]) {
    for (text, want) in cases {
        let got = eval(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(got.to_json(), want, "{text}");
    }
}

#[test]
fn literals() {
    check_all([
        ("null", json!(null)),
        ("true", json!(true)),
        ("false", json!(false)),
        ("1", json!(1)),
        (".5", json!(0.5)),
        ("5.", json!(5)),
        ("-2", json!(-2)),
        ("+1", json!(1)),
        ("1e3", json!(1000)),
        ("1E-2", json!(0.01)),
        ("0xff", json!(255)),
        ("0xFFFFFFFF", json!(-1)),
        ("0o17", json!(15)),
        ("'it''s'", json!("it's")),
        ("''", json!("")),
        ("'é ✓'", json!("é ✓")),
        ("  'x'\n", json!("x")),
        ("Infinity == 1e999", json!(true)),
        ("-Infinity == -1e999", json!(true)),
        ("NaN == NaN", json!(false)),
    ]);
    // Keywords are told apart by case: these are contexts, which are null here.
    check_all([("True", json!(null)), ("NULL", json!(null)), ("infinity", json!(null))]);
}

#[test]
fn precedence_and_associativity() {
    check_all([
        ("1 == 1 && 2 == 2", json!(true)),
        ("true || true && false", json!(true)),
        ("(true || true) && false", json!(false)),
        ("!true == false", json!(true)),
        ("!(true == false)", json!(true)),
        ("1 < 2 == true", json!(true)),
        ("true == 1 < 2", json!(true)),
        ("3 > 2 > 1", json!(false)),
        ("3 > 2 >= 1", json!(true)),
        ("1 == 1 == 1", json!(true)),
        ("2 == 2 == 2", json!(false)),
        ("!!1", json!(true)),
        ("false || false && true || 'x'", json!("x")),
    ]);
}

#[test]
fn and_and_or_return_an_operand_and_stop_early() {
    check_all([
        ("'a' && 'b'", json!("b")),
        ("'' && 'b'", json!("")),
        ("'a' || 'b'", json!("a")),
        ("null || 0 || 'c'", json!("c")),
        ("null || 0", json!(0)),
        ("1 && 2 && 3", json!(3)),
        ("false && fromJSON('broken')", json!(false)),
        ("true || fromJSON('broken')", json!(true)),
    ]);
}

#[test]
fn truth() {
    for text in ["null", "false", "0", "-0", "0.0", "NaN", "''", "github.nothing"] {
        check(&format!("!({text})"), true);
    }
    for text in
        ["true", "'false'", "'0'", "-1", "Infinity", "github", "fromJSON('[]')", "fromJSON('{}')"]
    {
        check(&format!("!({text})"), false);
    }
}

#[test]
fn equality() {
    for text in [
        "'abc' == 'ABC'",
        "'Grüße' == 'GRÜSSE' == false",
        "'ü' == 'Ü'",
        "'σ' == 'ς'",
        "'Σ' == 'ς'",
        "null == 0",
        "null == ''",
        "true == 1",
        "true == '1'",
        "false == ''",
        "'0x10' == 16",
        "' 12 ' == 12",
        "'' == 0",
        "'abc' != 0",
        "'true' != true",
        "NaN != NaN",
        "github == github",
        "github.event.empty == github.event.empty",
        "fromJSON('{}') != fromJSON('{}')",
        "fromJSON('[1]') != fromJSON('[1]')",
        "fromJSON('[]') != 0",
        "-0 == 0",
        "null == null",
        // A letter outside ASCII equals no ASCII letter.
        "'ı' != 'i'",
        "'ſ' != 's'",
    ] {
        check(text, true);
    }
}

#[test]
fn order() {
    for (text, want) in [
        ("1 < 2", true),
        ("2 <= 2", true),
        ("'a' < 'B'", true),
        ("'B' < 'a'", false),
        ("'a' <= 'A'", true),
        ("'10' < '9'", true),
        ("'10' < 9", false),
        ("10 > '9'", true),
        ("null < 1", true),
        ("true > false", true),
        ("NaN < 1", false),
        ("NaN >= NaN", false),
        ("'x' > 1", false),
        ("'x' <= 1", false),
        ("github > 0", false),
        ("github < 0", false),
        ("github >= github", false),
    ] {
        check(text, want);
    }
}

#[test]
fn numbers_print_with_fifteen_digits() {
    for (text, want) in [
        ("0", "0"),
        ("-0", "0"),
        ("1.50", "1.5"),
        ("0.84551240822557006", "0.84551240822557"),
        ("0.1", "0.1"),
        ("3.3333333333333335", "3.33333333333333"),
        ("123456789012345", "123456789012345"),
        ("1234567890123456", "1.23456789012346E+15"),
        ("999999999999999.9", "1E+15"),
        ("1e15", "1E+15"),
        ("1e14", "100000000000000"),
        ("1e100", "1E+100"),
        ("0.0001", "0.0001"),
        ("0.00001", "1E-05"),
        ("0.000012345", "1.2345E-05"),
        ("-1.5e-7", "-1.5E-07"),
        ("1e-300", "1E-300"),
        ("Infinity", "Infinity"),
        ("-Infinity", "-Infinity"),
        ("NaN", "NaN"),
    ] {
        check(&format!("format('{{0}}', {text})"), want);
    }
}

#[test]
fn access() {
    check_all([
        ("github.REF", json!("refs/heads/Main")),
        ("GitHub['Ref']", json!("refs/heads/Main")),
        ("github . ref", json!("refs/heads/Main")),
        ("github.nothing.at.all", json!(null)),
        ("github.event.none.x", json!(null)),
        ("github.ref.length", json!(null)),
        ("env.path", json!("lower")),
        ("env.Path", json!("upper")),
        ("env.PATH", json!(null)),
        ("github.event.list[1]", json!("one")),
        ("github.event.list[1.9]", json!("one")),
        ("github.event.list['2']", json!("two")),
        ("github.event.list[true]", json!("one")),
        ("github.event.list[null]", json!("zero")),
        ("github.event.list[-1]", json!(null)),
        ("github.event.list[-0.5]", json!("zero")),
        ("github.event.list[3]", json!(null)),
        ("github.event.list['x']", json!(null)),
        ("github.event.list[NaN]", json!(null)),
        ("github.event.list[Infinity]", json!(null)),
        ("github.event[.5]", json!("half")),
        ("github.event[null]", json!("blank")),
        ("github.event[github]", json!(null)),
        ("github.event.list[github]", json!(null)),
        ("github.true", json!(null)),
        ("github.null.x", json!(null)),
        ("fromJSON('[4,5]')[1]", json!(5)),
        ("(numbers)[0]", json!(1)),
    ]);
}

#[test]
fn filtered_arrays() {
    check_all([
        ("github.event.commits.*.id", json!(["a1", "b2"])),
        ("github.event.commits[*].id", json!(["a1", "b2"])),
        // A null member is a member; a missing one is left out.
        ("github.event.commits.*.author.name", json!(["Ann", null])),
        ("github.event.commits.*.files[0]", json!(["x", "z"])),
        ("github.event.commits.*.files.*", json!(["x", "y", "z"])),
        ("github.event.commits.*.nothing", json!([])),
        ("github.event.empty.*", json!([])),
        ("github.ref.*", json!([])),
        ("github.event.none.*", json!([])),
        ("github.nothing.*.x", json!([])),
        // Values of an object, in order.
        ("fromJSON('{\"b\":2,\"a\":1}').*", json!([2, 1])),
        ("join(github.event.commits.*.id, ' ')", json!("a1 b2")),
        ("contains(github.event.commits.*.id, 'B2')", json!(true)),
        // A filtered array that went through a group is filtered still, as the tree is the same.
        ("(github.event.commits.*).id", json!(["a1", "b2"])),
    ]);
}

#[test]
fn functions() {
    check_all([
        ("contains('Hello', 'ELL')", json!(true)),
        ("CONTAINS('Hello', '')", json!(true)),
        ("contains(123, 2)", json!(true)),
        ("contains(numbers, '2')", json!(true)),
        ("contains(numbers, 4)", json!(false)),
        ("contains(github, 'ref')", json!(false)),
        ("contains('Object', github)", json!(false)),
        ("startsWith(github.ref, 'REFS/heads/')", json!(true)),
        ("startsWith(null, '')", json!(true)),
        ("endsWith('x.YML', '.yml')", json!(true)),
        ("endsWith(github, '')", json!(false)),
        ("format('{0} {1} {0}', 'a', 2)", json!("a 2 a")),
        ("format('{{{0}}}', 'x')", json!("{x}")),
        ("format('{0}{1}{2}', null, true, numbers)", json!("trueArray")),
        ("format('{00}', 'x')", json!("x")),
        ("join(numbers)", json!("1,2,3")),
        ("join(numbers, null)", json!("123")),
        ("join(numbers, '; ')", json!("1; 2; 3")),
        ("join(numbers, github)", json!("1,2,3")),
        ("join('x', 'y')", json!("x")),
        ("join(github)", json!("")),
        ("join(fromJSON('[[1],{},null,true]'))", json!("Array,Object,,true")),
        ("fromJSON('{\"A\": [1, null]}').a[0]", json!(1)),
        ("fromJSON(' 1.5 ')", json!(1.5)),
        ("hashFiles('**/a', '!b')", json!("**/a+!b")),
        ("case(false, 1, true, 2, 3)", json!(2)),
        ("case(false, 1, 3)", json!(3)),
        ("case(true, 'x', fromJSON('broken'))", json!("x")),
        ("case(true, 'x', fromJSON('broken'), 1, 2)", json!("x")),
        ("success() && always()", json!(true)),
        ("failure() || cancelled()", json!(false)),
    ]);
}

#[test]
fn to_json_prints_with_two_blanks() {
    check("toJSON(github.event.empty)", "{}");
    check("toJSON(fromJSON('[]'))", "[]");
    check("toJSON('a\"b\\c')", r#""a\"b\\c""#);
    check("toJSON(1e15)", "1E+15");
    check(
        "toJSON(fromJSON('{\"a\":[1,[],{}],\"b\":{\"c\":null}}'))",
        "{\n  \"a\": [\n    1,\n    [],\n    {}\n  ],\n  \"b\": {\n    \"c\": null\n  }\n}",
    );
}

#[test]
fn identities_of_objects_survive_copies() {
    let contexts = contexts();
    let github = contexts.get("GITHUB").cloned().unwrap_or_default();
    let both = contexts.with("other", github);
    let expr = parse("github == other").expect("parses");
    assert_eq!(evaluate(&expr, &both, &Job), Ok(Value::Bool(true)));
}

#[test]
fn what_an_expression_uses() {
    let uses = |text: &str| uses_status_function(&parse(text).expect(text));
    assert!(uses("a && !Failure()"));
    assert!(uses("format('{0}', always())"));
    assert!(!uses("'success()' == github.x"));
    let expr = parse("needs.a.outputs.b == needs['c'].result || needs[x].y || need.d").expect("ok");
    assert_eq!(expr.paths_of("needs"), [vec!["a", "outputs", "b"], vec!["c", "result"]]);
    assert!(expr.uses_context("NEEDS") && !expr.uses_context("outputs"));
}
