//! What becomes of each field of ARC: the rules that are applied, and the page that shows them.

mod legacy;
mod pod;
mod scale_set;

use std::fmt::Write as _;

use serde::Serialize;

/// What became of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The same, elsewhere.
    Mapped,
    /// Something is different now; the note says what.
    Changed,
    /// Nearly the same.
    Approximated,
    /// Not needed any more.
    Dropped,
    /// A person has to choose.
    NeedsDecision,
    /// It cannot be had; the object is not usable as it is.
    Blocked,
}

impl Verdict {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Mapped,
        Self::Changed,
        Self::Approximated,
        Self::Dropped,
        Self::NeedsDecision,
        Self::Blocked,
    ];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Changed => "changed",
            Self::Approximated => "approximated",
            Self::Dropped => "dropped",
            Self::NeedsDecision => "needs decision",
            Self::Blocked => "blocked",
        }
    }
}

/// What becomes of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands.
    pub section: &'static str,
    /// What ARC calls it.
    pub field: &'static str,
    /// Where it is with Sekisho; empty if nowhere.
    pub to: &'static str,
    /// What can become of it: the first is the usual one.
    pub outcomes: &'static [(Verdict, &'static str)],
}

/// Whole objects.
pub const OBJECT: &str = "Objects";
/// `spec` of the legacy kinds.
pub const LEGACY: &str = "RunnerDeployment, RunnerReplicaSet, RunnerSet, Runner";
/// The legacy template's own fields.
pub const CONFIG: &str = "Legacy runner";
/// `HorizontalRunnerAutoscaler`.
pub const AUTOSCALER: &str = "HorizontalRunnerAutoscaler";
/// `AutoscalingRunnerSet`.
pub const SET: &str = "AutoscalingRunnerSet";
/// Values of the chart.
pub const VALUES: &str = "Helm values of gha-runner-scale-set";
/// A pod's fields, of both modes.
pub const POD: &str = "Pod, of either mode";
/// The fields of the container that runs the job.
pub const RUNNER: &str = "Container of the runner, of either mode";

/// The sections, in the order of the page.
pub const SECTIONS: &[&str] = &[OBJECT, LEGACY, CONFIG, AUTOSCALER, SET, VALUES, POD, RUNNER];

use Verdict::{Approximated, Blocked, Changed, Dropped, Mapped, NeedsDecision};

const fn rule(
    section: &'static str,
    field: &'static str,
    to: &'static str,
    outcomes: &'static [(Verdict, &'static str)],
) -> Rule {
    Rule { section, field, to, outcomes }
}

const SAME: &[(Verdict, &str)] = &[(Mapped, "")];
const INTERNAL: &[(Verdict, &str)] = &[(Dropped, "internal to ARC")];
const LISTENER: &[(Verdict, &str)] =
    &[(Dropped, "there is no listener's pod: sessions live in the operator")];
const OURS: &[(Verdict, &str)] =
    &[(Dropped, "it was for an object of ARC, of which there is none now")];
const CREDENTIALS: &[(Verdict, &str)] = &[
    (Mapped, "a GitHub App, of the secret among the files; its key stays in the secret"),
    (Mapped, "a token, of the secret among the files"),
    (
        NeedsDecision,
        "the secret is not among the files: add it, or give --app-id; if it has `github_token`, replace `auth.app` \
         by `auth.token`",
    ),
    (Approximated, "the App's number is that of --app-id; its key is read from the secret"),
];

const VALUES_CREDENTIALS: &[(Verdict, &str)] = &[
    CREDENTIALS[0],
    CREDENTIALS[1],
    CREDENTIALS[2],
    CREDENTIALS[3],
    (
        Changed,
        "credentials do not belong into values: put the key into the secret that the connection names",
    ),
];

/// The rules about whole objects.
const OBJECTS: &[Rule] = &[
    rule(
        OBJECT,
        "made by ARC",
        "",
        &[(
            Dropped,
            "ARC made it: EphemeralRunnerSet, EphemeralRunner, AutoscalingListener, and sets with an owner",
        )],
    ),
    rule(OBJECT, "another kind", "", &[(Dropped, "not a kind of ARC that is read")]),
    rule(
        OBJECT,
        "unknown field",
        "",
        &[(NeedsDecision, "no field of ARC 0.14: look whether it is needed")],
    ),
    rule(
        OBJECT,
        "metadata.name",
        "metadata.name",
        &[
            (Mapped, ""),
            (
                Changed,
                "at most 30 characters: the names of runners are made of it, and GitHub allows them 64",
            ),
            (Blocked, "there is no name: give --release"),
        ],
    ),
    rule(
        OBJECT,
        "the pod as a whole",
        "RunnerClass.spec.security.profile",
        &[
            (
                Changed,
                "the pod needs more than Restricted allows, so its class is of a looser profile; the namespace's label must be too",
            ),
            (Blocked, "no pod can be made of it"),
        ],
    ),
];

/// Every rule.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [OBJECTS, legacy::RULES, scale_set::RULES, pod::RULES].into_iter().flatten()
}

/// The rule of a field.
pub(crate) fn find(section: &str, field: &str) -> Rule {
    let found = rules().find(|rule| rule.section == section && rule.field == field);
    // A test asks for every name that the code says.
    found.copied().unwrap_or(Rule { section: OBJECT, field: "", to: "", outcomes: &[] })
}

/// The table, as it stands in `docs/migrating-from-arc.md`.
pub fn markdown() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let _ = writeln!(
            text,
            "### {section}\n\n| ARC | Sekisho | what becomes of it |\n|---|---|---|"
        );
        for rule in rules().filter(|rule| rule.section == *section) {
            let outcomes: Vec<String> = rule
                .outcomes
                .iter()
                .map(|(verdict, note)| match *note {
                    "" => format!("**{}**", verdict.name()),
                    note => format!("**{}**: {note}", verdict.name()),
                })
                .collect();
            let to = if rule.to.is_empty() { "-".to_owned() } else { format!("`{}`", rule.to) };
            let _ = writeln!(text, "| `{}` | {to} | {} |", rule.field, outcomes.join("<br>"));
        }
        text.push('\n');
    }
    text
}
