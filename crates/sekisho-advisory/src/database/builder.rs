//! Makes a database of records, one by one: what one says that no finding needs is gone before the next is read.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use sekisho_types::{Digest, Severity};

use super::{Advisory, Database, DatabaseError, End, Ignored, MAX_RECORDS, Row, Span};
use crate::cvss::{self, Score};
use crate::osv::{Affected, Event, PackageName, RangeKind, Record, SeverityEntry, Specific};
use crate::version::{Scheme, VersionError};

/// Takes records, in any order. Of two with one id the one that was changed last counts.
#[derive(Debug)]
pub struct Builder {
    database: Database,
    /// Of each of the database's advisories.
    taken: Vec<Taken>,
    /// With the advisory that says it.
    ignored: Vec<(usize, Ignored)>,
}

#[derive(Debug)]
struct Taken {
    modified: Timestamp,
    is_withdrawn: bool,
}

impl Builder {
    /// Knows nothing yet; `built` is when.
    pub fn new(built: Timestamp) -> Self {
        let database = Database {
            rows: HashMap::new(),
            advisories: Vec::new(),
            ignored: Vec::new(),
            ignored_index: HashMap::new(),
            records: 0,
            newest: None,
            built,
            contents: Digest::sha256(b""),
        };
        Self { database, taken: Vec::new(), ignored: Vec::new() }
    }

    /// How many records were taken.
    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    /// Takes a record. Of a withdrawn one no more than that it is.
    ///
    /// # Errors
    /// There are too many.
    pub fn add(&mut self, mut record: Record) -> Result<(), DatabaseError> {
        if self.taken.len() == MAX_RECORDS {
            return Err(DatabaseError::TooMany);
        }
        let advisory = self.taken.len();
        let is_withdrawn = record.withdrawn.is_some();
        self.taken.push(Taken { modified: record.modified, is_withdrawn });
        let affected = std::mem::take(&mut record.affected);
        for affected in affected.into_iter().filter(|_| !is_withdrawn) {
            let package = affected.package.clone();
            if let Err(problem) = self.add_affected(advisory, &record, affected) {
                self.ignored.push((advisory, Ignored { id: record.id.clone(), package, problem }));
            }
        }
        self.database.advisories.push(shortened(record));
        Ok(())
    }

    fn add_affected(
        &mut self,
        advisory: usize,
        record: &Record,
        affected: Affected,
    ) -> Result<(), String> {
        let package = affected.package.as_ref().ok_or("it names no package")?;
        let scheme = package.ecosystem.scheme();
        let (spans, problem) = match ranges_of(&affected, scheme) {
            Ok(spans) if spans.is_empty() && affected.versions.is_empty() => {
                return Err("it names no versions".to_owned());
            }
            Ok(spans) => (spans, Ok(())),
            Err(problem) if affected.versions.is_empty() => return Err(problem),
            // What is listed word by word holds all the same.
            Err(problem) => (Vec::new(), Err(problem)),
        };
        let (severity, score) = severity_of(record, &affected);
        let name = package.ecosystem.normal_name(&package.name);
        // Distributions list hundreds of versions that their ranges hold as well.
        let is_in_a_span = |version: &String| {
            let holds = |span: &Span, scheme| span.is_known_to_hold(version, scheme);
            scheme.is_some_and(|scheme| spans.iter().any(|span| holds(span, scheme)))
        };
        let listed = affected.versions.into_iter().filter(|version| !is_in_a_span(version));
        let mut listed: Vec<Box<str>> = listed.map(String::into_boxed_str).collect();
        // Without this it has the room that all of them had.
        listed.shrink_to_fit();
        let names = self.database.rows.entry(package.ecosystem.clone()).or_default();
        let rows = names.entry(name).or_default();
        // One record may speak of one package in several entries, one for each release line.
        // Together they say which fix is the nearest.
        match rows.last_mut().filter(|row| row.advisory == advisory) {
            Some(row) => {
                row.spans.extend(spans);
                row.versions.extend(listed);
                row.severity = row.severity.max(severity);
                row.score = row.score.max(score);
            }
            None => rows.push(Row { advisory, spans, versions: listed, severity, score }),
        }
        problem
    }

