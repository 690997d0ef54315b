//! The packages of an archive.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use sekisho_advisory::version::Scheme;
use serde::{Deserialize, Serialize};

use crate::control::{Paragraph, paragraphs};
use crate::release::is_sha256;

/// Largest index, uncompressed, in bytes. Debian's has some 50 MB.
pub const MAX_INDEX_BYTES: u64 = 256 << 20;

/// Largest package, in bytes.
pub const MAX_PACKAGE_BYTES: u64 = 1 << 30;

/// How a version must compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `<<`
    Less,
    /// `<=`
    LessEqual,
    /// `=`
    Equal,
    /// `>=`
    GreaterEqual,
    /// `>>`
    Greater,
}

impl Relation {
    fn allows(self, ordering: Ordering) -> bool {
        match self {
            Self::Less => ordering == Ordering::Less,
            Self::LessEqual => ordering != Ordering::Greater,
            Self::Equal => ordering == Ordering::Equal,
            Self::GreaterEqual => ordering != Ordering::Less,
            Self::Greater => ordering == Ordering::Greater,
        }
    }
}

/// One package of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its name.
    pub name: String,
    /// Which versions will do.
    pub version: Option<(Relation, String)>,
}

impl Need {
    /// Whether a version will do. One that cannot be compared does not.
    pub fn allows(&self, version: &str) -> bool {
        let Some((relation, wanted)) = &self.version else { return true };
        let compared = Scheme::Deb.compare(version, wanted);
        compared.is_ok_and(|ordering| relation.allows(ordering))
    }
}

/// A package of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// What identifies it.
    pub id: PackageId,
    /// `Essential: yes`.
    pub essential: bool,
    /// `Priority`.
    pub priority: String,
    /// `Pre-Depends` and `Depends`, as written: each `|` list needs one.
    pub depends: String,
    /// Names it stands for, with the version where one is given.
    pub provides: Vec<(String, Option<String>)>,
    /// Where the mirror begins.
    pub url: String,
    /// Below it.
    pub filename: String,
    /// In bytes.
    pub size: u64,
    /// In hex.
    pub sha256: String,
}

/// Name, version and architecture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackageId {
    /// `Package`.
    pub name: String,
    /// `Version`.
    pub version: String,
    /// `Architecture`: the machine's, or `all`.
    pub architecture: String,
}

/// The newest of every package, by name.
#[derive(Clone, Debug, Default)]
pub struct Packages(pub BTreeMap<String, Package>);

impl Packages {
    /// Adds an index, whose packages are below `url`. What lacks a field that must be there is left out.
    pub fn add(&mut self, text: &str, url: &str) {
        for paragraph in paragraphs(text) {
            let Some(package) = package(&Paragraph::parse(paragraph), url) else { continue };
            let newer = self.0.get(&package.id.name).is_none_or(|known| {
                Scheme::Deb.compare(&package.id.version, &known.id.version) == Ok(Ordering::Greater)
            });
            if newer {
                self.0.insert(package.id.name.clone(), package);
            }
        }
    }
}

fn package(fields: &Paragraph<'_>, url: &str) -> Option<Package> {
    let text = |name: &str| fields.get(name).map(str::to_owned);
    // Both are part of the name of a file here.
    let plain = |name: &str| text(name).filter(|text| is_name(text));
    let sha256 = text("SHA256").filter(|digest| is_sha256(digest))?;
    let size = fields.get("Size")?.parse().ok().filter(|size| *size <= MAX_PACKAGE_BYTES)?;
    let depends: Vec<_> =
        ["Pre-Depends", "Depends"].into_iter().filter_map(|name| fields.get(name)).collect();
    let provides = alternatives(fields.get("Provides").unwrap_or_default())
        .into_iter()
        .flatten()
        .map(|need| (need.name, need.version.map(|(_, version)| version)))
        .collect();
    Some(Package {
        id: PackageId {
            name: plain("Package")?,
            version: text("Version").filter(|version| Scheme::Deb.check(version).is_ok())?,
            architecture: plain("Architecture")?,
        },
        essential: fields.get("Essential") == Some("yes"),
        priority: text("Priority").unwrap_or_default(),
        depends: depends.join(", "),
        provides,
        url: url.to_owned(),
        filename: text("Filename").filter(|name| !name.split('/').any(|part| part == ".."))?,
        size,
        sha256,
    })
}

