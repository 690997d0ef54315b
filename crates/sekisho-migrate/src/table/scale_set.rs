//! Scale sets of ARC, and the values of their chart.

use super::Verdict::{Approximated, Blocked, Changed, Mapped, NeedsDecision};
use super::{
    CREDENTIALS, LISTENER, OURS, Rule, SAME, SET, VALUES, VALUES_CREDENTIALS, Verdict, rule,
};

// An object and the values of the chart call a field by other names; what becomes of it is the same.

const NAME: &[(Verdict, &str)] = &[
    (Mapped, "the scale set keeps its name, so `runs-on` stays as it is"),
    (Blocked, "a label has letters, digits, `.`, `_` and `-`, and at most 64 of them"),
];
const LABELS: &[(Verdict, &str)] = &[
    (Mapped, ""),
    (
        Blocked,
        "a label has letters, digits, `.`, `_` and `-`, and at most 64 of them; there are at most 16, and none is `self-hosted`",
    ),
];
const IDLE: &[(Verdict, &str)] =
    &[(Mapped, "ARC keeps so many beyond the jobs that are there, and so does this")];
const MAX: &[(Verdict, &str)] =
    &[(Mapped, ""), (Approximated, "absent: ARC has no bound, Sekisho's greatest is 10000")];
const PROXY: &[(Verdict, &str)] = &[
    (
        Changed,
        "for the operator and the runners, and for both schemes; `spec.egress` of the class must let runners reach it",
    ),
    (
        NeedsDecision,
        "there is one proxy for both schemes: write its address into `spec.proxy` of the GitHubConnection, and `user:password` into a secret that `credentialsSecretRef` names; `spec.egress` of the class must let runners reach it",
    ),
];
const AUTHORITY: &[(Verdict, &str)] = &[(
    NeedsDecision,
    "write the certificates into `spec.caBundle` of the GitHubConnection: the operator and the runners trust them",
)];
const VAULT: &[(Verdict, &str)] = &[(
    NeedsDecision,
    "credentials are read from a secret: let External Secrets write it, for example",
)];

pub(super) const RULES: &[Rule] = &[
    rule(SET, "spec.githubConfigUrl", "GitHubConnection.spec.url", SAME),
    rule(SET, "spec.githubConfigSecret", "GitHubConnection.spec.auth", CREDENTIALS),
    rule(SET, "spec.runnerGroup", "spec.group", SAME),
    rule(SET, "spec.runnerScaleSetName", "spec.labels[0]", NAME),
    rule(SET, "spec.runnerScaleSetLabels", "spec.labels", LABELS),
    rule(SET, "spec.minRunners", "spec.scaling.idle", IDLE),
    rule(SET, "spec.maxRunners", "spec.scaling.max", MAX),
    rule(SET, "spec.template", "spec.template", SAME),
    rule(SET, "spec.proxy", "GitHubConnection.spec.proxy", PROXY),
    rule(SET, "spec.githubServerTLS", "GitHubConnection.spec.caBundle", AUTHORITY),
    rule(SET, "spec.vaultConfig", "GitHubConnection.spec.auth", VAULT),
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
    rule(VALUES, "runnerScaleSetName", "spec.labels[0]", NAME),
    rule(VALUES, "scaleSetLabels", "spec.labels", LABELS),
    rule(VALUES, "minRunners", "spec.scaling.idle", IDLE),
    rule(VALUES, "maxRunners", "spec.scaling.max", MAX),
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
    rule(VALUES, "proxy", "GitHubConnection.spec.proxy", PROXY),
    rule(VALUES, "githubServerTLS", "GitHubConnection.spec.caBundle", AUTHORITY),
    rule(VALUES, "keyVault", "GitHubConnection.spec.auth", VAULT),
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
