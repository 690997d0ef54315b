//! What was said of which field.

use sekisho_workflow::Position;
use serde::Serialize;

use crate::source::{Document, Source};
use crate::table::{self, Verdict};

/// What became of one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The file.
    pub path: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// `RunnerDeployment ci/build`.
    pub object: String,
    /// The field, as ARC calls it.
    pub field: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Where it is now.
    pub to: String,
    /// What to know, or to do.
    pub note: String,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Says the rule of `section` and `field`, with its verdict of this number.
    pub(crate) fn say(
        &mut self,
        document: &Document,
        section: &str,
        field: &str,
        at: Position,
        number: usize,
    ) {
        self.say_of(document, section, field, field, at, number);
    }

    /// The same, of a field that is called otherwise where it stands.
    pub(crate) fn say_of(
        &mut self,
        document: &Document,
        section: &str,
        field: &str,
        called: &str,
        at: Position,
        number: usize,
    ) {
        let rule = table::find(section, field);
        let (verdict, note) =
            rule.outcomes.get(number).or(rule.outcomes.last()).copied().unwrap_or(
                // No rule is without; a test looks.
                (Verdict::Blocked, ""),
            );
        self.add(document, called, at, verdict, rule.to, note);
    }

    pub(crate) fn add(
        &mut self,
        document: &Document,
        field: &str,
        at: Position,
        verdict: Verdict,
        to: &str,
        note: &str,
    ) {
        self.findings.push(Finding {
            path: document.path.clone(),
            line: at.line,
            column: at.column,
            object: document.title(),
            field: field.to_owned(),
            verdict,
            to: to.to_owned(),
            note: note.to_owned(),
        });
    }

    /// In the order of the files.
    pub(crate) fn into_findings(mut self, sources: &[Source]) -> Vec<Finding> {
        let place = |path: &str| sources.iter().position(|source| source.path == path);
        self.findings.sort_by_key(|it| (place(&it.path), it.line, it.column));
        self.findings.dedup();
        self.findings
    }
}
