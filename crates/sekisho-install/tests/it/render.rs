//! What is rendered.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use sekisho_api::{SecurityProfile, TrustZone};
use sekisho_install::{Install, NamespaceError, RunnerNamespace, manifests};
use serde_json::{Value, json};

fn install() -> Install {
    Install {
        namespace: "plane".to_owned(),
        image: "registry.example/sekisho@sha256:00".to_owned(),
        replicas: 2,
        webhooks: false,
        node_profile: true,
        egress_ports: vec![],
        runners: vec![
            "ci-forks=fork-pull-request".parse().unwrap(),
            "ci-main=protected-branch:privileged".parse().unwrap(),
        ],
    }
}

fn all() -> Vec<Value> {
    manifests(&install()).unwrap()
}

fn of_kind(kind: &str) -> Vec<Value> {
    all().into_iter().filter(|manifest| manifest["kind"] == kind).collect()
}

fn name(manifest: &Value) -> String {
    let at = |field: &str| manifest["metadata"][field].as_str().map(str::to_owned);
    let name = at("name").unwrap();
    at("namespace").map_or(name.clone(), |namespace| format!("{namespace}/{name}"))
}

#[test]
fn everything_stands_in_what_came_before() {
    let kinds: Vec<String> =
        all().iter().map(|it| format!("{} {}", it["kind"].as_str().unwrap(), name(it))).collect();
    assert_eq!(
        kinds,
        [
            "Namespace plane",
            "Namespace ci-forks",
            "Namespace ci-main",
            "Namespace plane-nodes",
            "CustomResourceDefinition githubconnections.runners.sekisho.dev",
            "CustomResourceDefinition runnerclasses.runners.sekisho.dev",
            "CustomResourceDefinition runnerdeployments.runners.sekisho.dev",
            "CustomResourceDefinition runnerreplicasets.runners.sekisho.dev",
            "CustomResourceDefinition runners.runners.sekisho.dev",
            "ServiceAccount plane/sekisho-operator",
            "ClusterRole sekisho-operator:plane",
            "ClusterRoleBinding sekisho-operator:plane",
            "Role ci-forks/sekisho-operator",
            "RoleBinding ci-forks/sekisho-operator",
            "NetworkPolicy ci-forks/default-deny",
            "Role ci-main/sekisho-operator",
            "RoleBinding ci-main/sekisho-operator",
            "NetworkPolicy ci-main/default-deny",
            "NetworkPolicy plane/sekisho-operator",
            "Deployment plane/sekisho-operator",
            "PodDisruptionBudget plane/sekisho-operator",
            "NetworkPolicy plane-nodes/sekisho-node",
            "DaemonSet plane-nodes/sekisho-node",
        ]
    );
}