/// Source: Debian policy, 5.6.7: lower case letters, digits, `+`, `-` and `.`.
fn is_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let good =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.');
    first && text.bytes().all(good)
}

/// Reads a relation: all of the outer, one of each inner (deb-control(5)).
pub fn alternatives(text: &str) -> Vec<Vec<Need>> {
    let group = |group: &str| -> Vec<Need> { group.split('|').filter_map(need).collect() };
    text.split(',').map(group).filter(|group| !group.is_empty()).collect()
}

fn need(text: &str) -> Option<Need> {
    let text = text.trim();
    let (name, rest) = match text.find(['(', '[', '<', ' ', '\n']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let name = name.split(':').next().unwrap_or_default().trim();
    let version =
        rest.split_once('(').and_then(|(_, rest)| rest.split_once(')')).and_then(|(inside, _)| {
            let inside = inside.trim();
            let digits = inside.find(|letter: char| !matches!(letter, '<' | '>' | '='))?;
            let (relation, version) = inside.split_at(digits);
            let relation = match relation {
                "<<" => Relation::Less,
                "<=" | "<" => Relation::LessEqual,
                "=" => Relation::Equal,
                ">=" | ">" => Relation::GreaterEqual,
                ">>" => Relation::Greater,
                _ => return None,
            };
            Some((relation, version.trim().to_owned()))
        });
    (!name.is_empty()).then(|| Need { name: name.to_owned(), version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read() {
        let all = alternatives("libc6 (>= 2.36), a:any | b (<< 1~) | c,\n d");
        let names: Vec<Vec<_>> =
            all.iter().map(|group| group.iter().map(|need| need.name.as_str()).collect()).collect();
        assert_eq!(names, [vec!["libc6"], vec!["a", "b", "c"], vec!["d"]]);
        assert!(all[0][0].allows("2.36-9") && !all[0][0].allows("2.35"));
        assert!(all[1][1].allows("1~~") && !all[1][1].allows("1"));
        assert!(all[1][0].allows("0"));
        assert!(alternatives(" , ").is_empty());
    }

    #[test]
    fn the_newest_wins_and_what_is_broken_is_left_out() {
        let digest = "a".repeat(64);
        let one = |version: &str, filename: &str| {
            format!(
                "Package: a\nVersion: {version}\nArchitecture: all\nFilename: {filename}\nSize: 1\n\
                 SHA256: {digest}\nProvides: x, y (= 3)\n"
            )
        };
        let mut packages = Packages::default();
        packages
            .add(&[one("1.9", "p/a"), one("1.10", "p/b"), one("2", "../p")].join("\n"), "http://m");
        packages.add(&one("1.2", "p/c"), "http://n");
        let found = &packages.0["a"];
        assert_eq!((found.id.version.as_str(), found.filename.as_str()), ("1.10", "p/b"));
        assert_eq!(found.provides, [("x".into(), None), ("y".into(), Some("3".to_owned()))]);
        assert_eq!(packages.0.len(), 1);
        // Names are part of a file's name, and a version that cannot be compared is never the newest.
        let good = one("1.0", "p/a");
        for (from, to) in [("e: a", "e: ../a"), ("e: all", "e: a/b"), ("n: 1.0", "n: 1 0")] {
            let mut packages = Packages::default();
            packages.add(&good.replace(from, to), "http://m");
            assert!(packages.0.is_empty(), "{to}");
        }
    }
}
