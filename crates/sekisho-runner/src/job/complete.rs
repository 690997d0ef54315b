//! "Complete job": outputs, processes that were left, the last uploads, the result.

use std::collections::BTreeMap;

use sekisho_github::wire::results::StepConclusion;
use sekisho_github::wire::run_service::{
    Annotation, AnnotationLevel, CompleteJob, Conclusion, OutputValue, Telemetry,
};
use sekisho_workflow::token;
use uuid::Uuid;

use super::Job;
use crate::console::Commands;
use crate::orphan;
use crate::plan::Status;

/// Names and values of all outputs of a job, in bytes.
const MAX_OUTPUTS_LEN: usize = 1024 * 1024;

impl Job {
    /// Ends the job; the answer is what `completejob` is told.
    pub(super) async fn complete(mut self, status: Status) -> CompleteJob {
        let record = self.timeline.add(Uuid::new_v4(), "Complete job", "complete");
        let mut commands = Commands::default();
        self.begin_record(record).await;
        let (outputs, ok) = self.outputs(&mut commands);
        self.log.write("Cleaning up orphan processes");
        let tracking = self.runner.tracking.clone();
        let orphans = tokio::task::spawn_blocking(move || orphan::kill_all(&tracking)).await;
        for orphan in orphans.unwrap_or_default() {
            let line = format!("Terminate orphan process: pid ({}) ({})", orphan.pid, orphan.name);
            self.log.write(&line);
        }
        if let Err(error) = self.state.dirs().empty_temp() {
            tracing::warn!(error = format!("{error:#}"), "the temporary folder is not empty");
        }
        let step = if ok { StepConclusion::Success } else { StepConclusion::Failure };
        self.end_record(record, step, commands).await;
        self.report(status, ok, outputs).await
    }

    async fn report(
        self,
        status: Status,
        ok: bool,
        outputs: BTreeMap<String, OutputValue>,
    ) -> CompleteJob {
        let (message, feed_end) = (self.message, self.log.close(&self.stop).await);
        let failed_uploads = self.uploads.close(&self.stop).await;
        let step_results = self.timeline.close().await;
        let mut annotations = Vec::new();
        if failed_uploads > 0 {
            let text = format!("{failed_uploads} logs or summaries could not be uploaded.");
            let mut annotation = Annotation::new(AnnotationLevel::Warning, text);
            annotation.is_infrastructure_issue = true;
            annotations.push(annotation);
        }
        let dropped = feed_end.map_or(0, |feed| feed.dropped);
        let telemetry = (dropped > 0).then(|| Telemetry {
            message: format!("{dropped} lines were not shown live"),
            kind: "feed".to_owned(),
        });
        let conclusion = match (status, ok) {
            (Status::Cancelled, _) => Conclusion::Canceled,
            (Status::Failure, _) | (Status::Success, false) => Conclusion::Failed,
            (Status::Success, true) => Conclusion::Succeeded,
        };
        CompleteJob {
            plan_id: message.plan.plan_id,
            job_id: message.job_id,
            conclusion,
            outputs,
            step_results,
            annotations,
            telemetry: telemetry.into_iter().collect(),
            environment_url: None,
            billing_owner_id: message.billing_owner_id,
            infrastructure_failure_category: None,
        }
    }

    /// Evaluates the job's outputs, whatever its result. One that holds a secret is dropped.
    fn outputs(&mut self, commands: &mut Commands) -> (BTreeMap<String, OutputValue>, bool) {
        let none = BTreeMap::new();
        let Some(token) = self.message.job_outputs.clone().filter(|token| !token.is_null()) else {
            return (none, true);
        };
        let view = crate::state::StepView {
            scope: &self.scope,
            action: "",
            files: None,
            env: &[],
            status: self.status(),
        };
        let contexts = self.state.contexts(&view);
        let values = token::eval_map(&token, &contexts, &self.functions(&self.scope));
        let values = match values {
            Ok(values) => values,
            Err(error) => {
                self.fail_step(
                    commands,
                    &format!("The job's outputs cannot be evaluated. {error}"),
                );
                return (none, false);
            }
        };
        let total: usize = values.iter().map(|(name, value)| name.len() + value.len()).sum();
        if total > MAX_OUTPUTS_LEN {
            let message = format!("The job's outputs have {total} bytes; 1 MiB is the most.");
            self.fail_step(commands, &message);
            return (none, false);
        }
        let mut outputs = BTreeMap::new();
        if !values.is_empty() {
            self.log.write("Evaluate and set job outputs");
        }
        for (name, value) in values {
            if self.log.masker().finds(&value) {
                let message = format!("Skip output '{name}' since it may contain secret.");
                self.warn_step(commands, &message);
            } else if !value.is_empty() {
                self.log.write(&format!("Set output '{name}'"));
                outputs.insert(name, OutputValue { value, is_secret: false });
            }
        }
        (outputs, true)
    }
}
