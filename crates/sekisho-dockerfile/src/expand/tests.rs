use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "v" => "value",
        "empty" => "",
        "path" => "/usr/local/lib/a.tar.gz",
        "words" => " 80  443 ",
        "quote" => "a\"b'c\\d$v",
        "2" => "two",
        "star" => "a*b",
        _ => return None,
    };
    Some(value.to_owned())
}

#[track_caller]
fn check(raw: &str, want: &str) {
    assert_eq!(expand(raw, '\\', &lookup), Ok(want.to_owned()), "{raw}");
}

#[test]
fn plain_and_quoted() {
    check("", "");
    check("a b", "a b");
    check("$v ${v}x $vx", "value valuex ");
    check("'$v'", "$v");
    check("\"$v\"", "value");
    check(r"\$v", "$v");
    check(r#""\$v \" \\ \a""#, r#"$v " \ \a"#);
    check(r"'\'", r"\");
    check(r"a\", "a");
    check(r"\a\ b", "a b");
    check("$ $$ $. $2x $25x ${25:-w}", "$  $. twox x w");
    check("${quote}", "a\"b'c\\d$v");
    check("é$v☃", "évalue☃");
    assert_eq!(expand("`$v \\$v", '`', &lookup), Ok("$v \\value".to_owned()));
}

#[test]
fn modifiers() {
    check("${v:-w} ${v-w} ${empty:-w} ${empty-w} ${no:-w} ${no-w}", "value value w  w w");
    check("${v:+w} ${v+w} ${empty:+w} ${empty+w} ${no:+w} ${no+w}", "w w  w  ");
    check("${v:?e} ${v?e} ${empty?e}", "value value ");
    check("${no:-${no:-$v}}", "value");
    check("${no:-'}'}", "}");
    check(r"${no:-\}}", "}");
    check("${no:-a b}", "a b");
    check("${path#*/} ${path##*/}", "usr/local/lib/a.tar.gz a.tar.gz");
    check("${path%.*} ${path%%.*}", "/usr/local/lib/a.tar /usr/local/lib/a");
    check("${path%/*} ${path#x}", "/usr/local/lib /usr/local/lib/a.tar.gz");
    check("${path/l/L} ${path//l/L}", "/usr/Local/lib/a.tar.gz /usr/LocaL/Lib/a.tar.gz");
    check("${path//\\//-}", "-usr-local-lib-a.tar.gz");
    check("${v/a*/X} ${v//?/.} ${v//z/X}", "vX ..... value");
    check(r"${star#a\*} ${star#*} ${star##*}", "b a*b ");
    check("${no#x} ${no//a/b}", " ");
}

#[test]
fn mistakes() {
    let required = |name: &str, message: &str| ExpandError::Required {
        name: name.to_owned(),
        message: message.to_owned(),
    };
    let syntax = |message: &str| ExpandError::Syntax(message.to_owned());
    for (raw, want) in [
        ("${no:?why}", required("no", "why")),
        ("${no?}", required("no", "it is not set")),
        ("${empty:?}", required("empty", "it is not set or empty")),
        ("'a", syntax("single quote does not end")),
        ("\"a", syntax("double quote does not end")),
        ("${v", syntax("`}` is missing after `${v`")),
        ("${v:-a", syntax("`}` is missing at the end of a variable")),
        ("${}", syntax("`${` without the name of a variable")),
        ("${v:#a}", syntax("unknown modifier `:#` of `${v`")),
        ("${v^}", syntax("unknown modifier `^` of `${v`")),
        ("${v/a}", syntax("`/` is missing at the end of a variable")),
    ] {
        assert_eq!(expand(raw, '\\', &lookup), Err(want), "{raw}");
    }
    let deep = "${a:-".repeat(1000);
    assert_eq!(expand(&deep, '\\', &lookup), Err(ExpandError::TooLarge));
    let many = |_: &str| Some("x".repeat(100_000));
    assert_eq!(expand(&"$a".repeat(20), '\\', &many), Err(ExpandError::TooLarge));
    assert_eq!(expand("${a#x}", '\\', &many), Err(ExpandError::TooLarge));
}

#[test]
fn words_are_split_where_docker_splits() {
    for (raw, want) in [
        ("80 443", vec!["80", "443"]),
        ("$words", vec!["80", "443"]),
        ("\"$words\"", vec![" 80  443 "]),
        ("a$words'b c'", vec!["a", "80", "443", "b c"]),
        (r"a\ b c", vec!["a b", "c"]),
        ("$no", vec![]),
        ("''", vec![]),
    ] {
        let want: Vec<_> = want.into_iter().map(str::to_owned).collect();
        assert_eq!(expand_words(raw, '\\', &lookup), Ok(want), "{raw}");
    }
}

proptest! {
    #[test]
    fn never_panics(raw in "[$v{}:?+#%/*'\"\\\\ ab-]{0,40}", any in "\\PC{0,40}") {
        for text in [raw, any] {
            let _ = expand(&text, '\\', &lookup);
            let _ = expand_words(&text, '`', &lookup);
        }
    }

    #[test]
    fn quoting_keeps_a_value(value in "[^']{0,40}") {
        let quoted = format!("'{value}'");
        prop_assert_eq!(expand(&quoted, '\\', &lookup), Ok(value));
    }

    #[test]
    fn a_variable_is_its_value(values in prop::collection::btree_map("[a-z]{1,5}", "\\PC{0,20}", 1..4)) {
        let values: BTreeMap<String, String> = values;
        let lookup = |name: &str| values.get(name).cloned();
        for (name, value) in &values {
            let expanded = expand(&format!("${{{name}}}"), '\\', &lookup);
            prop_assert_eq!(expanded.as_ref(), Ok(value));
            let trimmed = expand(&format!("${{{name}#*}}${{{name}##*}}"), '\\', &lookup);
            prop_assert_eq!(trimmed.as_ref(), Ok(value));
        }
    }
}
