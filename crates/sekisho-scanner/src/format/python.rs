//! Python: the `METADATA` of an installed package, and pins in `requirements.txt`.
//!
//! Source: Core metadata specification, PEP 508, pip's requirements file format.

use super::Parsed;

/// Headers as in a mail, up to the first empty line.
pub(crate) fn parse_metadata(text: &str) -> Parsed {
    let (mut name, mut version, mut licence, mut expression) = ("", "", "", "");
    for line in text.lines().take_while(|line| !line.trim().is_empty()) {
        match line.split_once(':') {
            Some((field, value)) if field.eq_ignore_ascii_case("name") => name = value.trim(),
            Some((field, value)) if field.eq_ignore_ascii_case("version") => version = value.trim(),
            Some((field, value)) if field.eq_ignore_ascii_case("license") => licence = value,
            Some((field, value)) if field.eq_ignore_ascii_case("license-expression") => {
                expression = value;
            }
            _ => {}
        }
    }
    if name.is_empty() || version.is_empty() {
        return Parsed::broken("it has no name or no version");
    }
    let mut parsed = Parsed::default();
    parsed.push(name, version, None, false);
    parsed.licence(name, if expression.is_empty() { licence } else { expression });
    parsed
}

/// Takes `name==version` only: any other line says what is wanted, not what is there.
pub(crate) fn parse_requirements(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or_default();
        let line = line.split([';', '\\']).next().unwrap_or_default();
        let line = line.split(" --").next().unwrap_or_default().trim();
        let Some((name, version)) = line.split_once("==") else { continue };
        let name = name.split('[').next().unwrap_or_default().trim();
        let version = version.trim_start_matches('=').trim();
        let good = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        // `==1.*` and `==1.0,!=1.1` are no pins.
        if !name.is_empty() && name.chars().all(good) && !version.contains(['*', ',']) {
            parsed.push(name, version, None, false);
        }
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parsed: &Parsed, want: &[(&str, &str)]) {
        let found: Vec<_> =
            parsed.packages.iter().map(|p| (p.name.as_str(), p.version.as_str())).collect();
        assert_eq!(found, want);
    }

    #[test]
    fn an_installed_package_names_itself() {
        let text = "Metadata-Version: 2.1\nName: Jinja2\nVersion: 3.1.2\n\nName: not this\n";
        check(&parse_metadata(text), &[("Jinja2", "3.1.2")]);
        for (field, want) in [
            ("License: BSD License\n", Some("BSD License")),
            ("License: x\nLicense-Expression: MIT\n", Some("MIT")),
            ("", None),
        ] {
            let parsed = parse_metadata(&format!("Name: a\nVersion: 1\n{field}\n"));
            assert_eq!(parsed.packages[0].licence.as_deref(), want);
        }
        assert_eq!(parse_metadata("Name: x\n").problems, ["it has no name or no version"]);
    }

    #[test]
    fn only_pins_count() {
        let text = "# a comment\nrequests[socks]==2.31.0 ; python_version > '3'\nflask>=2\n\
                    urllib3 == 2.0.6 --hash=sha256:00\nx==1.*\n-r other.txt\n-e .\ny===1.0 # why\n";
        check(
            &parse_requirements(text),
            &[("requests", "2.31.0"), ("urllib3", "2.0.6"), ("y", "1.0")],
        );
    }
}
