//! A runner of a cluster that can reach GitHub by a proxy alone, which asks for a password, and that trusts
//! it by a private authority alone: what its connection says is all that it is told.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, Client, ResourceExt as _};
use peers::{Front, PROXY_CREDENTIALS, Proxy, WALLED};
use sekisho_api::{GitHubConnection, RunnerClass, RunnerDeployment};
use serde_json::json;
use testkit::{ApiServer, Cluster, ClusterOptions, Containers, Ending, PodRun};

use crate::cluster::{ADMIN, GitHub, kubeconfig, until};
use crate::operator::{create, namespaced};
use crate::support::{Started, World};

/// Sekisho's own runner, as a process with the files and the environment of its container.
struct Runners {
    folder: PathBuf,
    /// What it said at last.
    said: Arc<Mutex<String>>,
}

/// What a container sees at this path.
fn below(folder: &Path, path: &str) -> PathBuf {
    folder.join(path.trim_start_matches('/'))
}

async fn run(folder: PathBuf, run: PodRun) -> std::io::Result<std::process::Output> {
    for (path, bytes) in &run.files {
        let path = below(&folder, path);
        fs_err::create_dir_all(path.parent().unwrap())?;
        fs_err::write(path, bytes)?;
    }
    let home = below(&folder, "/home/runner");
    fs_err::create_dir_all(&home)?;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sekisho"));
    command.args(["runner", "run"]).current_dir(&home).kill_on_drop(true).env_clear();
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
    for (name, value) in &run.env {
        let own = ["/run/sekisho/", "/home/runner"].iter().any(|it| value.starts_with(it));
        if own {
            command.env(name, below(&folder, value));
        } else {
            command.env(name, value);
        }
    }
    command.output().await
}

impl Containers for Runners {
    fn run(&self, pod: PodRun) -> Pin<Box<dyn Future<Output = Ending> + Send>> {
        let (folder, said) = (self.folder.join(pod.pod.name_any()), Arc::clone(&self.said));
        Box::pin(async move {
            let output = run(folder, pod).await.unwrap();
            *said.lock().unwrap() = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            Ending::Exit(output.status.code().unwrap_or(137))
        })
    }
}

/// Namespace, class, credentials, connection and deployment.
async fn furnish(client: &Client, front: &Front, proxy: &Proxy) {
    let version = "runners.sekisho.dev/v1alpha1";
    create::<Namespace>(Api::all(client.clone()), json!({ "metadata": { "name": "ci" } })).await;
    let own = json!({ "flavor": "Sekisho", "image": "registry.example/runner:1" });
    let class = json!({
        "apiVersion": version, "kind": "RunnerClass", "metadata": { "name": "default" },
        "spec": { "runner": own }
    });
    create::<RunnerClass>(Api::all(client.clone()), class).await;
    let secret = json!({
        "metadata": { "name": "github" },
        "stringData": { "token": ADMIN, "proxy": PROXY_CREDENTIALS }
    });
    create::<Secret>(namespaced(client, "ci"), secret).await;
    let key = |key: &str| json!({ "name": "github", "key": key });
    let connection = json!({
        "apiVersion": version, "kind": "GitHubConnection", "metadata": { "name": "acme" },
        "spec": {
            "url": format!("https://{WALLED}/acme"),
            "auth": { "token": { "secretRef": key("token") } },
            "caBundle": front.authority,
            "proxy": {
                "url": format!("http://{}", proxy.address), "credentialsSecretRef": key("proxy")
            }
        }
    });
    create::<GitHubConnection>(namespaced(client, "ci"), connection).await;
    let deployment = json!({
        "apiVersion": version, "kind": "RunnerDeployment", "metadata": { "name": "gpu" },
        "spec": {
            "connectionRef": "acme", "classRef": "default", "labels": ["gpu"],
            "scaling": { "min": 0, "max": 1, "scaleDownDelaySeconds": 0 }
        }
    });
    create::<RunnerDeployment>(namespaced(client, "ci"), deployment).await;
}

const JOB: &str =
    "on: push\njobs:\n  far: { runs-on: gpu, steps: [{ run: 'echo over the wall' }] }\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_gets_the_proxy_and_the_authority_of_its_connection() {
    // Another test may have done so.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = World::new();
    let github =
        GitHub::start(&world, |config| config.base_url = format!("https://{WALLED}")).await;
    let front = Front::to(github.url.strip_prefix("http://").unwrap().parse().unwrap()).await;
    let front = front.unwrap();
    let proxy = Proxy::to(front.address).await.unwrap();

    let api = ApiServer::new();
    let served = api.serve("operator").await.unwrap();
    let client = api.client("test");
    let said = Arc::new(Mutex::new(String::new()));
    let folder = world.folder.path().join("pods");
    let containers = Arc::new(Runners { folder, said: Arc::clone(&said) });
    let cluster = Cluster::start(api.client("cluster"), ClusterOptions::default(), containers);
    let _cluster = cluster.await.unwrap();

    furnish(&client, &front, &proxy).await;
    let kubeconfig = kubeconfig(&world, "kubeconfig", &served.url(), &json!({}));
    let mut command = world.command(&["operator", "run", "--namespace", "ci"]);
    let operator = Started::new(command.env("KUBECONFIG", &kubeconfig));

    let page = github.push(&world, JOB).await;
    let run = page.rsplit('/').next().unwrap();
    let conclusion = until("the end of the run", async || {
        let run = github.get(&format!("/_hub/v1/runs/{run}")).await;
        run["conclusion"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(conclusion, "success", "{}", said.lock().unwrap());
    proxy.assert_asked_for_the_walled_alone();
    drop(operator);
}
