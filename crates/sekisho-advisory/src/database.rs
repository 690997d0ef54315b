//! Advisory records, made ready for matching.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use sekisho_types::Severity;

use crate::Ecosystem;
use crate::cvss::{self, Score};
use crate::osv::{Affected, Event, PackageName, RangeKind, Record, SeverityEntry, Specific};
use crate::version::{Scheme, VersionError};

/// The most records a database takes. All of OSV had some 600,000 in 2026.
pub const MAX_RECORDS: usize = 2_000_000;

/// Advisories, indexed by ecosystem and package name.
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
}

/// What a finding says of its advisory.
#[derive(Clone, Debug)]
pub(crate) struct Advisory {
    pub(crate) id: String,
    /// Every id of the same vulnerability, its own among them.
    pub(crate) ids: BTreeSet<String>,
    /// The vulnerabilities it bundles: aliases to a reader, but no reason to merge.
    pub(crate) upstream: Vec<String>,
    pub(crate) summary: String,
    pub(crate) url: String,
    pub(crate) published: Option<Timestamp>,
}

/// What one advisory says of one package.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Index into [`Database::advisories`].
    pub(crate) advisory: usize,
    pub(crate) spans: Vec<Span>,
    pub(crate) versions: Vec<String>,
    pub(crate) severity: Severity,
    pub(crate) score: Option<Score>,
}

/// A run of affected versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// `None`: from the first version on.
    pub(crate) from: Option<String>,
    pub(crate) to: End,
}

/// Where a run of affected versions ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It does not.
    Open,
    /// Before this version, which has the fix.
    Fixed(String),
    /// After this version.
    Last(String),
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
        let mut records = Vec::new();
        for (name, text) in documents {
            if records.len() == MAX_RECORDS {
                return Err(DatabaseError::TooMany);
            }
            let fail = |source| DatabaseError::Record { name: name.to_owned(), source };
            records.push(serde_json::from_str::<Record>(text).map_err(fail)?);
        }
        Ok(Self::from_records(records, built))
    }

    /// Indexes records. Withdrawn ones are dropped; what cannot be used is in
    /// [`ignored`](Self::ignored). The order of the records does not matter.
    pub fn from_records(mut records: Vec<Record>, built: Timestamp) -> Self {
        records.sort_by(|a, b| a.id.cmp(&b.id));
        let mut database = Self {
            rows: HashMap::new(),
            advisories: Vec::with_capacity(records.len()),
            ignored: Vec::new(),
            ignored_index: HashMap::new(),
            records: 0,
            newest: records.iter().map(|record| record.modified).max(),
            built,
        };
        for record in records.into_iter().filter(|record| record.withdrawn.is_none()) {
            database.add(record);
        }
        database
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

    fn add(&mut self, record: Record) {
        let advisory = self.advisories.len();
        for affected in &record.affected {
            if let Err(problem) = self.add_affected(advisory, &record, affected) {
                let package = affected.package.clone();
                if let Some(PackageName { ecosystem, name }) = &package {
                    let names = self.ignored_index.entry(ecosystem.clone()).or_default();
                    let places = names.entry(ecosystem.normal_name(name)).or_default();
                    places.push(self.ignored.len());
                }
                self.ignored.push(Ignored { id: record.id.clone(), package, problem });
            }
        }
        let mut ids = BTreeSet::from([record.id.clone()]);
        ids.extend(record.aliases);
        // A distribution's advisory about one vulnerability is that vulnerability; one about
        // several is a bundle, and merging by it would merge what is different.
        let upstream = record.upstream;
        if let [only] = upstream.as_slice() {
            ids.insert(only.clone());
        }
        let url = ["ADVISORY", "WEB"]
            .iter()
            .find_map(|kind| record.references.iter().find(|link| link.kind == *kind))
            .or(record.references.first())
            .map_or_else(
                || format!("https://osv.dev/vulnerability/{}", record.id),
                |link| link.url.clone(),
            );
        let (summary, published) = (record.summary, record.published);
        self.advisories.push(Advisory { id: record.id, ids, upstream, summary, url, published });
        self.records += 1;
    }

    fn add_affected(
        &mut self,
        advisory: usize,
        record: &Record,
        affected: &Affected,
    ) -> Result<(), String> {
        let package = affected.package.as_ref().ok_or("it names no package")?;
        let (spans, problem) = match ranges_of(affected, package.ecosystem.scheme()) {
            Ok(spans) if spans.is_empty() && affected.versions.is_empty() => {
                return Err("it names no versions".to_owned());
            }
            Ok(spans) => (spans, Ok(())),
            Err(problem) if affected.versions.is_empty() => return Err(problem),
            // What is listed word by word holds all the same.
            Err(problem) => (Vec::new(), Err(problem)),
        };
        let (severity, score) = severity_of(record, affected);
        let name = package.ecosystem.normal_name(&package.name);
        let names = self.rows.entry(package.ecosystem.clone()).or_default();
        let rows = names.entry(name).or_default();
        // One record may speak of one package in several entries, one for each release line.
        // Together they say which fix is the nearest.
        match rows.last_mut().filter(|row| row.advisory == advisory) {
            Some(row) => {
                row.spans.extend(spans);
                row.versions.extend(affected.versions.iter().cloned());
                row.severity = row.severity.max(severity);
                row.score = row.score.max(score);
            }
            None => {
                let versions = affected.versions.clone();
                rows.push(Row { advisory, spans, versions, severity, score });
            }
        }
        problem
    }
}

