//! What becomes of each field of ARC: the rules that are applied, and the page that shows them.

use std::fmt::Write as _;

use serde::Serialize;

/// What became of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The same, elsewhere.
    Mapped,
    /// Something is different now; the note says what.
    Changed,
    /// Nearly the same.
    Approximated,
    /// Not needed any more.
    Dropped,
    /// A person has to choose.
    NeedsDecision,
    /// It cannot be had; the object is not usable as it is.
    Blocked,
}

impl Verdict {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Mapped,
        Self::Changed,
        Self::Approximated,
        Self::Dropped,
        Self::NeedsDecision,
        Self::Blocked,
    ];

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::Changed => "changed",
            Self::Approximated => "approximated",
            Self::Dropped => "dropped",
            Self::NeedsDecision => "needs decision",
            Self::Blocked => "blocked",
        }
    }
}

/// What becomes of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands.
    pub section: &'static str,
    /// What ARC calls it.
    pub field: &'static str,
    /// Where it is with Sekisho; empty if nowhere.
    pub to: &'static str,
    /// What can become of it: the first is the usual one.
    pub outcomes: &'static [(Verdict, &'static str)],
}

/// Whole objects.
pub const OBJECT: &str = "Objects";
/// `spec` of the legacy kinds.
pub const LEGACY: &str = "RunnerDeployment, RunnerReplicaSet, RunnerSet, Runner";
/// The legacy template's own fields.
pub const CONFIG: &str = "Legacy runner";
/// `HorizontalRunnerAutoscaler`.
pub const AUTOSCALER: &str = "HorizontalRunnerAutoscaler";
/// `AutoscalingRunnerSet`.
pub const SET: &str = "AutoscalingRunnerSet";
/// Values of the chart.
pub const VALUES: &str = "Helm values of gha-runner-scale-set";
/// A pod's fields, of both modes.
pub const POD: &str = "Pod, of either mode";
/// The fields of the container that runs the job.
pub const RUNNER: &str = "Container of the runner, of either mode";

/// The sections, in the order of the page.
pub const SECTIONS: &[&str] = &[OBJECT, LEGACY, CONFIG, AUTOSCALER, SET, VALUES, POD, RUNNER];

use Verdict::{Approximated, Blocked, Changed, Dropped, Mapped, NeedsDecision};

const fn rule(
    section: &'static str,
    field: &'static str,
    to: &'static str,
    outcomes: &'static [(Verdict, &'static str)],
) -> Rule {
    Rule { section, field, to, outcomes }
}

const SAME: &[(Verdict, &str)] = &[(Mapped, "")];
const INTERNAL: &[(Verdict, &str)] = &[(Dropped, "internal to ARC")];
const LISTENER: &[(Verdict, &str)] =
    &[(Dropped, "there is no listener's pod: sessions live in the operator")];
const OURS: &[(Verdict, &str)] =
    &[(Dropped, "it was for an object of ARC, of which there is none now")];
const CREDENTIALS: &[(Verdict, &str)] = &[
    (Mapped, "a GitHub App, of the secret among the files; its key stays in the secret"),
    (Mapped, "a token, of the secret among the files"),
    (
        NeedsDecision,
        "the secret is not among the files: add it, or give --app-id; if it has `github_token`, replace `auth.app` \
         by `auth.token`",
    ),
    (Approximated, "the App's number is that of --app-id; its key is read from the secret"),
];

const VALUES_CREDENTIALS: &[(Verdict, &str)] = &[
    CREDENTIALS[0],
    CREDENTIALS[1],
    CREDENTIALS[2],
    CREDENTIALS[3],
    (
        Changed,
        "credentials do not belong into values: put the key into the secret that the connection names",
    ),
];