#[test]
fn namespaces_have_their_profile_and_their_zone() {
    let label = |namespace: &Value, key: &str| namespace["metadata"]["labels"][key].clone();
    let seen: Vec<(String, Value, Value)> = of_kind("Namespace")
        .iter()
        .map(|it| {
            (
                name(it),
                label(it, "pod-security.kubernetes.io/enforce"),
                label(it, "runners.sekisho.dev/trust-zone"),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("plane".to_owned(), json!("restricted"), Value::Null),
            ("ci-forks".to_owned(), json!("restricted"), json!("fork-pull-request")),
            ("ci-main".to_owned(), json!("privileged"), json!("protected-branch")),
            ("plane-nodes".to_owned(), json!("privileged"), Value::Null),
        ]
    );
}

/// What is granted where runners are: all of it, and the verbs in the order of the alphabet.
const IN_NAMESPACE: &[(&str, &str)] = &[
    ("githubconnections", "get list patch watch"),
    ("githubconnections/status", "patch update"),
    ("runnerdeployments", "get list patch watch"),
    ("runnerdeployments/finalizers", "update"),
    ("runnerdeployments/status", "patch update"),
    ("runnerreplicasets", "create delete get list patch watch"),
    ("runnerreplicasets/finalizers", "update"),
    ("runnerreplicasets/status", "patch update"),
    ("runners", "create delete get list patch watch"),
    ("runners/finalizers", "update"),
    ("runners/status", "patch update"),
    ("pods", "create delete get list watch"),
    ("secrets", "create delete get list watch"),
    ("networkpolicies", "create patch"),
    ("leases", "create delete get update"),
    ("events", "create"),
];

/// Every rule by name: nothing is granted by `*`, nothing is granted twice over the whole cluster.
#[test]
fn the_operator_may_do_what_it_needs() {
    let mut granted = BTreeSet::new();
    for role in [of_kind("Role"), of_kind("ClusterRole")].concat() {
        for rule in role["rules"].as_array().unwrap() {
            for part in ["apiGroups", "resources", "verbs"] {
                for word in rule[part].as_array().unwrap() {
                    assert!(!word.as_str().unwrap().contains('*'), "{rule}");
                }
            }
            let scope = role["metadata"]["namespace"].as_str().unwrap_or("*");
            for resource in rule["resources"].as_array().unwrap() {
                for verb in rule["verbs"].as_array().unwrap() {
                    let names = rule.get("resourceNames").map(Value::to_string).unwrap_or_default();
                    let (resource, verb) = (resource.as_str().unwrap(), verb.as_str().unwrap());
                    granted.insert(format!("{scope} {verb} {resource}{names}"));
                }
            }
        }
    }
    let of_cluster: Vec<&str> =
        granted.iter().filter(|it| it.starts_with('*')).map(String::as_str).collect();
    assert_eq!(
        of_cluster,
        [
            "* get namespaces",
            "* get nodes",
            "* get runnerclasses",
            "* list namespaces",
            "* list nodes",
            "* list runnerclasses",
            "* watch namespaces",
            "* watch nodes",
            "* watch runnerclasses",
        ]
    );
    let in_namespace: Vec<&str> =
        granted.iter().filter_map(|it| it.strip_prefix("ci-forks ")).collect();
    let wanted: BTreeSet<String> = IN_NAMESPACE
        .iter()
        .flat_map(|(resource, verbs)| {
            verbs.split(' ').map(move |verb| format!("{verb} {resource}"))
        })
        .collect();
    assert_eq!(in_namespace, wanted.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(
        !granted.iter().any(|it| it.starts_with("plane ")),
        "its own namespace needs no rights"
    );
    for never in [
        "roles",
        "rolebindings",
        "serviceaccounts",
        "customresourcedefinitions",
        "pods/exec",
        "pods/log",
        "serviceaccounts/token",
        "deployments",
    ] {
        assert!(!granted.iter().any(|it| it.ends_with(&format!(" {never}"))), "{never}");
    }
    assert!(!granted.contains("ci-forks delete githubconnections"));
    assert!(!granted.contains("ci-forks create runnerdeployments"));
}

/// As the operator hardens others.
#[test]
fn the_operator_is_restricted() {
    let deployments = of_kind("Deployment");
    let deployment: Deployment = serde_json::from_value(deployments[0].clone()).unwrap();
    let spec = deployment.spec;
    assert_eq!(spec.replicas, Some(2));
    let pod = spec.template.spec.unwrap();
    let context = pod.security_context.unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(context.seccomp_profile.unwrap().type_, "RuntimeDefault");
    assert_eq!(pod.containers.len(), 1);
    let container = &pod.containers[0];
    let context = container.security_context.clone().unwrap();
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(context.read_only_root_filesystem, Some(true));
    assert_eq!(context.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    assert_eq!(
        container.args.as_deref().unwrap(),
        ["operator", "run", "--listen=0.0.0.0:8080", "--namespace=ci-forks", "--namespace=ci-main"]
    );
    assert_eq!(container.image.as_deref(), Some("registry.example/sekisho@sha256:00"));
    let probe = |probe: &Option<k8s_openapi::api::core::v1::Probe>| {
        probe.clone().unwrap().http_get.unwrap().path.unwrap()
    };
    assert_eq!(probe(&container.liveness_probe), "/livez");
    assert_eq!(probe(&container.readiness_probe), "/readyz");
}

/// Every field is one that Kubernetes has: read into its type, nothing is lost.
#[test]
fn nothing_is_misspelled() {
    use k8s_openapi::api::{
        core::v1 as core, networking::v1 as net, policy::v1 as policy, rbac::v1 as rbac,
    };
    #[track_caller]
    fn check<T: serde::Serialize + serde::de::DeserializeOwned>(manifest: &Value) {
        let read: T = serde_json::from_value(manifest.clone()).unwrap();
        assert_eq!(&serde_json::to_value(read).unwrap(), manifest);
    }
    for manifest in &all() {
        match manifest["kind"].as_str().unwrap() {
            "Namespace" => check::<core::Namespace>(manifest),
            "ServiceAccount" => check::<core::ServiceAccount>(manifest),
            "Role" => check::<rbac::Role>(manifest),
            "RoleBinding" => check::<rbac::RoleBinding>(manifest),
            "ClusterRole" => check::<rbac::ClusterRole>(manifest),
            "ClusterRoleBinding" => check::<rbac::ClusterRoleBinding>(manifest),
            "NetworkPolicy" => check::<net::NetworkPolicy>(manifest),
            "PodDisruptionBudget" => check::<policy::PodDisruptionBudget>(manifest),
            "Deployment" => check::<Deployment>(manifest),
            "DaemonSet" => check::<DaemonSet>(manifest),
            "CustomResourceDefinition" => {}
            kind => panic!("{kind}"),
        }
    }
}

#[test]
fn the_cloud_gives_the_operator_nothing() {
    let policies = of_kind("NetworkPolicy");
    let policy = policies.iter().find(|it| name(it) == "plane/sekisho-operator").unwrap();
    let blocks = policy["spec"]["egress"][1]["to"].as_array().unwrap();
    assert_eq!(blocks[0]["ipBlock"]["except"][0], "169.254.0.0/16");
    assert!(blocks[1]["ipBlock"]["except"].as_array().unwrap().contains(&json!("fd00:ec2::/32")));
    for namespace in ["ci-forks", "ci-main"] {
        let deny =
            policies.iter().find(|it| name(it) == format!("{namespace}/default-deny")).unwrap();
        assert_eq!(
            deny["spec"],
            json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] })
        );
    }
}

