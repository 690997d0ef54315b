//! The legacy mode.

use sekisho_migrate::Verdict;
use serde_json::json;

use crate::{kind, of, said, verdict};

pub(crate) const DEPLOYMENT: &str = "\
apiVersion: actions.summerwind.dev/v1alpha1
kind: RunnerDeployment
metadata:
  name: image-build
  namespace: ci
spec:
  replicas: 3
  effectiveTime: 2024-01-01T00:00:00Z
  template:
    metadata:
      labels: { team: pay }
    spec:
      organization: acme
      group: trusted
      labels: [image, arm]
      ephemeral: false
      image: summerwind/actions-runner:latest
      dockerMTU: 1400
      dockerRegistryMirror: https://mirror.example
      volumeSizeLimit: 20Gi
      resources:
        requests: { cpu: 2, memory: 4Gi }
        limits: { memory: 4Gi }
      env:
        - { name: TEAM, value: pay }
        - { name: STARTUP_DELAY_IN_SECONDS, value: '2' }
      tolerations:
        - { key: ci, operator: Exists }
      serviceAccountName: builder
      terminationGracePeriodSeconds: 10
      sidecarContainers:
        - { name: proxy, image: registry.example/proxy:1 }
---
apiVersion: actions.summerwind.dev/v1alpha1
kind: HorizontalRunnerAutoscaler
metadata: { name: image-build, namespace: ci }
spec:
  scaleTargetRef: { kind: RunnerDeployment, name: image-build }
  minReplicas: 1
  maxReplicas: 20
  scaleUpTriggers:
    - { githubEvent: { workflowJob: {} }, duration: 30m }
  metrics:
    - { type: PercentageRunnersBusy, scaleUpThreshold: '0.75' }
";

#[test]
fn a_set_becomes_connection_class_and_deployment() {
    let migration = of(DEPLOYMENT);
    let kinds: Vec<_> = migration.manifests.iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["RunnerClass", "GitHubConnection", "RunnerDeployment"]);
    assert_eq!(
        kind(&migration, "RunnerClass")["spec"],
        json!({
            "requests": { "cpu": "2", "memory": "4Gi" },
            "limits": { "memory": "4Gi" },
            "tolerations": [{ "key": "ci", "operator": "Exists" }],
            "terminationGraceSeconds": 20,
            "container": { "mode": "DockerSidecar" },
            "security": { "profile": "Privileged" }
        })
    );
    let connection = kind(&migration, "GitHubConnection");
    assert_eq!(connection["metadata"], json!({ "name": "acme", "namespace": "ci" }));
    assert_eq!(connection["spec"]["url"], "https://github.com/acme");
    assert_eq!(
        kind(&migration, "RunnerDeployment")["spec"],
        json!({
            "connectionRef": "acme",
            "classRef": "image-build",
            "acquisition": { "mode": "Registration" },
            "group": "trusted",
            "labels": ["image", "arm", "self-hosted", "linux", "x64"],
            "scaling": { "min": 1, "max": 20, "idle": 1, "scaleDownDelaySeconds": 600 },
            "template": {
                "metadata": { "labels": { "team": "pay" } },
                "spec": {
                    "containers": [{ "name": "runner", "env": [{ "name": "TEAM", "value": "pay" }] }],
                    "initContainers": [
                        { "name": "docker", "args": ["--mtu=1400", "--registry-mirror=https://mirror.example"] },
                        { "name": "proxy", "image": "registry.example/proxy:1", "restartPolicy": "Always" }
                    ],
                    "volumes": [{ "name": "work", "emptyDir": { "sizeLimit": "20Gi" } }]
                }
            }
        })
    );
    assert_eq!(migration.count(Verdict::Blocked), 0, "{:?}", migration.findings);
}

#[test]
fn every_field_has_its_place_and_its_verdict() {
    let migration = of(DEPLOYMENT);
    for (field, line, column, verdict) in [
        ("spec.replicas", 7, 3, Verdict::Mapped),
        ("spec.effectiveTime", 8, 3, Verdict::Dropped),
        ("spec.template.spec.organization", 13, 7, Verdict::Mapped),
        ("spec.template.spec.labels", 15, 7, Verdict::Mapped),
        ("spec.template.spec.ephemeral", 16, 7, Verdict::NeedsDecision),
        ("spec.template.spec.image", 17, 7, Verdict::Changed),
        (
            "spec.template.spec.containers[runner].env[STARTUP_DELAY_IN_SECONDS]",
            26,
            11,
            Verdict::Dropped,
        ),
        ("spec.template.spec.serviceAccountName", 29, 7, Verdict::NeedsDecision),
        ("spec.template.spec.terminationGracePeriodSeconds", 30, 7, Verdict::Approximated),
        // Of the second document.
        ("spec.maxReplicas", 40, 3, Verdict::Mapped),
        ("spec.metrics", 43, 3, Verdict::Approximated),
    ] {
        assert!(
            said(&migration, field).contains(&(line, column, verdict)),
            "{field}: {:?}",
            said(&migration, field)
        );
    }
}

