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
    let mut directives = Directives::default();
    for (number, raw) in (1..).zip(text.lines()) {
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
                directives.check = Some(Spanned { node: check(value, span)?, span, text });
            }
            _ => break,
        }
    }
    Ok(directives)
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
fn check(value: &str, span: Span) -> Result<Check, LineError> {
    let mut check = Check::default();
    for part in value.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("skip", rules)) => {
                check.skip = rules.split(',').map(|rule| rule.trim().to_owned()).collect();
            }
            Some(("error", value)) => {
                check.error = value.trim().eq_ignore_ascii_case("true") || value.trim() == "1";
            }
            _ => {
                return Err(LineError {
                    span,
                    message: format!("`{part}` is no option of the directive `check`"),
                    hint: Some("write `skip=RULE,RULE` or `error=true`".to_owned()),
                });
            }
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
