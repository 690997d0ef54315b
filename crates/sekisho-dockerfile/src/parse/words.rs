//! Arguments as words: by blanks, by blanks outside quotes, as JSON.
//!
//! Which of them an instruction uses is part of the language: COPY splits at every blank, also in
//! quotes, and ENV does not.

/// The first word, and what follows the blanks after it.
pub(super) fn split_first(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Words between blanks, each with its offset.
pub(super) fn plain(text: &str) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return words;
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        words.push((text.len() - rest.len(), rest[..end].to_owned()));
        rest = &rest[end..];
    }
}

/// Words between blanks that are neither quoted nor escaped; quotes and escapes stay in the words.
pub(super) fn quoted(text: &str, escape: char) -> Vec<(usize, String)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            open = false;
            continue;
        }
        if !open {
            words.push((at, String::new()));
            open = true;
        }
        let Some((_, word)) = words.last_mut() else { break };
        if character == escape && quote != Some('\'') {
            // An escape at the very end escapes nothing, and is dropped.
            if let Some((_, next)) = characters.next() {
                word.extend([character, next]);
            }
            continue;
        }
        match quote {
            Some(end) if end == character => quote = None,
            None if matches!(character, '"' | '\'') => quote = Some(character),
            _ => {}
        }
        word.push(character);
    }
    words.retain(|(_, word)| !word.is_empty());
    words
}

/// A word without its quotes and escapes; variables stay as they are.
pub(super) fn unquote(word: &str) -> String {
    let mut plain = String::new();
    let mut quote = None;
    let mut characters = word.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(end), _) if end == character => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None | Some('"'), '\\') => plain.extend(characters.next()),
            _ => plain.push(character),
        }
    }
    plain
}

/// A JSON array, or the reason why it is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Json {
    /// Of strings.
    Strings(Vec<String>),
    /// With something else among them.
    NotStrings,
}

/// `["a", "b"]`; `None` for text that is no JSON array, and so is meant for a shell.
pub(super) fn json(text: &str) -> Option<Json> {
    if !text.starts_with('[') {
        return None;
    }
    let values: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    let strings: Option<Vec<String>> = values
        .into_iter()
        .map(|value| match value {
            serde_json::Value::String(text) => Some(text),
            _ => None,
        })
        .collect();
    Some(strings.map_or(Json::NotStrings, Json::Strings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_outside_quotes() {
        for (text, want) in [
            ("a  b", vec![(0, "a"), (3, "b")]),
            (r#"a="b c" d='e f'"#, vec![(0, r#"a="b c""#), (8, "d='e f'")]),
            (r"a\ b c", vec![(0, r"a\ b"), (5, "c")]),
            (r#""a\" b" '\' c"#, vec![(0, r#""a\" b""#), (8, r"'\'"), (12, "c")]),
            (r"a \", vec![(0, "a")]),
            ("", vec![]),
            ("\"open a", vec![(0, "\"open a")]),
        ] {
            let want: Vec<_> = want.into_iter().map(|(at, word)| (at, word.to_owned())).collect();
            assert_eq!(quoted(text, '\\'), want, "{text}");
        }
        assert_eq!(unquote(r#"a"b c"'\d'\e"#), r"ab c\de");
    }

    #[test]
    fn tells_json_from_shell() {
        assert_eq!(json(r#"["a","b"]"#), Some(Json::Strings(vec!["a".into(), "b".into()])));
        assert_eq!(json("[]"), Some(Json::Strings(vec![])));
        assert_eq!(json("[1]"), Some(Json::NotStrings));
        assert_eq!(json("['a']"), None);
        assert_eq!(json("[ -f x ] && y"), None);
    }
}