/// Every rule.
pub const RULES: &[Rule] = &[
    rule(
        OBJECT,
        "made by ARC",
        "",
        &[(
            Dropped,
            "ARC made it: EphemeralRunnerSet, EphemeralRunner, AutoscalingListener, and sets with an owner",
        )],
    ),
    rule(OBJECT, "another kind", "", &[(Dropped, "not a kind of ARC that is read")]),
    rule(
        OBJECT,
        "unknown field",
        "",
        &[(NeedsDecision, "no field of ARC 0.14: look whether it is needed")],
    ),
    rule(
        OBJECT,
        "metadata.name",
        "metadata.name",
        &[
            (Mapped, ""),
            (
                Changed,
                "at most 30 characters: the names of runners are made of it, and GitHub allows them 64",
            ),
            (Blocked, "there is no name: give --release"),
        ],
    ),
    rule(
        OBJECT,
        "the pod as a whole",
        "RunnerClass.spec.security.profile",
        &[
            (
                Changed,
                "the pod needs more than Restricted allows, so its class is of a looser profile; the namespace's label must be too",
            ),
            (Blocked, "no pod can be made of it"),
        ],
    ),
    rule(
        LEGACY,
        "spec.replicas",
        "spec.replicas",
        &[(Mapped, ""), (Dropped, "a HorizontalRunnerAutoscaler decides")],
    ),
    rule(LEGACY, "spec.selector", "", &[(Dropped, "pods are found by labels of the operator")]),
    rule(LEGACY, "spec.effectiveTime", "", INTERNAL),
    rule(LEGACY, "spec.template.metadata", "spec.template.metadata", SAME),
    rule(LEGACY, "spec.serviceName", "", &[(Dropped, "a runner has no name in DNS")]),
    rule(
        LEGACY,
        "spec.volumeClaimTemplates",
        "",
        &[(
            NeedsDecision,
            "a runner leaves nothing to the next one: use a remote cache, or an ephemeral volume in spec.template",
        )],
    ),
    rule(
        LEGACY,
        "spec.updateStrategy",
        "spec.rollout",
        &[(Changed, "runners with a job are never stopped; new ones are of the new revision")],
    ),
    rule(LEGACY, "spec.podManagementPolicy", "", &[(Dropped, "runners are not ordered")]),
    rule(LEGACY, "spec.minReadySeconds", "", &[(Dropped, "a runner is ready when GitHub sees it")]),
    rule(LEGACY, "spec.revisionHistoryLimit", "spec.rollout.historyLimit", SAME),
    rule(LEGACY, "spec.ordinals", "", &[(Dropped, "runners are not numbered")]),
    rule(
        LEGACY,
        "spec.persistentVolumeClaimRetentionPolicy",
        "",
        &[(Dropped, "there are no claims to keep")],
    ),
    rule(
        LEGACY,
        "kind Runner",
        "RunnerDeployment, replicas 1",
        &[(Changed, "a Runner of Sekisho is made by the operator, for one job")],
    ),
    rule(
        LEGACY,
        "kind RunnerSet",
        "RunnerDeployment",
        &[(Changed, "there are no stateful runners")],
    ),
    rule(CONFIG, "enterprise", "GitHubConnection.spec.url", SAME),
    rule(CONFIG, "organization", "GitHubConnection.spec.url", SAME),
    rule(CONFIG, "repository", "GitHubConnection.spec.url", SAME),
    rule(CONFIG, "group", "spec.group", SAME),
    rule(
        CONFIG,
        "labels",
        "spec.labels",
        &[
            (
                Mapped,
                "acquisition.mode is Registration, and `self-hosted`, `linux` and `x64` are added, which ARC's runner adds by itself: `runs-on` stays as it is. On ARM nodes, write `arm64` for `x64`",
            ),
            (
                Blocked,
                "a label has letters, digits, `.`, `_` and `-`, and at most 64 of them; there are at most 16",
            ),
        ],
    ),
    rule(
        CONFIG,
        "ephemeral",
        "",
        &[
            (Mapped, "every runner is for one job"),
            (
                NeedsDecision,
                "a runner is for one job: jobs that count on what an earlier one left behind will not find it",
            ),
        ],
    ),
    rule(
        CONFIG,
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
                "it must be made of GitHub's image (`/home/runner/run.sh`), not of ARC's (`startup.sh`)",
            ),
        ],
    ),
    rule(CONFIG, "workDir", "", &[(Changed, "the work folder is /home/runner/_work")]),
    rule(
        CONFIG,
        "dockerEnabled",
        "RunnerClass.spec.container.mode",
        &[
            (
                Changed,
                "DockerSidecar, as with ARC: a privileged container. Rootless builds images without",
            ),
            (Mapped, "None"),
            (
                Changed,
                "absent, which is true for ARC: DockerSidecar, a privileged container. Rootless builds images without",
            ),
        ],
    ),
    rule(
        CONFIG,
        "dockerdWithinRunnerContainer",
        "RunnerClass.spec.container.mode",
        &[
            (
                Changed,
                "DockerSidecar: the daemon has a container of its own. Rootless builds images without",
            ),
            (Mapped, "false"),
        ],
    ),
    rule(CONFIG, "dockerMTU", "spec.template.spec.initContainers[docker].args", SAME),
    rule(CONFIG, "dockerRegistryMirror", "spec.template.spec.initContainers[docker].args", SAME),
    rule(
        CONFIG,
        "dockerVarRunVolumeSizeLimit",
        "",
        &[(Dropped, "the socket has a folder of its own")],
    ),
    rule(CONFIG, "volumeSizeLimit", "spec.template.spec.volumes[work]", SAME),
    rule(CONFIG, "volumeStorageMedium", "spec.template.spec.volumes[work]", SAME),
    rule(
        CONFIG,
        "containerMode",
        "",
        &[
            (
                Blocked,
                "kubernetes: pods that a runner makes for its steps are not offered; container.mode is the nearest",
            ),
            (Mapped, ""),
        ],
    ),
    rule(CONFIG, "githubAPICredentialsFrom", "GitHubConnection.spec.auth", CREDENTIALS),
    rule(CONFIG, "the controller's credentials", "GitHubConnection.spec.auth", CREDENTIALS),
    rule(
        CONFIG,
        "dockerdContainerResources",
        "spec.template.spec.initContainers[docker].resources",
        SAME,
    ),
    rule(
        CONFIG,
        "dockerVolumeMounts",
        "spec.template.spec.initContainers[docker].volumeMounts",
        SAME,
    ),
    rule(CONFIG, "dockerEnv", "spec.template.spec.initContainers[docker].env", SAME),
    rule(
        CONFIG,
        "sidecarContainers",
        "spec.template.spec.initContainers",
        &[(
            Changed,
            "as native sidecars (restartPolicy Always), so that the pod ends with the runner",
        )],
    ),
    rule(CONFIG, "workVolumeClaimTemplate", "spec.template.spec.volumes[work].ephemeral", SAME),
    rule(
        AUTOSCALER,
        "spec.scaleTargetRef",
        "",
        &[(Mapped, ""), (Blocked, "its target is not among the files")],
    ),
    rule(AUTOSCALER, "spec.minReplicas", "spec.scaling.min", SAME),
    rule(AUTOSCALER, "spec.maxReplicas", "spec.scaling.max", SAME),
    rule(
        AUTOSCALER,
        "spec.scaleDownDelaySecondsAfterScaleOut",
        "spec.scaling.scaleDownDelaySeconds",
        SAME,
    ),
    rule(
        AUTOSCALER,
        "spec.metrics",
        "",
        &[
            (Dropped, "the queue itself is read: there are as many runners as jobs"),
            (
                Approximated,
                "PercentageRunnersBusy keeps runners in reserve: spec.scaling.idle is 1, set it to how many",
            ),
        ],
    ),
    rule(
        AUTOSCALER,
        "spec.scaleUpTriggers",
        "",
        &[(Dropped, "no webhook is needed: the operator asks GitHub")],
    ),
    rule(AUTOSCALER, "spec.capacityReservations", "", INTERNAL),
    rule(
        AUTOSCALER,
        "spec.scheduledOverrides",
        "",
        &[(
            NeedsDecision,
            "there are no schedules: set spec.scaling.min by a CronJob, or leave it",
        )],
    ),
    rule(
        AUTOSCALER,
        "spec.githubAPICredentialsFrom",
        "",
        &[(Dropped, "those of the RunnerDeployment are used")],
    ),
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

/// The rule of a field.
pub(crate) fn find(section: &str, field: &str) -> Rule {
    let found = RULES.iter().find(|rule| rule.section == section && rule.field == field);
    // A test asks for every name that the code says.
    found.copied().unwrap_or(Rule { section: OBJECT, field: "", to: "", outcomes: &[] })
}

/// The table, as it stands in `docs/migrating-from-arc.md`.
pub fn markdown() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let _ = writeln!(
            text,
            "### {section}\n\n| ARC | Sekisho | what becomes of it |\n|---|---|---|"
        );
        for rule in RULES.iter().filter(|rule| rule.section == *section) {
            let outcomes: Vec<String> = rule
                .outcomes
                .iter()
                .map(|(verdict, note)| match *note {
                    "" => format!("**{}**", verdict.name()),
                    note => format!("**{}**: {note}", verdict.name()),
                })
                .collect();
            let to = if rule.to.is_empty() { "-".to_owned() } else { format!("`{}`", rule.to) };
            let _ = writeln!(text, "| `{}` | {to} | {} |", rule.field, outcomes.join("<br>"));
        }
        text.push('\n');
    }
    text
}
