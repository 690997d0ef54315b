//! One pattern: Go's `filepath.Match` and `**`.

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    /// `**` and then only plain text: moby compares the end of the path, as text.
    suffix: Option<String>,
    /// The plain folders at the start, for pruning: `a/b` of `a/b/*.c`.
    prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`
    One,
    /// `*`
    Star,
    /// `[a-z]`, `[^a-z]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `**/`, or `**` before other text: nothing, or anything that ends with `/`.
    Folders,
    /// `**` at the end: anything.
    Rest,
}

const BAD_CLASS: &str = "a `[` has no `]`, or nothing in it";

impl Pattern {
    /// Compiles a pattern that was cleaned.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let tokens = tokens(text)?;
        let plain = |token: &Token| matches!(token, Token::Literal(_));
        let suffix = (text.starts_with("**") && tokens.iter().skip(1).all(plain))
            .then(|| text[2..].replace('\\', ""))
            // What is escaped is no plain text to moby.
            .filter(|_| !text.contains('\\'));
        let mut prefix: String = tokens
            .iter()
            .map_while(|token| match token {
                Token::Literal(character) => Some(*character),
                _ => None,
            })
            .collect();
        if prefix.chars().count() < tokens.len() {
            prefix.truncate(prefix.rfind('/').unwrap_or(0));
        }
        Ok(Self { tokens, suffix, prefix })
    }

    /// Whether the pattern fits the whole path.
    pub(super) fn fits(&self, path: &str) -> bool {
        if let Some(suffix) = &self.suffix {
            let whole = suffix.strip_prefix('/').is_some_and(|name| name == path);
            return whole || path.ends_with(suffix.as_str());
        }
        // `states[i]`: the first `i` tokens fit what was read so far. `inside[i]`: token `i` is a
        // `**/` in the middle of a folder's name.
        let count = self.tokens.len();
        let mut states = vec![false; count + 1];
        let mut inside = vec![false; count + 1];
        states[0] = true;
        self.skip_empty(&mut states);
        for character in path.chars() {
            let mut next = vec![false; count + 1];
            let mut next_inside = vec![false; count + 1];
            for (i, token) in self.tokens.iter().enumerate() {
                if matches!(token, Token::Folders) && (states[i] || inside[i]) {
                    next_inside[i] = true;
                    next[i + 1] |= character == '/';
                }
                if !states[i] {
                    continue;
                }
                match token {
                    Token::Literal(literal) => next[i + 1] |= *literal == character,
                    Token::One => next[i + 1] |= character != '/',
                    Token::Star => next[i] |= character != '/',
                    Token::Rest => next[i] = true,
                    Token::Class { negated, ranges } => {
                        let listed =
                            ranges.iter().any(|(from, to)| (*from..=*to).contains(&character));
                        next[i + 1] |= listed != *negated;
                    }
                    Token::Folders => {}
                }
            }
            self.skip_empty(&mut next);
            (states, inside) = (next, next_inside);
        }
        states[count]
    }

    /// Tokens that also fit nothing.
    fn skip_empty(&self, states: &mut [bool]) {
        for (i, token) in self.tokens.iter().enumerate() {
            if states[i] && matches!(token, Token::Star | Token::Rest | Token::Folders) {
                states[i + 1] = true;
            }
        }
    }

    /// Whether the pattern might fit something in `directory`.
    pub(super) fn may_fit_below(&self, directory: &str) -> bool {
        let below = |outer: &str, inner: &str| {
            outer.is_empty()
                || inner == outer
                || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
        };
        below(directory, &self.prefix) || below(&self.prefix, directory)
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '*' if characters.next_if_eq(&'*').is_some() => {
                characters.next_if_eq(&'/');
                if characters.peek().is_none() { Token::Rest } else { Token::Folders }
            }
            '*' => Token::Star,
            '?' => Token::One,
            '[' => class(&mut characters)?,
            '\\' => Token::Literal(characters.next().ok_or("`\\` escapes nothing")?),
            _ => Token::Literal(character),
        });
    }
    Ok(tokens)
}

/// What follows a `[`: Go knows `^` for the opposite, and no `!`.
fn class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, &'static str> {
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if characters.peek() == Some(&']') && !ranges.is_empty() {
            characters.next();
            return Ok(Token::Class { negated, ranges });
        }
        let from = class_character(characters)?;
        let to = match characters.next_if_eq(&'-') {
            Some(_) => class_character(characters)?,
            None => from,
        };
        if from > to {
            return Err("a range in `[` `]` is the wrong way round");
        }
        ranges.push((from, to));
    }
}

fn class_character(
    characters: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<char, &'static str> {
    match characters.next() {
        Some('\\') => characters.next().ok_or(BAD_CLASS),
        None | Some('-' | ']') => Err(BAD_CLASS),
        Some(character) => Ok(character),
    }
}
