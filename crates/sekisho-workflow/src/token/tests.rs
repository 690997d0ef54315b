//! Tokens: from YAML, over the wire, to values.

use proptest::prelude::*;
use serde_json::json;

use super::scalar::TokenProblem;
use super::*;
use crate::expr::{Contexts, NoFunctions, Scope, Value};
use crate::yaml;

const SCOPE: Scope = Scope::new(&["github", "env", "matrix"]);

#[track_caller]
fn from(text: &str) -> Token {
    let node = yaml::parse(text).expect(text);
    from_yaml(&node, Some(&SCOPE)).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

#[test]
fn text_with_expressions_becomes_one_expression() {
    for (text, want) in [
        ("${{ github.ref }}", "github.ref"),
        ("${{github.ref}}", "github.ref"),
        ("a${{ github.ref }}", "format('a{0}', github.ref)"),
        ("${{ 1 }}${{ 2 }}", "format('{0}{1}', 1, 2)"),
        ("it's {x} ${{ 1 }} }{", "format('it''s {{x}} {0} }}{{', 1)"),
        ("${{ 'it''s }}' }}!", "format('{0}!', 'it''s }}')"),
        ("${{ 1 }} }}", "format('{0} }}}}', 1)"),
        (" ${{ 1 }} ", "format(' {0} ', 1)"),
    ] {
        let token = from_text(text, Some(&SCOPE)).expect(text);
        assert_eq!(token.kind, TokenKind::Expression(want.into()), "{text}");
    }
    for (text, want) in [("${{ '}}' }}", "}}"), ("${{ 'it''s ${{ x }}' }}", "it's ${{ x }}")] {
        let token = from_text(text, Some(&SCOPE)).expect(text);
        assert_eq!(token.kind, TokenKind::String(want.into()), "{text}");
    }
    for text in ["plain", "$ {{ x }}", "{{ x }}", "$x }}", ""] {
        assert_eq!(from_text(text, None).expect(text).kind, TokenKind::String(text.into()));
    }
}

#[test]
fn the_folded_expression_says_what_the_text_said() {
    let contexts = Contexts::new().with("github", json!({"ref": "main", "n": 2}));
    for (text, want) in [
        ("${{ github.ref }}", "main"),
        ("on ${{ github.ref }}'s {n}=${{ github.n }}", "on main's {n}=2"),
        ("{{${{ github.n }}}}", "{{2}}"),
        ("${{ github.nothing }}.", "."),
    ] {
        let token = from_text(text, Some(&SCOPE)).expect(text);
        assert_eq!(eval_string(&token, &contexts, &NoFunctions).expect(text), want, "{text}");
    }
}

#[test]
fn errors_have_places() {
    let fails = |text: &str| {
        let node = yaml::parse(text).expect(text);
        from_yaml(&node, Some(&SCOPE)).expect_err(text)
    };
    let place = |text: &str| {
        let errors = fails(text);
        (errors[0].at.line, errors[0].at.column)
    };
    assert_eq!(place("k: a ${{ secrets.x }}"), (1, 10));
    assert_eq!(place("k: '${{ github.x && nope }}'"), (1, 21));
    assert_eq!(place("k: |\n  one\n  two ${{ nope }}\n"), (3, 11));
    assert_eq!(place("k: x ${{ github"), (1, 6));
    assert_eq!(place("k:\n  - a\n  - ${{ nope }}"), (3, 9));
    assert_eq!(place("${{ nope }}: x"), (1, 5));
    // Both are found, not only the first.
    assert_eq!(fails("a: ${{ x }}\nb: ${{ y }} ${{ z }}").len(), 3);

    let node = yaml::parse("${{ github.ref }}").expect("yaml");
    let errors = from_yaml(&node, None).expect_err("not allowed");
    assert_eq!(errors[0].problem, TokenProblem::NotAllowed);
    assert_eq!(fails("a: ${{ insert }}")[0].problem, TokenProblem::Insert);
    assert_eq!(fails("a: ${{ }}")[0].to_string(), "An expression was expected");
    assert_eq!(
        fails("a: ${{ x")[0].to_string(),
        "The expression is not closed. An unescaped ${{ sequence was found, but the closing }} sequence was not found."
    );
}

#[test]
fn the_wire_form_is_as_documented() {
    let token = Token::new(TokenKind::Mapping(vec![
        (Token::string("GREETING"), Token::string("hi")),
        (
            Token::string("WHO"),
            Token::expression("github.actor").at(Position { line: 9, column: 12 }).in_file(1),
        ),
    ]));
    let wire = json!({"type": 2, "map": [
        {"Key": "GREETING", "Value": "hi"},
        {"Key": "WHO", "Value": {"type": 3, "file": 1, "line": 9, "col": 12, "expr": "github.actor"}},
    ]});
    assert_eq!(serde_json::to_value(&token).expect("writes"), wire);
    assert_eq!(serde_json::from_value::<Token>(wire).expect("reads"), token);

    for (wire, kind) in [
        (json!(null), TokenKind::Null),
        (json!({"type": 7}), TokenKind::Null),
        (json!(true), TokenKind::Bool(true)),
        (json!({"type": 5, "bool": true}), TokenKind::Bool(true)),
        (json!(2.5), TokenKind::Number(2.5)),
        (json!({"type": 6, "num": 2}), TokenKind::Number(2.0)),
        (json!("x"), TokenKind::String("x".into())),
        (json!({"lit": "x"}), TokenKind::String("x".into())),
        (json!({"type": 0, "lit": "x"}), TokenKind::String("x".into())),
        (json!({"type": 1}), TokenKind::Sequence(vec![])),
        (json!({"type": 2}), TokenKind::Mapping(vec![])),
        (
            json!({"type": 1, "seq": [1]}),
            TokenKind::Sequence(vec![Token::new(TokenKind::Number(1.0))]),
        ),
        (json!({"type": 4, "directive": "insert"}), TokenKind::Insert),
    ] {
        assert_eq!(
            serde_json::from_value::<Token>(wire.clone()).expect("reads").kind,
            kind,
            "{wire}"
        );
    }
    for bad in [
        json!([]),
        json!({"type": 8}),
        json!({"type": "x"}),
        json!({"type": 1, "seq": 1}),
        json!({"type": 2, "map": [{"Value": 1}]}),
        json!({"type": 4, "directive": "x"}),
    ] {
        assert!(serde_json::from_value::<Token>(bad.clone()).is_err(), "{bad}");
    }
    let placed = from("a: 1\nb: ~");
    let wire = serde_json::to_value(&placed).expect("writes");
    assert_eq!(wire["map"][0]["Value"], json!({"type": 6, "line": 1, "col": 4, "num": 1}));
    assert_eq!(wire["map"][1]["Value"], json!({"type": 7, "line": 2, "col": 4}));
    let bare = serde_json::to_value(placed.without_places()).expect("writes");
    assert_eq!(
        bare,
        json!({"type": 2, "map": [{"Key": "a", "Value": 1}, {"Key": "b", "Value": null}]})
    );
}

#[test]
fn values() {
    let contexts = Contexts::new()
        .with("env", json!({"A": "1", "b": 2}))
        .with("matrix", json!({"list": [1, 2], "on": true, "t": "1.5", "f": "false"}));
    let map = |text: &str| eval_map(&from(text), &contexts, &NoFunctions);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        map("X: 1.0\nY: ${{ matrix.on }}\n${{ insert }}: ${{ env }}\nx: ~\n${{ matrix.t }}: k")
            .expect("a map"),
        [
            pair("X", "1"),
            pair("Y", "true"),
            pair("A", "1"),
            pair("b", "2"),
            pair("x", ""),
            pair("1.5", "k")
        ]
    );
    assert_eq!(map("${{ env }}").expect("an expression"), [pair("A", "1"), pair("b", "2")]);
    assert_eq!(map("${{ env.nothing }}").expect("null"), []);
    let message = |text: &str| map(text).expect_err(text).to_string();
    assert_eq!(message("a: ${{ matrix.list }}"), "expected a string, but found a sequence");
    assert_eq!(message("${{ matrix.list }}"), "expected a mapping, but found a sequence");

    let token = from("a: [1, '${{ matrix.list }}', {B: x}]");
    let value = eval(&token, &contexts, &NoFunctions).expect("a value");
    assert_eq!(value.to_json(), json!({"a": [1, [1, 2], {"B": "x"}]}));
    assert_eq!(value.get("A").as_array().map(<[Value]>::len), Some(3));

    let number = |text: &str| eval_number(&from(text), &contexts, &NoFunctions);
    assert_eq!(number("5"), Ok(5.0));
    assert_eq!(number("${{ matrix.t }}"), Ok(1.5));
    assert_eq!(number("x").expect_err("text").to_string(), "expected a number, but found a string");
    let boolean = |text: &str| eval_bool(&from(text), &contexts, &NoFunctions);
    assert_eq!(boolean("${{ matrix.on }}"), Ok(true));
    assert_eq!(boolean("${{ matrix.f }}"), Ok(false));
    assert!(boolean("${{ matrix.t }}").is_err());

    let error = eval_string(&from("${{ fromJSON('') }}"), &contexts, &NoFunctions);
    assert_eq!(error.expect_err("no JSON").at, Some(Position { line: 1, column: 1 }));
}

