//! Steps.

use serde::{Deserialize, Serialize};

use crate::diagnostic::Position;
use crate::token::Token;

/// One step of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `id`, if the file gives one.
    pub id: Option<String>,
    /// `id`, or a generated name (`__run`, `__run_2`, `__owner_repo`), unique in the job.
    pub context_name: String,
    /// `name`; where there is none the runner makes one.
    pub name: Option<Token>,
    /// `if`, as [`super::condition`] has it.
    pub condition: String,
    /// What it does.
    pub action: StepAction,
    /// `env`, a mapping.
    pub env: Option<Token>,
    /// `continue-on-error`.
    pub continue_on_error: Option<Token>,
    /// `timeout-minutes`.
    pub timeout_minutes: Option<Token>,
    /// Where it begins.
    pub at: Position,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StepAction {
    /// Runs a script.
    Run {
        /// `run`.
        script: Token,
        /// `shell`.
        shell: Option<Token>,
        /// `working-directory`.
        working_directory: Option<Token>,
    },
    /// Runs an action.
    Uses {
        /// `uses`.
        action: ActionReference,
        /// `with`, a mapping.
        with: Option<Token>,
    },
}

/// Which action a step uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActionReference {
    /// `owner/repo[/path]@ref`.
    Repository {
        /// `owner/repo`.
        name: String,
        /// The folder within it; empty for its root.
        path: String,
        /// A branch, a tag or a commit.
        reference: String,
    },
    /// `./path`, in the workspace.
    Local {
        /// As written, with `./`.
        path: String,
    },
    /// `docker://image`.
    Docker {
        /// Without `docker://`.
        image: String,
    },
}
