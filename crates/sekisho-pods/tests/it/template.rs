//! What a template changes, and what it cannot.

use sekisho_api::{PodTemplate, Reason, TemplateMetadata, TrustZone};
use serde_json::{Value, json};

use crate::{restricted, try_of, try_pod, wire};

/// The template is refused with this, whole.
#[track_caller]
fn refused(class: &Value, template: Value, want: &str) {
    let error = try_pod(class, template).unwrap_err();
    assert_eq!(error.reason(), Reason::TemplateForbidden, "{error}");
    let text = error.to_string();
    assert!(text.contains(want), "{text}");
}

/// In the container `runner`.
#[track_caller]
fn context_refused(profile: &str, context: Value, field: &str) {
    let class = json!({ "security": { "profile": profile }, "container": { "mode": "None" } });
    let template =
        json!({ "containers": [{ "name": "runner", "securityContext": context.clone() }] });
    refused(
        &class,
        template,
        &format!("`spec.template.spec.containers[runner].securityContext.{field}`"),
    );
    // And in a container that starts before.
    let template =
        json!({ "initContainers": [{ "name": "a", "image": "b", "securityContext": context }] });
    refused(
        &class,
        template,
        &format!("`spec.template.spec.initContainers[a].securityContext.{field}`"),
    );
}

#[track_caller]
fn context_allowed(profile: &str, context: Value) {
    let class = json!({ "security": { "profile": profile }, "container": { "mode": "None" } });
    let template =
        json!({ "containers": [{ "name": "runner", "securityContext": context.clone() }] });
    let pod = wire(class, template);
    for (field, value) in context.as_object().unwrap() {
        assert_eq!(&pod["containers"][0]["securityContext"][field], value, "{field}");
    }
}

#[test]
fn a_restricted_class_is_not_loosened() {
    let refused = |context, field| context_refused("Restricted", context, field);
    refused(json!({ "privileged": true }), "privileged");
    refused(json!({ "allowPrivilegeEscalation": true }), "allowPrivilegeEscalation");
    refused(json!({ "runAsUser": 0 }), "runAsUser");
    refused(json!({ "runAsNonRoot": false }), "runAsNonRoot");
    refused(json!({ "capabilities": { "add": ["CHOWN"] } }), "capabilities.add[CHOWN]");
    refused(json!({ "capabilities": { "drop": ["CHOWN"] } }), "capabilities.drop");
    refused(json!({ "capabilities": { "drop": [] } }), "capabilities.drop");
    refused(json!({ "seccompProfile": { "type": "Unconfined" } }), "seccompProfile");
    refused(json!({ "appArmorProfile": { "type": "Unconfined" } }), "appArmorProfile");
    refused(json!({ "procMount": "Unmasked" }), "procMount");
    refused(json!({ "seLinuxOptions": { "type": "spc_t" } }), "seLinuxOptions");
    refused(json!({ "seLinuxOptions": { "user": "root" } }), "seLinuxOptions");
    refused(json!({ "windowsOptions": { "hostProcess": true } }), "windowsOptions.hostProcess");
}

#[test]
fn baseline_allows_root_and_no_more() {
    let class = "Baseline";
    context_allowed(class, json!({ "runAsUser": 0, "runAsNonRoot": false }));
    context_allowed(class, json!({ "allowPrivilegeEscalation": true }));
    context_allowed(class, json!({ "capabilities": { "add": ["SETUID"], "drop": ["ALL"] } }));
    context_refused(class, json!({ "privileged": true }), "privileged");
    context_refused(
        class,
        json!({ "capabilities": { "add": ["NET_RAW"] } }),
        "capabilities.add[NET_RAW]",
    );
    context_refused(class, json!({ "seccompProfile": { "type": "Unconfined" } }), "seccompProfile");
    context_refused(class, json!({ "procMount": "Unmasked" }), "procMount");
}

#[test]
fn privileged_allows_what_it_says() {
    context_allowed("Privileged", json!({ "privileged": true }));
    context_allowed("Privileged", json!({ "seccompProfile": { "type": "Unconfined" } }));
}

#[test]
fn the_pods_own_context_is_checked() {
    let of = |context: Value| json!({ "securityContext": context });
    let at = |field: &str| format!("`spec.template.spec.securityContext.{field}`");
    refused(&restricted(), of(json!({ "runAsUser": 0 })), &at("runAsUser"));
    refused(&restricted(), of(json!({ "runAsNonRoot": false })), &at("runAsNonRoot"));
    refused(
        &restricted(),
        of(json!({ "seccompProfile": { "type": "Unconfined" } })),
        &at("seccompProfile"),
    );
    let sysctl = json!({ "sysctls": [{ "name": "kernel.msgmax", "value": "1" }] });
    refused(&restricted(), of(sysctl), &at("sysctls[kernel.msgmax]"));
    let user = wire(restricted(), of(json!({ "runAsUser": 2000, "fsGroup": 2000 })));
    assert_eq!(user["securityContext"]["runAsUser"], 2000);
    assert_eq!(user["securityContext"]["runAsNonRoot"], true);
}

