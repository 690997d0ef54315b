//! Advisory records, made ready for matching.

mod builder;

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use sekisho_types::{Digest, Severity};

pub use self::builder::Builder;
use crate::Ecosystem;
use crate::cvss::Score;
use crate::osv::{PackageName, Record};

/// The most records a database takes. All of OSV had some 600,000 in 2026.
pub const MAX_RECORDS: usize = 2_000_000;

/// Advisories, indexed by ecosystem and package name.
///
/// All of OSV is to fit into a small machine: no text has room to grow, and there is none that no finding needs.
#[derive(Clone, Debug)]
pub struct Database {
    pub(crate) rows: HashMap<Ecosystem, HashMap<String, Vec<Row>>>,
    pub(crate) advisories: Vec<Advisory>,
    ignored: Vec<Ignored>,
    /// Into `ignored`.
    ignored_index: HashMap<Ecosystem, HashMap<String, Vec<usize>>>,
    records: usize,
    newest: Option<Timestamp>,
    built: Timestamp,
    contents: Digest,
}

/// What a finding says of its advisory.
#[derive(Clone, Debug)]
pub(crate) struct Advisory {
    pub(crate) id: Box<str>,
    /// Every other id of the same vulnerability.
    others: Box<[Box<str>]>,
    /// The vulnerabilities it bundles: aliases to a reader, but no reason to merge.
    pub(crate) upstream: Box<[Box<str>]>,
    pub(crate) summary: Box<str>,
    pub(crate) url: Box<str>,
    pub(crate) published: Option<Timestamp>,
}

impl Advisory {
    /// Every id of the vulnerability.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.id).chain(self.others.iter().map(|id| &**id))
    }
}

/// What one advisory says of one package.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Index into [`Database::advisories`].
    pub(crate) advisory: usize,
    pub(crate) spans: Vec<Span>,
    /// Those that are listed and in none of the spans.
    pub(crate) versions: Vec<Box<str>>,
    pub(crate) severity: Severity,
    pub(crate) score: Option<Score>,
}

/// A run of affected versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// `None`: from the first version on.
    pub(crate) from: Option<Box<str>>,
    pub(crate) to: End,
}

/// Where a run of affected versions ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It does not.
    Open,
    /// Before this version, which has the fix.
    Fixed(Box<str>),
    /// After this version.
    Last(Box<str>),
}

/// A statement of a record that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// The record.
    pub id: String,
    /// The package it speaks of, where it names one. When an image holds it, that is said as
    /// [`Reason::UnusableAdvisory`](crate::Reason).
    pub package: Option<PackageName>,
    /// Why it is of no use here.
    pub problem: String,
}

/// Why no database could be made.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A document is no OSV record.
    #[error("`{name}` is no OSV record")]
    Record {
        /// The document's name.
        name: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// There are more than [`MAX_RECORDS`].
    #[error("more than {MAX_RECORDS} advisory records")]
    TooMany,
}

impl Database {
    /// Reads OSV JSON documents, given as (name, text).
    ///
    /// # Errors
    /// A document is no record, or there are too many.
    pub fn from_json<'a>(
        documents: impl IntoIterator<Item = (&'a str, &'a str)>,
        built: Timestamp,
    ) -> Result<Self, DatabaseError> {
        let mut builder = Builder::new(built);
        for (name, text) in documents {
            let fail = |source| DatabaseError::Record { name: name.to_owned(), source };
            builder.add(serde_json::from_str::<Record>(text).map_err(fail)?)?;
        }
        Ok(builder.finish())
    }

    /// How many records are in use.
    pub fn records(&self) -> usize {
        self.records
    }

    /// When the newest record was changed: the data's date. `None` when there are no records.
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// When this database was made of its records.
    pub fn built(&self) -> Timestamp {
        self.built
    }

    /// Of the ids of all records and the times of their last change: what has the same was made of the same.
    pub fn contents(&self) -> &Digest {
        &self.contents
    }

    /// Statements that could not be used.
    pub fn ignored(&self) -> &[Ignored] {
        &self.ignored
    }

    /// Whether there is any advisory about this ecosystem.
    pub fn covers(&self, ecosystem: &Ecosystem) -> bool {
        self.rows.contains_key(ecosystem)
    }

    /// The ecosystems there are advisories about, in order.
    pub fn ecosystems(&self) -> BTreeSet<&Ecosystem> {
        self.rows.keys().collect()
    }

    /// Statements about this package that could not be used. `name` in normal form.
    pub(crate) fn ignored_for(
        &self,
        ecosystem: &Ecosystem,
        name: &str,
    ) -> impl Iterator<Item = &Ignored> {
        let found = self.ignored_index.get(ecosystem).and_then(|names| names.get(name));
        found.into_iter().flatten().map(|i| &self.ignored[*i])
    }

    pub(crate) fn rows_for(&self, ecosystem: &Ecosystem, name: &str) -> &[Row] {
        let names = self.rows.get(ecosystem);
        names.and_then(|names| names.get(name)).map_or(&[], Vec::as_slice)
    }
}
