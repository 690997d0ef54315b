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
    /// It is held where only its own run sees it, until somebody decides about it.
    Quarantine,
    /// It does not pass.
    Deny,
}

impl Decision {
    /// The name in JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Quarantine => "quarantine",
            Self::Deny => "deny",
        }
    }

    /// Whether the image goes on its way.
    pub fn passes(self) -> bool {
        match self {
            Self::Allow | Self::Warn => true,
            Self::Quarantine | Self::Deny => false,
        }
    }
}

/// What a rule does when it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Deny.
    Enforce,
    /// Hold it back until somebody decides.
    Quarantine,
    /// Let it pass, and say so to whoever pushes.
    Warn,
    /// Let it pass, and say so in the decision's record alone: a rule on trial.
    Audit,
}

impl Mode {
    /// Every mode, the strictest first.
    pub const ALL: [Self; 4] = [Self::Enforce, Self::Quarantine, Self::Warn, Self::Audit];

    /// As `@mode` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Quarantine => "quarantine",
            Self::Warn => "warn",
            Self::Audit => "audit",
        }
    }

    /// Whether a rule of this mode keeps an image back.
    pub fn holds_back(self) -> bool {
        self.decision() > Decision::Warn
    }

    /// What follows when a rule of this mode matches.
    fn decision(self) -> Decision {
        match self {
            Self::Enforce => Decision::Deny,
            Self::Quarantine => Decision::Quarantine,
            Self::Warn => Decision::Warn,
            Self::Audit => Decision::Allow,
        }
    }
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
    /// Every rule that matched: the strictest first, then by id.
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
        // Names come from foreign files, and a sentence ends in headers and on terminals.
        if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
    }
}

impl Verdict {
    /// The decision that follows from the reasons.
    pub(crate) fn of(mut reasons: Vec<Reason>) -> Self {
        reasons.sort_by(|a, b| (a.mode, &a.rule).cmp(&(b.mode, &b.rule)));
        let worst = reasons.first().map(|reason| reason.mode.decision());
        let decision = worst.unwrap_or(Decision::Allow);
        Self { decision, reasons }
    }

    /// Both answers as one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::of([self.reasons, other.reasons].concat())
    }

    /// The answer after somebody approved: what would hold it only warns, and says who let it pass.
    /// What denies still denies.
    #[must_use]
    pub fn approved(self, by: &str) -> Self {
        let approve = |mut reason: Reason| {
            if reason.mode == Mode::Quarantine {
                reason.mode = Mode::Warn;
                reason.fix = by.to_owned();
            }
            reason
        };
        Self::of(self.reasons.into_iter().map(approve).collect())
    }

    /// The reasons that deny or hold back, each as a sentence.
    pub fn refusals(&self) -> Vec<String> {
        self.sentences(Mode::holds_back)
    }

    /// The reasons that only warn, each as a sentence.
    pub fn warnings(&self) -> Vec<String> {
        self.sentences(|mode| mode == Mode::Warn)
    }

    /// The reasons that are for the record alone, each as a sentence.
    pub fn audits(&self) -> Vec<String> {
        self.sentences(|mode| mode == Mode::Audit)
    }

    fn sentences(&self, of: impl Fn(Mode) -> bool) -> Vec<String> {
        self.reasons.iter().filter(|reason| of(reason.mode)).map(Reason::sentence).collect()
    }

    /// What a client is told when it is refused, on one line.
    pub fn message(&self) -> String {
        self.refusals().join(" | ")
    }
}
