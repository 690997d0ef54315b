//! The log of decisions.
//!
//! One file per decision, `DIR/<number>-<run>.json`, each naming the hash of the one before: nobody
//! can change or remove one without a trace in those that follow.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fs_err as fs;
use jiff::Timestamp;
use sekisho_policy::{Identity, Verdict};
use sekisho_store::write_atomic;
use sekisho_types::{Digest, RepositoryName, Severity, Tag};
use serde::{Deserialize, Serialize};

/// Most findings that a reason keeps in its record, worst first; the summary counts all.
const MAX_RECORDED_FINDINGS: usize = 1000;

/// Most decisions in one answer, the latest ones.
const MAX_LISTED: usize = 1000;

/// What the gate decided about one manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Unique, and in order of time: `000000000042`.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// Of the decision before this one, as written.
    pub previous: Option<Digest>,
    /// Who pushed.
    pub identity: Identity,
    /// Where to.
    pub repository: RepositoryName,
    /// `None` for a push by digest.
    pub tag: Option<Tag>,
    /// Of the manifest.
    pub digest: Digest,
    /// Of the manifest.
    pub media_type: String,
    /// The answer, with every rule that spoke; at most 1000 findings each, worst first.
    pub verdict: Verdict,
    /// How many packages were found.
    pub packages: usize,
    /// What else was found.
    pub summary: Summary,
    /// What it was made of, for [`crate::explain`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Digest>,
    /// Of the policies.
    pub policy: Digest,
    /// Of the file of exceptions; `None` when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exceptions: Option<Digest>,
    /// The inspector's version.
    pub inspector: String,
    /// How many advisories it was judged by.
    pub advisories: usize,
    /// When the youngest of them was changed.
    pub newest_advisory: Option<Timestamp>,
}

/// What was found in an image, in numbers; for an index, in all its images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many images the manifest holds.
    pub images: usize,
    /// How many layers.
    pub layers: usize,
    /// Of all layers, as pushed.
    pub size_bytes: u64,
    /// How many findings, by severity.
    pub findings: BTreeMap<Severity, usize>,
    /// How much could not be judged.
    pub not_assessed: usize,
}

/// An answer of `GET /_gate/v1/decisions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decisions {
    /// Oldest first; the latest 1000.
    pub decisions: Vec<Decision>,
}

/// A decision before it has its place in the log.
pub(crate) struct Draft {
    pub(crate) at: Timestamp,
    pub(crate) facts: Digest,
    pub(crate) identity: Identity,
    pub(crate) repository: RepositoryName,
    pub(crate) tag: Option<Tag>,
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) verdict: Verdict,
    pub(crate) packages: usize,
    pub(crate) summary: Summary,
    pub(crate) policy: Digest,
    pub(crate) exceptions: Option<Digest>,
    pub(crate) inspector: String,
    pub(crate) advisories: usize,
    pub(crate) newest_advisory: Option<Timestamp>,
}

struct State {
    /// Number to file name.
    files: BTreeMap<u64, String>,
    previous: Option<Digest>,
    last: Option<Decision>,
}

/// The log, in one folder.
pub(crate) struct Log {
    dir: PathBuf,
    state: Mutex<State>,
}

impl Log {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                // A write that a crash cut short.
                fs::remove_file(dir.join(name))?;
            } else if let Some(number) = number_of(&name) {
                files.insert(number, name);
            }
        }
        let last = files.last_key_value().map(|(_, name)| fs::read(dir.join(name))).transpose()?;
        let previous = last.map(|bytes| Digest::sha256(&bytes));
        let state = State { files, previous, last: None };
        Ok(Self { dir: dir.to_owned(), state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a decision down, durably. The same decision twice in a row is one. Blocks.
    pub(crate) fn append(&self, draft: Draft) -> io::Result<Decision> {
        let mut state = self.lock();
        if let Some(last) = state.last.as_ref().filter(|last| same(last, &draft)) {
            return Ok(last.clone());
        }
        let number = state.files.last_key_value().map_or(1, |(number, _)| number + 1);
        let decision = decision(draft, number, state.previous.clone());
        let bytes = serde_json::to_vec(&decision).map_err(io::Error::other)?;
        // Only digits of the run come into the name; a token's claims are checked, this is the belt.
        let run: String =
            decision.identity.run_id.chars().filter(char::is_ascii_digit).take(20).collect();
        let name = format!("{number:012}-{run}.json");
        write_atomic(&self.dir.join(&name), &bytes, false)?;
        state.files.insert(number, name);
        state.previous = Some(Digest::sha256(&bytes));
        state.last = Some(decision.clone());
        Ok(decision)
    }

    fn read(&self, name: &str) -> io::Result<Decision> {
        let bytes = fs::read(self.dir.join(name))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{name}: {error}")))
    }

    /// One decision. Blocks.
    pub(crate) fn get(&self, id: &str) -> io::Result<Option<Decision>> {
        let number = id.parse::<u64>().ok();
        let name = number.and_then(|number| self.lock().files.get(&number).cloned());
        name.map(|name| self.read(&name)).transpose()
    }

    /// The decisions of one run, or all, oldest first. Blocks.
    pub(crate) fn list(&self, run_id: Option<&str>) -> io::Result<Vec<Decision>> {
        let of_run = |name: &&String| match run_id {
            Some(run) => {
                name.split_once('-').is_some_and(|(_, rest)| rest == format!("{run}.json"))
            }
            None => true,
        };
        let names: Vec<String> =
            self.lock().files.values().rev().filter(of_run).take(MAX_LISTED).cloned().collect();
        names.iter().rev().map(|name| self.read(name)).collect()
    }

    /// The first decision whose predecessor is not what it says. Blocks.
    pub(crate) fn broken_link(&self) -> io::Result<Option<String>> {
        let names: Vec<String> = self.lock().files.values().cloned().collect();
        let mut previous = None;
        for name in names {
            let bytes = fs::read(self.dir.join(&name))?;
            let decision: Option<Decision> = serde_json::from_slice(&bytes).ok();
            if decision.is_none_or(|decision| decision.previous != previous) {
                return Ok(Some(name));
            }
            previous = Some(Digest::sha256(&bytes));
        }
        Ok(None)
    }
}

/// One decision of a folder, which a gate may have open. Blocks.
pub(crate) fn read_decision(dir: &Path, id: &str) -> io::Result<Option<Decision>> {
    let Ok(wanted) = id.parse::<u64>() else { return Ok(None) };
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if number_of(&entry.file_name().to_string_lossy()) == Some(wanted) {
            let decision = serde_json::from_slice(&fs::read(entry.path())?);
            return decision.map(Some).map_err(io::Error::other);
        }
    }
    Ok(None)
}

