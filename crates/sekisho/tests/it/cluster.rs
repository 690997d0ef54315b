//! A cluster as its user has it: what `runners top` and `why` say.

#[path = "../../../sekisho-operator/tests/it/git.rs"]
mod git;
#[path = "../../../sekisho-operator/tests/it/played.rs"]
mod played;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use sekisho_api::{GitHubConnection, RunnerClass, RunnerDeployment};
use sekisho_hub::{Config, Hub};
use serde_json::{Value, json};
use testkit::{ApiServer, Cluster, ClusterOptions, Containers, Ending, PodRun, Served};
use tokio::sync::Semaphore;

use crate::support::{Said, Started, World};

pub(crate) const ADMIN: &str = "admin-token-of-the-test";

/// GitHub's runner in the pods: a job ends when there is a permit.
pub(crate) struct Runners(pub(crate) Arc<Semaphore>);

impl Containers for Runners {
    fn run(&self, run: PodRun) -> Pin<Box<dyn Future<Output = Ending> + Send>> {
        let ends = Arc::clone(&self.0);
        Box::pin(async move {
            let steps = |_: String| async {
                ends.acquire().await?.forget();
                Ok(())
            };
            let code = i32::from(played::work(&run, async {}, steps).await.is_err());
            Ending::Exit(code)
        })
    }
}

/// The hub, in this process.
pub(crate) struct GitHub {
    pub(crate) url: String,
    http: reqwest::Client,
    _hub: Arc<Hub>,
}

impl GitHub {
    pub(crate) async fn start(world: &World, change: impl FnOnce(&mut Config)) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut config = Config::new(world.folder.path().join("hub"), &url, ADMIN.into());
        change(&mut config);
        let hub = Arc::new(Hub::open(config).unwrap());
        let router = hub.router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        // GitHub refuses who does not say what he is.
        let http = reqwest::Client::builder().user_agent("a-test").build().unwrap();
        Self { url, http, _hub: hub }
    }

    /// Pushes this workflow; the page of its run.
    pub(crate) async fn push(&self, world: &World, workflow: &str) -> String {
        let folder = world.project("app", &[(".github/workflows/ci.yml", workflow)]);
        let remote = format!("{}/acme/app", self.url);
        let home = world.folder.path().to_owned();
        let sha = tokio::task::spawn_blocking(move || git::push(&folder, &home, &remote)).await;
        let sha = sha.unwrap();
        let pushed = self.get(&format!("/_hub/v1/pushes?repository=acme/app&sha={sha}")).await;
        format!("{}/acme/app/actions/runs/{}", self.url, pushed["runs"][0])
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(ADMIN);
        request.send().await.unwrap().json().await.unwrap()
    }
}

/// A kubeconfig as people have it.
pub(crate) fn kubeconfig(world: &World, name: &str, server: &str, user: &Value) -> PathBuf {
    let path = world.folder.path().join(name);
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{ "name": "it", "cluster": {
            "server": server, "insecure-skip-tls-verify": server.starts_with("https")
        } }],
        "users": [{ "name": "it", "user": user }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }]
    });
    fs_err::write(&path, config.to_string()).unwrap();
    path
}

/// Asks until the answer is what is waited for.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let patience = std::time::Duration::from_secs(120);
    let looked = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(patience, looked).await.unwrap_or_else(|_| panic!("{what}: in vain"))
}

struct Plane {
    world: World,
    github: GitHub,
    _served: Served,
    client: Client,
    kubeconfig: PathBuf,
    ends: Arc<Semaphore>,
    _cluster: Cluster,
}

impl Plane {
    async fn new() -> Self {
        // Another test may have done so.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let world = World::new();
        let github = GitHub::start(&world, |_| ()).await;
        let api = ApiServer::new();
        let served = api.serve("operator").await.unwrap();
        let (client, ends) = (api.client("test"), Arc::new(Semaphore::new(0)));
        let runners = Arc::new(Runners(Arc::clone(&ends)));
        let cluster = Cluster::start(api.client("cluster"), ClusterOptions::default(), runners);
        let cluster = cluster.await.unwrap();
        let kubeconfig = kubeconfig(&world, "kubeconfig", &served.url(), &json!({}));
        Self { world, github, _served: served, client, kubeconfig, ends, _cluster: cluster }
    }

    async fn furnish(&self, max: u32) {
        let api = "runners.sekisho.dev/v1alpha1";
        let url = format!("{}/acme", self.github.url);
        let token = json!({ "secretRef": { "name": "github", "key": "token" } });
        self.create::<Namespace>(None, json!({ "metadata": { "name": "ci" } })).await;
        let class = json!({ "apiVersion": api, "kind": "RunnerClass", "metadata": { "name": "default" }, "spec": {} });
        self.create::<RunnerClass>(None, class).await;
        let secret = json!({ "metadata": { "name": "github" }, "stringData": { "token": ADMIN } });
        self.create::<Secret>(Some("ci"), secret).await;
        let connection = json!({ "apiVersion": api, "kind": "GitHubConnection",
            "metadata": { "name": "acme" }, "spec": { "url": url, "auth": { "token": token } } });
        self.create::<GitHubConnection>(Some("ci"), connection).await;
        let deployment = json!({ "apiVersion": api, "kind": "RunnerDeployment",
            "metadata": { "name": "gpu" }, "spec": {
                "connectionRef": "acme", "classRef": "default", "labels": ["gpu"],
                "scaling": { "min": 0, "max": max, "scaleDownDelaySeconds": 0 }
            } });
        self.create::<RunnerDeployment>(Some("ci"), deployment).await;
    }

