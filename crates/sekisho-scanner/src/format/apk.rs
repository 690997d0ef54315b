//! apk's `installed`: blocks of `X:value` lines, separated by empty lines.
//!
//! Source: apk-package(5), <https://wiki.alpinelinux.org/wiki/Apk_spec>.

use sekisho_advisory::Source;

use super::Parsed;

pub(crate) fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for block in text.split("\n\n") {
        let (mut name, mut version, mut origin, mut licence) = ("", "", "", "");
        for line in block.lines() {
            match line.split_once(':') {
                Some(("P", value)) => name = value.trim(),
                Some(("V", value)) => version = value.trim(),
                Some(("o", value)) => origin = value.trim(),
                Some(("L", value)) => licence = value,
                Some(_) => {}
                None if line.trim().is_empty() => {}
                None => parsed.problems.push("a line is no field".to_owned()),
            }
        }
        if block.trim().is_empty() {
            continue;
        }
        if name.is_empty() || version.is_empty() {
            parsed.problems.push("a package has no name or no version".to_owned());
            continue;
        }
        let source = (!origin.is_empty())
            .then(|| Source { name: origin.to_owned(), version: version.to_owned() });
        parsed.push(name, version, source, false);
        parsed.licence(name, licence);
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_packages() {
        let parsed = parse(
            "C:Q1abc=\nP:libcrypto3\nV:3.3.1-r0\nA:x86_64\nL:Apache-2.0\no:openssl\nF:lib\nR:libcrypto.so.3\n\n\
             P:musl\nV:1.2.5-r0\no:musl\n\n\nP:nameless\n\n",
        );
        let names: Vec<_> = parsed
            .packages
            .iter()
            .map(|p| {
                (p.name.as_str(), p.version.as_str(), p.source.as_ref().map(|s| s.name.as_str()))
            })
            .collect();
        assert_eq!(
            names,
            [("libcrypto3", "3.3.1-r0", Some("openssl")), ("musl", "1.2.5-r0", None)]
        );
        assert_eq!(parsed.packages[0].licence.as_deref(), Some("Apache-2.0"));
        assert_eq!(parsed.packages[1].licence, None);
        assert_eq!(parsed.problems, ["a package has no name or no version"]);
    }
}
