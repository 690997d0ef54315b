//! Kubelets: they run pods and tell how these are.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Ending, PodRun, Shared};

/// How long until an image is tried again.
const PULL_AGAIN: Duration = Duration::from_millis(50);
/// How often a status is written again that was not taken.
const WRITES: u32 = 50;
const WRITE_AGAIN: Duration = Duration::from_millis(20);

/// A pod whose containers run, or are about to. Dropped: they are killed.
pub(super) struct Handle {
    pub(super) node: String,
    stop: CancellationToken,
    _kill: DropGuard,
}

/// Runs all pods that have a node.
pub(super) async fn follow(shared: Arc<Shared>) {
    let api: Api<Pod> = Api::all(shared.client.clone());
    let bound = watcher::Config::default().fields("spec.nodeName!=");
    let mut events = std::pin::pin!(watcher(api, bound).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => see(&shared, pod),
            Ok(watcher::Event::Delete(pod)) => {
                // Gone from the API: the kubelet kills what is left.
                let (uid, mut state) = (pod.uid().unwrap_or_default(), shared.lock());
                state.pods.remove(&uid);
                state.ended.remove(&uid);
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
            Err(error) => tracing::debug!("the watch of pods with a node: {error}"),
        }
    }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn see(shared: &Arc<Shared>, pod: Pod) {
    let uid = pod.uid().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|it| it.node_name.clone()).unwrap_or_default();
    let mut state = shared.lock();
    if state.frozen.contains(&node) {
        return;
    }
    let going = pod.metadata.deletion_timestamp.is_some();
    if let Some(handle) = state.pods.get(&uid) {
        if going {
            handle.stop.cancel();
        }
        return;
    }
    // The watch may be behind: what it shows of a pod that ended here is of before that.
    let ended = matches!(phase(&pod), "Succeeded" | "Failed") || state.ended.contains(&uid);
    if ended && !going {
        return;
    }
    if going {
        // Nothing of it runs here: it is out of the way at once.
        let shared_too = Arc::clone(shared);
        shared.spawn(async move { forget(&shared_too, &pod).await });
        return;
    }
    let (stop, kill) = (CancellationToken::new(), CancellationToken::new());
    let killed = kill.clone();
    state.pods.insert(uid.clone(), Handle { node, stop: stop.clone(), _kill: kill.drop_guard() });
    let shared_too = Arc::clone(shared);
    shared.spawn(async move {
        tokio::select! {
            // Killed: not a word more.
            () = killed.cancelled() => {}
            () = run(&shared_too, &pod, stop) => {
                let mut state = shared_too.lock();
                state.pods.remove(&uid);
                state.ended.insert(uid);
            }
        }
    });
}

/// From the first image to the last status.
async fn run(shared: &Shared, pod: &Pod, stop: CancellationToken) {
    let ready = async {
        let mut told = false;
        while let Err(why) = shared.containers.pull(pod) {
            if !told {
                write(shared, pod, &waiting(pod, "ImagePullBackOff", &why)).await;
                told = true;
            }
            tokio::time::sleep(PULL_AGAIN).await;
        }
        shared.secrets.resolve(pod).await
    };
    let (env, files) = tokio::select! {
        // It never began to run.
        () = stop.cancelled() => {
            return forget(shared, pod).await;
        }
        ready = ready => ready,
    };
    write(shared, pod, &running(pod)).await;
    let run = PodRun { pod: pod.clone(), env, files, stop: stop.clone() };
    let grace = pod.spec.as_ref().and_then(|it| it.termination_grace_period_seconds).unwrap_or(30);
    let grace = Duration::from_secs(grace.try_into().unwrap_or_default());
    let out_of_time = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    let ending = tokio::select! {
        ending = shared.containers.run(run) => ending,
        // The container is killed by dropping its future.
        () = out_of_time => Ending::Exit(137),
    };
    write(shared, pod, &ended(pod, ending)).await;
    if stop.is_cancelled() {
        return forget(shared, pod).await;
    }
}

/// Removes a pod that was told to go, and is not running any more.
async fn forget(shared: &Shared, pod: &Pod) {
    let api: Api<Pod> =
        Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
        ..Default::default()
    };
    for _ in 0..WRITES {
        match api.delete(&pod.name_any(), &params).await {
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => return,
            Ok(_) => return,
            Err(_) => tokio::time::sleep(WRITE_AGAIN).await,
        }
    }
}

async fn write(shared: &Shared, pod: &Pod, status: &Value) {
    let api: Api<Pod> =
        Api::namespaced(shared.client.clone(), &pod.namespace().unwrap_or_default());
    let patch = json!({ "metadata": { "uid": pod.uid() }, "status": status });
    let params = PatchParams { field_manager: Some("kubelet".into()), ..Default::default() };
    for _ in 0..WRITES {
        match api.patch_status(&pod.name_any(), &params, &Patch::Merge(&patch)).await {
            Ok(_) => return,
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409 | 422) => return,
            Err(_) => tokio::time::sleep(WRITE_AGAIN).await,
        }
    }
}

fn statuses(pod: &Pod, ready: bool, state: &Value) -> Value {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let each = containers.iter().map(|container| {
        json!({
            "name": container.name,
            "image": container.image.clone().unwrap_or_default(),
            "imageID": "",
            "ready": ready,
            "started": ready,
            "restartCount": 0,
            "state": state
        })
    });
    Value::Array(each.collect())
}

fn now() -> Value {
    json!(crate::api_server::now())
}

fn waiting(pod: &Pod, reason: &str, message: &str) -> Value {
    let state = json!({ "waiting": { "reason": reason, "message": message } });
    json!({ "phase": "Pending", "containerStatuses": statuses(pod, false, &state) })
}

fn running(pod: &Pod) -> Value {
    let state = json!({ "running": { "startedAt": now() } });
    json!({ "phase": "Running", "startTime": now(), "containerStatuses": statuses(pod, true, &state) })
}

fn ended(pod: &Pod, ending: Ending) -> Value {
    let (code, reason) = match ending {
        Ending::Exit(0) => (0, "Completed"),
        Ending::Exit(code) => (code, "Error"),
        Ending::OutOfMemory => (137, "OOMKilled"),
    };
    let state = json!({ "running": null, "terminated": { "exitCode": code, "reason": reason, "finishedAt": now() } });
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    json!({ "phase": phase, "containerStatuses": statuses(pod, false, &state) })
}
