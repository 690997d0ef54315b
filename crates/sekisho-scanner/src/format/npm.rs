//! npm: `package-lock.json` of versions 1 to 3, and the `package.json` of an installed package.
//!
//! Source: <https://docs.npmjs.com/cli/v11/configuring-npm/package-lock-json>.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Parsed;

#[derive(Deserialize)]
struct Lock {
    #[serde(rename = "lockfileVersion")]
    version: Option<u64>,
    /// Versions 2 and 3: by path, `node_modules/a/node_modules/b`. The app itself is `""`.
    packages: Option<BTreeMap<String, Entry>>,
    /// Versions 1 and 2: by name, nested.
    dependencies: Option<BTreeMap<String, OldEntry>>,
}

#[derive(Deserialize)]
struct Entry {
    /// Only where the name is not that of the folder (an alias).
    name: Option<String>,
    version: Option<String>,
    license: Option<License>,
    #[serde(default)]
    dev: bool,
    /// A link to a folder of the app's own.
    #[serde(default)]
    link: bool,
}

#[derive(Deserialize)]
struct OldEntry {
    version: Option<String>,
    #[serde(default)]
    dev: bool,
    dependencies: Option<BTreeMap<String, Self>>,
}

#[derive(Deserialize)]
struct Manifest {
    name: Option<String>,
    version: Option<String>,
    license: Option<License>,
}

/// An SPDX expression; old packages have an object, and anything may stand there.
#[derive(Deserialize)]
#[serde(untagged)]
enum License {
    Expression(String),
    Old {
        #[serde(rename = "type")]
        kind: String,
    },
    Other(serde::de::IgnoredAny),
}

impl License {
    fn text(&self) -> &str {
        match self {
            Self::Expression(text) | Self::Old { kind: text } => text,
            Self::Other(_) => "",
        }
    }
}

pub(crate) fn parse_lock(text: &str) -> Parsed {
    let lock: Lock = match serde_json::from_str(text) {
        Ok(lock) => lock,
        Err(error) => return Parsed::broken(format!("it is no npm lock file: {error}")),
    };
    let mut parsed = Parsed::default();
    match (lock.version, lock.packages, lock.dependencies) {
        (Some(1), _, dependencies) => old_entries(dependencies.unwrap_or_default(), &mut parsed),
        (Some(2 | 3), Some(packages), _) => entries(&packages, &mut parsed),
        (Some(2 | 3), None, _) => return Parsed::broken("it has no list of packages"),
        (Some(version), ..) => {
            return Parsed::broken(format!("lock file version {version} is not supported"));
        }
        (None, ..) => return Parsed::broken("it does not say its lock file version"),
    }
    parsed
}

fn entries(packages: &BTreeMap<String, Entry>, parsed: &mut Parsed) {
    for (path, entry) in packages {
        // Without `node_modules` it is a folder of the app's own (the app, or a workspace).
        let folder = path.rsplit_once("node_modules/").map(|(_, folder)| folder);
        let Some(folder) = folder.filter(|_| !entry.link) else { continue };
        match (entry.name.as_deref().unwrap_or(folder), entry.version.as_deref()) {
            (name, Some(version)) => {
                parsed.push(name, version, None, entry.dev);
                parsed.licence(name, entry.license.as_ref().map_or("", License::text));
            }
            (name, None) => parsed.problems.push(format!("`{}` has no version", shorten(name))),
        }
    }
}

/// Recursion is bounded by the JSON parser, which refuses more than 128 levels.
fn old_entries(dependencies: BTreeMap<String, OldEntry>, parsed: &mut Parsed) {
    for (name, entry) in dependencies {
        match entry.version.as_deref() {
            Some(version) if version.starts_with("file:") => {}
            // An alias: `npm:real-name@1.2.3`.
            Some(version) => match version.strip_prefix("npm:").and_then(|v| v.rsplit_once('@')) {
                Some((name, version)) => parsed.push(name, version, None, entry.dev),
                None => parsed.push(&name, version, None, entry.dev),
            },
            None => parsed.problems.push(format!("`{}` has no version", shorten(&name))),
        }
        old_entries(entry.dependencies.unwrap_or_default(), parsed);
    }
}

