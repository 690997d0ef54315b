//! The scale set of a deployment at GitHub: made, changed, found again, and removed. Another's is left alone.

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use sekisho_api::{RunnerDeployment, RunnerDeploymentStatus, ScaleSetStatus};
use sekisho_github::scale_set::ScaleSetError;
use sekisho_github::scale_set::wanted::{Outcome, Wanted};
use sekisho_reconcile::Failure;
use sekisho_reconcile::session::scale_set::{Observed, Step, decide};
use serde_json::{Value, json};

use crate::context::Context;
use crate::deployment::checks;
use crate::failure;
use crate::github::Account;

/// GitHub's name of a deployment's set.
pub(crate) fn name_of(object: &RunnerDeployment) -> String {
    object.spec.labels.first().cloned().unwrap_or_default()
}

/// Makes the set as it is to be, and writes down what came of it.
pub(super) async fn ensure(
    context: &Context,
    account: &Account,
    object: &RunnerDeployment,
) -> Result<(), Failure> {
    let (spec, name) = (&object.spec, name_of(object));
    let group = account.tenant.group(&spec.group).await;
    let wanted = Wanted {
        name: name.clone(),
        group: group.map_err(|error| failure::scale_set(&error))?,
        labels: spec.labels.clone(),
        disable_update: true,
    };
    let api = context.api::<RunnerDeployment>(&object.namespace().unwrap_or_default());
    // What the watch shows may be older than what was written when the set was made.
    let fresh = api.get(&object.name_any()).await.map_err(failure::kube)?;
    if fresh.uid() != object.uid() || fresh.metadata.deletion_timestamp.is_some() {
        let detail = "the RunnerDeployment goes, or is another by now".to_owned();
        return Err(Failure::Conflict { detail });
    }
    let status = fresh.status.unwrap_or_default();
    let known = status.scale_set.as_ref().map(|it| it.id);
    let claimed = status.claimed_group.as_ref() == Some(&spec.group);
    if let Some(other) = status.claimed_group.as_ref().filter(|_| !claimed) {
        // What may have been made there would be nobody's once another group is claimed.
        remove_claimed(context, account, object, (other.as_str(), known)).await?;
        write(context, &api, object, json!({ "claimedGroup": null })).await?;
    }
    let found = account.tenant.find_set(&wanted, known).await;
    let found = found.map_err(|error| failure::scale_set(&error))?;
    let take_over = spec.acquisition.take_over;
    let mut seen = Observed { known, claimed, take_over, found: found.as_ref().map(|it| it.id) };
    let refused = |set: String| {
        let (name, group) = (name.clone(), spec.group.clone());
        Failure::SetNotOurs { set, name, group }
    };
    match decide(&seen) {
        Step::Claim => {
            write(context, &api, object, json!({ "claimedGroup": spec.group })).await?;
            seen.claimed = true;
        }
        Step::Refuse { set } => return Err(refused(set.to_string())),
        Step::Make | Step::Use => {}
    }
    let makes = seen.found.is_none();
    match account.tenant.put_set(&wanted, found).await {
        Ok(made) => {
            let recorded = record(context, &api, object, (&status, &made)).await;
            if makes && matches!(recorded, Err(Failure::Conflict { .. })) {
                // The deployment went meanwhile, and nobody will ask for this set any more.
                return remove(context, account, object, Some(made.set.id)).await;
            }
            recorded
        }
        Err(error) => {
            if !claimed && seen.claimed && is_refusal(&error) {
                // Nothing was made by this try, and there was none before: what is there is another's.
                write(context, &api, object, json!({ "claimedGroup": null })).await?;
            }
            match error.status() {
                // A try of before, whose answer was lost, may have come late: then the next look finds it.
                Some(409) if makes && claimed => {
                    Err(Failure::Conflict { detail: error.to_string() })
                }
                // Made by somebody between the look and the deed; or the group it is to be moved to has one.
                Some(409) => {
                    let theirs = account.tenant.set_by_name(wanted.group, &name).await;
                    let theirs = theirs.map_err(|error| failure::scale_set(&error))?;
                    let gone = || "(gone by now)".to_owned();
                    Err(refused(theirs.map_or_else(gone, |set| set.id.to_string())))
                }
                _ => Err(failure::scale_set(&error)),
            }
        }
    }
}

/// Whether the service said no, and did nothing.
fn is_refusal(error: &ScaleSetError) -> bool {
    let answered = error.status().is_some() || matches!(error, ScaleSetError::Rest { .. });
    answered && !error.is_transient()
}

async fn record(
    context: &Context,
    api: &Api<RunnerDeployment>,
    object: &RunnerDeployment,
    (status, made): (&RunnerDeploymentStatus, &Outcome),
) -> Result<(), Failure> {
    let next = ScaleSetStatus {
        id: made.set.id,
        name: made.set.name.clone(),
        group: Some(object.spec.group.clone()),
        dropped_labels: made.dropped_labels.clone(),
    };
    if status.scale_set.as_ref() == Some(&next) && status.claimed_group.is_none() {
        return Ok(());
    }
    let mut set = json!(next);
    // What is left out of a patch stays as it was.
    set["droppedLabels"] = json!(made.dropped_labels);
    write(context, api, object, json!({ "scaleSet": set, "claimedGroup": null })).await
}

async fn write(
    context: &Context,
    api: &Api<RunnerDeployment>,
    object: &RunnerDeployment,
    status: Value,
) -> Result<(), Failure> {
    let patch = json!({ "metadata": { "uid": object.uid() }, "status": status });
    context.metrics.wrote("patch");
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let written = api.patch_status(&object.name_any(), &params, &patch).await;
    written.map(drop).map_err(failure::kube)
}

/// Removes the set: of this number, or else the one of the name in the group that was claimed.
pub(crate) async fn remove(
    context: &Context,
    account: &Account,
    object: &RunnerDeployment,
    id: Option<i64>,
) -> Result<(), Failure> {
    if let Some(id) = id {
        return account.tenant.delete_set(id).await.map_err(|error| failure::scale_set(&error));
    }
    // What the watch shows may be of before a claim was given up: another may have the name since.
    let api = context.api::<RunnerDeployment>(&object.namespace().unwrap_or_default());
    let fresh = api.get_opt(&object.name_any()).await.map_err(failure::kube)?;
    let fresh = fresh.filter(|it| it.uid() == object.uid()).and_then(|it| it.status);
    match fresh.and_then(|status| status.claimed_group) {
        Some(group) => remove_claimed(context, account, object, (group.as_str(), None)).await,
        // Its number is known by now, and the next look has it; or there is nothing.
        None => Ok(()),
    }
}

/// Removes what may have been made in a group, but for the set whose number is known, and one that another
/// deployment may have made there since.
async fn remove_claimed(
    context: &Context,
    account: &Account,
    object: &RunnerDeployment,
    (claimed, known): (&str, Option<i64>),
) -> Result<(), Failure> {
    let (group, name) = (claimed, &name_of(object));
    let group = match account.tenant.group(group).await {
        // Its sets went with it.
        Err(ScaleSetError::NoSuchGroup { .. }) => return Ok(()),
        group => group.map_err(|error| failure::scale_set(&error))?,
    };
    let found = account.tenant.set_by_name(group, name).await;
    let found = found.map_err(|error| failure::scale_set(&error))?.map(|set| set.id);
    let Some(id) = found.filter(|_| found != known) else { return Ok(()) };
    if checks::is_anothers(context, object, id, Some((claimed, name))).await? {
        return Ok(());
    }
    account.tenant.delete_set(id).await.map_err(|error| failure::scale_set(&error))
}