fn number_of(name: &str) -> Option<u64> {
    let (number, _) = name.strip_suffix(".json")?.split_once('-')?;
    number.parse().ok()
}

fn decision(draft: Draft, number: u64, previous: Option<Digest>) -> Decision {
    let verdict = recorded(draft.verdict);
    Decision {
        id: format!("{number:012}"),
        at: draft.at,
        previous,
        identity: draft.identity,
        repository: draft.repository,
        tag: draft.tag,
        digest: draft.digest,
        media_type: draft.media_type,
        verdict,
        packages: draft.packages,
        summary: draft.summary,
        facts: Some(draft.facts),
        policy: draft.policy,
        exceptions: draft.exceptions,
        inspector: draft.inspector,
        advisories: draft.advisories,
        newest_advisory: draft.newest_advisory,
    }
}

/// The answer as it is written down.
pub(crate) fn recorded(mut verdict: Verdict) -> Verdict {
    for reason in &mut verdict.reasons {
        reason.findings.truncate(MAX_RECORDED_FINDINGS);
    }
    verdict
}

/// Whether a client that came again was told the same already.
fn same(last: &Decision, draft: &Draft) -> bool {
    last.identity == draft.identity
        && (&last.repository, &last.tag, &last.digest)
            == (&draft.repository, &draft.tag, &draft.digest)
        && last.verdict == recorded(draft.verdict.clone())
        && (&last.policy, &last.exceptions) == (&draft.policy, &draft.exceptions)
        && last.inspector == draft.inspector
        && (last.advisories, last.newest_advisory) == (draft.advisories, draft.newest_advisory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(run: &str, tag: &str) -> Draft {
        Draft {
            at: Timestamp::UNIX_EPOCH,
            facts: Digest::sha256(b"facts"),
            identity: Identity { run_id: run.into(), ..Identity::default() },
            repository: "a".parse().unwrap(),
            tag: Some(tag.parse().unwrap()),
            digest: Digest::sha256(b""),
            media_type: "x".into(),
            verdict: Verdict { decision: sekisho_policy::Decision::Allow, reasons: vec![] },
            packages: 0,
            summary: Summary::default(),
            policy: Digest::sha256(b"policy"),
            exceptions: None,
            inspector: "1".into(),
            advisories: 0,
            newest_advisory: None,
        }
    }

    #[test]
    fn decisions_are_chained_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path()).unwrap();
        let first = log.append(draft("7", "v1")).unwrap();
        assert_eq!((first.id.as_str(), &first.previous), ("000000000001", &None));
        assert_eq!(log.append(draft("7", "v1")).unwrap(), first, "a repeat is the same decision");
        drop(log);

        fs::write(dir.path().join(".tmp-x"), b"{").unwrap();
        let log = Log::open(dir.path()).unwrap();
        let second = log.append(draft("70", "v2")).unwrap();
        let bytes = fs::read(dir.path().join("000000000001-7.json")).unwrap();
        assert_eq!(second.previous, Some(Digest::sha256(&bytes)));
        assert_eq!(log.list(Some("7")).unwrap(), std::slice::from_ref(&first));
        assert_eq!(log.list(None).unwrap(), [first, second.clone()]);
        assert_eq!(log.get("000000000002").unwrap(), Some(second));
        assert_eq!(log.get("3").unwrap(), None);
        assert_eq!(log.get("../x").unwrap(), None);
        assert_eq!(log.broken_link().unwrap(), None);
    }

    #[test]
    fn a_changed_or_removed_decision_breaks_the_chain() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path()).unwrap();
        for tag in ["v1", "v2", "v3"] {
            log.append(draft("7", tag)).unwrap();
        }
        let path = dir.path().join("000000000002-7.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"v2\"", "\"v9\"")).unwrap();
        assert_eq!(log.broken_link().unwrap().unwrap(), "000000000003-7.json");
        fs::remove_file(path).unwrap();
        let log = Log::open(dir.path()).unwrap();
        assert_eq!(log.broken_link().unwrap().unwrap(), "000000000003-7.json");
    }
}
