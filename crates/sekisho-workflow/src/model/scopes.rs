//! Which contexts and functions exist at which place of a workflow file.

use crate::expr::Scope;

/// `run-name`; the group of a workflow's `concurrency`; workflow `defaults`; defaults of inputs.
pub(super) const WORKFLOW: Scope = Scope::new(&["github", "inputs", "vars"]);

/// Workflow `env`.
pub(super) const WORKFLOW_ENV: Scope = Scope::new(&["github", "inputs", "vars", "secrets"]);

/// `value` of a called workflow's output.
pub(super) const CALL_OUTPUT: Scope = Scope::new(&["github", "inputs", "vars", "jobs"]);

/// A job's `if`.
pub(super) const JOB_IF: Scope =
    Scope::new(&["github", "inputs", "vars", "needs"]).with_status_functions();

/// `strategy`, which makes `matrix` and so cannot use it.
pub(super) const STRATEGY: Scope = Scope::new(&["github", "inputs", "vars", "needs"]);

/// `name`, `runs-on`, `timeout-minutes`, `continue-on-error`, `concurrency`, `with` of a call.
pub(super) const JOB: Scope =
    Scope::new(&["github", "inputs", "vars", "needs", "strategy", "matrix"]);

/// Job `defaults`.
pub(super) const JOB_DEFAULTS: Scope =
    Scope::new(&["github", "inputs", "vars", "needs", "strategy", "matrix", "env"]);

/// Job `env`; `secrets` of a call.
pub(super) const JOB_ENV: Scope =
    Scope::new(&["github", "inputs", "vars", "needs", "strategy", "matrix", "secrets"]);

/// `outputs` of a job.
pub(super) const JOB_OUTPUTS: Scope = Scope::new(&[
    "github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "steps", "job", "runner",
    "env",
]);

/// Everything in a step but its `if`.
pub(super) const STEP: Scope = JOB_OUTPUTS.with_hash_files();

/// A step's `if`: no `secrets`.
pub(super) const STEP_IF: Scope = Scope::new(&[
    "github", "inputs", "vars", "needs", "strategy", "matrix", "steps", "job", "runner", "env",
])
.with_status_functions()
.with_hash_files();
