//! A hub, an API server (the double, or a real one), a cluster to play on it, and operators.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Secret};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::{Api, Client, ResourceExt as _};
use sekisho_api::{
    GitHubConnection, Runner, RunnerClass, RunnerDeployment, RunnerReplicaSet, condition,
};
use sekisho_github::rest::Clock;
use sekisho_hub::{Config, Hub};
use sekisho_install::{Install, RunnerNamespace};
use sekisho_operator::{Operator, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{ApiServer, Cluster, ClusterOptions, Containers, Ending, PodRun, RealServer};
use tokio::sync::Semaphore;

use crate::played::{self, Failure};

const ADMIN: &str = "admin-token-of-the-test";
/// So many looks come between two jumps of the clock.
const LOOKS: u32 = 60;
/// Where the operator of a real API server has its account.
const PLANE: &str = "plane";
/// How long anything may take; far longer than it does, and than the deadline of a registration (180 s),
/// after which a runner that got none is replaced.
const PATIENCE: Duration = Duration::from_secs(300);

/// GitHub's runner, as far as its requests go.
pub(crate) struct Runners {
    /// A job ends when it gets a permit.
    pub(crate) ends: Semaphore,
    /// How many jobs were begun.
    pub(crate) begun: AtomicUsize,
    pub(crate) unpullable: AtomicBool,
    /// They are online, and ask for nothing more.
    pub(crate) deaf: AtomicBool,
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
        let online = async {
            if self.deaf.load(Ordering::SeqCst) {
                run.stop.cancelled().await;
            }
        };
        played::work(&run, online, steps).await.map(drop)
    }
}

/// Where a scenario is played.
#[derive(Clone)]
pub(crate) enum Server {
    /// In memory.
    Double(ApiServer),
    /// kube-apiserver, on which the operator has the rights that are rendered, and no others.
    Real(Arc<RealServer>),
}

/// A scenario: written once, played on either.
pub(crate) type Scenario = fn(Server) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Server {
    pub(crate) fn double() -> Self {
        Self::Double(ApiServer::new())
    }

    fn client(&self, name: &str) -> Client {
        match self {
            Self::Double(api) => api.client(name),
            Self::Real(real) => real.client().unwrap(),
        }
    }

    /// Removes what a scenario left, for the next one.
    pub(crate) async fn clear(&self) {
        let client = self.client("test");
        let kinds = [
            ApiResource::erase::<RunnerDeployment>(&()),
            ApiResource::erase::<RunnerReplicaSet>(&()),
            ApiResource::erase::<Runner>(&()),
            ApiResource::erase::<GitHubConnection>(&()),
            ApiResource::erase::<RunnerClass>(&()),
            ApiResource::erase::<Pod>(&()),
            ApiResource::erase::<Node>(&()),
        ];
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        for kind in kinds {
            let all: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
            for object in all.list(&ListParams::default()).await.unwrap() {
                let (name, params) = (object.name_any(), DeleteParams::default().grace_period(0));
                let api: Api<DynamicObject> = match object.namespace() {
                    Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &kind),
                    None => all.clone(),
                };
                // What goes by itself meanwhile is gone.
                drop(api.delete(&name, &params).await);
                drop(api.patch(&name, &PatchParams::default(), &free).await);
            }
        }
    }
}

pub(crate) struct World {
    pub(crate) hub: Arc<Hub>,
    pub(crate) url: String,
    pub(crate) server: Server,
    pub(crate) namespace: String,
    pub(crate) client: Client,
    pub(crate) cluster: Cluster,
    pub(crate) runners: Arc<Runners>,
    /// How far the operators' clocks are ahead, in seconds.
    ahead: Arc<AtomicI64>,
    dir: TempDir,
    http: reqwest::Client,
    pushes: AtomicUsize,
}

/// An operator in a runtime of its own, to be killed as by a power cut.
pub(crate) struct Doomed {
    _operator: Operator,
    runtime: tokio::runtime::Runtime,
}

impl Doomed {
    /// Wherever it is, it ends: nothing is given back, nothing is said.
    pub(crate) fn kill(self) {
        self.runtime.shutdown_background();
    }
}

