//! dpkg's `status`, and one package of a `status.d` folder.
//!
//! Stanzas of `Field: value` lines, separated by empty lines; a line that starts with a blank
//! continues the one before. Source: dpkg(1), deb-control(5).

use sekisho_advisory::Source;

use super::Parsed;

#[derive(Default)]
struct Stanza<'a> {
    package: &'a str,
    version: &'a str,
    source: &'a str,
    status: &'a str,
    seen: bool,
}

pub(crate) fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    let mut stanza = Stanza::default();
    for line in text.lines() {
        if line.trim().is_empty() {
            finish(&stanza, &mut parsed);
            stanza = Stanza::default();
            continue;
        }
        stanza.seen = true;
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let Some((field, value)) = line.split_once(':') else {
            parsed.problems.push("a line is no field".to_owned());
            continue;
        };
        let slot = match field.to_ascii_lowercase().as_str() {
            "package" => &mut stanza.package,
            "version" => &mut stanza.version,
            "source" => &mut stanza.source,
            "status" => &mut stanza.status,
            _ => continue,
        };
        *slot = value.trim();
    }
    finish(&stanza, &mut parsed);
    parsed
}

fn finish(stanza: &Stanza<'_>, parsed: &mut Parsed) {
    // The third word says what is there, the first what is wanted: a package that shall go
    // (`deinstall ok installed`) is still there. Distroless images have no status.
    let gone = matches!(
        stanza.status.split_ascii_whitespace().nth(2),
        Some("config-files" | "not-installed")
    );
    if !stanza.seen || gone {
        return;
    }
    if stanza.package.is_empty() || stanza.version.is_empty() {
        parsed.problems.push("a package has no name or no version".to_owned());
        return;
    }
    parsed.push(stanza.package, stanza.version, Some(source(stanza)), false);
}

/// `Source: name (version)`; each part defaults to that of the binary package.
fn source(stanza: &Stanza<'_>) -> Source {
    let (name, version) = match stanza.source.split_once('(') {
        Some((name, version)) => (name.trim(), version.trim_end_matches(')').trim()),
        None => (stanza.source, ""),
    };
    let or = |text: &str, default: &str| {
        if text.is_empty() { default.to_owned() } else { text.to_owned() }
    };
    Source { name: or(name, stanza.package), version: or(version, stanza.version) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Found;

    #[test]
    fn stanzas_become_packages() {
        let text = "\
Package: libc6\nStatus: install ok installed\nSource: glibc (2.36-9+deb12u1)\nVersion: 2.36-9+deb12u1+b1
Description: GNU C Library\n shared libraries\n .\n Package: not a field\n
Package: old\nStatus: deinstall ok config-files\nVersion: 1.0\n
Package: leaving\nStatus: deinstall ok installed\nVersion: 1.0\n
Package: libssl3\nSource: openssl\nVersion: 3.0.11-1~deb12u2\n\n\nPackage: tzdata\nVersion: 2024a-0";
        let parsed = parse(text);
        let found = |name: &str, version: &str, source: Option<(&str, &str)>| Found {
            name: name.into(),
            version: version.into(),
            source: source
                .map(|(name, version)| Source { name: name.into(), version: version.into() }),
            dev: false,
            licence: None,
        };
        assert_eq!(parsed.problems, [""; 0]);
        assert_eq!(
            parsed.packages,
            [
                found("libc6", "2.36-9+deb12u1+b1", Some(("glibc", "2.36-9+deb12u1"))),
                found("leaving", "1.0", None),
                found("libssl3", "3.0.11-1~deb12u2", Some(("openssl", "3.0.11-1~deb12u2"))),
                found("tzdata", "2024a-0", None),
            ]
        );
    }

    #[test]
    fn damage_is_said() {
        let parsed = parse("Package: a\n\njunk\nPackage: b\nVersion: 1\n");
        assert_eq!(parsed.packages.len(), 1);
        assert_eq!(parsed.problems, ["a package has no name or no version", "a line is no field"]);
    }
}
