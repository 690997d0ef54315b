//! The rules: that each is applied, that none is said that is not written, and the page.

use std::collections::BTreeSet;
use std::path::Path;

use sekisho_migrate::table::{self, SECTIONS, rules};
use sekisho_migrate::{Migration, Options, SourceKind, Verdict, migrate};

use crate::{legacy, of, of_values, scale_set, source};

/// Each rule says something, once in the table.
#[test]
fn rules_are_whole() {
    let mut seen = BTreeSet::new();
    for rule in rules() {
        assert!(SECTIONS.contains(&rule.section), "{rule:?}");
        assert!(!rule.outcomes.is_empty(), "{rule:?}");
        assert!(seen.insert((rule.section, rule.field)), "{rule:?} stands twice");
        for (verdict, note) in rule.outcomes {
            let loud = [Verdict::NeedsDecision, Verdict::Blocked, Verdict::Approximated];
            assert!(!loud.contains(verdict) || note.len() > 15, "{rule:?} leaves one alone");
        }
    }
}

/// Everything that the table knows of the two modes, in one file each.
fn corpus() -> Vec<Migration> {
    let spec_of_pod = "{ containers: [{ name: runner, image: a, command: [x], env: [{ name: A }], volumeMounts: [{ \
        name: a, mountPath: /a }], resources: { limits: { cpu: 1 } }, tty: true }, { name: b }], initContainers: [{ name: c }], \
        volumes: [{ name: v, emptyDir: {} }], nodeSelector: { a: b }, tolerations: [{ key: a }], priorityClassName: p, \
        runtimeClassName: r, terminationGracePeriodSeconds: 90, activeDeadlineSeconds: 100, hostUsers: true, restartPolicy: \
        Always, serviceAccountName: s, automountServiceAccountToken: true, enableServiceLinks: true, ephemeralContainers: [{}], \
        hostNetwork: true, shareProcessNamespace: true, nodeName: n, dnsPolicy: None }";
    let config = "enterprise: a\n    organization: a\n    repository: a/b\n    group: g\n    labels: [a]\n    ephemeral: true\n    \
        image: summerwind/actions-runner\n    workDir: /w\n    dockerEnabled: true\n    dockerdWithinRunnerContainer: true\n    \
        dockerMTU: 1\n    dockerRegistryMirror: m\n    dockerVarRunVolumeSizeLimit: 1Mi\n    volumeSizeLimit: 1Gi\n    \
        volumeStorageMedium: Memory\n    containerMode: kubernetes\n    githubAPICredentialsFrom: { secretRef: { name: s } }\n    \
        dockerdContainerResources: { limits: { cpu: 1 } }\n    dockerVolumeMounts: [{ name: a, mountPath: /a }]\n    dockerEnv: [{ \
        name: A }]\n    sidecarContainers: [{ name: s }]\n    workVolumeClaimTemplate: { accessModes: [ReadWriteOnce] }\n    odd: 1\n";
    let legacy_set = format!(
        "kind: RunnerDeployment\nmetadata: {{ name: all }}\nspec:\n  replicas: 1\n  selector: {{ a: b }}\n  effectiveTime: x\n  \
         revisionHistoryLimit: 2\n  template:\n   metadata: {{ labels: {{ a: b }} }}\n   spec:\n    {config}"
    );
    let stateful = "kind: RunnerSet\nmetadata: { name: set }\nspec: { organization: a, serviceName: s, volumeClaimTemplates: [], \
        updateStrategy: {}, podManagementPolicy: Parallel, minReadySeconds: 1, ordinals: {}, \
        persistentVolumeClaimRetentionPolicy: {} }\n";
    let autoscaler = "kind: HorizontalRunnerAutoscaler\nmetadata: { name: a }\nspec: { scaleTargetRef: { name: all }, minReplicas: 1, \
        maxReplicas: 2, scaleDownDelaySecondsAfterScaleOut: 3, metrics: [], scaleUpTriggers: [], capacityReservations: [], \
        scheduledOverrides: [], githubAPICredentialsFrom: {} }\n";
    let of_set: String = rules()
        .filter(|rule| rule.section == table::SET)
        .filter_map(|rule| rule.field.strip_prefix("spec."))
        .map(|field| match field {
            "template" => format!(
                "  template: {{ metadata: {{ labels: {{ a: b }} }}, spec: {spec_of_pod} }}\n"
            ),
            field => format!("  {field}: x\n"),
        })
        .collect();
    let values: String = rules()
        .filter(|rule| rule.section == table::VALUES)
        .map(|rule| format!("{}: x\n", rule.field))
        .collect();
    vec![
        of(&format!(
            "{legacy_set}---\n{stateful}---\n{autoscaler}---\nkind: Runner\nmetadata: {{ name: one }}\nspec: {{ organization: a }}\n"
        )),
        of(&format!(
            "kind: AutoscalingRunnerSet\nmetadata: {{ name: all }}\nspec:\n{of_set}---\nkind: EphemeralRunner\nmetadata: {{ name: a }}\n---\nkind: Pod\n"
        )),
        of(legacy::DEPLOYMENT),
        of(scale_set::SET),
        of_values(&values),
    ]
}

