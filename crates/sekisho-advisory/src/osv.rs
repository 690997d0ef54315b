//! Advisory records in the OSV schema, as much of it as matching needs.
//!
//! Source: OSV schema 1.7 (<https://ossf.github.io/osv-schema/>). Unknown fields are tolerated:
//! the schema grows, and every source adds its own `database_specific`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Ecosystem;

/// One advisory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// `GHSA-…`, `DSA-…`, `CVE-…`, `PYSEC-…`.
    pub id: String,
    /// When this record last changed; the age of a data set is that of its newest record.
    pub modified: Timestamp,
    /// When it was first published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
    /// When it was taken back. Such a record matches nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Timestamp>,
    /// Other ids of the same vulnerability.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Vulnerabilities this advisory is about, for a distribution's advisory: often several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstream: Vec<String>,
    /// One line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// CVSS vectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub severity: Vec<SeverityEntry>,
    /// Which versions of which packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affected: Vec<Affected>,
    /// Where to read on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// The source's own facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_specific: Option<Specific>,
}

/// A severity in the words of one scoring system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeverityEntry {
    /// `CVSS_V2`, `CVSS_V3`, `CVSS_V4`, `Ubuntu`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The vector, or the system's word.
    pub score: String,
}

/// The versions of one package that an advisory is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// The package; absent in records that name commits only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageName>,
    /// A version is affected when one of the ranges holds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
    /// Or when it is listed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// Severity for this package, over that of the record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub severity: Vec<SeverityEntry>,
    /// The distribution's own word on this package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecosystem_specific: Option<Specific>,
    /// The source's own facts about this package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_specific: Option<Specific>,
}

/// A package by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageName {
    /// Its ecosystem, with the release where there is one.
    pub ecosystem: Ecosystem,
    /// Its name there; for a distribution, that of the source package.
    pub name: String,
}

/// A range of versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// What the events count in.
    #[serde(rename = "type")]
    pub kind: RangeKind,
    /// In any order; they are sorted before use.
    pub events: Vec<Event>,
}

/// What a range counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RangeKind {
    /// Semantic versions.
    Semver,
    /// Versions in the ecosystem's own order.
    Ecosystem,
    /// Commits, which an image does not show: never used here.
    Git,
}

/// A point at which affectedness changes. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// From here on affected; `0` is before every version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introduced: Option<String>,
    /// From here on no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
    /// After this one no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_affected: Option<String>,
    /// Bounds the search in commits; has no meaning for versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// `ADVISORY`, `FIX`, `WEB`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Where.
    pub url: String,
}

/// The one thing read out of the free-form `…_specific` objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specific {
    /// GitHub's `HIGH`, Debian's `urgency`. A value that is no text is ignored.
    #[serde(
        default,
        alias = "urgency",
        deserialize_with = "text_or_nothing",
        skip_serializing_if = "Option::is_none"
    )]
    pub severity: Option<String>,
}

fn text_or_nothing<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(value.as_str().map(str::to_owned))
}