#[test]
fn the_node_stays_out_of_sight() {
    let privileged = json!({ "security": { "profile": "Privileged" } });
    for class in [restricted(), privileged.clone()] {
        refused(&class, json!({ "hostNetwork": true }), "spec.template.spec.hostNetwork");
        refused(
            &class,
            json!({ "shareProcessNamespace": true }),
            "spec.template.spec.shareProcessNamespace",
        );
        refused(&class, json!({ "nodeName": "n1" }), "spec.template.spec.nodeName");
    }
    refused(&restricted(), json!({ "hostPID": true }), "spec.template.spec.hostPID");
    refused(&restricted(), json!({ "hostIPC": true }), "spec.template.spec.hostIPC");
    let host = json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/" } }] });
    refused(&restricted(), host.clone(), "`spec.template.spec.volumes[v].hostPath`");
    assert_eq!(wire(privileged, host)["volumes"][3]["hostPath"]["path"], "/");
    let nfs = json!({ "volumes": [{ "name": "v", "nfs": { "server": "s", "path": "/" } }] });
    refused(&restricted(), nfs, "`spec.template.spec.volumes[v]`: profile Restricted allows");
    let port = json!({ "containers": [{ "name": "db", "image": "a",
        "ports": [{ "containerPort": 1, "hostPort": 1 }] }] });
    refused(&restricted(), port, "`spec.template.spec.containers[db].ports.hostPort`");
    let probe = json!({ "containers": [{ "name": "db", "image": "a",
        "livenessProbe": { "tcpSocket": { "host": "169.254.169.254", "port": 80 } } }] });
    refused(&restricted(), probe, "`spec.template.spec.containers[db].livenessProbe`");
}

#[test]
fn identities_are_not_for_jobs() {
    let all = json!({ "security": { "profile": "Privileged" } });
    for (field, value) in [
        ("serviceAccountName", json!("builder")),
        ("serviceAccount", json!("builder")),
        ("automountServiceAccountToken", json!(true)),
    ] {
        refused(&all, json!({ field: value }), &format!("`spec.template.spec.{field}`"));
    }
    let projected = json!({ "volumes": [{ "name": "t", "projected": { "sources": [
        { "serviceAccountToken": { "path": "token" } }] } }] });
    refused(
        &all,
        projected,
        "`spec.template.spec.volumes[t].projected.sources.serviceAccountToken`",
    );
    assert_eq!(
        wire(restricted(), json!({ "automountServiceAccountToken": false }))["automountServiceAccountToken"],
        false
    );
}

#[test]
fn what_is_the_classes_is_not_the_templates() {
    for (field, value) in [
        ("tolerations", json!([{ "operator": "Exists" }])),
        ("priorityClassName", json!("high")),
        ("runtimeClassName", json!("kata")),
        ("hostUsers", json!(true)),
        ("terminationGracePeriodSeconds", json!(3600)),
        ("activeDeadlineSeconds", json!(1)),
        ("restartPolicy", json!("Always")),
    ] {
        refused(&restricted(), json!({ field: value }), &format!("`spec.template.spec.{field}`"));
    }
    let class = json!({ "nodeSelector": { "pool": "ci" } });
    refused(
        &class,
        json!({ "nodeSelector": { "pool": "prod" } }),
        "`spec.template.spec.nodeSelector[pool]`: the RunnerClass asks for `ci`",
    );
    let narrowed = wire(class, json!({ "nodeSelector": { "zone": "a", "pool": "ci" } }));
    assert_eq!(narrowed["nodeSelector"], json!({ "pool": "ci", "zone": "a" }));
}