fn ranges_of(affected: &Affected, scheme: Option<Scheme>) -> Result<Vec<Span>, String> {
    let mut spans = Vec::new();
    for range in affected.ranges.iter().filter(|range| range.kind != RangeKind::Git) {
        let scheme = scheme.ok_or("its versions cannot be compared")?;
        spans.extend(spans_of(&range.events, scheme).map_err(|error| error.to_string())?);
    }
    Ok(spans)
}

/// Turns events into runs. Source: OSV schema, "Evaluation".
fn spans_of(events: &[Event], scheme: Scheme) -> Result<Vec<Span>, VersionError> {
    let mut points: Vec<(Option<&str>, u8)> = Vec::new();
    for event in events {
        // At one version: a fix ends what was before, then a new run may begin, and a run may be
        // of that version alone.
        if let Some(version) = event.fixed.as_deref() {
            points.push((Some(version), 0));
        }
        if let Some(version) = event.introduced.as_deref() {
            points.push(((version != "0").then_some(version), 1));
        }
        if let Some(version) = event.last_affected.as_deref() {
            points.push((Some(version), 2));
        }
    }
    for version in points.iter().filter_map(|(version, _)| *version) {
        scheme.check(version)?;
    }
    points.sort_by(|a, b| compare_points(a.0, b.0, scheme).then(a.1.cmp(&b.1)));
    let mut spans = Vec::new();
    let mut open: Option<Option<&str>> = None;
    for (version, kind) in points {
        match (kind, open, version) {
            (1, None, _) => open = Some(version),
            (0 | 2, Some(from), Some(version)) => {
                let end = if kind == 0 { End::Fixed } else { End::Last };
                spans.push(Span { from: from.map(str::to_owned), to: end(version.to_owned()) });
                open = None;
            }
            _ => {}
        }
    }
    if let Some(from) = open {
        spans.push(Span { from: from.map(str::to_owned), to: End::Open });
    }
    Ok(spans)
}

fn compare_points(left: Option<&str>, right: Option<&str>, scheme: Scheme) -> Ordering {
    match (left, right) {
        // Both were checked before: there is no error to lose.
        (Some(left), Some(right)) => scheme.compare(left, right).unwrap_or(Ordering::Equal),
        (left, right) => left.is_some().cmp(&right.is_some()),
    }
}

/// The distribution's or database's own word first, for it knows how the package is built; then
/// the score. The entry for the package goes before that for the whole record.
fn severity_of(record: &Record, affected: &Affected) -> (Severity, Option<Score>) {
    let own = if affected.severity.is_empty() { &record.severity } else { &affected.severity };
    let score = own.iter().filter_map(score_of).max();
    let word =
        [&affected.ecosystem_specific, &affected.database_specific, &record.database_specific]
            .into_iter()
            .find_map(|specific| word_of(specific.as_ref()?));
    (word.or(score.map(Score::severity)).unwrap_or_default(), score)
}

fn score_of(entry: &SeverityEntry) -> Option<Score> {
    cvss::base_score(&entry.score).ok()
}

fn word_of(specific: &Specific) -> Option<Severity> {
    match specific.severity.as_deref()? {
        // Debian's words: <https://security-team.debian.org/security_tracker.html#severity-levels>.
        "unimportant" => Some(Severity::Low),
        word => word.parse().ok().filter(|severity| *severity != Severity::Unknown),
    }
}
