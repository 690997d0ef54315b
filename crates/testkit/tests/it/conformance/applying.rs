//! Server-side apply.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use sekisho_api::Runner;
use serde_json::{Value, json};

use super::{check_refused, refused, runner};

fn applied(data: &Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": data })
}

pub(super) async fn apply_and_conflicts(client: Client, namespace: String) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    let made = api.patch("a", &one, &Patch::Apply(applied(&json!({ "x": "1" })))).await.unwrap();
    assert_eq!(json!(made.data), json!({ "x": "1" }));
    let again = api.patch("a", &one, &Patch::Apply(applied(&json!({ "x": "1" })))).await.unwrap();
    assert_eq!(again.resource_version(), made.resource_version());
    // Another's field of the same value is shared; of another value, it is a conflict.
    api.patch("a", &two, &Patch::Apply(applied(&json!({ "x": "1", "y": "2" })))).await.unwrap();
    let (code, reason, message) =
        refused(api.patch("a", &two, &Patch::Apply(applied(&json!({ "x": "3" })))).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(message.contains("\"one\"") && message.contains(".data.x"), "{message}");
    let force = PatchParams::apply("two").force();
    let forced =
        api.patch("a", &force, &Patch::Apply(applied(&json!({ "x": "3" })))).await.unwrap();
    assert_eq!(json!(forced.data), json!({ "x": "3" }));
    let managers: Vec<String> =
        forced.managed_fields().iter().filter_map(|entry| entry.manager.clone()).collect();
    assert_eq!(managers, ["two"]);
    // A write of another kind takes what it changes.
    let merge = PatchParams { field_manager: Some("three".into()), ..Default::default() };
    api.patch("a", &merge, &Patch::Merge(json!({ "data": { "x": "4" } }))).await.unwrap();
    let result = api.patch("a", &two, &Patch::Apply(applied(&json!({ "x": "3" })))).await;
    check_refused(result, 409, "Conflict");
}

pub(super) async fn apply_gives_up_what_it_leaves_out(client: Client, namespace: String) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    let both = json!({ "x": "1", "y": "2" });
    api.patch("a", &one, &Patch::Apply(applied(&both))).await.unwrap();
    api.patch("a", &two, &Patch::Apply(applied(&json!({ "y": "2" })))).await.unwrap();
    let left = api.patch("a", &one, &Patch::Apply(applied(&json!({ "z": "3" })))).await.unwrap();
    assert_eq!(json!(left.data), json!({ "y": "2", "z": "3" }));
    // An object of a uid is not made anew when it is gone.
    let mut gone = applied(&json!({ "x": "1" }));
    gone["metadata"] = json!({ "name": "a", "uid": left.uid() });
    api.delete("a", &DeleteParams::default()).await.unwrap();
    check_refused(api.patch("a", &one, &Patch::Apply(gone)).await, 409, "Conflict");
}

fn condition(kind: &str, status: &str) -> Value {
    json!({ "type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" })
}

pub(super) async fn apply_conditions(client: Client, namespace: String) {
    let api: Api<Runner> = Api::namespaced(client, &namespace);
    api.create(&PostParams::default(), &runner("r")).await.unwrap();
    let status = |value: Value| {
        Patch::Apply(json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "Runner",
            "metadata": { "name": "r" }, "status": value
        }))
    };
    let (life, job) = (PatchParams::apply("life"), PatchParams::apply("job"));
    let first = status(json!({ "conditions": [condition("Succeeded", "Unknown")] }));
    api.patch_status("r", &life, &first).await.unwrap();
    let second = status(
        json!({ "conditions": [condition("Other", "True")], "job": { "id": "7", "runId": 1, "repository": "a/b", "displayName": "j" } }),
    );
    api.patch_status("r", &job, &second).await.unwrap();
    let third = status(json!({ "conditions": [condition("Succeeded", "True")] }));
    let written = api.patch_status("r", &life, &third).await.unwrap().status.unwrap();
    let kinds: Vec<(&str, &str)> =
        written.conditions.iter().map(|it| (it.type_.as_str(), it.status.as_str())).collect();
    assert_eq!(kinds, [("Succeeded", "True"), ("Other", "True")]);
    assert_eq!(written.job.unwrap().id, "7");
    // The one gives up its condition, and the other's stays.
    let written = api.patch_status("r", &job, &status(json!({}))).await.unwrap().status.unwrap();
    let kinds: Vec<&str> = written.conditions.iter().map(|it| it.type_.as_str()).collect();
    assert_eq!((kinds, written.job), (vec!["Succeeded"], None));
}