#[test]
fn the_registration_is_out_of_reach() {
    let mount = |container: &str, mount: Value| json!({ "containers": [{ "name": container, "image": "a", "volumeMounts": [mount] }] });
    let stolen = json!({ "name": "sekisho-jit", "mountPath": "/x" });
    refused(
        &restricted(),
        mount("db", stolen.clone()),
        "`spec.template.spec.containers[db].volumeMounts[/x]`",
    );
    refused(
        &restricted(),
        mount("runner", stolen),
        "`spec.template.spec.containers[runner].volumeMounts[/x]`",
    );
    for path in
        ["/run", "/run/sekisho", "/run/sekisho/jit", "/run/sekisho/jit/jitconfig", "/var/run", "/"]
    {
        let over = json!({ "name": "work", "mountPath": path });
        refused(&restricted(), mount("runner", over), &format!("volumeMounts[{path}]"));
    }
    let volume = json!({ "volumes": [{ "name": "sekisho-jit", "emptyDir": {} }] });
    refused(&restricted(), volume, "`spec.template.spec.volumes[sekisho-jit]`");
    for name in [
        "ACTIONS_RUNNER_INPUT_JITCONFIG",
        "actions_runner_input_url",
        "SEKISHO_JIT",
        "RUNNER_MANUALLY_TRAP_SIG",
        "AWS_EC2_METADATA_DISABLED",
    ] {
        let env = json!({ "containers": [{ "name": "runner", "env": [{ "name": name, "value": "0" }] }] });
        refused(
            &restricted(),
            env,
            &format!("`spec.template.spec.containers[runner].env[{name}]`"),
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let error = try_pod(&restricted(), json!({ "hostNetwork": true, "serviceAccountName": "a" }));
    assert_eq!(
        error.unwrap_err().to_string(),
        "`spec.template.spec.hostNetwork`: no network policy applies to the node's network, so the job would \
         reach the cloud's credentials; `spec.template.spec.serviceAccountName`: a job has no identity in the \
         cluster: the gate takes the job's own OIDC token"
    );
}

#[test]
fn what_is_no_pod_is_told_with_its_field() {
    let error =
        try_pod(&restricted(), json!({ "containers": [{ "name": "runner", "imagee": "x" }] }));
    let error = error.unwrap_err();
    assert_eq!(error.reason(), Reason::TemplateInvalid);
    assert_eq!(
        error.to_string(),
        "`spec.template.spec.containers[runner].imagee`: a pod has no such field; check its spelling"
    );
    let error = try_pod(&restricted(), json!({ "containers": "none" })).unwrap_err();
    assert_eq!(error.reason(), Reason::TemplateInvalid);
    assert!(
        error.to_string().starts_with("`spec.template.spec.containers`: invalid type"),
        "{error}"
    );
    let patch = json!({ "containers": [{ "name": "runner", "$patch": "delete" }] });
    let error = try_pod(&restricted(), patch).unwrap_err();
    assert_eq!(error.reason(), Reason::TemplateInvalid);
}

#[test]
fn a_template_is_laid_over_by_name() {
    let pod = wire(
        json!({ "limits": { "cpu": "4", "memory": "8Gi" }, "requests": { "cpu": "2" } }),
        json!({
            "containers": [
                { "name": "runner", "image": "registry.example/own:2",
                  "env": [{ "name": "TEAM", "value": "pay" }],
                  "resources": { "limits": { "cpu": "8" } } },
                { "name": "db", "image": "registry.example/db:1" }
            ],
            "volumes": [{ "name": "work", "ephemeral": { "volumeClaimTemplate": { "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "50Gi" } } } } } }],
            "imagePullSecrets": [{ "name": "registry" }]
        }),
    );
    let runner = &pod["containers"][0];
    assert_eq!(runner["image"], "registry.example/own:2");
    assert_eq!(
        runner["resources"]["limits"],
        json!({ "cpu": "8", "ephemeral-storage": "32Gi", "memory": "8Gi" })
    );
    assert_eq!(runner["resources"]["requests"]["cpu"], "2");
    assert_eq!(runner["args"], json!(["/home/runner/run.sh"]));
    let team = runner["env"].as_array().unwrap().iter().find(|it| it["name"] == "TEAM").unwrap();
    assert_eq!(team["value"], "pay");
    assert_eq!(pod["containers"][1]["name"], "db");
    assert!(pod["volumes"][1]["ephemeral"].is_object(), "{}", pod["volumes"][1]);
    assert!(pod["volumes"][1]["emptyDir"].is_null());
    assert_eq!(pod["imagePullSecrets"][0]["name"], "registry");
}

/// The registration is read first, whatever is started.
#[test]
fn a_command_is_started_with_the_registration() {
    let args = |command: Value| {
        let pod = wire(restricted(), json!({ "containers": [command] }));
        assert_eq!(pod["containers"][0]["command"][0], "/bin/bash");
        pod["containers"][0]["args"].clone()
    };
    assert_eq!(
        args(json!({ "name": "runner", "command": ["/home/runner/run.sh"] })),
        json!(["/home/runner/run.sh"])
    );
    assert_eq!(
        args(json!({ "name": "runner", "command": ["/prepare.sh"], "args": ["-x"] })),
        json!(["/prepare.sh", "-x"])
    );
    assert_eq!(
        args(json!({ "name": "runner", "args": ["--once"] })),
        json!(["/home/runner/run.sh", "--once"])
    );
}

#[test]
fn labels_of_the_operator_are_not_the_templates() {
    let of = |key: &str| PodTemplate {
        metadata: Some(TemplateMetadata {
            labels: [(key.to_owned(), "x".to_owned())].into(),
            annotations: [("team".to_owned(), "pay".to_owned())].into(),
        }),
        spec: None,
    };
    let zone = TrustZone::PullRequest;
    let error = try_of(&restricted(), &of("runners.sekisho.dev/trust-zone"), zone).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`spec.template.metadata.labels[runners.sekisho.dev/trust-zone]`: pods are found by it: it is the operator's"
    );
    let pod = try_of(&restricted(), &of("team"), zone).unwrap();
    assert_eq!(pod.metadata.labels.unwrap()["team"], "x");
    assert_eq!(pod.metadata.annotations.unwrap()["team"], "pay");
}
