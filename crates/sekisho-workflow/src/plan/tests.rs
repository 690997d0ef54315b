//! Expansion and decisions, by example; the simulation is beside them.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::diagnostic::Diagnostic;
use crate::expr::Contexts;
use crate::model::{self, Access, WorkflowReference};

mod calls;
mod concurrency;
mod matrix;
mod rerun;
mod run;
mod simulation;

/// Files by path; a remote reference is found under `owner/repo/path`.
pub(super) struct Files(pub(super) Vec<(&'static str, String)>);

impl Files {
    fn read(&self, path: &str) -> Option<Result<Workflow, Vec<Diagnostic>>> {
        self.0.iter().find(|(name, _)| *name == path).map(|(name, text)| model::parse(name, text))
    }

    fn resolve(
        &self,
        reference: &WorkflowReference,
        caller: &WorkflowSource,
    ) -> Result<Resolved, ResolveError> {
        let (repository, path, git_ref) = match reference {
            WorkflowReference::Local { path } => {
                (caller.repository.clone(), path.clone(), caller.git_ref.clone())
            }
            WorkflowReference::Remote { repository, path, reference } => {
                (repository.clone(), path.clone(), reference.clone())
            }
        };
        let place =
            if repository == "me/app" { path.clone() } else { format!("{repository}/{path}") };
        let workflow = self
            .read(&place)
            .ok_or_else(|| ResolveError::NotFound(format!("no file {place}")))?
            .map_err(ResolveError::Invalid)?;
        let source = WorkflowSource { repository, path, git_ref, sha: "5ha".into() };
        Ok(Resolved { workflow, source })
    }

    /// Expands the first file.
    pub(super) fn expand(&self, contexts: &Contexts) -> Result<Plan, Vec<Diagnostic>> {
        let (path, _) = self.0[0];
        let workflow = self.read(path).expect("the first file")?;
        let source = WorkflowSource {
            repository: "me/app".into(),
            path: path.into(),
            git_ref: "refs/heads/main".into(),
            sha: "abc".into(),
        };
        let root = Resolved { workflow, source };
        expand(&root, &|reference, caller| self.resolve(reference, caller), contexts)
    }
}

pub(super) fn one_file(text: &str) -> Files {
    Files(vec![(".github/workflows/main.yml", text.to_owned())])
}

pub(super) fn contexts() -> Contexts {
    Contexts::new()
        .with("github", json!({"ref_name": "main", "event_name": "push"}))
        .with("vars", json!({"SIZE": "large"}))
}

#[track_caller]
pub(super) fn plan_of(files: &Files) -> Plan {
    files.expand(&contexts()).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n"))
    })
}

#[track_caller]
pub(super) fn refuses(files: &Files, want: &[&str]) {
    let problems = files.expand(&contexts()).expect_err("should be refused");
    let got: Vec<String> = problems.iter().map(Diagnostic::to_string).collect();
    assert_eq!(got, want);
}

/// A run in a hub that does what it is told.
pub(super) struct Hub {
    pub(super) plan: Plan,
    pub(super) contexts: Contexts,
    pub(super) states: BTreeMap<String, JobState>,
    pub(super) cancelled: bool,
    pub(super) ended: Option<Conclusion>,
    /// What was queued, as it was queued.
    pub(super) ready: BTreeMap<String, ReadyJob>,
    /// Annotations.
    pub(super) messages: Vec<String>,
}

impl Hub {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            contexts: contexts(),
            states: BTreeMap::new(),
            cancelled: false,
            ended: None,
            ready: BTreeMap::new(),
            messages: Vec::new(),
        }
    }

    #[track_caller]
    pub(super) fn of(text: &str) -> Self {
        let mut hub = Self::new(plan_of(&one_file(text)));
        hub.settle();
        hub
    }

    pub(super) fn observed(&self) -> RunObserved<'_> {
        RunObserved {
            plan: &self.plan,
            contexts: &self.contexts,
            jobs: &self.states,
            cancelled: self.cancelled,
            completed: self.ended.is_some(),
        }
    }

    /// Decides and applies until there is nothing left to do.
    pub(super) fn settle(&mut self) {
        loop {
            let actions = decide(&self.observed());
            if actions.is_empty() {
                return;
            }
            actions.into_iter().for_each(|action| self.apply(action));
        }
    }

    pub(super) fn apply(&mut self, action: JobAction) {
        match action {
            JobAction::Queue(ready) => {
                self.set(&ready.key, JobState::Queued);
                self.ready.insert(ready.key.clone(), *ready);
            }
            JobAction::Start { key, .. } => self.set(&key, JobState::Running),
            JobAction::Skip { key } => self.set(&key, JobState::completed(Conclusion::Skipped)),
            JobAction::Fail { key, message } => {
                self.messages.push(format!("{key}: {message}"));
                self.set(&key, JobState::completed(Conclusion::Failure));
            }
            JobAction::Cancel { key } => {
                let running = self.states.get(&key) == Some(&JobState::Running);
                let cancelled = JobState::completed(Conclusion::Cancelled);
                self.set(&key, if running { JobState::Cancelling } else { cancelled });
            }
            JobAction::Complete { key, conclusion, outputs, message } => {
                self.messages.extend(message.map(|message| format!("{key}: {message}")));
                self.set(&key, JobState::Completed { conclusion, tolerated: false, outputs });
            }
            JobAction::CompleteRun { conclusion } => self.ended = Some(conclusion),
        }
    }

    fn set(&mut self, key: &str, state: JobState) {
        self.states.insert(key.to_owned(), state);
    }

    /// A runner takes the job and ends it; then the hub settles.
    #[track_caller]
    pub(super) fn end(&mut self, key: &str, conclusion: Conclusion, outputs: &[(&str, &str)]) {
        assert_eq!(self.states.get(key), Some(&JobState::Queued), "{key} is not queued");
        let outputs = outputs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let tolerated = self.ready[key].continue_on_error;
        self.set(key, JobState::Completed { conclusion, tolerated, outputs });
        self.settle();
    }

    /// One word for each job's state.
    pub(super) fn word(&self, key: &str) -> &'static str {
        match self.states.get(key) {
            None => "absent",
            Some(JobState::Queued) => "queued",
            Some(JobState::Running) => "running",
            Some(JobState::Cancelling) => "cancelling",
            Some(JobState::Completed { conclusion, .. }) => conclusion.as_str(),
        }
    }

    #[track_caller]
    pub(super) fn check(&self, want: &[(&str, &str)]) {
        let got: Vec<_> = want.iter().map(|(key, _)| (*key, self.word(key))).collect();
        assert_eq!(got, want);
    }
}
