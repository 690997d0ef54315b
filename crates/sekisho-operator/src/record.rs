//! Kubernetes objects, read into what decisions look at, and back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use sekisho_api::condition::{self, SUCCEEDED};
use sekisho_api::{JobResult, JobStatus, PodStatus, RegistrationStatus, RunnerStatus, Timeline};
use sekisho_github::rest::RunConclusion;
use sekisho_pods::CONTAINER_RUNNER;
use sekisho_reconcile::At;
use sekisho_reconcile::runner::{Container, Node, Pod, Record, Waiting};

use crate::lean::{self, ContainerStatus};
use crate::owned::controller;

/// The annotations of a JIT secret: the pod that it is for, and GitHub's number.
pub(crate) const ANNOTATION_POD: &str = "runners.sekisho.dev/pod-uid";
pub(crate) const ANNOTATION_REGISTRATION: &str = "runners.sekisho.dev/registration";

/// What the kubelet says of an image that it cannot pull.
const PULL_REASONS: [&str; 4] =
    ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"];
/// What the kubelet says of a pod that waits as ours do: for its secret.
const START_REASONS: [&str; 2] = ["ContainerCreating", "PodInitializing"];

pub(crate) fn at(time: &Time) -> At {
    At::of(time.0)
}

pub(crate) fn time(at: At) -> Time {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    Time(Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX))
}

/// The status that says so.
pub(crate) fn status(
    record: &Record,
    old: Option<&RunnerStatus>,
    generation: i64,
    now: At,
) -> RunnerStatus {
    let mut conditions = old.map(|old| old.conditions.clone()).unwrap_or_default();
    let claim = condition::Claim {
        kind: SUCCEEDED,
        truth: record.truth,
        reason: record.state,
        message: record.message.clone(),
    };
    condition::set(&mut conditions, &claim, generation, time(now).0);
    RunnerStatus {
        observed_generation: Some(generation),
        registration: record.registration.map(|id| RegistrationStatus { id }),
        pod: record
            .pod
            .as_ref()
            .map(|pod| PodStatus { uid: pod.uid.clone(), node: pod.node.clone() }),
        job: record.job.as_ref().map(|job| JobStatus {
            id: cut(&job.id, 64),
            run_id: job.run_id,
            repository: cut(&job.repository, 256),
            display_name: cut(&job.display_name, 256),
            workflow_ref: job.workflow_ref.as_deref().map(|text| cut(text, 512)),
            started: job.started.map(time),
            completed: job.completed.map(time),
            result: job.result,
        }),
        timeline: Some(Timeline {
            pod_created: record.pod_created.map(time),
            registered: old.and_then(|old| old.timeline.as_ref()?.registered.clone()),
            online: record.online.map(time),
            ended: record.ended.map(time),
        }),
        conditions,
    }
}

/// How a job ended, as REST says it.
pub(crate) const fn job_result(conclusion: Option<RunConclusion>) -> JobResult {
    match conclusion {
        Some(RunConclusion::Success) => JobResult::Succeeded,
        Some(RunConclusion::Failure) => JobResult::Failed,
        Some(RunConclusion::Cancelled) => JobResult::Cancelled,
        _ => JobResult::Other,
    }
}

/// GitHub's words, as long as the schema takes them.
fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// A pod. `pulls`: since when its image cannot be pulled, by the pod's uid.
pub(crate) fn pod(pod: &lean::Pod, owner: &str, pulls: &mut BTreeMap<String, At>, now: At) -> Pod {
    let uid = pod.uid().unwrap_or_default();
    let status = &pod.status;
    let runner = status.container_statuses.iter().find(|it| it.name == CONTAINER_RUNNER);
    let waiting = waiting(pod, pulls, now);
    if !matches!(waiting, Some(Waiting::ImagePull { .. })) {
        pulls.remove(&uid);
    }
    // Runtimes say so too where a process of a step was killed and the container ended well, later.
    let out_of_memory = containers(pod)
        .filter_map(|it| it.state.terminated.as_ref())
        .any(|ended| ended.reason.as_deref() == Some("OOMKilled") && ended.exit_code != 0);
    let disruption =
        status.conditions.iter().find(|it| it.type_ == "DisruptionTarget" && it.status == "True");
    let disrupted = disruption
        .map(|it| it.message.clone().or(it.reason.clone()).unwrap_or_default())
        .or(status.reason.clone().filter(|it| {
            matches!(it.as_str(), "Evicted" | "Preempting" | "NodeShutdown" | "Terminated")
        }));
    Pod {
        ours: controller(&pod.metadata).is_some_and(|it| it.uid == owner),
        created: pod.creation_timestamp().as_ref().map(at).unwrap_or_default(),
        gone_by: pod.metadata.deletion_timestamp.as_ref().map(at),
        node: pod.spec.node_name.clone(),
        waiting,
        runner: container(runner, status.phase.as_deref(), now),
        disrupted,
        out_of_memory,
        uid,
    }
}

fn container(status: Option<&ContainerStatus>, phase: Option<&str>, now: At) -> Container {
    let state = status.map(|status| &status.state);
    if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        let finished = ended.finished_at.as_ref().map_or(now, at);
        return Container::Ended { at: finished, code: Some(ended.exit_code) };
    }
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Container::Ended { at: now, code: None };
    }
    match state.and_then(|state| state.running.as_ref()) {
        Some(running) => Container::Running { since: running.started_at.as_ref().map_or(now, at) },
        None => Container::Waiting,
    }
}

fn containers(pod: &lean::Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses)
}

fn waiting(pod: &lean::Pod, pulls: &mut BTreeMap<String, At>, now: At) -> Option<Waiting> {
    let unschedulable =
        pod.status.conditions.iter().find(|it| it.type_ == "PodScheduled" && it.status == "False");
    if let Some(condition) = unschedulable {
        return Some(Waiting::Unschedulable(condition.message.clone().unwrap_or_default()));
    }
    for waiting in containers(pod).filter_map(|it| it.state.waiting.as_ref()) {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let detail = match waiting.message.as_deref() {
            Some(message) => format!("{reason}: {message}"),
            None => reason.to_owned(),
        };
        if PULL_REASONS.contains(&reason) {
            let since = *pulls.entry(pod.uid().unwrap_or_default()).or_insert(now);
            return Some(Waiting::ImagePull { since, detail });
        }
        if !START_REASONS.contains(&reason) && !reason.is_empty() {
            return Some(Waiting::Other(detail));
        }
    }
    None
}

/// How a node does; `None`: there is none of that name.
pub(crate) fn node(node: Option<&lean::Node>, now: At) -> Node {
    let Some(node) = node else { return Node::Gone };
    if node.spec.taints.iter().any(|it| it.key == "node.kubernetes.io/out-of-service") {
        return Node::Gone;
    }
    match node.status.conditions.iter().find(|it| it.type_ == "Ready") {
        Some(ready) if ready.status == "True" => Node::Ready,
        Some(ready) => Node::Silent { since: ready.last_transition_time.as_ref().map_or(now, at) },
        None => Node::Unknown,
    }
}

#[cfg(test)]
mod tests;