#[test]
fn one_operator_has_no_budget_that_blocks_every_drain() {
    let one = manifests(&Install { replicas: 1, ..install() }).unwrap();
    assert!(!one.iter().any(|it| it["kind"] == "PodDisruptionBudget"));
}

#[test]
fn a_namespace_is_for_one_thing() {
    assert_eq!(sekisho_install::check(&install()), Ok(()));
    for twice in ["plane", "plane-nodes", "ci-main"] {
        let mut install = install();
        install.runners.push(twice.parse().unwrap());
        let error = sekisho_install::check(&install);
        assert_eq!(error, Err(NamespaceError::Twice(twice.to_owned())));
    }
}

#[test]
fn a_namespace_of_runners_is_read() {
    let read = |text: &str| text.parse::<RunnerNamespace>();
    assert_eq!(
        read("ci").unwrap(),
        RunnerNamespace {
            name: "ci".to_owned(),
            zone: TrustZone::PullRequest,
            profile: SecurityProfile::Restricted
        }
    );
    assert_eq!(read("ci=").unwrap(), read("ci").unwrap());
    assert_eq!(read("a=pull-request:baseline").unwrap().profile, SecurityProfile::Baseline);
    assert_eq!(read("Ci"), Err(NamespaceError::Name("Ci".to_owned())));
    assert_eq!(read("-a=x"), Err(NamespaceError::Name("-a".to_owned())));
    assert_eq!(read("ci=main"), Err(NamespaceError::Zone("main".to_owned())));
    assert_eq!(
        read("ci=pull-request:root").unwrap_err().to_string(),
        "`root` is no security profile: restricted, baseline or privileged"
    );
}

