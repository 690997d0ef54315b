//! A pod of either mode, and the container that runs the job.

use super::Verdict::{Approximated, Blocked, Changed, Dropped, Mapped, NeedsDecision};
use super::{POD, RUNNER, Rule, SAME, rule};

pub(super) const RULES: &[Rule] = &[
    rule(POD, "metadata", "spec.template.metadata", SAME),
    rule(POD, "containers", "spec.template.spec.containers", SAME),
    rule(
        POD,
        "initContainers",
        "spec.template.spec.initContainers",
        &[
            (Mapped, ""),
            (
                Changed,
                "dind: DockerSidecar, a privileged container. Rootless builds images without",
            ),
            (Dropped, "container.mode DockerSidecar brings it along"),
        ],
    ),
    rule(
        POD,
        "volumes",
        "spec.template.spec.volumes",
        &[(Mapped, ""), (Dropped, "container.mode DockerSidecar brings it along")],
    ),
    rule(POD, "nodeSelector", "RunnerClass.spec.nodeSelector", SAME),
    rule(POD, "tolerations", "RunnerClass.spec.tolerations", SAME),
    rule(POD, "priorityClassName", "RunnerClass.spec.priorityClassName", SAME),
    rule(POD, "runtimeClassName", "RunnerClass.spec.runtimeClassName", SAME),
    rule(
        POD,
        "terminationGracePeriodSeconds",
        "RunnerClass.spec.terminationGraceSeconds",
        &[(Mapped, ""), (Approximated, "between 20 and 3600 seconds")],
    ),
    rule(
        POD,
        "activeDeadlineSeconds",
        "spec.lifecycle.maxJobSeconds",
        &[(Approximated, "it counts from the job's start, and is between 60 and 432000 seconds")],
    ),
    rule(
        POD,
        "hostUsers",
        "RunnerClass.spec.security.userNamespaces",
        &[(Mapped, ""), (Changed, "Never: the pods share the node's users")],
    ),
    rule(
        POD,
        "restartPolicy",
        "",
        &[(Mapped, "Never"), (Changed, "Never: a registration is used once")],
    ),
    rule(
        POD,
        "serviceAccountName",
        "",
        &[
            (
                NeedsDecision,
                "a job has no identity in the cluster: for a registry, let it push through the gate, which takes the job's own OIDC token",
            ),
            (Dropped, "ARC's own, without rights"),
        ],
    ),
    rule(
        POD,
        "automountServiceAccountToken",
        "",
        &[
            (Mapped, "false"),
            (NeedsDecision, "a job has no identity in the cluster, and no token of one"),
        ],
    ),
    rule(
        POD,
        "enableServiceLinks",
        "",
        &[(Mapped, "false"), (Changed, "a job is not told which services there are")],
    ),
    rule(
        POD,
        "ephemeralContainers",
        "",
        &[(Dropped, "a pod is not created with ephemeral containers")],
    ),
    rule(
        POD,
        "hostNetwork",
        "",
        &[
            (
                Blocked,
                "no network policy applies to the node's network, so jobs would reach the cloud's credentials",
            ),
            (Mapped, "false"),
        ],
    ),
    rule(
        POD,
        "shareProcessNamespace",
        "",
        &[(Blocked, "the steps of a job would see the processes beside them"), (Mapped, "false")],
    ),
    rule(POD, "nodeName", "", &[(Blocked, "the scheduler chooses the node: use nodeSelector")]),
    rule(POD, "any other field of a pod", "spec.template.spec", SAME),
    rule(
        RUNNER,
        "image",
        "spec.template.spec.containers[runner].image",
        &[
            (Mapped, ""),
            (
                Changed,
                "ARC's own image is replaced by GitHub's: its entrypoint takes a token, and ours a registration",
            ),
            (
                NeedsDecision,
                "it must be made of GitHub's image: `/home/runner/run.sh` is started in it",
            ),
        ],
    ),
    rule(
        RUNNER,
        "command",
        "spec.template.spec.containers[runner].command",
        &[
            (Mapped, "it is started once the registration is read"),
            (Dropped, "GitHub's own is what is started anyway"),
        ],
    ),
    rule(
        RUNNER,
        "resources",
        "RunnerClass.spec.requests, limits",
        &[(Mapped, ""), (NeedsDecision, "only requests and limits can be taken over")],
    ),
    rule(
        RUNNER,
        "env",
        "spec.template.spec.containers[runner].env",
        &[
            (Mapped, ""),
            (Dropped, "the operator sets it"),
            (Blocked, "kubernetes mode: pods that a runner makes for its steps are not offered"),
            (Dropped, "it was for ARC's image"),
        ],
    ),
    rule(
        RUNNER,
        "volumeMounts",
        "spec.template.spec.containers[runner].volumeMounts",
        &[(Mapped, ""), (Dropped, "the class mounts it")],
    ),
    rule(RUNNER, "any other field of a container", "spec.template.spec.containers[runner]", SAME),
];
