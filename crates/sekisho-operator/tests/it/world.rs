//! A hub, an API server (the double, or a real one), a cluster to play on it, and operators.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use sekisho_api::{GitHubConnection, Runner, RunnerClass, RunnerDeployment, condition};
use sekisho_github::rest::Clock;
use sekisho_hub::{Config, Hub};
use sekisho_operator::{Operator, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Cluster, ClusterOptions};

use crate::containers::{Played, Runners};
pub(crate) use crate::server::{Scenario, Server};

pub(crate) const ADMIN: &str = "admin-token-of-the-test";
/// So many looks come between two jumps of the clock.
const LOOKS: u32 = 60;
/// Where the operator of a real API server has its account.
pub(crate) const PLANE: &str = "plane";
/// How long anything may take; far longer than it does, and than the deadline of a registration (180 s),
/// after which a runner that got none is replaced.
const PATIENCE: Duration = Duration::from_secs(300);

/// What an API server keeps.
pub(crate) trait Object:
    Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned
{
}

impl<K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned> Object for K {}

/// Has the API server keep this.
pub(crate) async fn create_at<K: Object>(api: &Api<K>, object: Value) -> K {
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
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
    /// Where their clocks stand still, if they do.
    still: Arc<Mutex<Option<jiff::Timestamp>>>,
    pub(crate) dir: TempDir,
    pub(crate) http: reqwest::Client,
    pub(crate) pushes: AtomicUsize,
}

/// An operator in a runtime of its own, to be killed as by a power cut.
pub(crate) struct Doomed {
    operator: Operator,
    runtime: tokio::runtime::Runtime,
}

impl Doomed {
    /// Wherever it is, it ends: nothing is given back, nothing is said.
    pub(crate) fn kill(self) {
        self.runtime.shutdown_background();
        // One that is dropped would stop in order.
        std::mem::forget(self.operator);
    }
}

impl World {
    pub(crate) async fn new(server: &Server, change: impl FnOnce(&mut Config)) -> Self {
        Self::in_namespace(server, Self::next_namespace(), change).await
    }

    /// The name of a namespace that no scenario has.
    pub(crate) fn next_namespace() -> String {
        static WORLDS: AtomicUsize = AtomicUsize::new(0);
        format!("ci-{}", WORLDS.fetch_add(1, Ordering::SeqCst))
    }

    pub(crate) async fn in_namespace(
        server: &Server,
        namespace: String,
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
        let runners = Arc::new(Runners::default());
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
            namespace,
            client,
            cluster,
            runners,
            ahead: Arc::default(),
            still: Arc::default(),
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

    /// The operators' clocks stand still, but for what [`World::pass`] lets pass.
    pub(crate) fn stop_the_clock(&self) {
        *self.still.lock().unwrap() = Some(Clock::default().now());
    }

    /// How many seconds were let pass.
    pub(crate) fn passed(&self) -> i64 {
        self.ahead.load(Ordering::SeqCst)
    }

    pub(crate) fn go_on_with_the_clock(&self) {
        *self.still.lock().unwrap() = None;
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
        settings.webhooks = Some(([127, 0, 0, 1], 0).into());
        let (ahead, still) = (Arc::clone(&self.ahead), Arc::clone(&self.still));
        let clock = Clock::default();
        settings.clock = Clock::new(move || {
            let now = still.lock().unwrap().unwrap_or_else(|| clock.now());
            now + jiff::SignedDuration::from_secs(ahead.load(Ordering::SeqCst))
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
        Doomed { operator: runtime.spawn(start).await.unwrap(), runtime }
    }

    pub(crate) async fn create_all<K>(&self, object: Value)
    where
        K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()> + Object,
    {
        create_at::<K>(&Api::all(self.client.clone()), object).await;
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Object,
    {
        create_at(&self.api(), object).await
    }

    pub(crate) async fn secret(&self) {
        self.create::<Secret>(
            json!({ "metadata": { "name": "github" }, "stringData": { "token": ADMIN } }),
        )
        .await;
    }

    /// The right token, where there was another.
    pub(crate) async fn token(&self) {
        let patch = Patch::Merge(json!({ "stringData": { "token": ADMIN } }));
        self.api::<Secret>().patch("github", &PatchParams::default(), &patch).await.unwrap();
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
        let token = json!({ "name": "github", "key": "token" });
        self.connect(json!({ "token": { "secretRef": token } })).await;
    }

    pub(crate) async fn connect(&self, auth: Value) {
        self.create::<GitHubConnection>(json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "GitHubConnection",
            "metadata": { "name": "acme" },
            "spec": { "url": format!("{}/acme", self.url), "auth": auth }
        }))
        .await;
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
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Object,
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
        until("nothing that is left", || self.is_clean()).await;
    }

    /// Waits until the deployment is gone, and nothing is left of its runners.
    pub(crate) async fn ended(&self) {
        let api = self.api::<RunnerDeployment>();
        until("the end of the deployment", || async {
            api.get_opt("gpu").await.unwrap().is_none().then_some(())
        })
        .await;
        self.clean().await;
    }

    /// Whether nothing is left of any runner; the test's own secrets are.
    pub(crate) async fn is_clean(&self) -> Option<()> {
        let secrets = self.list::<Secret>().await;
        let ours = |it: &&Secret| matches!(it.name_any().as_str(), "github" | "hook");
        let left = self.list::<Runner>().await.len()
            + self.list::<Pod>().await.len()
            + secrets.iter().filter(|it| !ours(it)).count()
            + self.registered().await.len();
        (left == 0).then_some(())
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