/// Nothing of it stands without being asked for: see `everything_stands_in_what_came_before`.
#[test]
fn webhooks_have_a_service_and_a_port_that_the_network_may_reach() {
    let all = manifests(&Install { webhooks: true, ..install() }).unwrap();
    let of = |kind: &str, wanted: &str| {
        all.iter().find(|it| it["kind"] == kind && name(it) == wanted).unwrap()
    };
    let service = of("Service", "plane/sekisho-operator-webhooks");
    let read: k8s_openapi::api::core::v1::Service =
        serde_json::from_value(service.clone()).unwrap();
    assert_eq!(&serde_json::to_value(read).unwrap(), service, "nothing is misspelled");
    let deployment = of("Deployment", "plane/sekisho-operator");
    assert_eq!(service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]);
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"][3], "--webhooks=0.0.0.0:8081");
    let port = &container["ports"][1];
    assert_eq!((&port["name"], &port["containerPort"]), (&json!("webhooks"), &json!(8081)));
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "webhooks");
    let policy = of("NetworkPolicy", "plane/sekisho-operator");
    let opened = &policy["spec"]["ingress"][1];
    assert_eq!(opened, &json!({ "ports": [{ "protocol": "TCP", "port": 8081 }] }));
}

/// Who writes a file of the node has nothing else: no account, no network, no right of root but to own it.
#[test]
fn who_places_the_profile_of_the_nodes_can_do_nothing_else() {
    let set: DaemonSet = serde_json::from_value(of_kind("DaemonSet")[0].clone()).unwrap();
    let pod = set.spec.template.spec.unwrap();
    assert_eq!(pod.automount_service_account_token, Some(false));
    assert_eq!((pod.service_account_name, pod.host_network, pod.host_pid), (None, None, None));
    assert_eq!(pod.containers.len(), 1);
    let container = &pod.containers[0];
    assert_eq!(container.args.as_deref().unwrap(), ["operator", "profile", "--place=/profiles"]);
    let context = container.security_context.clone().unwrap();
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!((context.privileged, context.read_only_root_filesystem), (None, Some(true)));
    let capabilities = context.capabilities.unwrap();
    assert_eq!((capabilities.add, capabilities.drop.unwrap()), (None, vec!["ALL".to_owned()]));
    let volumes = pod.volumes.unwrap();
    assert_eq!(volumes.len(), 1);
    let path = &volumes[0].host_path.as_ref().unwrap().path;
    assert_eq!(path, "/var/lib/kubelet/seccomp/sekisho");
    let tolerations = pod.tolerations.unwrap();
    assert_eq!(
        (tolerations[0].operator.as_deref(), tolerations[0].key.as_ref()),
        (Some("Exists"), None)
    );
    let policies = of_kind("NetworkPolicy");
    let policy = policies.iter().find(|it| name(it) == "plane-nodes/sekisho-node").unwrap();
    assert_eq!(policy["spec"], json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }));
    let without = manifests(&Install { node_profile: false, ..install() }).unwrap();
    assert!(!without.iter().any(|it| name(it).starts_with("plane-nodes")));
}

/// Where classes look for it is where it is placed; and it lets namespaces and mounts be made.
#[test]
fn the_classes_name_the_profile_that_is_placed() {
    let (folder, file) = sekisho_install::SECCOMP_PROFILE.split_once('/').unwrap();
    assert_eq!((folder, file), ("sekisho", "rootless.json"));
    for class in sekisho_install::classes() {
        let named = &class["spec"]["security"]["localhostSeccompProfile"];
        assert_eq!(named, sekisho_install::SECCOMP_PROFILE);
    }
    let profile = sekisho_install::seccomp_profile();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ALLOW");
    let refused = profile["syscalls"][0]["names"].as_array().unwrap();
    for needed in ["clone", "clone3", "unshare", "mount", "umount2", "pivot_root", "setns"] {
        assert!(!refused.contains(&json!(needed)), "{needed}");
    }
    for never in ["bpf", "init_module", "kexec_load", "keyctl", "io_uring_setup", "perf_event_open"]
    {
        assert!(refused.contains(&json!(never)), "{never}");
    }
}

#[test]
fn a_proxy_has_its_port() {
    let all = manifests(&Install { egress_ports: vec![3128], ..install() }).unwrap();
    let policy =
        all.iter().find(|it| it["kind"] == "NetworkPolicy" && name(it) == "plane/sekisho-operator");
    let ports = policy.unwrap()["spec"]["egress"][1]["ports"].as_array().unwrap();
    let ports: Vec<u64> = ports.iter().map(|it| it["port"].as_u64().unwrap()).collect();
    assert_eq!(ports, [443, 6443, 3128]);
}