    async fn create<K>(&self, namespace: Option<&str>, object: Value)
    where
        K: kube::Resource<DynamicType = ()>,
    {
        let kind = kube::api::ApiResource::erase::<K>(&());
        let api: Api<kube::api::DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        let mut object = object;
        object["apiVersion"] = json!(kind.api_version);
        object["kind"] = json!(kind.kind);
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    /// The binary, with this cluster as the current context.
    async fn sekisho(&self, arguments: &[&str]) -> Said {
        let mut command = self.world.command(arguments);
        command.env("KUBECONFIG", &self.kubeconfig);
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        Said::of(output.unwrap().unwrap())
    }

    async fn why(&self, arguments: &[&str]) -> Value {
        let all = [&["why", "--output", "json"], arguments].concat();
        self.sekisho(&all).await.exits(0).json()
    }

    async fn top(&self) -> Value {
        self.sekisho(&["runners", "top", "--output", "json"]).await.exits(0).json()
    }

    fn operator(&self) -> Started {
        let mut command = self.world.command(&["operator", "run", "--namespace", "ci"]);
        Started::new(command.env("KUBECONFIG", &self.kubeconfig))
    }
}

const TWO_JOBS: &str = "on: push\njobs:\n  first: { runs-on: gpu, steps: [{ run: 'true' }] }\n  \
                        second: { runs-on: gpu, steps: [{ run: 'true' }] }\n  \
                        other: { runs-on: windows, steps: [{ run: 'true' }] }\n";

#[tokio::test(flavor = "multi_thread")]
async fn top_and_why_say_how_the_jobs_of_a_cluster_are() {
    let plane = Plane::new().await;
    plane.furnish(1).await;
    let empty = plane.top().await;
    assert_eq!(empty["sets"][0]["name"], "ci/gpu");
    assert_eq!(empty["runners"], json!([]));
    let operator = plane.operator();
    let page = plane.github.push(&plane.world, TWO_JOBS).await;

    // One runner, of at most one, has a job; another job waits for it.
    let busy = until("a job on its runner", async || {
        let top = plane.top().await;
        let (runner, set) = (&top["runners"][0], &top["sets"][0]);
        let known = runner["state"] == "Busy" && set["busy"] == 1 && set["waiting"] == 1;
        known.then_some(top)
    })
    .await;
    let (set, runner) = (&busy["sets"][0], &busy["runners"][0]);
    assert_eq!(set["max"], 1, "{busy}");
    assert_eq!((&runner["set"], &runner["repository"]), (&json!("ci/gpu"), &json!("acme/app")));
    let (runs, waits) = match runner["job"].as_str().unwrap() {
        "first" => ("first", "second"),
        _ => ("second", "first"),
    };
    let shown = plane.sekisho(&["runners", "top"]).await.exits(0).stdout;
    assert!(
        shown.contains(runner["name"].as_str().unwrap()) && shown.contains(" Busy "),
        "{shown}"
    );

    let name = runner["name"].as_str().unwrap();
    let answer = plane.why(&[&page, "--job", runs]).await;
    assert_eq!(answer["sentence"], format!("job `{runs}` runs on runner {name} of ci/gpu"));
    let answer = plane.why(&[&page, "--job", waits]).await;
    let sentence = answer["sentence"].as_str().unwrap();
    let because = "because ci/gpu has all its 1 runners at work; raise `spec.scaling.max`, or wait";
    assert!(sentence.ends_with(because), "{sentence}");
    let answer = plane.why(&[&page, "--job", "other"]).await;
    let sentence = answer["sentence"].as_str().unwrap();
    assert!(sentence.contains("no RunnerDeployment takes [windows]"), "{sentence}");
    assert!(answer["evidence"].to_string().contains("ci/gpu takes gpu"), "{answer}");

    // Its pod is lost, and with it the job.
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(plane.client.clone(), "ci");
    pods.delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    let lost = until("a loss that is told", async || {
        let answer = plane.why(&[&page, "--job", runs]).await;
        let sentence = answer["sentence"].as_str().unwrap().to_owned();
        sentence.contains("was lost with runner").then_some(sentence)
    })
    .await;
    assert!(lost.contains(name) && lost.contains("PodLost"), "{lost}");

    let wrong = plane.sekisho(&["why", &page, "--job", "nobody"]).await.exits(3);
    assert!(wrong.stdout.contains("has no job whose name contains `nobody`"), "{wrong:?}");
    let elsewhere = "https://github.com/other/app/actions/runs/1";
    plane.sekisho(&["why", elsewhere]).await.exits(1).says(&["no GitHubConnection has"]);
    plane.ends.add_permits(2);
    drop(operator);
}
