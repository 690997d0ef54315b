//! The kinds that ARC calls legacy, and their autoscaler.

use super::Verdict::{Approximated, Blocked, Changed, Dropped, Mapped, NeedsDecision};
use super::{AUTOSCALER, CONFIG, CREDENTIALS, INTERNAL, LEGACY, Rule, SAME, rule};

pub(super) const RULES: &[Rule] = &[
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
];
