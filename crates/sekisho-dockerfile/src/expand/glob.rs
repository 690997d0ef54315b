//! Globs of `${name#glob}` and its like: `*`, `?`, and a backslash that escapes.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Any,
    One,
    Literal(char),
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            // Two stars fit what one does.
            '*' if tokens.last() == Some(&Token::Any) => continue,
            '*' => Token::Any,
            '?' => Token::One,
            '\\' => Token::Literal(characters.next().unwrap_or('\\')),
            _ => Token::Literal(character),
        });
    }
    tokens
}

/// Lengths of the starts of `text` that fit, shortest first.
fn fits<'a>(
    text: impl Iterator<Item = char> + 'a,
    tokens: &'a [Token],
) -> impl Iterator<Item = usize> + 'a {
    // `states[i]`: the first `i` tokens fit what was read so far.
    let mut states = vec![false; tokens.len() + 1];
    states[0] = true;
    skip_stars(&mut states, tokens);
    let mut alive = true;
    let empty = states[tokens.len()].then_some(0);
    let rest = text.enumerate().map_while(move |(at, character)| {
        if !alive {
            return None;
        }
        let mut next = vec![false; states.len()];
        for (i, token) in tokens.iter().enumerate().filter(|(i, _)| states[*i]) {
            match token {
                Token::Any => next[i] = true,
                Token::One => next[i + 1] = true,
                Token::Literal(literal) => next[i + 1] |= *literal == character,
            }
        }
        skip_stars(&mut next, tokens);
        states = next;
        alive = states.contains(&true);
        Some((at + 1, states[tokens.len()]))
    });
    empty.into_iter().chain(rest.filter(|(_, fits)| *fits).map(|(length, _)| length))
}

/// A star fits nothing too.
fn skip_stars(states: &mut [bool], tokens: &[Token]) {
    for (i, token) in tokens.iter().enumerate() {
        if states[i] && *token == Token::Any {
            states[i + 1] = true;
        }
    }
}

/// Without the shortest or longest start (or end) that fits.
pub(super) fn trim<'v>(
    value: &'v [char],
    pattern: &str,
    at_start: bool,
    longest: bool,
) -> &'v [char] {
    let mut tokens = tokens(pattern);
    let pick = |lengths: &mut dyn Iterator<Item = usize>| match longest {
        true => lengths.last(),
        false => lengths.next(),
    };
    if at_start {
        let length = pick(&mut fits(value.iter().copied(), &tokens)).unwrap_or(0);
        return &value[length..];
    }
    tokens.reverse();
    let length = pick(&mut fits(value.iter().rev().copied(), &tokens)).unwrap_or(0);
    &value[..value.len() - length]
}

/// With the first part that fits, or each, replaced; of those that start at one place the longest.
pub(super) fn replace(value: &[char], pattern: &str, word: &str, all: bool) -> String {
    let tokens = tokens(pattern);
    let mut result = String::new();
    let mut at = 0;
    let mut done = false;
    while at < value.len() {
        let length = match done {
            true => None,
            false => fits(value[at..].iter().copied(), &tokens).last().filter(|length| *length > 0),
        };
        match length {
            Some(length) => {
                result.push_str(word);
                at += length;
                done = !all;
            }
            None => {
                result.push(value[at]);
                at += 1;
            }
        }
    }
    result
}