#[test]
fn every_rule_is_applied_and_nothing_else_is_said() {
    let corpus = corpus();
    let said: Vec<_> = corpus.iter().flat_map(|migration| &migration.findings).collect();
    for finding in &said {
        let known = rules().any(|rule| {
            rule.to == finding.to
                && rule.outcomes.iter().any(|(verdict, note)| {
                    *verdict == finding.verdict && finding.note.starts_with(note)
                })
        });
        assert!(known || finding.verdict == Verdict::Blocked, "{finding:?} is in no rule");
        assert!(finding.verdict == Verdict::Mapped || !finding.note.is_empty(), "{finding:?}");
    }
    for rule in rules() {
        let applied = said.iter().any(|finding| {
            finding.to == rule.to
                && rule.outcomes.iter().any(|(verdict, note)| {
                    *verdict == finding.verdict && finding.note.starts_with(note)
                })
                && (finding.field.contains(
                    rule.field.trim_start_matches("spec.").split(' ').next().unwrap_or_default(),
                ) || rule.field.contains(' '))
        });
        assert!(applied, "{rule:?} is never applied");
    }
}

#[test]
fn a_wrong_file_is_told_with_its_place() {
    let error = |text: &str, kind| {
        migrate(&[source("arc.yaml", text, kind)], &Options::default()).unwrap_err().to_string()
    };
    let manifests = SourceKind::Manifests;
    assert_eq!(
        error("kind: A\n---\nspec: {}\n", manifests),
        "arc.yaml:3:1: there is no `kind`: this is no object of Kubernetes"
    );
    assert!(
        error("kind: A\n---\nkind: B\nspec: [\n", manifests).starts_with("arc.yaml:"),
        "no place"
    );
    assert_eq!(
        error("- a\n", SourceKind::HelmValues),
        "arc.yaml:1:1: values are a mapping, and this is a sequence"
    );
}

/// As `kubectl get -o json` prints.
#[test]
fn a_list_is_its_items() {
    let list = r#"{ "kind": "List", "items": [{ "kind": "Runner", "metadata": { "name": "a", "namespace": "n" },
        "spec": { "organization": "acme", "labels": ["x"] }, "status": { "phase": "Running" } }] }"#;
    let migration = of(list);
    assert_eq!(migration.manifests.len(), 3);
    assert_eq!(migration.findings[0].object, "Runner n/a");
    assert!(!migration.findings.iter().any(|finding| finding.field.contains("status")));
}

#[test]
fn the_page_has_the_table() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/migrating-from-arc.md");
    let page = std::fs::read_to_string(page).unwrap_or_default();
    assert!(
        page.contains(&table::markdown()),
        "docs/migrating-from-arc.md has another table: run `cargo xtask tables`"
    );
}
