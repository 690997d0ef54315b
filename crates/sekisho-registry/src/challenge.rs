//! `WWW-Authenticate`.

use std::collections::BTreeMap;

/// What a registry asks for. Source: RFC 9110, section 11; distribution's token specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The best of several challenges: Bearer before Basic.
pub(crate) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        for (scheme, mut parameters) in schemes(header) {
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameters.remove("realm")
            {
                let service = parameters.remove("service");
                let scope = parameters.remove("scope");
                return Some(Challenge::Bearer { realm, service, scope });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

type Scheme = (String, BTreeMap<String, String>);

/// `Scheme a="b", c=d, Other e=f`.
fn schemes(header: &str) -> Vec<Scheme> {
    let mut schemes: Vec<Scheme> = Vec::new();
    let mut rest = header.trim();
    while !rest.is_empty() {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find([' ', '\t', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        match after.strip_prefix('=') {
            Some(value) => {
                let (value, left) = self::value(value);
                if let Some((_, parameters)) = schemes.last_mut() {
                    parameters.insert(word.to_ascii_lowercase(), value);
                }
                rest = left;
            }
            None => {
                schemes.push((word.to_owned(), BTreeMap::new()));
                rest = after;
            }
        }
    }
    schemes
}

/// A quoted string or a token, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn reads_challenges() {
        for (header, want) in [
            (
                r#"Bearer realm="https://a/token",service="a",scope="repository:x:pull,push""#,
                bearer("https://a/token", Some("a"), Some("repository:x:pull,push")),
            ),
            (r#"bearer realm=https://a/t , service = "a""#, bearer("https://a/t", None, None)),
            (r#"Basic realm="x", Bearer realm="y\"z""#, bearer("y\"z", None, None)),
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            ("Bearer", None),
            ("Negotiate", None),
            ("", None),
            ("=,=", None),
            ("Bearer realm=\"open", bearer("open", None, None)),
        ] {
            assert_eq!(parse([header].into_iter()), want, "{header}");
        }
    }
}
