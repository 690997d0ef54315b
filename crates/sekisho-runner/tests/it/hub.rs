//! The runner against the hub, through the hub's fault switches.

mod registered;
mod switches;

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Method;
use secrecy::ExposeSecret as _;
use sekisho_github::jit::JitConfig;
use sekisho_github::wire::run_service::Conclusion;
use sekisho_hub::faults::{Call, Fault, Plan, Rule, SetClock, Strike};
use sekisho_hub::{Config, Hub};
use sekisho_runner::RunnerOutcome;
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::git::git;

const RUNNERS: &str = "/api/v3/repos/acme/app/actions/runners";

const SUCCEEDED: RunnerOutcome = RunnerOutcome::Completed(Conclusion::Succeeded);

pub(crate) const ADMIN: &str = "admin-token-of-the-test";

const WORKFLOW: &str = "\
on: push
jobs:
  hello:
    runs-on: default
    steps:
      - run: SCRIPT
";

/// A hub with one job in its queue, and a runner that is registered with it.
pub(crate) struct World {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The same as a URL; what the hub tells others may be another.
    url: String,
    pub(crate) jit: String,
    run: u64,
    client: reqwest::Client,
    pub(crate) fixture: Fixture,
}

fn rule(call: Call, fault: Fault) -> Rule {
    Rule { fault, call: Some(call), skip: 0, times: 1, percent: 100 }
}

const fn status(status: u16) -> Fault {
    Fault::Status { status, after_ms: 0 }
}

impl World {
    /// `None`, with a line that says so, where there is no git.
    async fn new(script: &str, rules: Vec<Rule>) -> Option<Self> {
        Self::known_as(None, script, rules).await
    }

    /// One that is reached by another URL than that of the address where it listens.
    pub(crate) async fn known_as(
        base: Option<&str>,
        script: &str,
        rules: Vec<Rule>,
    ) -> Option<Self> {
        let workflow = WORKFLOW.replace("SCRIPT", &json!(script).to_string());
        Self::with_workflow(base, &workflow, rules).await
    }

