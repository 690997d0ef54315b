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
use crate::failure;
use crate::github::Account;

fn name_of(object: &RunnerDeployment) -> String {
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
        return Err(Failure::Conflict);
    }
    let status = fresh.status.unwrap_or_default();
    let known = status.scale_set.as_ref().map(|it| it.id);
    let found = account.tenant.find_set(&wanted, known).await;
    let found = found.map_err(|error| failure::scale_set(&error))?;
    let claimed = status.claimed_group.as_ref() == Some(&spec.group);
    let take_over = spec.acquisition.take_over;
    let mut seen = Observed { known, claimed, take_over, found: found.as_ref().map(|it| it.id) };
    if decide(&seen) == Step::Claim {
        write(context, &api, object, json!({ "claimedGroup": spec.group })).await?;
        seen.claimed = true;
    }
    let refused = |set: String| {
        let (name, group) = (name.clone(), spec.group.clone());
        Failure::SetNotOurs { set, name, group }
    };
    if let Step::Refuse { set } = decide(&seen) {
        return Err(refused(set.to_string()));
    }
    let makes = seen.found.is_none();
    match account.tenant.put_set(&wanted, found).await {
        Ok(made) => {
            let recorded = record(context, &api, object, (&status, &made)).await;
            if makes && recorded == Err(Failure::Conflict) {
                // The deployment went meanwhile, and nobody will ask for this set any more.
                return remove(account, object, Some(made.set.id)).await;
            }
            recorded
        }
        // Made by somebody between the look and the deed; or the group it is to be moved to has one.
        Err(error) if is_taken(&error) => {
            write(context, &api, object, json!({ "claimedGroup": null })).await?;
            let theirs = account.tenant.set_by_name(wanted.group, &name).await;
            let theirs = theirs.map_err(|error| failure::scale_set(&error))?;
            Err(refused(
                theirs.map_or_else(|| "(gone by now)".to_owned(), |set| set.id.to_string()),
            ))
        }
        Err(error) => Err(failure::scale_set(&error)),
    }
}

/// Whether a set of the name is there.
fn is_taken(error: &ScaleSetError) -> bool {
    error.status() == Some(409)
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

/// Removes the set: of this number, or the one of the name that was claimed.
pub(crate) async fn remove(
    account: &Account,
    object: &RunnerDeployment,
    id: Option<i64>,
) -> Result<(), Failure> {
    let id = match id {
        Some(id) => Some(id),
        None => match account.tenant.group(&object.spec.group).await {
            Err(ScaleSetError::NoSuchGroup { .. }) => None,
            Err(error) => return Err(failure::scale_set(&error)),
            Ok(group) => {
                let found = account.tenant.set_by_name(group, &name_of(object)).await;
                found.map_err(|error| failure::scale_set(&error))?.map(|set| set.id)
            }
        },
    };
    let Some(id) = id else { return Ok(()) };
    account.tenant.delete_set(id).await.map_err(|error| failure::scale_set(&error))
}
