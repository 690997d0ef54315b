//! What is made of ARC's manifests and values, and what is said of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

mod legacy;
mod report;
mod scale_set;

use sekisho_migrate::{Migration, Options, Source, SourceKind, Verdict, migrate};
use serde_json::Value;

fn source(path: &str, text: &str, kind: SourceKind) -> Source {
    Source { path: path.to_owned(), text: text.to_owned(), kind }
}

/// Of manifests.
#[track_caller]
fn of(text: &str) -> Migration {
    migrate(&[source("arc.yaml", text, SourceKind::Manifests)], &Options::default()).unwrap()
}

/// Of values, released as `build`.
#[track_caller]
fn of_values(text: &str) -> Migration {
    let options = Options { release: Some("build".to_owned()), ..Options::default() };
    migrate(&[source("values.yaml", text, SourceKind::HelmValues)], &options).unwrap()
}

fn kind<'a>(migration: &'a Migration, kind: &str) -> &'a Value {
    migration.manifests.iter().find(|manifest| manifest["kind"] == kind).unwrap()
}

/// `line:column field: verdict` of what was said of one field.
fn said(migration: &Migration, field: &str) -> Vec<(u32, u32, Verdict)> {
    let of = migration.findings.iter().filter(|finding| finding.field == field);
    of.map(|finding| (finding.line, finding.column, finding.verdict)).collect()
}

#[track_caller]
fn verdict(migration: &Migration, field: &str) -> Verdict {
    let all = said(migration, field);
    assert_eq!(all.len(), 1, "{field}: {all:?}");
    all[0].2
}
