//! Wrong expressions: what is said, and where.

use super::*;

#[track_caller]
fn fails(text: &str, message: &str) {
    let error = eval(text).expect_err(text);
    assert_eq!(error.to_string(), message);
}

/// `message` is what stands before the position.
#[track_caller]
fn fails_at(text: &str, position: usize, message: &str) {
    let error = eval(text).expect_err(text);
    assert_eq!(error.position(), Some(position), "{error}");
    let want = format!("{message}. Located at position {position} within expression: {text}");
    assert_eq!(error.to_string(), want);
}

#[test]
fn syntax() {
    fails_at("1 +", 3, "Unexpected symbol: '+'");
    fails_at("a ==", 3, "Unexpected end of expression: '=='");
    fails_at("(a", 2, "Unexpected end of expression: 'a'");
    fails_at("a)", 2, "Unexpected symbol: ')'");
    fails_at("a b", 3, "Unexpected symbol: 'b'");
    fails_at("a,b", 2, "Unexpected symbol: ','");
    fails_at("a.", 2, "Unexpected end of expression: '.'");
    fails_at("a.1", 3, "Unexpected symbol: '1'");
    fails_at("a['b'", 3, "Unexpected end of expression: ''b''");
    fails_at("'a'.b", 4, "Unexpected symbol: '.'");
    fails_at("'open", 1, "Unexpected symbol: ''open'");
    fails_at("\"x\"", 1, "Unexpected symbol: '\"x\"'");
    fails_at("a = b", 3, "Unexpected symbol: '='");
    fails_at("a & b", 3, "Unexpected symbol: '&'");
    fails_at("é == 1", 1, "Unexpected symbol: 'é'");
    fails_at("'é' == #x", 8, "Unexpected symbol: '#x'");
    fails_at("-0xFF", 1, "Unexpected symbol: '-0xFF'");
    fails_at("1.2.3", 1, "Unexpected symbol: '1.2.3'");
    fails_at("0b1", 1, "Unexpected symbol: '0b1'");
    fails_at("contains('a' 'b')", 14, "Unexpected symbol: ''b''");
    fails("", "An expression was expected");
    fails(" \n", "An expression was expected");
}

#[test]
fn names() {
    let scope = Scope::new(&["github", "needs"]);
    let message = |text: &str| scope.parse(text).expect_err(text).to_string();
    assert_eq!(
        message("github.x && secrets.y"),
        "Unrecognized named-value: 'secrets'. Located at position 13 within expression: github.x && secrets.y"
    );
    assert_eq!(
        message("success()"),
        "Unrecognized function: 'success'. Located at position 1 within expression: success()"
    );
    assert!(message("hashFiles('x')").starts_with("Unrecognized function: 'hashFiles'"));
    assert!(message("foo(github)").starts_with("Unrecognized function: 'foo'"));
    // What comes first in the text is said first.
    assert!(message("foo.bar(").starts_with("Unrecognized named-value: 'foo'"));
    assert!(scope.parse("GITHUB.needs['x']").is_ok());
    assert!(scope.with_status_functions().parse("ALWAYS()").is_ok());
    assert!(scope.with_hash_files().parse("hashfiles('x')").is_ok());
    // Without a scope, every context is fine; functions are known all the same.
    assert!(parse("whatever.x").is_ok());
    fails_at("foo()", 1, "Unrecognized function: 'foo'");
}

#[test]
fn arguments() {
    fails_at("contains('a')", 1, "Too few parameters supplied: 'contains'");
    fails_at("  toJSON(1, 2)", 3, "Too many parameters supplied: 'toJSON'");
    fails_at("format()", 1, "Too few parameters supplied: 'format'");
    fails_at("always(1)", 1, "Too many parameters supplied: 'always'");
    fails_at("case(true, 1)", 1, "Too few parameters supplied: 'case'");
    fails_at(
        "case(true, 1, false, 2)",
        1,
        "Even number of parameters supplied, requires an odd number of parameters: 'case'",
    );
    let many = vec!["'x'"; 256].join(",");
    assert!(matches!(
        eval(&format!("hashFiles({many})")),
        Err(ExprError::TooManyParameters { .. })
    ));
}

#[test]
fn evaluation() {
    fails("format('{0')", "The following format string is invalid: {0");
    fails("format('{}', 1)", "The following format string is invalid: {}");
    fails("format('{a}', 1)", "The following format string is invalid: {a}");
    fails("format('}', 1)", "The following format string is invalid: }");
    fails(
        "format('{1}', 1)",
        "The following format string references more arguments than were supplied: {1}",
    );
    fails("case('true', 1, 2)", "case predicate must evaluate to a boolean value");
    fails("hashFiles('fail')", "hashFiles failed: no such folder");
    let error = eval("fromJSON('')").expect_err("no JSON").to_string();
    assert!(error.starts_with("Error parsing fromJson: "), "{error}");
    let status = evaluate(&parse("success()").expect("parses"), &Contexts::new(), &NoFunctions);
    assert_eq!(status, Err(ExprError::Unavailable { name: "success".into() }));
}

#[test]
fn limits() {
    let chain = |part: &str, times: usize| format!("a{}", part.repeat(times));
    for part in [".b", "[0]", ".*", "[*]"] {
        assert!(parse(&chain(part, MAX_EXPRESSION_DEPTH - 1)).is_ok(), "{part}");
        assert_eq!(parse(&chain(part, MAX_EXPRESSION_DEPTH)), Err(ExprError::TooDeep), "{part}");
    }
    assert_eq!(parse(&"!".repeat(20_000)), Err(ExprError::TooDeep));
    assert_eq!(parse(&"(".repeat(20_000)), Err(ExprError::TooDeep));
    assert_eq!(parse(&"toJSON(".repeat(2_500)), Err(ExprError::TooDeep));
    assert_eq!(parse(&"a[".repeat(10_000)), Err(ExprError::TooDeep));
    assert_eq!(parse(&["1"; 60].join("==")), Err(ExprError::TooDeep));
    // Chains of `&&` and `||` are one node each.
    assert!(parse(&["1"; 5_000].join("&&")).is_ok());
    assert!(parse(&["1"; 5_000].join("||")).is_ok());

    assert!(parse(&format!("'{}'", "x".repeat(MAX_EXPRESSION_CHARS - 2))).is_ok());
    let long = format!("'{}'", "x".repeat(MAX_EXPRESSION_CHARS - 1));
    assert_eq!(parse(&long), Err(ExprError::TooLong));

    // 10^6 characters out of a hundred.
    let bomb = (0..6).fold("'x'".to_owned(), |inner, _| {
        format!("format('{{0}}{{0}}{{0}}{{0}}{{0}}{{0}}{{0}}{{0}}{{0}}{{0}}', {inner})")
    });
    assert_eq!(eval(&bomb), Err(ExprError::TooMuchMemory));
}
