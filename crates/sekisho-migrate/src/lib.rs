//! From actions-runner-controller (ARC) to Sekisho: manifests of both its modes, and Helm values.
//!
//! ```text
//!  text ─ source ─▶ documents ─┬─ legacy ────┐
//!                              ├─ scale_set ─┼─▶ drafts ─ draft ─▶ manifests
//!                              └─ autoscaler ┘        └─ the pod is made: what it refuses is blocked
//!                                     └────── a finding for every field, by the rules of `table`
//! ```
//!
//! Nothing is read or applied here. Every field that stands in a file gets a [`Verdict`] with its
//! place; what a verdict says is written once, in [`table`], from which the page
//! `docs/migrating-from-arc.md` is made as well.
//!
//! The fields are those of ARC 0.14 (`apis/actions.summerwind.net/v1alpha1` and
//! `apis/actions.github.com/v1alpha1` of <https://github.com/actions/actions-runner-controller>).

mod autoscaler;
mod credentials;
mod draft;
mod legacy;
mod pod;
mod report;
mod scale_set;
mod source;
pub mod table;

use serde_json::Value;

pub use report::Finding;
pub use source::{Source, SourceError, SourceKind};
pub use table::Verdict;

use crate::report::Report;
use crate::source::Document;

/// What is not in the manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where GitHub is, for ARC's legacy mode, which has it among the controller's flags.
    pub github_url: String,
    /// The GitHub App's client id or number, where the credentials' secret is not among the files.
    pub app_id: Option<String>,
    /// The name of the Helm release, for values that name no scale set.
    pub release: Option<String>,
    /// The namespace of what names none.
    pub namespace: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            github_url: "https://github.com".to_owned(),
            app_id: None,
            release: None,
            namespace: None,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Migration {
    /// Ours, in the order in which they are applied.
    pub manifests: Vec<Value>,
    /// One for each field that was read, in the order of the files.
    pub findings: Vec<Finding>,
}

impl Migration {
    /// How many findings have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }
}

/// Turns what `sources` hold into ours.
///
/// # Errors
/// Where a text is no YAML, or a document no object.
pub fn migrate(sources: &[Source], options: &Options) -> Result<Migration, SourceError> {
    let mut documents = vec![];
    for source in sources {
        documents.extend(source::documents(source)?);
    }
    let mut report = Report::default();
    let known = credentials::of(&documents);
    let mut drafts = vec![];
    for document in &documents {
        drafts.extend(of_document(document, options, &mut report));
    }
    for document in documents.iter().filter(|it| it.kind == "HorizontalRunnerAutoscaler") {
        autoscaler::apply(document, &mut drafts, &mut report);
    }
    let manifests = draft::finish(drafts, &known, options, &mut report);
    Ok(Migration { manifests, findings: report.into_findings(sources) })
}

fn of_document(
    document: &Document,
    options: &Options,
    report: &mut Report,
) -> Option<draft::Draft> {
    match document.kind.as_str() {
        "HelmValues" => scale_set::of_values(document, options, report),
        "AutoscalingRunnerSet" => Some(scale_set::of_set(document, options, report)),
        "RunnerDeployment" | "RunnerReplicaSet" | "RunnerSet" | "Runner" => {
            legacy::of(document, options, report)
        }
        // Applied to the drafts, when all are there.
        "HorizontalRunnerAutoscaler" => None,
        // Read for what it says of a GitHub App, never copied.
        "Secret" => None,
        "EphemeralRunnerSet" | "EphemeralRunner" | "AutoscalingListener" => {
            report.say(document, table::OBJECT, "made by ARC", document.at, 0);
            None
        }
        _ => {
            report.say(document, table::OBJECT, "another kind", document.at, 0);
            None
        }
    }
}
