//! The answer, in a form for programs and in words.

use std::fmt::Write as _;

use sekisho_advisory::Finding;
use serde::{Deserialize, Serialize};

/// What happens with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// It passes.
    Allow,
    /// It passes, and something is said.
    Warn,
    /// It does not pass.
    Deny,
}

impl Decision {
    /// The name in JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

/// What a rule does when it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Deny.
    Enforce,
    /// Say so.
    Warn,
}

/// One rule that matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Its `@id`.
    pub rule: String,
    /// What it did.
    pub mode: Mode,
    /// Its `@message`: what the rule is.
    pub message: String,
    /// The next step to take.
    pub fix: String,
    /// Where to read on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docs: String,
    /// What it is about, other than findings: a name, an event, a file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub about: Vec<String>,
    /// The findings it is about, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The worst that any rule says.
    pub decision: Decision,
    /// Every rule that matched: those that deny first, then by id.
    pub reasons: Vec<Reason>,
}

impl Reason {
    /// What, where, how to mend it: the first words stand alone, for a client may show no more.
    pub fn sentence(&self) -> String {
        let mut text = format!("{}: ", self.rule);
        match (self.findings.first(), self.about.split_first()) {
            (Some(worst), _) => {
                let cve = worst.aliases.iter().find(|id| id.starts_with("CVE-"));
                let Finding { severity, id, ecosystem, package, installed, .. } = worst;
                let _ = write!(text, "{severity} {id}");
                if let Some(cve) = cve.filter(|cve| *cve != id) {
                    let _ = write!(text, " ({cve})");
                }
                let _ = write!(text, " in {ecosystem} {package} {installed}, ");
                let _ = match &worst.fixed {
                    Some(fixed) => write!(text, "fixed in {fixed}"),
                    None => write!(text, "no fix yet"),
                };
                if self.findings.len() > 1 {
                    let _ = write!(text, ", and {} more", self.findings.len() - 1);
                }
                let _ = write!(text, ". {}", self.message);
            }
            (None, Some((first, rest))) => {
                let _ = write!(text, "{first}");
                if !rest.is_empty() {
                    let _ = write!(text, ", and {} more", rest.len());
                }
                let _ = write!(text, ". {}", self.message);
            }
            (None, None) => text.push_str(&self.message),
        }
        let _ = write!(text, "; {}", self.fix);
        text
    }
}

impl Verdict {
    /// The decision that follows from the reasons.
    pub(crate) fn of(mut reasons: Vec<Reason>) -> Self {
        reasons.sort_by(|a, b| (a.mode, &a.rule).cmp(&(b.mode, &b.rule)));
        let decision = match reasons.first().map(|reason| reason.mode) {
            None => Decision::Allow,
            Some(Mode::Warn) => Decision::Warn,
            Some(Mode::Enforce) => Decision::Deny,
        };
        Self { decision, reasons }
    }

    /// Both answers as one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::of([self.reasons, other.reasons].concat())
    }

    /// The reasons that deny, each as a sentence.
    pub fn refusals(&self) -> Vec<String> {
        self.sentences(Mode::Enforce)
    }

    /// The reasons that only warn, each as a sentence.
    pub fn warnings(&self) -> Vec<String> {
        self.sentences(Mode::Warn)
    }

    fn sentences(&self, mode: Mode) -> Vec<String> {
        self.reasons.iter().filter(|reason| reason.mode == mode).map(Reason::sentence).collect()
    }

    /// What a client is told when it is refused, on one line.
    pub fn message(&self) -> String {
        self.refusals().join(" | ")
    }
}
