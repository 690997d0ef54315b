//! A hub, an API server, a cluster that is played here, and what there is to run.

use std::fmt::Debug;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use sekisho_api::{GitHubConnection, Runner, RunnerClass, RunnerDeployment, RunnerReplicaSet};
use sekisho_hub::DEFAULT_SEARCH_PATH;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{Cluster, ClusterOptions, RealServer};
use tokio::task::JoinSet;

use crate::played::Failure;
use crate::process::{ADMIN, Process, client};
use crate::seen::{Played, Seen};

pub(crate) const NAMESPACE: &str = "ci";
/// Jobs of one workflow.
const JOBS_PER_FILE: usize = 250;
/// How often it is looked whether something is so.
const LOOK: Duration = Duration::from_millis(10);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many runners there may be at a time.
const MAX: usize = 10_000;

enum Server {
    Double(Process),
    Real(Box<RealServer>),
}

pub(crate) struct World {
    server: Server,
    hub: Process,
    client: Client,
    pub(crate) seen: Arc<Seen>,
    _cluster: Cluster,
    /// They end with it.
    watches: JoinSet<()>,
    dir: TempDir,
    http: reqwest::Client,
    pushes: AtomicUsize,
}

impl World {
    /// `None` where there is no real API server.
    pub(crate) async fn new(real: bool) -> Result<Option<Self>, Failure> {
        let server = if real {
            let Some(server) = RealServer::start().await? else { return Ok(None) };
            Server::Real(Box::new(server))
        } else {
            Server::Double(Process::start(&["api"])?)
        };
        let dir = tempfile::tempdir()?;
        let hub = Process::start(&["hub", &dir.path().display().to_string()])?;
        let of = |name: &str| {
            let (url, token) = access(&server, name);
            client(&url, &token)
        };
        let (client, seen) = (of("bench")?, Arc::new(Seen::default()));
        let played = Arc::new(Played(Arc::clone(&seen)));
        let cluster = Cluster::start(of("cluster")?, ClusterOptions::default(), played).await?;
        let url: url::Url = hub.said.as_str().unwrap_or_default().parse()?;
        let http = sekisho_github::http::ClientOptions::default().client(&[&url])?;
        let pushes = AtomicUsize::new(0);
        let watches = JoinSet::new();
        let mut world =
            Self { server, hub, client, seen, _cluster: cluster, watches, dir, http, pushes };
        world.furnish().await?;
        let (seen, client) = (&world.seen, &world.client);
        world.watches.spawn(Arc::clone(seen).follow::<Runner>(client.clone(), 0));
        world.watches.spawn(Arc::clone(seen).follow::<Pod>(client.clone(), 1));
        Ok(Some(world))
    }