/// A folder of `node_modules` without name or version (`{"type": "module"}`) is no package.
pub(crate) fn parse_manifest(text: &str) -> Parsed {
    match serde_json::from_str(text) {
        Ok(Manifest { name: Some(name), version: Some(version), license }) => {
            let mut parsed = Parsed::default();
            parsed.push(&name, &version, None, false);
            parsed.licence(&name, license.as_ref().map_or("", License::text));
            parsed
        }
        Ok(Manifest { .. }) => Parsed::default(),
        Err(error) => Parsed::broken(format!("it is no package.json: {error}")),
    }
}

fn shorten(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parsed: Parsed, want: &[(&str, &str, bool)]) {
        let parsed = parsed.finish();
        let found: Vec<_> =
            parsed.packages.iter().map(|p| (p.name.as_str(), p.version.as_str(), p.dev)).collect();
        assert_eq!(found, want);
        assert_eq!(parsed.problems, [""; 0]);
    }

    #[test]
    fn version_3_lists_by_path() {
        let lock = r#"{"name": "app", "version": "1.0.0", "lockfileVersion": 3, "packages": {
            "": {"name": "app", "version": "1.0.0"},
            "packages/own": {"version": "1.0.0"},
            "node_modules/own": {"resolved": "packages/own", "link": true},
            "node_modules/lodash": {"version": "4.17.15"},
            "node_modules/@s/a": {"version": "1.0.0", "dev": true},
            "node_modules/@s/a/node_modules/lodash": {"version": "3.0.0", "dev": true},
            "node_modules/x/node_modules/@s/a": {"version": "1.0.0"},
            "node_modules/alias": {"name": "real", "version": "2.0.0"}}}"#;
        check(
            parse_lock(lock),
            &[
                ("@s/a", "1.0.0", false),
                ("lodash", "3.0.0", true),
                ("lodash", "4.17.15", false),
                ("real", "2.0.0", false),
            ],
        );
    }

    #[test]
    fn version_1_nests() {
        let lock = r#"{"lockfileVersion": 1, "dependencies": {
            "a": {"version": "1.0.0", "dependencies": {"b": {"version": "2.0.0", "dev": true}}},
            "own": {"version": "file:own"},
            "alias": {"version": "npm:@s/real@3.0.0"}}}"#;
        check(
            parse_lock(lock),
            &[("@s/real", "3.0.0", false), ("a", "1.0.0", false), ("b", "2.0.0", true)],
        );
    }

    #[test]
    fn damage_is_said() {
        for (text, want) in [
            ("{", "it is no npm lock file: EOF while parsing an object at line 1 column 1"),
            ("{}", "it does not say its lock file version"),
            (r#"{"lockfileVersion": 9}"#, "lock file version 9 is not supported"),
            (r#"{"lockfileVersion": 3}"#, "it has no list of packages"),
            (r#"{"lockfileVersion": 3, "packages": {"node_modules/a": {}}}"#, "`a` has no version"),
            (
                r#"{"lockfileVersion": 3, "packages": {"node_modules/": {"version": "1.0.0"}}}"#,
                "a package has no name or no version",
            ),
            (
                r#"{"lockfileVersion": 1, "dependencies": {"a\u001b[2J": {"version": "1.0.0"}}}"#,
                "a package has a control character in its name",
            ),
        ] {
            assert_eq!(parse_lock(text).problems, [want]);
        }
    }

    #[test]
    fn an_installed_package_names_itself() {
        check(parse_manifest(r#"{"name": "a", "version": "1.0.0"}"#), &[("a", "1.0.0", false)]);
        check(parse_manifest(r#"{"type": "module"}"#), &[]);
        for (license, want) in [
            (r#""MIT""#, Some("MIT")),
            (r#"{"type": "ISC", "url": "x"}"#, Some("ISC")),
            ("[1]", None),
            ("null", None),
        ] {
            let text = format!(r#"{{"name": "a", "version": "1", "license": {license}}}"#);
            assert_eq!(parse_manifest(&text).packages[0].licence.as_deref(), want);
        }
    }
}