    async fn with_workflow(base: Option<&str>, workflow: &str, rules: Vec<Rule>) -> Option<Self> {
        if !crate::git::is_there() {
            return None;
        }
        let fixture = Fixture::new().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        let folder = fixture.root.path().join("hub");
        let mut config = Config::new(folder, base.unwrap_or(&url), ADMIN.to_owned().into());
        config.fault_switches = true;
        let hub = Hub::open(config).unwrap();
        let router = hub.router().into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move {
            // It lives as long as it is served.
            let _hub = hub;
            axum::serve(listener, router).await.unwrap();
        });
        let client = reqwest::Client::builder()
            .tls_certs_only([])
            .user_agent("sekisho-tests")
            .build()
            .unwrap();
        let mut world = Self { address, url, jit: String::new(), run: 0, client, fixture };
        world.run = world.push(workflow).await;
        world.register().await;
        world.arm(rules).await;
        Some(world)
    }

    /// A new registration, for the next job.
    async fn register(&mut self) {
        let answer = self.ask_for_runner(&format!("r-{}", self.run), &["default"]).await;
        self.jit = answer["encoded_jit_config"].as_str().unwrap().to_owned();
    }

    /// What a registration is answered.
    async fn ask_for_runner(&self, name: &str, labels: &[&str]) -> Value {
        let path = format!("{RUNNERS}/generate-jitconfig");
        let body = json!({"name": name, "runner_group_id": 1, "labels": labels});
        self.call(Method::POST, &path, &body).await
    }

    async fn push(&self, workflow: &str) -> u64 {
        let sha = self.commit("acme/app", &[(".github/workflows/ci.yml", workflow)]).await;
        let path = format!("/_hub/v1/pushes?repository=acme/app&sha={sha}");
        let pushed = self.call(Method::GET, &path, &Value::Null).await;
        pushed["runs"][0].as_u64().unwrap_or_else(|| panic!("no run: {pushed}"))
    }

    /// Makes a repository with these files on `main`.
    async fn commit(&self, repository: &str, files: &[(&str, &str)]) -> String {
        let folder = self.fixture.root.path().join(repository);
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let remote = format!("{}/{repository}", self.url);
        let sha = tokio::task::spawn_blocking(move || {
            git(&folder, &["init", "--quiet"]);
            git(&folder, &["add", "--all"]);
            git(&folder, &["commit", "--quiet", "--message=x"]);
            git(&folder, &["push", "--quiet", &remote, "main"]);
            git(&folder, &["rev-parse", "HEAD"])
        });
        sha.await.unwrap()
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Value {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let request = request.bearer_auth(ADMIN);
        let request = if body.is_null() { request } else { request.json(body) };
        request.send().await.unwrap().json().await.unwrap()
    }

    /// The run's only job.
    pub(crate) async fn job(&self) -> Value {
        let path = format!("/_hub/v1/runs/{}", self.run);
        self.call(Method::GET, &path, &Value::Null).await["jobs"][0].clone()
    }

    async fn log(&self, job: &Value) -> String {
        let path = format!("/api/v3/repos/acme/app/actions/jobs/{}/logs", job["id"]);
        let request = self.client.get(format!("{}{path}", self.url)).bearer_auth(ADMIN);
        request.send().await.unwrap().text().await.unwrap()
    }

    /// All that happened in the run, as the hub tells it.
    pub(crate) async fn events(&self) -> String {
        let path = format!("{}/_hub/v1/runs/{}/events", self.url, self.run);
        let request = self.client.get(path).bearer_auth(ADMIN);
        request.send().await.unwrap().text().await.unwrap()
    }

    /// Runs the runner to its end.
    async fn runner(&self) -> anyhow::Result<RunnerOutcome> {
        let running = sekisho_runner::run(self.jit.clone().into(), self.fixture.options());
        tokio::time::timeout(Duration::from_secs(240), running).await.expect("it ends")
    }

    /// Has these things go wrong from now on.
    async fn arm(&self, rules: Vec<Rule>) {
        self.switch(Method::PUT, "faults", &json!(Plan { seed: 1, rules })).await;
    }

    async fn clock(&self, set: SetClock) {
        self.switch(Method::POST, "clock", &json!(set)).await;
    }

    async fn switch(&self, method: Method, what: &str, body: &Value) {
        let request = self.client.request(method, format!("{}/_hub/v1/{what}", self.url));
        let answer = request.bearer_auth(ADMIN).json(body).send().await.unwrap();
        assert_eq!(answer.status(), 204, "{what}: {body}");
    }

    /// What went wrong so far.
    async fn struck(&self) -> Vec<Fault> {
        let told = self.call(Method::GET, "/_hub/v1/faults", &Value::Null).await;
        let struck: Vec<Strike> = serde_json::from_value(told["struck"].clone()).unwrap();
        struck.into_iter().map(|strike| strike.fault).collect()
    }

    async fn until_struck(&self, count: usize) {
        while self.struck().await.len() < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn cancel(&self) {
        let path = format!("/api/v3/repos/acme/app/actions/runs/{}/cancel", self.run);
        self.call(Method::POST, &path, &json!({})).await;
    }

    /// Has a job go on that waits for it.
    fn let_go(&self) {
        std::fs::write(self.fixture.root.path().join("go"), "").unwrap();
    }
}

/// A job that succeeds, and whose log is complete, whatever the rules do to its runner.
async fn survives(rules: Vec<Rule>) {
    let all: usize = rules.iter().map(|rule| usize::try_from(rule.times).unwrap()).sum();
    let text = format!("{rules:?}");
    let Some(world) = World::new("echo first; seq 1 500; echo last", rules).await else { return };
    let outcome = world.runner().await;
    assert_eq!(outcome.expect(&text), SUCCEEDED, "{text}");
    let job = world.job().await;
    assert_eq!(job["conclusion"], json!("success"), "{text}: {job}");
    assert_eq!(world.struck().await.len(), all, "{text}");
    let log = world.log(&job).await;
    let lines: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("Z ")).map(|l| l.1).collect();
    let first =
        lines.iter().rposition(|line| *line == "first").expect("the log has its first line");
    assert_eq!(lines[first + 1..first + 501], (1..=500).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(lines[first + 501], "last");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_wrong() {
    survives(Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_of_the_old_flow_is_sent_to_the_broker() {
    let Some(mut world) = World::new("echo hello", Vec::new()).await else { return };
    let mut config = JitConfig::decode(&world.jit.clone().into()).unwrap();
    config.runner.use_v2_flow = false;
    config.runner.server_url_v2 = String::new();
    world.jit = config.encode().expose_secret().to_owned();
    let outcome = world.runner().await.unwrap();
    assert_eq!(outcome, SUCCEEDED);
    assert_eq!(world.job().await["conclusion"], json!("success"));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_cuts_while_results_are_told() {
    survives(vec![
        Rule { times: 2, ..rule(Call::Results, status(503)) },
        Rule { times: 2, ..rule(Call::Results, Fault::Cut { done: true }) },
        Rule { times: 2, ..rule(Call::CompleteJob, status(500)) },
        rule(Call::CompleteJob, Fault::Cut { done: false }),
        rule(Call::RenewJob, status(503)),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_of_another_repository_of_the_hub_runs() {
    let script = "echo \"::notice::from ${INPUT_WHO}\"; echo \"at ${GITHUB_ACTION_REF}\"";
    let manifest = format!(
        "inputs: {{who: {{default: nobody}}}}\nruns:\n  using: composite\n  steps:\n    \
         - {{shell: sh, env: {{INPUT_WHO: '${{{{ inputs.who }}}}'}}, run: {}}}\n",
        json!(script)
    );
    let Some(mut world) = World::new("echo unused", Vec::new()).await else { return };
    let sha = world.commit("acme/act", &[("greet/action.yml", &manifest)]).await;
    let workflow =
        WORKFLOW.replace("run: SCRIPT", "uses: acme/act/greet@main\n        with: {who: you}");
    let missing = WORKFLOW.replace("run: SCRIPT", "uses: acme/none@main");
    // The first run of this world is not of interest: its job is taken by this runner first.
    assert_eq!(world.runner().await.unwrap(), SUCCEEDED);
    for (workflow, want) in [(workflow, Conclusion::Succeeded), (missing, Conclusion::Failed)] {
        world.run = world.push(&workflow).await;
        world.register().await;
        assert_eq!(world.runner().await.unwrap(), RunnerOutcome::Completed(want));
    }
    let text = world.fixture.output.text();
    for line in [
        format!("Z Download action repository 'acme/act@main' (SHA:{sha})\n"),
        "Z ##[notice]from you\n".to_owned(),
        "Z at main\n".to_owned(),
        "Z ##[error]Unable to resolve action `acme/none@main`: there is no repository".to_owned(),
    ] {
        assert!(text.contains(&line), "no `{line}` in:\n{text}");
    }
}