fn token() -> impl Strategy<Value = Token> {
    let at = proptest::option::of((1..9_u32, 1..9_u32))
        .prop_map(|at| at.map(|(line, column)| Position { line, column }));
    let leaf = prop_oneof![
        Just(TokenKind::Null),
        any::<bool>().prop_map(TokenKind::Bool),
        (-999..999_i32).prop_map(|n| TokenKind::Number(f64::from(n) / 4.0)),
        "[a-z{}' ]{0,5}".prop_map(TokenKind::String),
        "[a-z.]{1,5}".prop_map(TokenKind::Expression),
    ];
    let place = |kind: BoxedStrategy<TokenKind>| {
        (kind, at.clone(), proptest::option::of(1..3_u32))
            .prop_map(|(kind, at, file)| Token { kind, file, at })
            .boxed()
    };
    let at = at.clone();
    place(leaf.boxed()).prop_recursive(3, 16, 3, move |inner| {
        let key = "[a-z]{1,3}".prop_map(Token::string);
        let kind = prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(TokenKind::Sequence),
            proptest::collection::vec((key, inner), 0..3).prop_map(TokenKind::Mapping),
        ];
        (kind, at.clone()).prop_map(|(kind, at)| Token { kind, file: None, at })
    })
}

proptest! {
    #[test]
    fn tokens_survive_the_wire(token in token()) {
        let wire = serde_json::to_string(&token).expect("writes");
        prop_assert_eq!(serde_json::from_str::<Token>(&wire).expect("reads"), token);
    }

    #[test]
    fn any_text_around_an_expression_comes_back(before in "[^$]{0,8}", after in "[^$}]{0,8}") {
        let text = format!("{before}${{{{ github.x }}}}{after}");
        let token = from_text(&text, Some(&SCOPE)).expect("a token");
        let contexts = Contexts::new().with("github", json!({"x": "{it's}"}));
        let got = eval_string(&token, &contexts, &NoFunctions).expect("text");
        prop_assert_eq!(got, format!("{before}{{it's}}{after}"));
    }

    #[test]
    fn no_text_panics(text in "[${}' a-c.|&\n]{0,30}") {
        let _ = from_text(&text, Some(&SCOPE));
    }
}