#[test]
fn what_cannot_be_had_is_blocked() {
    let base = "apiVersion: actions.summerwind.dev/v1alpha1\nkind: RunnerDeployment\nmetadata: { name: a }\nspec:\n  \
                template:\n    spec:\n      repository: acme/app\n";
    let migration = of(&format!("{base}      containerMode: kubernetes\n"));
    assert_eq!(said(&migration, "spec.template.spec.containerMode"), [(8, 7, Verdict::Blocked)]);
    let migration = of(&format!("{base}      labels: ['with space']\n"));
    assert_eq!(verdict(&migration, "spec.template.spec.labels"), Verdict::Blocked);
    let migration = of("kind: Runner\nmetadata: { name: a }\nspec: { labels: [x] }\n");
    assert_eq!(verdict(&migration, "spec"), Verdict::Blocked);
    let migration = of(
        "kind: HorizontalRunnerAutoscaler\nmetadata: { name: a }\nspec:\n  scaleTargetRef: { name: gone }\n",
    );
    assert_eq!(said(&migration, "spec.scaleTargetRef"), [(4, 19, Verdict::Blocked)]);
}

/// Only as loose as it must be, and with what asked for it.
#[test]
fn the_class_is_as_strict_as_the_pod_allows() {
    let of_context = |context: &str| {
        let migration = of(&format!(
            "kind: Runner\nmetadata: {{ name: a }}\nspec:\n  organization: acme\n  dockerEnabled: false\n  \
             securityContext: {context}\n"
        ));
        let profile = kind(&migration, "RunnerClass")["spec"]["security"]["profile"].clone();
        let whole = migration.findings.iter().find(|it| it.field == "the pod as a whole").cloned();
        (profile, whole.map(|it| (it.verdict, it.note)))
    };
    assert_eq!(of_context("{ fsGroup: 1000 }"), (json!(null), None));
    let (profile, whole) = of_context("{ runAsUser: 0, runAsNonRoot: false }");
    assert_eq!(profile, "Baseline");
    let (verdict, note) = whole.unwrap();
    assert_eq!(verdict, Verdict::Changed);
    assert!(
        note.contains("`spec.template.spec.securityContext.runAsNonRoot`: profile Restricted"),
        "{note}"
    );
    let (profile, _) = of_context("{ seccompProfile: { type: Unconfined } }");
    assert_eq!(profile, "Privileged");
    let (profile, whole) = of_context("{ runAsRoot: true }");
    assert_eq!(profile, json!(null));
    let (verdict, note) = whole.unwrap();
    assert_eq!(verdict, Verdict::Blocked);
    assert!(
        note.contains("`spec.template.spec.securityContext.runAsRoot`: a pod has no such field"),
        "{note}"
    );
}

#[test]
fn a_runner_set_and_a_runner_become_deployments() {
    let migration = of("\
kind: RunnerSet
metadata: { name: cached }
spec:
  replicas: 2
  repository: acme/app
  serviceName: x
  selector: { matchLabels: { app: x } }
  dockerdWithinRunnerContainer: true
  volumeClaimTemplates: [{ metadata: { name: cache } }]
  template:
    metadata: { labels: { app: x } }
    spec:
      containers:
        - { name: runner, resources: { limits: { cpu: 1500m } } }
");
    assert_eq!(verdict(&migration, "spec.volumeClaimTemplates"), Verdict::NeedsDecision);
    assert_eq!(verdict(&migration, "kind RunnerSet"), Verdict::Changed);
    let spec = &kind(&migration, "RunnerDeployment")["spec"];
    assert_eq!((&spec["replicas"], &spec["connectionRef"]), (&json!(2), &json!("acme-app")));
    assert_eq!(kind(&migration, "RunnerClass")["spec"]["limits"], json!({ "cpu": "1500m" }));
    let owned = of(
        "kind: RunnerReplicaSet\nmetadata: { name: a, ownerReferences: [{ kind: RunnerDeployment }] }\nspec: {}\n",
    );
    assert_eq!(owned.manifests, Vec::<serde_json::Value>::new());
    assert_eq!(verdict(&owned, "made by ARC"), Verdict::Dropped);
}

#[test]
fn the_same_twice_is_made_once() {
    let set = |name: &str, labels: &str| {
        format!(
            "---\nkind: RunnerDeployment\nmetadata: {{ name: {name} }}\nspec: {{ template: {{ spec: {{ \
                 enterprise: acme, labels: [{labels}] }} }} }}\n"
        )
    };
    let long = "a-name-of-more-than-thirty-characters";
    let migration =
        of(&format!("{}{}{}", set("one", "a"), set(long, "b"), set(&format!("{long}-2"), "c")));
    let names: Vec<_> = migration
        .manifests
        .iter()
        .map(|it| (it["kind"].as_str().unwrap(), it["metadata"]["name"].as_str().unwrap()))
        .collect();
    assert_eq!(
        names,
        [
            ("RunnerClass", "one"),
            ("GitHubConnection", "enterprises-acme"),
            ("RunnerDeployment", "one"),
            ("RunnerDeployment", "a-name-of-more-than-thirty-cha"),
            ("RunnerDeployment", "a-name-of-more-than-thirty-c-2"),
        ]
    );
}
