//! Text to tokens.

use super::error::ExprError;
use super::number;
use super::value::Value;

/// One token: its text as written and where it starts, in characters from 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lexeme {
    pub(super) kind: LexemeKind,
    pub(super) text: String,
    pub(super) position: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum LexemeKind {
    Literal(Value),
    /// A context or a function.
    Name,
    /// What follows a dot.
    Property,
    Dot,
    Star,
    Comma,
    OpenParenthesis,
    CloseParenthesis,
    OpenBracket,
    CloseBracket,
    Not,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    And,
    Or,
}

/// Splits an expression into tokens.
///
/// Lexing is lazy, as the parser's first complaint may come before a broken token.
pub(super) struct Lexer<'a> {
    source: &'a str,
    chars: Vec<char>,
    at: usize,
    last: Option<LexemeKind>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        Self { source, chars: source.chars().collect(), at: 0, last: None }
    }

    /// The next token; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Lexeme>, ExprError> {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        let start = self.at;
        let Some(&first) = self.chars.get(start) else { return Ok(None) };
        let kind = match first {
            '\'' => self.string(),
            '0'..='9' | '-' | '+' => self.number(),
            '.' if self.expects_value() => self.number(),
            _ => match self.symbol(first) {
                Some(kind) => Some(kind),
                None => self.word(),
            },
        };
        let text: String = self.chars[start..self.at].iter().collect();
        let Some(kind) = kind else {
            return Err(ExprError::UnexpectedSymbol {
                symbol: text,
                position: start + 1,
                expression: self.source.to_owned(),
            });
        };
        self.last = Some(kind.clone());
        Ok(Some(Lexeme { kind, text, position: start + 1 }))
    }

    /// Whether a value, and no operator, comes next: then a dot begins a number.
    fn expects_value(&self) -> bool {
        use LexemeKind as K;
        !matches!(
            self.last,
            Some(
                K::Literal(_)
                    | K::Name
                    | K::Property
                    | K::Star
                    | K::Dot
                    | K::CloseParenthesis
                    | K::CloseBracket
            )
        )
    }

    fn symbol(&mut self, first: char) -> Option<LexemeKind> {
        use LexemeKind as K;
        let second = self.chars.get(self.at + 1).copied();
        let (kind, length) = match (first, second) {
            ('<', Some('=')) => (K::LessOrEqual, 2),
            ('>', Some('=')) => (K::GreaterOrEqual, 2),
            ('=', Some('=')) => (K::Equal, 2),
            ('!', Some('=')) => (K::NotEqual, 2),
            ('&', Some('&')) => (K::And, 2),
            ('|', Some('|')) => (K::Or, 2),
            ('<', _) => (K::Less, 1),
            ('>', _) => (K::Greater, 1),
            ('!', _) => (K::Not, 1),
            ('.', _) => (K::Dot, 1),
            ('*', _) => (K::Star, 1),
            (',', _) => (K::Comma, 1),
            ('(', _) => (K::OpenParenthesis, 1),
            (')', _) => (K::CloseParenthesis, 1),
            ('[', _) => (K::OpenBracket, 1),
            (']', _) => (K::CloseBracket, 1),
            _ => return None,
        };
        self.at += length;
        Some(kind)
    }

    fn string(&mut self) -> Option<LexemeKind> {
        let mut text = String::new();
        self.at += 1;
        while let Some(&c) = self.chars.get(self.at) {
            self.at += 1;
            if c != '\'' {
                text.push(c);
            } else if self.chars.get(self.at) == Some(&'\'') {
                text.push('\'');
                self.at += 1;
            } else {
                return Some(LexemeKind::Literal(Value::String(text)));
            }
        }
        None
    }

    fn number(&mut self) -> Option<LexemeKind> {
        let text = self.take_until(|c| is_boundary(c) && c != '.');
        number::literal(&text).map(|n| LexemeKind::Literal(Value::Number(n)))
    }

    fn word(&mut self) -> Option<LexemeKind> {
        let text = self.take_until(is_boundary);
        let mut chars = text.chars();
        let legal = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !legal {
            return None;
        }
        if self.last == Some(LexemeKind::Dot) {
            return Some(LexemeKind::Property);
        }
        Some(match text.as_str() {
            "null" => LexemeKind::Literal(Value::Null),
            "true" => LexemeKind::Literal(Value::Bool(true)),
            "false" => LexemeKind::Literal(Value::Bool(false)),
            "NaN" => LexemeKind::Literal(Value::Number(f64::NAN)),
            "Infinity" => LexemeKind::Literal(Value::Number(f64::INFINITY)),
            _ => LexemeKind::Name,
        })
    }

    /// Takes one character whatever it is, then all up to where `stop` holds.
    fn take_until(&mut self, stop: impl Fn(char) -> bool) -> String {
        let start = self.at;
        self.at += 1;
        while self.chars.get(self.at).is_some_and(|c| !stop(*c)) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }
}

fn is_boundary(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '(' | '[' | ')' | ']' | ',' | '.' | '!' | '>' | '<' | '=' | '&' | '|')
}
