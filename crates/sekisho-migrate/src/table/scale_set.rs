//! Scale sets of ARC, and the values of their chart.

use super::Verdict::{Approximated, Blocked, Changed, Mapped, NeedsDecision};
use super::{CREDENTIALS, LISTENER, OURS, Rule, SAME, SET, VALUES, VALUES_CREDENTIALS, rule};

pub(super) const RULES: &[Rule] = &[
    rule(SET, "spec.githubConfigUrl", "GitHubConnection.spec.url", SAME),
    rule(SET, "spec.githubConfigSecret", "GitHubConnection.spec.auth", CREDENTIALS),
    rule(SET, "spec.runnerGroup", "spec.group", SAME),
    rule(
        SET,
        "spec.runnerScaleSetName",
        "spec.labels[0]",
        &[
            (Mapped, "the scale set keeps its name, so `runs-on` stays as it is"),
            (Blocked, "a label has letters, digits, `.`, `_` and `-`, and at most 64 of them"),
        ],
    ),
    rule(
        SET,
        "spec.runnerScaleSetLabels",
        "spec.labels",
        &[
            (Mapped, ""),
            (
                Blocked,
                "a label has letters, digits, `.`, `_` and `-`, and at most 64 of them; there are at most 16, and none is `self-hosted`",
            ),
        ],
    ),
    rule(
        SET,
        "spec.minRunners",
        "spec.scaling.idle",
        &[(Mapped, "ARC keeps so many beyond the jobs that are there, and so does this")],
    ),
    rule(
        SET,
        "spec.maxRunners",
        "spec.scaling.max",
        &[(Mapped, ""), (Approximated, "absent: ARC has no bound, Sekisho's greatest is 10000")],
    ),
    rule(SET, "spec.template", "spec.template", SAME),
    rule(
        SET,
        "spec.proxy",
        "",
        &[(Blocked, "a proxy cannot be set yet, neither for the operator nor for runners")],
    ),
    rule(
        SET,
        "spec.githubServerTLS",
        "",
        &[(Blocked, "an authority of one's own cannot be set yet")],
    ),
    rule(
        SET,
        "spec.vaultConfig",
        "GitHubConnection.spec.auth",
        &[(
            NeedsDecision,
            "credentials are read from a secret: let External Secrets write it, for example",
        )],
    ),
    rule(SET, "spec.listenerTemplate", "", LISTENER),
    rule(SET, "spec.listenerMetrics", "", LISTENER),
    rule(SET, "spec.autoscalingListener", "", LISTENER),
    rule(SET, "spec.listenerServiceAccountMetadata", "", LISTENER),
    rule(SET, "spec.listenerRoleMetadata", "", LISTENER),
    rule(SET, "spec.listenerRoleBindingMetadata", "", LISTENER),
    rule(SET, "spec.listenerConfigSecretMetadata", "", LISTENER),
    rule(SET, "spec.ephemeralRunnerSetMetadata", "", OURS),
    rule(SET, "spec.ephemeralRunnerMetadata", "", OURS),
    rule(SET, "spec.ephemeralRunnerConfigSecretMetadata", "", OURS),
    rule(VALUES, "githubConfigUrl", "GitHubConnection.spec.url", SAME),
    rule(VALUES, "githubConfigSecret", "GitHubConnection.spec.auth", VALUES_CREDENTIALS),
    rule(VALUES, "runnerGroup", "spec.group", SAME),
    rule(
        VALUES,
        "runnerScaleSetName",
        "spec.labels[0]",
        &[
            (Mapped, "the scale set keeps its name, so `runs-on` stays as it is"),
            (Blocked, "a label has letters, digits, `.`, `_` and `-`, and at most 64 of them"),
        ],
    ),
    rule(
        VALUES,
        "scaleSetLabels",
        "spec.labels",
        &[
            (Mapped, ""),
            (
                Blocked,
                "a label has letters, digits, `.`, `_` and `-`, and at most 64 of them; there are at most 16, and none is `self-hosted`",
            ),
        ],
    ),
    rule(
        VALUES,
        "minRunners",
        "spec.scaling.idle",
        &[(Mapped, "ARC keeps so many beyond the jobs that are there, and so does this")],
    ),
    rule(
        VALUES,
        "maxRunners",
        "spec.scaling.max",
        &[(Mapped, ""), (Approximated, "absent: ARC has no bound, Sekisho's greatest is 10000")],
    ),
    rule(VALUES, "template", "spec.template", SAME),
    rule(
        VALUES,
        "containerMode",
        "RunnerClass.spec.container.mode",
        &[
            (
                Changed,
                "dind: DockerSidecar, a privileged container. Rootless builds images without",
            ),
            (
                Blocked,
                "kubernetes: pods that a runner makes for its steps are not offered; container.mode is the nearest",
            ),
            (Mapped, ""),
        ],
    ),
    rule(
        VALUES,
        "proxy",
        "",
        &[(Blocked, "a proxy cannot be set yet, neither for the operator nor for runners")],
    ),
    rule(
        VALUES,
        "githubServerTLS",
        "",
        &[(Blocked, "an authority of one's own cannot be set yet")],
    ),
    rule(
        VALUES,
        "keyVault",
        "GitHubConnection.spec.auth",
        &[(
            NeedsDecision,
            "credentials are read from a secret: let External Secrets write it, for example",
        )],
    ),
    rule(VALUES, "listenerTemplate", "", LISTENER),
    rule(VALUES, "listenerMetrics", "", LISTENER),
    rule(VALUES, "controllerServiceAccount", "", OURS),
    rule(VALUES, "namespaceOverride", "metadata.namespace", SAME),
    rule(VALUES, "annotations", "", OURS),
    rule(VALUES, "labels", "", OURS),
    rule(VALUES, "resourceMeta", "", OURS),
    rule(VALUES, "nameOverride", "", OURS),
    rule(VALUES, "fullnameOverride", "", OURS),
];
