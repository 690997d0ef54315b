use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::*;

fn masker(secrets: &[&str]) -> Masker {
    let mut masker = Masker::default();
    for secret in secrets {
        masker.add(secret).unwrap();
    }
    masker
}

#[track_caller]
fn check(secrets: &[&str], text: &str, want: &str) {
    assert_eq!(masker(secrets).mask(text), want);
}

#[test]
fn secrets_are_replaced_where_they_stand() {
    check(&["hunter2!"], "a hunter2! b hunter2!", "a *** b ***");
    check(&["x"], "axb", "a***b");
    check(&["", "  "], "a  b", "a  b");
    check(&["abcd", "abcdef"], "abcdef", "***");
    check(&["abcd", "cdef"], "-abcdef-", "-***-");
    check(&["pässwörd"], "üpässwördü", "ü***ü");
}

#[test]
fn every_line_of_a_secret_is_one() {
    check(&["first-line\r\nsecond-line\n\nx"], "second-line and first-line", "*** and ***");
}

#[test]
fn encoded_forms_are_found() {
    let secret = "p&s<\"w'ord>/1";
    for text in [
        r#"p&s<\"w'ord>/1"#,
        "p%26s%3C%22w%27ord%3E%2F1",
        "p%26s%3c%22w%27ord%3e%2f1",
        "p&amp;s&lt;&quot;w&apos;ord&gt;/1",
        "p&s<\"w''ord>/1",
        "p&s<\"w'\\''ord>/1",
    ] {
        assert!(masker(&[secret]).finds(&format!("[{text}]")), "{text}");
    }
    check(&["\"a-long-value\""], "=a-long-value=", "=***=");
    check(&["line one\nline two"], r#""line one\nline two""#, r#""***""#);
}

#[test]
fn patterns_are_masked_too() {
    let mut masker = masker(&["lit"]);
    masker.add_pattern("tok_[0-9]+").unwrap();
    assert_eq!(masker.mask("tok_12lit x tok_"), "*** x tok_");
    assert_eq!(masker.add_pattern("("), Err(MaskError::Pattern));
}

#[test]
fn too_much_is_refused() {
    assert_eq!(Masker::default().add(&"x".repeat(MAX_SECRET_LEN + 1)), Err(MaskError::TooLong));
    let mut masker = Masker::default();
    let lines: Vec<String> = (0..60_000).map(|n| format!("s3cr3t{n}")).collect();
    let result = (0..60).try_for_each(|n| masker.add(&lines[n * 1000..(n + 1) * 1000].join("\n")));
    assert_eq!(result, Err(MaskError::TooMany));
}

proptest! {
    #[test]
    fn nothing_of_a_secret_is_left(
        secret in "[a-zA-Z0-9+/=_-]{8,40}", before in "[ -~]{0,9}", after in "[ -~]{0,9}",
    ) {
        let masker = masker(&[&secret]);
        let text = format!("{before}{secret}{after}");
        prop_assert!(!masker.mask(&text).contains(&secret));
        for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
            // At most the characters at the edges, which hold bits of their neighbours too.
            prop_assert!(masker.mask(&encoded).contains(MASK), "{encoded}");
        }
        let json = serde_json::to_string(&text).unwrap();
        prop_assert!(masker.mask(&json).contains(MASK));
    }

    #[test]
    fn any_text_is_masked_without_panic(
        secrets in proptest::collection::vec(".{0,12}", 0..5), text in ".{0,80}",
    ) {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let masker = masker(&secrets);
        let masked = masker.mask(&text).into_owned();
        for secret in secrets.iter().filter(|s| !s.trim().is_empty() && !MASK.contains(*s)) {
            let apart: Vec<&str> = masked.split(MASK).collect();
            prop_assert!(apart.iter().all(|part| !part.contains(secret)));
        }
    }
}
