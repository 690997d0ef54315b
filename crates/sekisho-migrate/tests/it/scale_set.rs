//! The scale-set mode, as an object and as values.

use sekisho_migrate::{Options, SourceKind, Verdict, migrate};
use serde_json::json;

use crate::{kind, of, of_values, said, source, verdict};

pub(crate) const SET: &str = "\
apiVersion: actions.github.com/v1alpha1
kind: AutoscalingRunnerSet
metadata:
  name: image-build
  namespace: arc-runners
  annotations: { actions.github.com/values-hash: abc }
spec:
  githubConfigUrl: https://github.com/acme/app
  githubConfigSecret: app-secret
  runnerGroup: default
  runnerScaleSetName: build
  runnerScaleSetLabels: [linux, x64]
  minRunners: 2
  maxRunners: 50
  template:
    spec:
      restartPolicy: Never
      serviceAccountName: image-build-gha-rs-no-permission
      nodeSelector: { pool: ci }
      initContainers:
        - { name: init-dind-externals, image: 'ghcr.io/actions/actions-runner:latest', command: [cp] }
        - { name: dind, image: 'docker:dind', restartPolicy: Always, securityContext: { privileged: true } }
      containers:
        - name: runner
          image: ghcr.io/actions/actions-runner:2.335.0
          command: [/home/runner/run.sh]
          env:
            - { name: DOCKER_HOST, value: 'unix:///var/run/docker.sock' }
            - { name: TEAM, value: pay }
          volumeMounts:
            - { name: work, mountPath: /home/runner/_work }
            - { name: dind-sock, mountPath: /var/run }
      volumes:
        - { name: work, emptyDir: {} }
        - { name: dind-sock, emptyDir: {} }
        - { name: dind-externals, emptyDir: {} }
---
apiVersion: v1
kind: Secret
metadata: { name: app-secret, namespace: arc-runners }
data:
  github_app_id: MTIzNDU2
  github_app_installation_id: NjU0MzIx
  github_app_private_key: c2VjcmV0
";

#[test]
fn a_rendered_set_keeps_its_name_and_loses_the_charts_daemon() {
    let migration = of(SET);
    assert_eq!(migration.count(Verdict::Blocked), 0, "{:?}", migration.findings);
    assert_eq!(
        kind(&migration, "GitHubConnection")["spec"],
        json!({
            "url": "https://github.com/acme/app",
            "auth": { "app": {
                "clientId": "123456",
                "installationId": 654_321,
                "privateKeySecretRef": { "name": "app-secret", "key": "github_app_private_key" }
            } }
        })
    );
    assert_eq!(
        kind(&migration, "RunnerClass")["spec"],
        json!({
            "container": { "mode": "DockerSidecar" },
            "security": { "profile": "Privileged" },
            "nodeSelector": { "pool": "ci" }
        })
    );
    assert_eq!(
        kind(&migration, "RunnerDeployment")["spec"],
        json!({
            "connectionRef": "acme-app",
            "classRef": "image-build",
            "scaling": { "max": 50, "idle": 2 },
            "group": "Default",
            "labels": ["build", "linux", "x64"],
            "template": { "spec": { "containers": [{
                "name": "runner",
                "image": "ghcr.io/actions/actions-runner:2.335.0",
                "env": [{ "name": "TEAM", "value": "pay" }]
            }] } }
        })
    );
    assert_eq!(said(&migration, "spec.githubConfigSecret"), [(9, 3, Verdict::Mapped)]);
    assert_eq!(verdict(&migration, "spec.template.spec.initContainers[dind]"), Verdict::Changed);
    assert_eq!(verdict(&migration, "spec.template.spec.serviceAccountName"), Verdict::Dropped);
}

/// Neither in the manifests nor in what is said.
#[test]
fn no_key_is_copied() {
    let values = "\
githubConfigUrl: https://github.com/acme
githubConfigSecret:
  github_app_id: '7'
  github_app_installation_id: '8'
  github_app_private_key: |
    -----BEGIN KEY-----
    verysecret
";
    for migration in [of(SET), of_values(values)] {
        let all = format!("{:?}{:?}", migration.manifests, migration.findings);
        for secret in ["c2VjcmV0", "verysecret", "BEGIN KEY"] {
            assert!(!all.contains(secret), "{all}");
        }
    }
    let migration = of_values(values);
    assert_eq!(
        kind(&migration, "GitHubConnection")["spec"]["auth"]["app"],
        json!({ "clientId": "7", "installationId": 8,
                "privateKeySecretRef": { "name": "github", "key": "github_app_private_key" } })
    );
    assert_eq!(
        said(&migration, "githubConfigSecret"),
        [(2, 1, Verdict::Changed), (2, 1, Verdict::Mapped)]
    );
}

