//! HorizontalRunnerAutoscaler: how many runners a legacy set has.

use serde_json::json;

use crate::draft::Draft;
use crate::pod::{self, Said};
use crate::report::Report;
use crate::source::{Document, fields, get, items, json, text_of};
use crate::table::{AUTOSCALER, LEGACY};

/// ARC's default, which is not ours.
const SCALE_DOWN_DELAY_SECONDS: u32 = 600;
/// What `PercentageRunnersBusy` is made: it kept some runners free.
const IDLE: u32 = 1;

/// Gives its numbers to its target, which is a draft by now.
pub(crate) fn apply(document: &Document, drafts: &mut [Draft], report: &mut Report) {
    let Some(spec) = get(&document.node, "spec") else { return };
    let target = get(spec, "scaleTargetRef");
    let of = |field: &str| target.and_then(|target| text_of(get(target, field)));
    let kind = of("kind").unwrap_or_else(|| "RunnerDeployment".to_owned());
    let found = drafts.iter_mut().find(|draft| {
        draft.document.kind == kind
            && Some(&draft.document.name) == of("name").as_ref()
            && draft.document.namespace == document.namespace
    });
    let at = target.map_or(document.at, |target| target.at);
    report.say(document, AUTOSCALER, "spec.scaleTargetRef", at, usize::from(found.is_none()));
    let Some(draft) = found else { return };
    if let Some(fields) = draft.spec.as_object_mut() {
        fields.remove("replicas");
    }
    report.say(&draft.document, LEGACY, "spec.replicas", draft.document.at, 1);
    draft.spec["scaling"] = json!({ "max": 0, "scaleDownDelaySeconds": SCALE_DOWN_DELAY_SECONDS });
    for (key, value) in fields(spec) {
        let name = key.text.as_str();
        let scaling = &mut draft.spec["scaling"];
        let outcome = match name {
            "scaleTargetRef" => continue,
            "minReplicas" => {
                scaling["min"] = json(value);
                0
            }
            "maxReplicas" => {
                scaling["max"] = json(value);
                0
            }
            "scaleDownDelaySecondsAfterScaleOut" => {
                scaling["scaleDownDelaySeconds"] = json(value);
                0
            }
            "metrics" => {
                let busy = |metric| {
                    text_of(get(metric, "type")).as_deref() == Some("PercentageRunnersBusy")
                };
                let busy = items(value).iter().any(busy);
                if busy {
                    scaling["idle"] = json!(IDLE);
                }
                usize::from(busy)
            }
            "scaleUpTriggers"
            | "capacityReservations"
            | "scheduledOverrides"
            | "githubAPICredentialsFrom" => 0,
            other => {
                let mut said = Said { report: &mut *report, prefix: "spec" };
                pod::unknown(draft, other, key.at, &mut said);
                continue;
            }
        };
        report.say(document, AUTOSCALER, &format!("spec.{name}"), key.at, outcome);
    }
}
