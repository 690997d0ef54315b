//! Expressions as steps have them: conditions, texts, with the job's status behind the functions.

use std::path::Path;

use sekisho_workflow::expr::{self, Contexts, ExprError, Functions};

use crate::hash_files::hash_files;
use crate::plan::{Status, Verdict};

/// What `success()`, `failure()`, `cancelled()` and `hashFiles()` answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepFunctions<'a> {
    pub(crate) success: bool,
    pub(crate) failure: bool,
    pub(crate) cancelled: bool,
    pub(crate) workspace: &'a Path,
}

impl<'a> StepFunctions<'a> {
    /// On the job's level.
    pub(crate) fn of_job(status: Status, workspace: &'a Path) -> Self {
        Self {
            success: status == Status::Success,
            failure: status == Status::Failure,
            cancelled: status == Status::Cancelled,
            workspace,
        }
    }

    /// Within a composite action: success and failure are those of the action.
    pub(crate) fn of_action(action: Status, cancelled: bool, workspace: &'a Path) -> Self {
        Self { cancelled, ..Self::of_job(action, workspace) }
    }

    /// The same in a cancelled job.
    fn if_cancelled(self) -> Self {
        Self { success: false, failure: false, cancelled: true, ..self }
    }
}

impl Functions for StepFunctions<'_> {
    fn status(&self, name: &str) -> Option<bool> {
        match name {
            "success" => Some(self.success),
            "failure" => Some(self.failure),
            "cancelled" => Some(self.cancelled),
            "always" => Some(true),
            _ => None,
        }
    }

    fn hash_files(&self, patterns: &[String]) -> Result<String, String> {
        hash_files(self.workspace, patterns)
    }
}

/// Evaluates a step's condition. An empty one is `success()`; one without a status function holds
/// only if `success()` does.
pub(crate) fn condition(
    text: &str,
    contexts: &Contexts,
    functions: &StepFunctions<'_>,
) -> Result<bool, ExprError> {
    if text.trim().is_empty() {
        return Ok(functions.success);
    }
    let expr = expr::parse(text)?;
    if !expr::uses_status_function(&expr) && !functions.success {
        return Ok(false);
    }
    expr::evaluate(&expr, contexts, functions).map(|value| value.is_truthy())
}

/// Judges a step: whether it runs now, and whether it would in a cancelled job.
pub(crate) fn judge(
    text: &str,
    contexts: &Contexts,
    functions: &StepFunctions<'_>,
) -> Result<Verdict, ExprError> {
    if !condition(text, contexts, functions)? {
        return Ok(Verdict::Skip);
    }
    let later = condition(text, contexts, &functions.if_cancelled());
    Ok(Verdict::Run { also_if_cancelled: later.unwrap_or(false) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_success_unless_they_say_otherwise() {
        let contexts =
            Contexts::new().with("env", sekisho_workflow::expr::Value::object([("A", "1".into())]));
        let run = |also_if_cancelled| Verdict::Run { also_if_cancelled };
        let table = [
            ("", [run(false), Verdict::Skip, Verdict::Skip]),
            ("env.A == '1'", [run(false), Verdict::Skip, Verdict::Skip]),
            ("env.A == '2'", [Verdict::Skip; 3]),
            ("always()", [run(true); 3]),
            ("!cancelled()", [run(false), run(false), Verdict::Skip]),
            ("failure()", [Verdict::Skip, run(false), Verdict::Skip]),
            ("cancelled() || env.A", [run(true); 3]),
            ("always() && env.A == '1'", [run(true); 3]),
        ];
        for (text, want) in table {
            for (status, want) in
                [Status::Success, Status::Failure, Status::Cancelled].into_iter().zip(want)
            {
                let functions = StepFunctions::of_job(status, Path::new("/"));
                assert_eq!(judge(text, &contexts, &functions), Ok(want), "{text} {status:?}");
            }
        }
        let functions = StepFunctions::of_job(Status::Success, Path::new("/"));
        assert!(judge("nope(", &contexts, &functions).is_err());
    }
}
