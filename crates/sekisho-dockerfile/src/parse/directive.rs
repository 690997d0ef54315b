//! `# syntax=`, `# escape=`, `# check=` at the top of the file.

use crate::ast::{Check, Span, Spanned};
use crate::parse::lines::LineError;

/// What the directives say.
#[derive(Debug, Default)]
pub(super) struct Directives {
    pub(super) escape: Option<char>,
    pub(super) syntax: Option<Spanned<String>>,
    pub(super) check: Option<Spanned<Check>>,
}

/// Reads directives up to the first line that is none: an ordinary comment ends them too.
pub(super) fn parse(text: &str) -> Result<Directives, LineError> {
    let mut directives = Directives { syntax: foreign_syntax(text), ..Directives::default() };
    // A file that is run as a program says first by what.
    let shebang = usize::from(text.starts_with("#!"));
    for (number, raw) in (1..).zip(text.lines()).skip(shebang) {
        let Some((name, value)) = split(raw) else { break };
        let span = Span { line: number, column: 1, end_line: number };
        let once = |taken: bool| match taken {
            false => Ok(()),
            true => Err(LineError {
                span,
                message: format!("directive `{name}` stands twice"),
                hint: None,
            }),
        };
        match name.as_str() {
            "escape" => {
                once(directives.escape.is_some())?;
                directives.escape = Some(escape(value, span)?);
            }
            "syntax" => {
                once(directives.syntax.is_some())?;
                let text = raw.to_owned();
                directives.syntax = Some(Spanned { node: value.to_owned(), span, text });
            }
            "check" => {
                once(directives.check.is_some())?;
                let text = raw.to_owned();
                let node = check(value).map_err(|message| LineError {
                    span,
                    message,
                    hint: Some("write `skip=RULE,RULE` or `error=true`".to_owned()),
                })?;
                directives.check = Some(Spanned { node, span, text });
            }
            _ => break,
        }
    }
    Ok(directives)
}

/// `// syntax=IMAGE` or `{"syntax": "IMAGE"}` at the start of a file in another language, which a
/// frontend of its own reads.
fn foreign_syntax(text: &str) -> Option<Spanned<String>> {
    let first = text.lines().next().unwrap_or_default();
    let image = match first.trim_start().strip_prefix("//") {
        Some(rest) => {
            let (name, value) = rest.split_once('=')?;
            name.trim().eq_ignore_ascii_case("syntax").then(|| value.trim().to_owned())?
        }
        None if text.trim_start().starts_with('{') => {
            let value: serde_json::Value = serde_json::from_str(text).ok()?;
            value.get("syntax")?.as_str()?.to_owned()
        }
        None => return None,
    };
    let span = Span { line: 1, column: 1, end_line: 1 };
    (!image.is_empty()).then(|| Spanned { node: image, span, text: first.to_owned() })
}

/// The frontend that a text asks for, which may be in any language.
pub fn syntax(text: &str) -> Option<Spanned<String>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    parse(text).ok()?.syntax
}

/// `# name = value`, the name in lower case.
fn split(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let good = name.bytes().all(|b| b.is_ascii_alphanumeric()) && !value.is_empty();
    (good && name.starts_with(|c: char| c.is_ascii_alphabetic()))
        .then(|| (name.to_ascii_lowercase(), value))
}

fn escape(value: &str, span: Span) -> Result<char, LineError> {
    match value {
        "\\" => Ok('\\'),
        "`" => Ok('`'),
        _ => Err(LineError {
            span,
            message: format!("escape character `{value}` is not allowed"),
            hint: Some("use a backslash or a backtick".to_owned()),
        }),
    }
}

/// `skip=a,b;error=true`.
pub(crate) fn check(value: &str) -> Result<Check, String> {
    let mut check = Check::default();
    let list = |rules: &str| rules.split(',').map(|rule| rule.trim().to_owned()).collect();
    for part in value.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('=').map(|(key, value)| (key.trim(), value)) {
            Some(("skip", rules)) => check.skip = list(rules),
            Some(("experimental", rules)) => check.experimental = list(rules),
            Some(("error", value)) => {
                check.error = value.trim().eq_ignore_ascii_case("true") || value.trim() == "1";
            }
            _ => return Err(format!("`{part}` is no option of the directive `check`")),
        }
    }
    Ok(check)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_until_the_first_other_line() {
        let text = "# Syntax = docker/dockerfile:1\n#escape=`\n# check=skip=A, B;error=true\n\
                    # a comment\n# escape=\\\n";
        let directives = parse(text).unwrap();
        assert_eq!(directives.syntax.unwrap().node, "docker/dockerfile:1");
        assert_eq!(directives.escape, Some('`'));
        let check = directives.check.unwrap().node;
        assert_eq!((check.skip, check.error), (vec!["A".to_owned(), "B".to_owned()], true));
        let shebang = parse("#!/usr/bin/env sekisho\n# syntax=x/y\nFROM a").unwrap();
        assert_eq!(shebang.syntax.unwrap().node, "x/y");
        assert_eq!(syntax("// syntax = x/y:1\nanything").unwrap().node, "x/y:1");
        assert_eq!(syntax("{\"syntax\": \"x/y\"}").unwrap().node, "x/y");
        assert_eq!(syntax("{\"a\": 1}"), None);
        assert_eq!(syntax("FROM a"), None);
        assert_eq!(parse("\n# escape=`").unwrap().escape, None);
        assert_eq!(parse("FROM a\n# escape=`").unwrap().escape, None);
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for (text, want) in [
            ("# escape=x", "escape character `x` is not allowed"),
            ("# escape=`\n# ESCAPE=`", "directive `escape` stands twice"),
            ("# check=foo", "`foo` is no option of the directive `check`"),
        ] {
            assert_eq!(parse(text).unwrap_err().message, want);
        }
    }
}
