//! What the operator does for a runner's safety, beside what stands in its pod.

use std::collections::BTreeSet;
use std::sync::{Mutex, Once, PoisonError};

use base64::Engine as _;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use sekisho_api::{GitHubConnection, Runner, RunnerDeployment, RunnerReplicaSet};
use serde_json::{Value, json};
use tracing_subscriber::filter::LevelFilter;

use crate::world::{ADMIN, Server, World, until};

scenarios![
    the_registrations_secret_is_gone_as_soon_as_the_runner_is_online,
    credentials_are_in_their_secrets_and_nowhere_else,
    runners_are_shielded_from_the_network_before_they_are_there,
    what_is_deleted_is_what_was_seen,
];

async fn the_registrations_secret_is_gone_as_soon_as_the_runner_is_online(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 1, "max": 2, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let secrets = || async {
        let all = world.list::<Secret>().await;
        (all.len() == 1 && all[0].name_any() == "github").then_some(())
    };
    until("no secret while it waits for a job", secrets).await;
    assert_eq!(world.registered().await.len(), 1);
    world.push(1).await;
    world.begun(1).await;
    until("no secret while it has a job", secrets).await;
    assert_eq!(world.list::<Pod>().await.len(), 1, "its pod runs on");
    operator.shutdown().await;
}

/// The pod's `hostUsers`, where both nodes have a runtime that can, or not, map ids.
async fn host_users(can: [bool; 2]) -> Option<bool> {
    let world = World::new(&Server::double(), |_| ()).await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    for (name, can) in ["node-a", "node-b"].into_iter().zip(can) {
        let handler = json!({ "name": "", "features": { "userNamespaces": can } });
        let status = Patch::Merge(json!({ "status": { "runtimeHandlers": [handler] } }));
        nodes.patch_status(name, &PatchParams::default(), &status).await.unwrap();
    }
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    let pods = world.list::<Pod>().await;
    operator.shutdown().await;
    pods[0].spec.as_ref().unwrap().host_users
}

/// A pod that asks for what its node cannot do never starts, and no status says why.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_ids_of_its_own_where_all_nodes_can_map_them() {
    assert_eq!(host_users([true, true]).await, Some(false));
    assert_eq!(host_users([true, false]).await, None);
}

/// All that the process logs, of any scenario that runs meanwhile.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> String {
    String::from_utf8_lossy(&LOG.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

fn follow_the_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let log = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE);
        log.with_ansi(false).with_writer(|| Log).init();
    });
}

/// All objects of the namespace but secrets, as text.
async fn everything(world: &World) -> String {
    let kinds = [
        ApiResource::erase::<GitHubConnection>(&()),
        ApiResource::erase::<RunnerDeployment>(&()),
        ApiResource::erase::<RunnerReplicaSet>(&()),
        ApiResource::erase::<Runner>(&()),
        ApiResource::erase::<Pod>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<k8s_openapi::api::coordination::v1::Lease>(&()),
        ApiResource::erase::<k8s_openapi::api::events::v1::Event>(&()),
        ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&()),
    ];
    let mut text = String::new();
    for kind in kinds {
        let api: Api<DynamicObject> =
            Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
        text.push_str(&json!(api.list(&ListParams::default()).await.unwrap()).to_string());
    }
    text
}

/// What nobody else may read: the registration whole, and what it is made of.
fn secrets_of(jit: &str) -> Vec<String> {
    let bytes = base64::prelude::BASE64_STANDARD.decode(jit).unwrap();
    let files: std::collections::BTreeMap<String, String> = serde_json::from_slice(&bytes).unwrap();
    assert!(files.len() >= 3, "settings, credentials, key");
    let whole = [jit.to_owned(), base64::prelude::BASE64_STANDARD.encode(jit)];
    whole.into_iter().chain(files.into_values()).collect()
}

async fn credentials_are_in_their_secrets_and_nowhere_else(server: Server) {
    follow_the_log();
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 1, "max": 2, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    world.says("AllRunnersReady").await;
    world.push(1).await;
    world.begun(1).await;
    let mut seen = everything(&world).await;
    // A runner that is lost, and told of.
    let pods = world.api::<Pod>();
    for pod in world.list::<Pod>().await {
        let at_once = kube::api::DeleteParams::default().grace_period(0);
        pods.delete(&pod.name_any(), &at_once).await.unwrap();
    }
    world.runners.ends.add_permits(1);
    let lost = until("a loss that is told", || async {
        let now = everything(&world).await;
        now.contains("PodLost").then_some(now)
    });
    seen.push_str(&lost.await);
    seen.push_str(&operator.metrics());
    let jits = world.runners.jits();
    assert!(!jits.is_empty());
    assert!(log().contains("the operator is ready"), "the log is followed");
    let text = [("an object", seen), ("the log", log())];
    for secret in jits.iter().flat_map(|jit| secrets_of(jit)).chain([ADMIN.to_owned()]) {
        for (place, text) in &text {
            assert!(!text.contains(&secret), "{place} has a credential");
        }
    }
    operator.shutdown().await;
}

async fn runners_are_shielded_from_the_network_before_they_are_there(server: Server) {
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "replicas": 1 })).await;
    let operator = world.operator("one").await;
    // Looked at in this order: what is there when a pod is seen was there before it.
    let pod = until("a pod", || async { world.list::<Pod>().await.pop() }).await;
    let policies = world.list::<NetworkPolicy>().await;
    let mut closed = BTreeSet::new();
    for policy in &policies {
        let spec = policy.spec.clone().unwrap();
        let wanted = spec.pod_selector.unwrap_or_default().match_labels.unwrap_or_default();
        if wanted.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
            && policy.labels().contains_key(sekisho_api::LABEL_DEPLOYMENT)
        {
            closed.extend(spec.policy_types.unwrap_or_default());
        }
    }
    assert_eq!(closed.into_iter().collect::<Vec<_>>(), ["Egress", "Ingress"], "{policies:?}");
    operator.shutdown().await;
}