#[test]
fn values_become_a_set_of_the_release() {
    let migration = of_values(
        "\
githubConfigUrl: https://github.com/acme/
githubConfigSecret: pre-defined
maxRunners: 5
proxy: {}
containerMode: { type: dind }
template:
  spec:
    containers:
      - name: runner
        image: registry.example/own:1
        command: [/prepare.sh]
namespaceOverride: ci
keyVault: { type: azure_key_vault }
mystery: 1
",
    );
    let deployment = kind(&migration, "RunnerDeployment");
    assert_eq!(deployment["metadata"], json!({ "name": "build", "namespace": "ci" }));
    assert_eq!(deployment["spec"]["labels"], json!(["build"]));
    assert_eq!(
        deployment["spec"]["template"]["spec"]["containers"],
        json!([{ "name": "runner", "image": "registry.example/own:1", "command": ["/prepare.sh"] }])
    );
    assert_eq!(verdict(&migration, "containerMode"), Verdict::Changed);
    assert_eq!(verdict(&migration, "githubConfigSecret"), Verdict::NeedsDecision);
    assert_eq!(
        verdict(&migration, "template.spec.containers[runner].image"),
        Verdict::NeedsDecision
    );
    assert_eq!(verdict(&migration, "keyVault"), Verdict::NeedsDecision);
    assert_eq!(said(&migration, ".mystery").len() + said(&migration, "mystery").len(), 1);
    // Empty ones say nothing.
    assert_eq!(said(&migration, "proxy"), []);
    for (more, field) in [
        ("proxy: { https: { url: 'http://p', credentialSecretRef: s } }\n", "proxy"),
        ("proxy: { https: { url: 'http://p' }, http: { url: 'http://q' } }\n", "proxy"),
        ("proxy: { http: { url: 'http://p' } }\n", "proxy"),
        ("proxy: { https: { url: 'http://u:p@p' } }\n", "proxy"),
        ("githubServerTLS: { certificateFrom: {} }\n", "githubServerTLS"),
    ] {
        let migration = of_values(&format!("githubConfigUrl: https://github.com/acme\n{more}"));
        assert_eq!(verdict(&migration, field), Verdict::NeedsDecision);
    }
}

#[test]
fn a_proxy_for_all_is_the_connections() {
    let of = |proxy: &str| {
        let migration =
            of_values(&format!("githubConfigUrl: https://github.com/acme\nproxy: {{ {proxy} }}\n"));
        let said = verdict(&migration, "proxy");
        (said, kind(&migration, "GitHubConnection")["spec"]["proxy"].clone())
    };
    let https = "https: { url: 'http://proxy.acme.test:3128' }";
    let url = "http://proxy.acme.test:3128";
    assert_eq!(
        of(&format!("{https}, noProxy: [acme.test]")),
        (Verdict::Changed, json!({ "url": url, "noProxy": ["acme.test"] }))
    );
    let both = format!("{https}, http: {{ url: '{url}' }}");
    assert_eq!(of(&both), (Verdict::Changed, json!({ "url": url })));
    assert_eq!(of("http: { url: 'http://p' }"), (Verdict::NeedsDecision, json!(null)));
}

#[test]
fn what_cannot_be_had_is_blocked() {
    let base = "githubConfigUrl: https://github.com/acme\n";
    for (more, field) in [
        ("containerMode: { type: kubernetes }\n", "containerMode"),
        ("containerMode: { type: kubernetes-novolume }\n", "containerMode"),
        ("runnerScaleSetName: self-hosted\n", "runnerScaleSetName"),
        ("scaleSetLabels: [self-hosted]\n", "scaleSetLabels"),
        ("template: { spec: { hostNetwork: true } }\n", "template.spec.hostNetwork"),
        (
            "template: { spec: { containers: [{ name: runner, env: [{ name: ACTIONS_RUNNER_CONTAINER_HOOKS }] }] } }\n",
            "template.spec.containers[runner].env[ACTIONS_RUNNER_CONTAINER_HOOKS]",
        ),
    ] {
        assert_eq!(
            verdict(&of_values(&format!("{base}{more}")), field),
            Verdict::Blocked,
            "{more}"
        );
    }
    let migration = of_values("maxRunners: 1\n");
    assert_eq!(verdict(&migration, "githubConfigUrl"), Verdict::Blocked);
    let nameless = source("v.yaml", base, SourceKind::HelmValues);
    let migration = migrate(&[nameless], &Options::default()).unwrap();
    assert_eq!(verdict(&migration, "metadata.name"), Verdict::Blocked);
    assert!(migration.manifests.is_empty());
}