    /// Namespace, class, connection.
    async fn furnish(&self) -> Result<(), Failure> {
        let namespace = json!({ "metadata": { "name": NAMESPACE } });
        let class = json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "RunnerClass",
            "metadata": { "name": "default" }, "spec": {}
        });
        let secret = json!({ "metadata": { "name": "github" }, "stringData": { "token": ADMIN } });
        let auth = json!({ "token": { "secretRef": { "name": "github", "key": "token" } } });
        let connection = json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "GitHubConnection",
            "metadata": { "name": "acme" },
            "spec": { "url": format!("{}/acme", self.url()), "auth": auth }
        });
        create::<Namespace>(&Api::all(self.client.clone()), namespace).await?;
        create::<RunnerClass>(&Api::all(self.client.clone()), class).await?;
        create::<Secret>(&self.api(), secret).await?;
        create::<GitHubConnection>(&self.api(), connection).await
    }

    fn url(&self) -> &str {
        self.hub.said.as_str().unwrap_or_default()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// A set for jobs with the label `gpu`; a runner for each, as far as `max` goes.
    pub(crate) async fn deployment(&self) -> Result<(), Failure> {
        let spec = json!({
            "connectionRef": "acme", "classRef": "default", "group": "Default", "labels": ["gpu"],
            "acquisition": { "mode": "ScaleSet" }, "trustZone": "PullRequest",
            "scaling": { "min": 0, "max": MAX, "scaleDownDelaySeconds": 0 }
        });
        let object = json!({
            "apiVersion": "runners.sekisho.dev/v1alpha1", "kind": "RunnerDeployment",
            "metadata": { "name": "gpu" }, "spec": spec
        });
        create::<RunnerDeployment>(&self.api(), object).await
    }

    /// Has so many runners kept, whether there are jobs or not.
    pub(crate) async fn keep(&self, min: usize) -> Result<(), Failure> {
        let patch = Patch::Merge(json!({ "spec": { "scaling": { "min": min } } }));
        self.api::<RunnerDeployment>().patch("gpu", &PatchParams::default(), &patch).await?;
        Ok(())
    }

    pub(crate) fn operator(&self, identity: &str) -> Result<Process, Failure> {
        let (url, token) = access(&self.server, identity);
        Process::start(&["operator", identity, &url, &token])
    }

    /// Waits until the deployment is ready.
    pub(crate) async fn ready(&self) -> Result<(), Failure> {
        let api = self.api::<RunnerDeployment>();
        self.until("a deployment that is ready", async || {
            let status = api.get("gpu").await?.status.unwrap_or_default();
            Ok(status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True"))
        })
        .await
    }

    /// What the operators asked since this was asked last, as the server counted it: `writes` and `reads`.
    /// The real one does not tell them from others.
    pub(crate) fn calls(&mut self) -> Result<Option<Value>, Failure> {
        match &mut self.server {
            Server::Double(process) => process.ask().map(Some),
            Server::Real(_) => Ok(None),
        }
    }

    /// How much an operator wrote since its start, as it counts itself; leases are not among it.
    pub(crate) async fn written(&self, operator: &Process) -> Result<u64, Failure> {
        let at = operator.said.as_str().unwrap_or_default();
        let answer = self.http.get(format!("http://{at}/metrics")).send().await?;
        let text = answer.error_for_status()?.text().await?;
        let lines = text.lines().filter(|it| it.starts_with("sekisho_operator_writes_total{"));
        Ok(lines.filter_map(|it| it.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Pushes workflows with so many jobs, and gives their runs.
    pub(crate) async fn push(&self, jobs: usize) -> Result<Vec<u64>, Failure> {
        let number = self.pushes.fetch_add(1, Ordering::SeqCst);
        let repository = format!("acme/app{number}");
        let (folder, home) = (self.dir.path().join(format!("push-{number}")), self.dir.path());
        let workflows = folder.join(".github/workflows");
        std::fs::create_dir_all(&workflows)?;
        let all: Vec<usize> = (0..jobs).collect();
        for (number, jobs) in all.chunks(JOBS_PER_FILE).enumerate() {
            let mut text = String::from("on: push\njobs:\n");
            for job in jobs {
                text.push_str(&format!(
                    "  j{job}: {{ runs-on: gpu, steps: [{{ run: 'true' }}] }}\n"
                ));
            }
            std::fs::write(workflows.join(format!("w{number}.yml")), text)?;
        }
        let remote = format!("{}/{repository}", self.url());
        let (folder, home) = (folder, home.to_owned());
        let git = tokio::task::spawn_blocking(move || git_push(&folder, &home, &remote));
        let sha = git.await??;
        let pushed =
            self.get(&format!("/_hub/v1/pushes?repository={repository}&sha={sha}")).await?;
        let runs: Vec<u64> = serde_json::from_value(pushed["runs"].clone())?;
        if runs.len() != jobs.div_ceil(JOBS_PER_FILE) {
            return Err(format!("{pushed}").into());
        }
        Ok(runs)
    }

    async fn get(&self, path: &str) -> Result<Value, Failure> {
        let request = self.http.get(format!("{}{path}", self.url())).bearer_auth(ADMIN);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// Waits until these runs are over, and checks that all went well.
    pub(crate) async fn concluded(&self, runs: &[u64]) -> Result<(), Failure> {
        for run in runs {
            let mut conclusion = Value::Null;
            self.until("the end of a run", async || {
                conclusion = self.get(&format!("/_hub/v1/runs/{run}")).await?["conclusion"].take();
                Ok(!conclusion.is_null())
            })
            .await?;
            if conclusion != "success" {
                return Err(format!("run {run} is {conclusion}").into());
            }
        }
        Ok(())
    }

    /// Waits until nothing is left of any runner on either side, and checks that each job ran once. Gives
    /// how many runners were one too many: removed before they had a job.
    pub(crate) async fn clean(&self, jobs: usize) -> Result<usize, Failure> {
        self.until("nothing that is left", async || {
            let secrets = self.list::<Secret>().await?;
            let secrets = secrets.iter().filter(|it| it.name_any() != "github").count();
            let registered = self.get("/api/v3/orgs/acme/actions/runners").await?;
            let left = self.list::<Runner>().await?.len() + self.list::<Pod>().await?.len();
            Ok(left + secrets == 0 && registered["total_count"] == 0)
        })
        .await?;
        let state = self.seen.lock();
        let twice = state.begun.values().filter(|count| **count != 1).count();
        if state.begun.len() != jobs || twice > 0 || !state.failed.is_empty() {
            return Err(format!(
                "{} of {jobs} jobs ran, {twice} more than once; runners failed: {:?}",
                state.begun.len(),
                state.failed
            )
            .into());
        }
        Ok(state.surplus)
    }

    async fn list<K>(&self) -> Result<Vec<K>, Failure>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        Ok(self.api::<K>().list(&ListParams::default()).await?.items)
    }

    /// Waits for a level.
    pub(crate) async fn until(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let started = Instant::now();
            if look().await? {
                return Ok(());
            }
            // Looking is not what is to be measured.
            tokio::time::sleep(LOOK.max(started.elapsed() * 10)).await;
        }
        Err(format!("{what}: not within {PATIENCE:?}\n{}", self.told().await?).into())
    }

    async fn told(&self) -> Result<String, Failure> {
        let deployments = self.list::<RunnerDeployment>().await?;
        let sets = self.list::<RunnerReplicaSet>().await?;
        let runners = self.list::<Runner>().await?;
        let mut text: Vec<String> =
            deployments.iter().map(|it| json!(it.status).to_string()).collect();
        text.extend(sets.iter().map(|it| json!([it.spec.replicas, it.status]).to_string()));
        text.extend(runners.iter().take(5).map(|it| json!([it.metadata, it.status]).to_string()));
        Ok(text.join("\n"))
    }
}

fn access(server: &Server, name: &str) -> (String, String) {
    match server {
        Server::Double(process) => {
            (process.said[name].as_str().unwrap_or_default().to_owned(), String::new())
        }
        Server::Real(server) => {
            let (url, token) = server.access();
            (url, token.to_owned())
        }
    }
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<(), Failure>
where
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    Ok(())
}

fn git_push(folder: &Path, home: &Path, remote: &str) -> Result<String, Failure> {
    let git = |arguments: &[&str]| -> Result<String, Failure> {
        let output = Command::new("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@example.com"])
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .env("PATH", DEFAULT_SEARCH_PATH)
            .env("HOME", home)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    git(&["init", "--quiet", "--initial-branch=main"])?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message=workflows"])?;
    git(&["push", "--quiet", remote, "main"])?;
    git(&["rev-parse", "HEAD"])
}
