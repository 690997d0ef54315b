//! Wildcards of COPY and ADD sources: Go's `path.Match`.

/// Whether a pattern holds anything but plain characters.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Whether `name` matches, component by component: `*` and `?` do not match `/`. `None`: the pattern is
/// malformed.
pub(crate) fn matches(pattern: &str, name: &[u8]) -> Option<bool> {
    let patterns: Vec<_> = pattern.split('/').collect();
    let names: Vec<_> = name.split(|byte| *byte == b'/').collect();
    let mut all = patterns.len() == names.len();
    for (index, pattern) in patterns.iter().enumerate() {
        // Also where the answer is known: a bad pattern is an error whatever it is held against.
        let parsed = parse(pattern)?;
        all &= names.get(index).is_some_and(|name| run(&parsed, name));
    }
    Some(all)
}

#[derive(Debug)]
enum Part {
    Byte(u8),
    One,
    Any,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

fn parse(pattern: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '*' => parts.push(Part::Any),
            '?' => parts.push(Part::One),
            '\\' => push(&mut parts, rest.next()?),
            '[' => {
                let negated = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
                        break;
                    }
                    let low = class_character(&mut rest)?;
                    let high = match rest.next_if_eq(&'-') {
                        Some(_) => class_character(&mut rest)?,
                        None => low,
                    };
                    ranges.push((low, high));
                }
                parts.push(Part::Class { negated, ranges });
            }
            character => push(&mut parts, character),
        }
    }
    Some(parts)
}

fn class_character(rest: &mut impl Iterator<Item = char>) -> Option<char> {
    match rest.next()? {
        '\\' => rest.next(),
        '-' | ']' => None,
        character => Some(character),
    }
}

fn push(parts: &mut Vec<Part>, character: char) {
    let mut buffer = [0; 4];
    parts.extend(character.encode_utf8(&mut buffer).bytes().map(Part::Byte));
}

/// Backtracks to the last `*` only, so the time is the product of both lengths.
fn run(parts: &[Part], name: &[u8]) -> bool {
    let (mut part, mut at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match parts.get(part) {
            None if at == name.len() => return true,
            None => None,
            Some(Part::Any) => {
                star = Some((part + 1, at));
                part += 1;
                continue;
            }
            Some(Part::Byte(byte)) => (name.get(at) == Some(byte)).then_some(1),
            Some(Part::One) => first(&name[at..]).map(|(_, length)| length),
            Some(Part::Class { negated, ranges }) => first(&name[at..])
                .filter(|(character, _)| {
                    let inside = ranges.iter().any(|(low, high)| (low..=high).contains(&character));
                    inside != *negated
                })
                .map(|(_, length)| length),
        };
        match (step, star) {
            (Some(length), _) => {
                part += 1;
                at += length;
            }
            (None, Some((after, from))) if from < name.len() => {
                star = Some((after, from + 1));
                (part, at) = (after, from + 1);
            }
            (None, _) => return false,
        }
    }
}

/// The first character and its length in bytes; a byte that is no UTF-8 counts as one.
fn first(name: &[u8]) -> Option<(char, usize)> {
    let chunk = name.get(..name.len().min(4))?;
    let valid = match std::str::from_utf8(chunk) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&chunk[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(character) => Some((character, character.len_utf8())),
        None if name.is_empty() => None,
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_like_go() {
        for (pattern, name, want) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "ab/c", Some(false)),
            ("a*/b", "abc/b", Some(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[e-g]", "abc", Some(false)),
            ("ab[^c]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "ab", Some(false)),
            ("a?b", "a☺b", Some(true)),
            ("a[^a]b", "a☺b", Some(true)),
            ("[a-ζ]*", "α", Some(true)),
            ("*[a-ζ]", "A", Some(false)),
            ("[\\]a]", "]", Some(true)),
            ("[]a]", "]", None),
            ("[-x]", "x", None),
            ("[", "a", None),
            ("[^", "a", None),
            ("a[", "ab", None),
            ("\\", "a", None),
            ("*x", "xxx", Some(true)),
            ("", "", Some(true)),
        ] {
            assert_eq!(matches(pattern, name.as_bytes()), want, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(pattern in "\\PC{0,12}", name in prop::collection::vec(any::<u8>(), 0..12)) {
            let _ = matches(&pattern, &name);
        }

        #[test]
        fn a_plain_name_matches_itself(name in "[a-z./]{0,12}") {
            prop_assert_eq!(matches(&name, name.as_bytes()), Some(true));
        }
    }
}
