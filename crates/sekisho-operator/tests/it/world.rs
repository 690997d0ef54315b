//! A hub, an API server (the double, or a real one), a cluster to play on it, and operators.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use sekisho_api::{
    GitHubConnection, Runner, RunnerClass, RunnerDeployment, RunnerReplicaSet, condition,
};
use sekisho_hub::{Config, Hub};
use sekisho_operator::{Operator, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{ApiServer, Cluster, ClusterOptions, Containers, Ending, PodRun, RealServer};
use tokio::sync::Semaphore;

use crate::played::{self, Failure};

const ADMIN: &str = "admin-token-of-the-test";
pub(crate) const NAMESPACE: &str = "ci";
/// How long anything may take; far longer than it does, and than the deadline of a registration (180 s),
/// after which a runner that got none is replaced.
const PATIENCE: Duration = Duration::from_secs(300);

/// GitHub's runner, as far as its requests go.
pub(crate) struct Runners {
    /// A job ends when it gets a permit.
    pub(crate) ends: Semaphore,
    /// How many jobs were begun.
    pub(crate) begun: AtomicUsize,
    pub(crate) unpullable: std::sync::atomic::AtomicBool,
}

impl Containers for Played {
    fn pull(&self, _: &Pod) -> Result<(), String> {
        match self.0.unpullable.load(Ordering::SeqCst) {
            true => Err("no such image".to_owned()),
            false => Ok(()),
        }
    }

    fn run(&self, run: PodRun) -> std::pin::Pin<Box<dyn Future<Output = Ending> + Send>> {
        let runners = Arc::clone(&self.0);
        Box::pin(async move {
            match runners.work(run).await {
                Ok(()) => Ending::Exit(0),
                Err(_) => Ending::Exit(1),
            }
        })
    }
}

pub(crate) struct Played(pub(crate) Arc<Runners>);

impl Runners {
    async fn work(&self, run: PodRun) -> Result<(), Failure> {
        let steps = |_: String| async {
            self.begun.fetch_add(1, Ordering::SeqCst);
            self.ends.acquire().await?.forget();
            Ok(())
        };
        played::work(&run, std::future::ready(()), steps).await.map(drop)
    }
}

pub(crate) struct World {
    pub(crate) hub: Arc<Hub>,
    pub(crate) url: String,
    pub(crate) api: Option<ApiServer>,
    pub(crate) client: Client,
    pub(crate) cluster: Cluster,
    pub(crate) runners: Arc<Runners>,
    _real: Option<RealServer>,
    dir: TempDir,
    http: reqwest::Client,
    pushes: AtomicUsize,
}

impl World {
    /// On the double.
    pub(crate) async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let api = ApiServer::new();
        Self::on(api.client("test"), api.client("cluster"), Some(api), None, change).await
    }

    /// On a real API server, if there is one.
    pub(crate) async fn real() -> Option<Self> {
        let real = RealServer::start().await.unwrap()?;
        let clients = (real.client().unwrap(), real.client().unwrap());
        Some(Self::on(clients.0, clients.1, None, Some(real), |_| ()).await)
    }

    async fn on(
        client: Client,
        cluster: Client,
        api: Option<ApiServer>,
        real: Option<RealServer>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut config = Config::new(dir.path().join("hub"), &url, ADMIN.to_owned().into());
        config.fault_switches = true;
        change(&mut config);
        let hub = Arc::new(Hub::open(config).unwrap());
        let router = hub.router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let runners = Arc::new(Runners {
            ends: Semaphore::new(0),
            begun: AtomicUsize::new(0),
            unpullable: false.into(),
        });
        let played = Arc::new(Played(Arc::clone(&runners)));
        let cluster = Cluster::start(cluster, ClusterOptions::default(), played).await.unwrap();
        let http = sekisho_github::http::ClientOptions::default()
            .client(&[&url.parse().unwrap()])
            .unwrap();
        let pushes = AtomicUsize::new(0);
        let world =
            Self { hub, url, api, client, cluster, runners, _real: real, dir, http, pushes };
        world.create_all::<Namespace>(json!({ "metadata": { "name": NAMESPACE } })).await;
        world
            .create_all::<RunnerClass>(json!({
                "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "RunnerClass",
                "metadata": { "name": "default" }, "spec": {}
            }))
            .await;
        world
    }

    async fn create_all<K>(&self, object: Value)
    where
        K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).unwrap();
        Api::all(self.client.clone()).create(&PostParams::default(), &object).await.unwrap();
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    pub(crate) async fn secret(&self) {
        self.create::<Secret>(
            json!({ "metadata": { "name": "github" }, "stringData": { "token": ADMIN } }),
        )
        .await;
    }

    /// A connection, its secret, and a deployment with this spec laid over the default.
    pub(crate) async fn set(&self, spec: Value) {
        self.secret().await;
        self.connection().await;
        self.deployment(spec).await;
    }

    pub(crate) async fn connection(&self) {
        self.create::<GitHubConnection>(json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "GitHubConnection",
            "metadata": { "name": "acme" },
            "spec": { "url": format!("{}/acme", self.url), "auth": { "token": { "secretRef": { "name": "github", "key": "token" } } } }
        })).await;
    }

    pub(crate) async fn deployment(&self, spec: Value) {
        let mut all = json!({
            "connectionRef": "acme", "classRef": "default", "group": "Default", "labels": ["gpu"],
            "acquisition": { "mode": "ScaleSet" }, "trustZone": "PullRequest"
        });
        for (name, value) in spec.as_object().unwrap() {
            all[name] = value.clone();
        }
        self.create::<RunnerDeployment>(json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "RunnerDeployment",
            "metadata": { "name": "gpu" }, "spec": all
        }))
        .await;
    }

    pub(crate) async fn operator(&self, identity: &str) -> Operator {
        let client = match &self.api {
            Some(api) => api.client(identity),
            None => self.client.clone(),
        };
        let mut settings = Settings::new(identity);
        settings.admin = Some(([127, 0, 0, 1], 0).into());
        Operator::start(client, settings).await.unwrap()
    }

    /// Pushes a workflow with so many jobs for the set; the number of its run.
    pub(crate) async fn push(&self, jobs: usize) -> u64 {
        let path =
            self.dir.path().join(format!("push-{}", self.pushes.fetch_add(1, Ordering::SeqCst)));
        let mut text = "name: gpu\non: push\njobs:\n".to_owned();
        for number in 0..jobs {
            text.push_str(&format!(
                "  job{number}:\n    runs-on: gpu\n    steps: [{{ run: echo {number} }}]\n"
            ));
        }
        let (home, remote) = (
            self.dir.path().to_owned(),
            format!("{}/acme/app{}", self.url, path.file_name().unwrap().display()),
        );
        let repository = remote.strip_prefix(&format!("{}/", self.url)).unwrap().to_owned();
        let sha = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(path.join(".github/workflows")).unwrap();
            std::fs::write(path.join(".github/workflows/gpu.yml"), text).unwrap();
            let git = |args: &[&str]| {
                let output = Command::new("git")
                    .current_dir(&path)
                    .args(args)
                    .env_clear()
                    .env("PATH", sekisho_hub::DEFAULT_SEARCH_PATH)
                    .env("HOME", &home)
                    .env("GIT_CONFIG_NOSYSTEM", "1")
                    .env("GIT_TERMINAL_PROMPT", "0")
                    .env("GIT_AUTHOR_NAME", "A")
                    .env("GIT_AUTHOR_EMAIL", "a@example.com")
                    .env("GIT_COMMITTER_NAME", "C")
                    .env("GIT_COMMITTER_EMAIL", "c@example.com")
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                String::from_utf8(output.stdout).unwrap()
            };
            git(&["init", "--quiet", "--initial-branch=main"]);
            git(&["add", "--all"]);
            git(&["commit", "--quiet", "--message=change"]);
            git(&["push", "--quiet", &remote, "main"]);
            git(&["rev-parse", "HEAD"]).trim().to_owned()
        })
        .await
        .unwrap();
        let pushed = self.get(&format!("/_hub/v1/pushes?repository={repository}&sha={sha}")).await;
        pushed["runs"][0].as_u64().unwrap_or_else(|| panic!("{pushed}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(ADMIN);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Waits until a run is over, and gives its conclusion.
    pub(crate) async fn conclusion(&self, run: u64) -> String {
        until("the end of a run", || async {
            let run = self.get(&format!("/_hub/v1/runs/{run}")).await;
            run["conclusion"].as_str().map(str::to_owned)
        })
        .await
    }

    /// Names of the registrations at GitHub.
    pub(crate) async fn registered(&self) -> Vec<String> {
        let list = self.get("/api/v3/orgs/acme/actions/runners").await;
        let all = list["runners"].as_array().unwrap();
        all.iter().map(|runner| runner["name"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn list<K>(&self) -> Vec<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        self.api::<K>().list(&ListParams::default()).await.unwrap().items
    }

    /// Waits until there are so many jobs under way.
    pub(crate) async fn begun(&self, count: usize) {
        until("jobs that begin", || async {
            (self.runners.begun.load(Ordering::SeqCst) >= count).then_some(())
        })
        .await;
    }

    /// Waits until nothing is left of any runner, on either side.
    pub(crate) async fn clean(&self) {
        until("nothing that is left", || async {
            let left = self.list::<Runner>().await.len()
                + self.list::<Pod>().await.len()
                + self.list::<Secret>().await.iter().filter(|it| it.name_any() != "github").count()
                + self.registered().await.len();
            (left == 0).then_some(())
        })
        .await;
    }

    /// Waits until the deployment says so.
    pub(crate) async fn says(&self, reason: &str) -> String {
        until(reason, || async {
            let deployment = self.api::<RunnerDeployment>().get_opt("gpu").await.unwrap()?;
            let status = deployment.status?;
            let ready = condition::find(&status.conditions, condition::READY)?;
            (ready.reason == reason).then(|| ready.message.clone())
        })
        .await
    }

    /// What there is, for a failure.
    pub(crate) async fn told(&self) -> String {
        let mut text = String::new();
        for it in self.list::<RunnerDeployment>().await {
            text.push_str(&format!("{}: {}\n", it.name_any(), json!(it.status)));
        }
        for it in self.list::<RunnerReplicaSet>().await {
            text.push_str(&format!(
                "{} {}: {}\n",
                it.name_any(),
                it.spec.replicas,
                json!(it.status)
            ));
        }
        for it in self.list::<Runner>().await {
            text.push_str(&format!(
                "{} {:?}: {}\n",
                it.name_any(),
                it.metadata.deletion_timestamp,
                json!(it.status)
            ));
        }
        for it in self.list::<Pod>().await {
            text.push_str(&format!("pod {}: {}\n", it.name_any(), json!(it.status)));
        }
        text
    }
}

/// Waits for a level.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let begin = tokio::time::Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within {PATIENCE:?}");
}
