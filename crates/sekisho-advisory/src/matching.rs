//! Which advisories apply to which packages.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use sekisho_types::{Digest, Severity};
use serde::{Deserialize, Serialize};

use crate::cvss::Score;
use crate::database::{Advisory, Database, End, Row, Span};
use crate::version::Scheme;
use crate::{Ecosystem, NotAssessed, Package, Reason};

/// One advisory that applies to one package.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Finding {
    /// The advisory: `GHSA-…`, `DSA-…`, `CVE-…`.
    pub id: String,
    /// Every other id of the same vulnerability, or of those that a bundle is about, in order.
    pub aliases: Vec<String>,
    /// How bad it is.
    pub severity: Severity,
    /// The CVSS base score, where a CVSS 3 vector is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// The package's ecosystem.
    pub ecosystem: Ecosystem,
    /// The package's name, as in [`Package::name`].
    pub package: String,
    /// The version found.
    pub installed: String,
    /// The smallest version above it that has the fix; `None` when there is none yet. For a
    /// distribution, the version of the source package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
    /// One line.
    pub summary: String,
    /// Where to read on.
    pub url: String,
    /// When the advisory was first published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Timestamp>,
    /// The `diff_id` of the layer that brought the package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
    /// The file that names the package, relative to the image's root.
    pub path: String,
    /// The package is needed for development only, says the lock file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dev: bool,
}

/// The answer of [`match_packages`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matches {
    /// Worst first; then by package, version, id and path. The same input gives the same bytes.
    pub findings: Vec<Finding>,
    /// What could not be judged, in order.
    pub not_assessed: Vec<NotAssessed>,
}

/// Matches packages against advisories.
pub fn match_packages(packages: &[Package], database: &Database) -> Matches {
    let mut matches = Matches::default();
    let mut uncovered: BTreeMap<&Ecosystem, usize> = BTreeMap::new();
    for package in packages {
        if !database.covers(&package.ecosystem) {
            *uncovered.entry(&package.ecosystem).or_default() += 1;
            continue;
        }
        match_package(package, database, &mut matches);
    }
    matches.not_assessed.extend(uncovered.into_iter().map(|(ecosystem, count)| NotAssessed {
        reason: Reason::NoAdvisoryData,
        subject: ecosystem.to_string(),
        detail: format!("the advisory data says nothing about it, and {count} packages are of it"),
        path: None,
        layer: None,
    }));
    matches.findings.sort_by(|a, b| order(a).cmp(&order(b)));
    matches.findings.dedup();
    matches.not_assessed.sort();
    matches.not_assessed.dedup();
    matches
}

fn order(finding: &Finding) -> impl Ord + '_ {
    let Finding { severity, score, package, installed, id, path, layer, .. } = finding;
    (Reverse((severity, score)), package, installed, id, path, layer)
}

fn match_package(package: &Package, database: &Database, matches: &mut Matches) {
    let (name, version) = package.subject();
    let mut scheme = package.ecosystem.scheme();
    let not_assessed = |reason, detail| NotAssessed {
        reason,
        subject: format!("{} {name}", package.ecosystem),
        detail,
        path: Some(package.path.clone()),
        layer: package.layer.clone(),
    };
    // Said for every such package, also when no advisory names it today: tomorrow one may.
    if let Some(Err(error)) = scheme.map(|scheme| scheme.check(version)) {
        matches.not_assessed.push(not_assessed(Reason::UnparsableVersion, error.to_string()));
        // It may still be listed word by word.
        scheme = None;
    }
    let name = package.ecosystem.normal_name(name);
    for ignored in database.ignored_for(&package.ecosystem, &name) {
        let detail = format!("advisory {} could not be used: {}", ignored.id, ignored.problem);
        matches.not_assessed.push(not_assessed(Reason::UnusableAdvisory, detail));
    }
    let rows = database.rows_for(&package.ecosystem, &name).iter();
    let affected = rows.filter(|row| is_affected(row, version, scheme));
    let groups = group(affected.map(|row| (row, &database.advisories[row.advisory])));
    let found = groups.into_iter().filter_map(|group| finding_of(package, group, version, scheme));
    matches.findings.extend(found);
}

/// Advisories that are aliases of each other.
#[derive(Default)]
struct Group<'a> {
    ids: BTreeSet<&'a str>,
    rows: Vec<(&'a Row, &'a Advisory)>,
}