async fn what_is_deleted_is_what_was_seen(server: Server) {
    let Server::Double(api) = &server else { return };
    let world = World::new(&server, |_| ()).await;
    world.set(json!({ "scaling": { "min": 1, "max": 5, "scaleDownDelaySeconds": 0 } })).await;
    let operator = world.operator("one").await;
    let run = world.push(3).await;
    world.runners.ends.add_permits(3);
    assert_eq!(world.conclusion(run).await, "success");
    world.says("AllRunnersReady").await;
    operator.shutdown().await;
    let calls = api.calls();
    let deleted = calls.iter().filter(|it| it.client == "one" && it.verb == testkit::Verb::Delete);
    let mut pods = 0;
    for call in deleted {
        assert!(call.preconditions.contains(&"uid".to_owned()), "{call:?}");
        if call.resource == "pods" {
            pods += 1;
            assert!(call.preconditions.contains(&"resourceVersion".to_owned()), "{call:?}");
        }
    }
    assert!(pods >= 3, "{pods} pods were deleted");
}

/// Pod Security Admission, of which the double has nothing: in a namespace as it is rendered, what a class
/// makes is taken, and what its profile forbids is refused, by the API server itself.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_pods_are_held_to_the_profile_of_their_namespace() {
    let Some(real) = testkit::RealServer::start().await.unwrap() else { return };
    let client = real.client().unwrap();
    for profile in ["restricted", "baseline", "privileged"] {
        let runners = format!("ci-{profile}=pull-request:{profile}").parse().unwrap();
        let install = sekisho_install::Install {
            namespace: "plane".to_owned(),
            image: "registry.example/sekisho:1".to_owned(),
            replicas: 2,
            webhooks: false,
            node_profile: true,
            egress_ports: Vec::new(),
            runners: vec![runners],
        };
        let manifests = sekisho_install::manifests(&install).unwrap();
        let namespace =
            manifests.iter().find(|it| it["metadata"]["name"] == format!("ci-{profile}"));
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(namespace.unwrap().clone()).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    }
    let every = ["restricted", "baseline", "privileged"];
    let all = [
        (class("Rootless", "Restricted"), every.as_slice()),
        (class("None", "Restricted"), &every),
        (class("BuildKit", "Privileged"), &["privileged"]),
        (class("DockerSidecar", "Privileged"), &["privileged"]),
    ];
    for (class, accepted) in all {
        for profile in every {
            let taken = create(&client, &class, profile, json!({})).await;
            assert_eq!(
                taken.is_ok(),
                accepted.contains(&profile),
                "{class} in {profile}: {taken:?}"
            );
        }
    }
    // The classes that are shipped, each with the profile that images are built under.
    for class in sekisho_install::classes() {
        let class = &class["spec"];
        assert_eq!(class["security"]["localhostSeccompProfile"], sekisho_install::SECCOMP_PROFILE);
        assert_eq!(create(&client, class, "restricted", json!({})).await, Ok(()), "{class}");
    }
    // A control that is taken away by hand: the API server sees it too.
    for (name, without) in [
        ("runAsNonRoot", json!({ "securityContext": { "runAsNonRoot": false } })),
        ("seccomp", json!({ "securityContext": { "seccompProfile": { "type": "Unconfined" } } })),
        ("hostNetwork", json!({ "hostNetwork": true, "hostUsers": true })),
    ] {
        let error =
            create(&client, &class("None", "Restricted"), "restricted", without).await.unwrap_err();
        assert!(error.contains("violates PodSecurity \"restricted"), "{name}: {error}");
    }
}

fn class(mode: &str, profile: &str) -> Value {
    json!({ "container": { "mode": mode }, "security": { "profile": profile } })
}

/// Creates a runner's pod of a class, changed so: the API server's words where it refuses.
async fn create(
    client: &Client,
    class: &Value,
    profile: &str,
    change: Value,
) -> Result<(), String> {
    let namespace = format!("ci-{profile}");
    let runner = json!({
        "deployment": "gpu", "connectionRef": "acme", "classRef": "default", "mode": "ScaleSet",
        "group": "Default", "labels": ["gpu"], "trustZone": "PullRequest"
    });
    let pod = sekisho_pods::pod(&sekisho_pods::RunnerPod {
        name: "tried",
        namespace: &namespace,
        uid: "11111111-2222-3333-4444-555555555555",
        revision: "7c9f",
        spec: &serde_json::from_value(runner).unwrap(),
        class: &serde_json::from_value(class.clone()).unwrap(),
        template: &sekisho_api::PodTemplate::default(),
        cluster: sekisho_pods::Cluster::of_version("1", "34"),
        reach: sekisho_pods::Reach::default(),
    })
    .unwrap();
    let mut pod = json!(pod);
    for (field, value) in change.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(fields) => {
                for (name, value) in fields {
                    pod["spec"][field][name] = value.clone();
                }
            }
            None => pod["spec"][field] = value.clone(),
        }
    }
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let tried = PostParams { dry_run: true, ..Default::default() };
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    match api.create(&tried, &pod).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 403 => Err(status.message.clone()),
        Err(other) => panic!("{other}"),
    }
}