impl World {
    pub(crate) async fn new(server: &Server, change: impl FnOnce(&mut Config)) -> Self {
        static WORLDS: AtomicUsize = AtomicUsize::new(0);
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
            deaf: false.into(),
        });
        let played = Arc::new(Played(Arc::clone(&runners)));
        let (client, cluster) = (server.client("test"), server.client("cluster"));
        let cluster = Cluster::start(cluster, ClusterOptions::default(), played).await.unwrap();
        let http = sekisho_github::http::ClientOptions::default()
            .client(&[&url.parse().unwrap()])
            .unwrap();
        let world = Self {
            hub,
            url,
            server: server.clone(),
            namespace: format!("ci-{}", WORLDS.fetch_add(1, Ordering::SeqCst)),
            client,
            cluster,
            runners,
            ahead: Arc::default(),
            dir,
            http,
            pushes: AtomicUsize::new(0),
        };
        world.install().await;
        world.class("default").await;
        world
    }

    pub(crate) async fn class(&self, name: &str) {
        self.create_all::<RunnerClass>(json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "RunnerClass",
            "metadata": { "name": name }, "spec": {}
        }))
        .await;
    }

    /// The namespace and, on a real API server, the operator's rights: as they are rendered.
    async fn install(&self) {
        if let Server::Double(_) = &self.server {
            let namespace = json!({ "metadata": { "name": self.namespace } });
            return self.create_all::<Namespace>(namespace).await;
        }
        let install = Install {
            namespace: PLANE.to_owned(),
            image: "registry.example/sekisho:1".to_owned(),
            replicas: 2,
            runners: vec![RunnerNamespace { name: self.namespace.clone(), ..Default::default() }],
        };
        for manifest in sekisho_install::manifests(&install).unwrap() {
            if manifest["kind"] != "CustomResourceDefinition" {
                self.apply(&manifest).await;
            }
        }
    }

    /// As `kubectl apply --server-side` does.
    async fn apply(&self, manifest: &Value) {
        let object: DynamicObject = serde_json::from_value(manifest.clone()).unwrap();
        let types = object.types.clone().unwrap();
        let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        let params = PatchParams::apply("kubectl").force();
        api.patch(&object.name_any(), &params, &Patch::Apply(manifest)).await.unwrap();
    }

    /// The operators' clocks jump, and they look at everything.
    pub(crate) fn pass(&self, seconds: i64, operator: &Operator) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
        operator.look();
    }

    /// Waits for a level, and lets `seconds` of the operators' time pass again and again meanwhile: not
    /// faster than a lease is taken again.
    pub(crate) async fn until_later<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        seconds: i64,
        operator: &Operator,
        mut look: impl FnMut() -> F,
    ) -> T {
        let mut looks = 0_u32;
        until(what, || {
            if looks.is_multiple_of(LOOKS) {
                self.pass(seconds, operator);
            } else if looks.is_multiple_of(10) {
                operator.look();
            }
            looks += 1;
            look()
        })
        .await
    }

    fn settings(&self, identity: &str) -> Settings {
        let mut settings = Settings::new(identity);
        settings.admin = Some(([127, 0, 0, 1], 0).into());
        let ahead = Arc::clone(&self.ahead);
        let clock = Clock::default();
        settings.clock = Clock::new(move || {
            clock.now() + jiff::SignedDuration::from_secs(ahead.load(Ordering::SeqCst))
        });
        if let Server::Real(_) = &self.server {
            settings.namespaces = vec![self.namespace.clone()];
        }
        settings
    }

    fn operators_client(server: &Server, identity: &str) -> Client {
        match server {
            Server::Double(api) => api.client(identity),
            Server::Real(real) => {
                let account = format!("system:serviceaccount:{PLANE}:{}", sekisho_install::NAME);
                real.client_as(&account).unwrap()
            }
        }
    }

    pub(crate) async fn operator(&self, identity: &str) -> Operator {
        let client = Self::operators_client(&self.server, identity);
        Operator::start(client, self.settings(identity)).await.unwrap()
    }

    /// One that can be killed.
    pub(crate) async fn doomed(&self, identity: &str) -> Doomed {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (settings, server) = (self.settings(identity), self.server.clone());
        let identity = identity.to_owned();
        let start = async move {
            let client = Self::operators_client(&server, &identity);
            Operator::start(client, settings).await.unwrap()
        };
        Doomed { _operator: runtime.spawn(start).await.unwrap(), runtime }
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
        Api::namespaced(self.client.clone(), &self.namespace)
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

    /// Another token for the connection; the right one.
    pub(crate) async fn token(&self, token: &str) -> String {
        let patch = Patch::Merge(json!({ "stringData": { "token": token } }));
        self.api::<Secret>().patch("github", &PatchParams::default(), &patch).await.unwrap();
        ADMIN.to_owned()
    }

    /// Removes a registration at GitHub, as an administrator may.
    pub(crate) async fn deregister(&self, name: &str) {
        let list = self.get("/api/v3/orgs/acme/actions/runners").await;
        let all = list["runners"].as_array().unwrap();
        let id = all.iter().find(|it| it["name"] == name).unwrap()["id"].as_u64().unwrap();
        let url = format!("{}/api/v3/orgs/acme/actions/runners/{id}", self.url);
        let answer = self.http.delete(url).bearer_auth(ADMIN).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
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