    /// The database of all that was taken. Withdrawn records are dropped; what cannot be used is in
    /// [`ignored`](Database::ignored).
    pub fn finish(self) -> Database {
        let Self { mut database, taken, ignored } = self;
        let mut order: Vec<usize> = (0..taken.len()).collect();
        let key = |at: usize| (&*database.advisories[at].id, taken[at].modified);
        // Of two that are equal in both the first counts, as it is the last of them here.
        order.sort_by(|a, b| key(*a).cmp(&key(*b)).then(b.cmp(a)));
        let newest_of_its_id = |at: usize| {
            let next = order.get(at + 1);
            next.is_none_or(|next| key(*next).0 != key(order[at]).0)
        };
        let all: Vec<usize> =
            (0..order.len()).filter(|at| newest_of_its_id(*at)).map(|at| order[at]).collect();
        let mut text = String::new();
        for at in &all {
            let (id, modified) = key(*at);
            text.extend([id, " ", &modified.to_string(), "\n"]);
        }
        database.contents = Digest::sha256(text.as_bytes());
        database.newest = taken.iter().map(|it| it.modified).max();
        let mut counts = vec![false; taken.len()];
        all.iter().for_each(|at| counts[*at] = !taken[*at].is_withdrawn);
        database.records = counts.iter().filter(|counts| **counts).count();

        for names in database.rows.values_mut() {
            names.retain(|_, rows| {
                rows.retain(|row| counts[row.advisory]);
                rows.shrink_to_fit();
                !rows.is_empty()
            });
            names.shrink_to_fit();
        }
        database.rows.retain(|_, names| !names.is_empty());
        database.advisories.shrink_to_fit();
        let mut ignored: Vec<Ignored> =
            ignored.into_iter().filter(|(at, _)| counts[*at]).map(|(_, ignored)| ignored).collect();
        ignored.sort_by(|a, b| a.id.cmp(&b.id));
        for (at, ignored) in ignored.iter().enumerate() {
            if let Some(PackageName { ecosystem, name }) = &ignored.package {
                let names = database.ignored_index.entry(ecosystem.clone()).or_default();
                names.entry(ecosystem.normal_name(name)).or_default().push(at);
            }
        }
        database.ignored = ignored;
        database
    }
}

/// What a finding says of a record.
fn shortened(record: Record) -> Advisory {
    let mut others = BTreeSet::from_iter(record.aliases);
    // A distribution's advisory about one vulnerability is that vulnerability; one about
    // several is a bundle, and merging by it would merge what is different.
    let upstream = record.upstream;
    if let [only] = upstream.as_slice() {
        others.insert(only.clone());
    }
    others.remove(&record.id);
    let url = ["ADVISORY", "WEB"]
        .iter()
        .find_map(|kind| record.references.iter().find(|link| link.kind == *kind))
        .or(record.references.first())
        .map_or_else(
            || format!("https://osv.dev/vulnerability/{}", record.id),
            |link| link.url.clone(),
        );
    Advisory {
        id: record.id.into(),
        others: others.into_iter().map(String::into_boxed_str).collect(),
        upstream: upstream.into_iter().map(String::into_boxed_str).collect(),
        summary: record.summary.into(),
        url: url.into(),
        published: record.published,
    }
}

fn ranges_of(affected: &Affected, scheme: Option<Scheme>) -> Result<Vec<Span>, String> {
    let mut spans = Vec::new();
    for range in affected.ranges.iter().filter(|range| range.kind != RangeKind::Git) {
        let scheme = scheme.ok_or("its versions cannot be compared")?;
        spans.extend(spans_of(&range.events, scheme).map_err(|error| error.to_string())?);
    }
    spans.shrink_to_fit();
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
                spans.push(Span { from: from.map(Box::from), to: end(version.into()) });
                open = None;
            }
            _ => {}
        }
    }
    if let Some(from) = open {
        spans.push(Span { from: from.map(Box::from), to: End::Open });
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

#[cfg(test)]
mod tests;