/// Brings together what shares an id. A kernel has thousands of advisories, so each id leads
/// straight to its group.
fn group<'a>(rows: impl Iterator<Item = (&'a Row, &'a Advisory)>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut group_of: HashMap<&'a str, usize> = HashMap::new();
    for (row, advisory) in rows {
        let mut group = Group::default();
        group.ids.extend(advisory.ids());
        group.rows.push((row, advisory));
        for id in advisory.ids() {
            if let Some(found) = group_of.get(id) {
                let found = std::mem::take(&mut groups[*found]);
                group.ids.extend(found.ids);
                group.rows.extend(found.rows);
            }
        }
        group_of.extend(group.ids.iter().map(|id| (*id, groups.len())));
        groups.push(group);
    }
    groups.retain(|group| !group.rows.is_empty());
    groups
}

fn finding_of(
    package: &Package,
    group: Group<'_>,
    version: &str,
    scheme: Option<Scheme>,
) -> Option<Finding> {
    let Group { mut ids, rows } = group;
    // A source's own id says more than the CVE number all sources share.
    let rank = |advisory: &Advisory| (advisory.id.starts_with("CVE-"), advisory.id.clone());
    let (_, first) = rows.iter().min_by_key(|(_, advisory)| rank(advisory))?;
    ids.extend(rows.iter().flat_map(|(_, advisory)| advisory.upstream.iter().map(|id| &**id)));
    ids.remove(&*first.id);
    Some(Finding {
        id: first.id.to_string(),
        aliases: ids.into_iter().map(str::to_owned).collect(),
        severity: rows.iter().map(|(row, _)| row.severity).max().unwrap_or_default(),
        score: rows.iter().filter_map(|(row, _)| row.score).max(),
        ecosystem: package.ecosystem.clone(),
        package: package.name.clone(),
        installed: package.version.clone(),
        fixed: fixed_in_all(&rows, version, scheme),
        summary: first.summary.to_string(),
        url: first.url.to_string(),
        published: rows.iter().filter_map(|(_, advisory)| advisory.published).min(),
        layer: package.layer.clone(),
        path: package.path.clone(),
        dev: package.dev,
    })
}

fn is_affected(row: &Row, version: &str, scheme: Option<Scheme>) -> bool {
    row.versions.iter().any(|listed| **listed == *version)
        || scheme.is_some_and(|scheme| row.spans.iter().any(|span| span.holds(version, scheme)))
}

impl Span {
    /// Whether `version` lies in the run. Both sides were checked before, so the comparison
    /// cannot fail; if it did, the version would count as affected.
    fn holds(&self, version: &str, scheme: Scheme) -> bool {
        self.compared(|other| scheme.compare(version, other)).unwrap_or(true)
    }

    /// Whether `version` is one, and lies in the run.
    pub(crate) fn is_known_to_hold(&self, version: &str, scheme: Scheme) -> bool {
        let is_compared = self.from.is_some() || self.to != End::Open;
        (is_compared || scheme.check(version).is_ok())
            && self.compared(|other| scheme.compare(version, other)).unwrap_or(false)
    }

    fn compared<E>(&self, compare: impl Fn(&str) -> Result<Ordering, E>) -> Result<bool, E> {
        let is_below = match &self.to {
            End::Open => true,
            End::Fixed(fixed) => compare(fixed)?.is_lt(),
            End::Last(last) => compare(last)?.is_le(),
        };
        let from = self.from.as_deref().filter(|_| is_below);
        from.map_or(Ok(is_below), |from| Ok(compare(from)?.is_ge()))
    }
}

/// Where sources disagree the largest of their answers is in all of them a fixed version.
fn fixed_in_all(
    rows: &[(&Row, &Advisory)],
    version: &str,
    scheme: Option<Scheme>,
) -> Option<String> {
    let scheme = scheme?;
    rows.iter()
        .filter_map(|(row, _)| nearest_fix(row, version, scheme))
        .max_by(|a, b| scheme.compare(a, b).unwrap_or(Ordering::Equal))
        .map(str::to_owned)
}

/// The smallest fixed version above `version` that is not affected again.
fn nearest_fix<'a>(row: &'a Row, version: &str, scheme: Scheme) -> Option<&'a str> {
    let compare = |a: &str, b: &str| scheme.compare(a, b).unwrap_or(Ordering::Equal);
    row.spans
        .iter()
        .filter_map(|span| match &span.to {
            End::Fixed(fixed) => Some(&**fixed),
            End::Open | End::Last(_) => None,
        })
        .filter(|fixed| compare(fixed, version).is_gt() && !is_affected(row, fixed, Some(scheme)))
        .min_by(|a, b| compare(a, b))
}

#[cfg(test)]
mod tests;
