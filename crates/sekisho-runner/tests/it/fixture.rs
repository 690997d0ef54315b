//! Builds a job message, runs a runner on it, and gives back all that can be seen of it.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rsa::RsaPrivateKey;
use secrecy::SecretString;
use sekisho_github::jit::{CredentialData, Credentials, JitConfig, RsaParameters, RunnerSettings};
use sekisho_runner::{KillGrace, Options, RunnerOutcome, Stop};
use serde_json::{Value, json};

use crate::cable::Cable;
use crate::server::{JOB_TOKEN, Server, Told};

/// A job's parts.
pub(crate) struct Job {
    pub(crate) steps: Vec<Value>,
    pub(crate) env: Vec<Value>,
    pub(crate) outputs: Value,
    pub(crate) variables: Value,
    pub(crate) defaults: Vec<Value>,
    pub(crate) github: Vec<(String, Value)>,
    pub(crate) extra: Value,
}

impl Job {
    pub(crate) fn new(steps: impl IntoIterator<Item = Value>) -> Self {
        let github = [
            ("repository", "acme/app"),
            ("sha", "0123456789012345678901234567890123456789"),
            ("ref", "refs/heads/main"),
            ("ref_name", "main"),
            ("event_name", "push"),
            ("workflow", "ci"),
            ("run_id", "5"),
            ("server_url", "http://127.0.0.1:1"),
            ("not_exported", "x"),
        ];
        let mut github: Vec<(String, Value)> =
            github.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let event = json!({"t": 2, "d": [{"k": "n", "v": {"t": 4, "n": 2}}]});
        github.push(("event".to_owned(), event));
        Self {
            steps: steps.into_iter().collect(),
            env: Vec::new(),
            outputs: Value::Null,
            variables: json!({}),
            defaults: Vec::new(),
            github,
            extra: json!({}),
        }
    }

    pub(crate) fn github(mut self, key: &str, value: &str) -> Self {
        self.github.retain(|(name, _)| name != key);
        self.github.push((key.to_owned(), json!(value)));
        self
    }

    pub(crate) fn message(&self, server: &Server) -> Value {
        let mut variables = json!({
            "system.github.token": {"value": "ghs_the-token-of-the-job", "isSecret": true},
            "system.github.job": {"value": "build"},
            "system.github.results_endpoint": {"value": format!("{}/results/", server.url)},
            "system.orchestrationId": {"value": "orch-1"},
        });
        merge(&mut variables, &self.variables);
        let github: Vec<Value> = self.github.iter().map(|(k, v)| json!({"k": k, "v": v})).collect();
        let mut message = json!({
            "messageType": "RunnerJobRequest",
            "plan": {"planId": "22222222-2222-2222-2222-222222222222", "planType": "actions",
                     "scopeIdentifier": "00000000-0000-0000-0000-000000000000", "version": 12},
            "timeline": {"id": "33333333-3333-3333-3333-333333333333"},
            "jobId": "44444444-4444-4444-4444-444444444444",
            "jobDisplayName": "build", "jobName": "build", "requestId": 1,
            "resources": {"endpoints": [{
                "name": "SystemVssConnection", "url": format!("{}/run/", server.url),
                "authorization": {"scheme": "OAuth", "parameters": {"AccessToken": JOB_TOKEN}},
                "data": {"FeedStreamUrl": format!("{}/feed", server.url.replace("http", "ws")),
                         "GenerateIdTokenUrl": format!("{}/idtoken?api-version=2.0", server.url)},
            }]},
            "contextData": {"github": {"t": 2, "d": github}, "vars": {"t": 2}},
            "mask": [], "environmentVariables": self.env, "defaults": self.defaults,
            "fileTable": [], "variables": variables, "steps": self.steps,
            "jobOutputs": self.outputs,
        });
        merge(&mut message, &self.extra);
        message
    }
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().unwrap() {
        into[key] = value.clone();
    }
}

/// `{"type":2,"map":[…]}`
pub(crate) fn mapping(entries: &[(&str, Value)]) -> Value {
    let map: Vec<Value> = entries.iter().map(|(k, v)| json!({"Key": k, "Value": v})).collect();
    json!({"type": 2, "map": map})
}

pub(crate) fn expr(text: &str) -> Value {
    json!({"type": 3, "expr": text})
}

/// A step's id, from its context name.
pub(crate) fn id(name: &str) -> String {
    let mut hex = String::new();
    for byte in name.bytes().chain(std::iter::repeat(0)).take(16) {
        hex.push_str(&format!("{byte:02x}"));
    }
    let part = |from: usize, to: usize| hex[from..to].to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// A `run` step.
pub(crate) fn run(name: &str, script: &str) -> Value {
    json!({
        "type": "action", "id": id(name), "name": name, "contextName": name, "enabled": true,
        "condition": "success()", "reference": {"type": "script"},
        "inputs": mapping(&[("script", json!(script))]),
    })
}

/// A step with more fields.
pub(crate) fn with(mut step: Value, fields: Value) -> Value {
    merge(&mut step, &fields);
    step
}

/// A `run` step with a condition.
pub(crate) fn run_if(name: &str, condition: &str, script: &str) -> Value {
    with(run(name, script), json!({"condition": condition}))
}

/// A `uses` step.
pub(crate) fn uses(name: &str, reference: Value, inputs: &[(&str, Value)]) -> Value {
    with(run(name, ""), json!({"reference": reference, "inputs": mapping(inputs)}))
}

pub(crate) fn local(name: &str, path: &str, inputs: &[(&str, Value)]) -> Value {
    let reference = json!({"type": "repository", "repositoryType": "self", "path": path});
    uses(name, reference, inputs)
}

pub(crate) fn checkout(name: &str, inputs: &[(&str, Value)]) -> Value {
    let reference = json!({"type": "repository", "repositoryType": "GitHub",
        "name": "actions/checkout", "ref": "v4"});
    uses(name, reference, inputs)
}

/// Output that can be read while it is written.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Captured {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Waits until the output holds `text`.
    pub(crate) async fn until(&self, text: &str) {
        let wait = async {
            while !self.text().contains(text) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
        assert!(waited.is_ok(), "no `{text}` in:\n{}", self.text());
    }
}

/// A runner that may be run.
pub(crate) struct Fixture {
    pub(crate) server: Arc<Server>,
    pub(crate) root: tempfile::TempDir,
    pub(crate) output: Captured,
    pub(crate) stop: Stop,
}

/// What is left of a job.
pub(crate) struct Finished {
    pub(crate) outcome: RunnerOutcome,
    pub(crate) complete: Value,
    pub(crate) stdout: String,
    pub(crate) told: Told,
    pub(crate) root: tempfile::TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            server: Server::start().await,
            root: tempfile::tempdir().unwrap(),
            output: Captured::default(),
            stop: Stop::new(),
        }
    }

    /// Everything goes over a cable that can be cut.
    pub(crate) async fn with_cable() -> (Self, Cable) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cable = Cable::to(listener.local_addr().unwrap()).await;
        let server = Server::start_on(listener, cable.url());
        (Self { server, ..Self::new().await }, cable)
    }

    pub(crate) fn set_job(&self, job: &Job) {
        *self.server.job.lock().unwrap() = job.message(&self.server);
    }

    pub(crate) fn options(&self) -> Options {
        let path = std::env::vars_os().find(|(name, _)| name == "PATH").unwrap().1;
        let environment = vec![
            ("PATH".into(), path),
            ("HOME".into(), self.root.path().into()),
            ("LANG".into(), "C.UTF-8".into()),
        ];
        Options {
            root: self.root.path().join("root"),
            version: "0.0.0-test".to_owned(),
            environment,
            output: Box::new(self.output.clone()),
            stop: self.stop.clone(),
            // As the real ones, only shorter.
            grace: KillGrace {
                interrupt: Duration::from_millis(400),
                terminate: Duration::from_millis(300),
            },
        }
    }

    pub(crate) fn workspace(&self) -> std::path::PathBuf {
        self.root.path().join("root/_work/app/app")
    }

    /// Runs the job to its end.
    pub(crate) async fn run(self, job: Job) -> Finished {
        self.set_job(&job);
        let outcome = sekisho_runner::run(blob(&self.server.url), self.options()).await.unwrap();
        self.finish(outcome)
    }

    pub(crate) fn finish(self, outcome: RunnerOutcome) -> Finished {
        let told = std::mem::take(&mut *self.server.told.lock().unwrap());
        Finished {
            outcome,
            complete: told.complete.clone().expect("the job was completed"),
            stdout: self.output.text(),
            told,
            root: self.root,
        }
    }
}

/// Runs a job to its end.
pub(crate) async fn finish(job: Job) -> Finished {
    Fixture::new().await.run(job).await
}

impl Finished {
    pub(crate) fn conclusion(&self) -> &str {
        self.complete["conclusion"].as_str().unwrap()
    }

    /// The result of a step, by its context name.
    pub(crate) fn step(&self, name: &str) -> &Value {
        let id = id(name);
        let steps = self.complete["stepResults"].as_array().unwrap();
        steps.iter().find(|s| s["external_id"] == json!(id)).expect(name)
    }

    /// Conclusions of all steps with their names, the runner's own left out.
    pub(crate) fn conclusions(&self) -> Vec<(String, String)> {
        let steps = self.complete["stepResults"].as_array().unwrap().iter();
        let own =
            |s: &&Value| ["Set up job", "Complete job"].contains(&s["name"].as_str().unwrap());
        let pair = |s: &Value| {
            let text = |key: &str| s[key].as_str().unwrap_or_default().to_owned();
            (text("name"), text("conclusion"))
        };
        steps.filter(|s| !own(s)).map(pair).collect()
    }

    /// The uploaded log of a step, without timestamps.
    pub(crate) fn log(&self, name: &str) -> Vec<String> {
        let blob = self.told.blobs.get(&format!("log-{}", id(name)));
        let text = String::from_utf8(blob.expect(name).clone()).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[track_caller]
    pub(crate) fn assert_logged(&self, name: &str, line: &str) {
        let log = self.log(name);
        assert!(log.iter().any(|l| l == line), "no `{line}` in:\n{}", log.join("\n"));
    }

    #[track_caller]
    pub(crate) fn assert_conclusion(&self, want: &str) {
        assert_eq!(self.conclusion(), want, "{}", self.stdout);
    }
}

fn key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap())
}

/// A JIT configuration for the server.
pub(crate) fn blob(url: &str) -> SecretString {
    with_settings(url, json!({"UseV2Flow": "True", "ServerUrlV2": format!("{url}/broker/")}))
}

/// One for the server's old flow.
pub(crate) fn tenant_blob(url: &str) -> SecretString {
    with_settings(url, json!({"UseV2Flow": "False", "ServerUrl": format!("{url}/tenant/")}))
}

fn with_settings(url: &str, settings: Value) -> SecretString {
    let mut runner = json!({"AgentId": "23", "AgentName": "r-7f", "DisableUpdate": "True",
        "Ephemeral": "True"});
    merge(&mut runner, &settings);
    let runner: RunnerSettings = sekisho_github::lenient::from_value(runner).unwrap();
    let data = CredentialData {
        client_id: "client-1".to_owned(),
        authorization_url: format!("{url}/oauth/token"),
        require_fips_cryptography: true,
        oauth_endpoint_url: None,
        authorization_url_v2: None,
        enable_auth_migration_by_default: None,
    };
    let credentials = Credentials { scheme: "OAuth".to_owned(), data };
    JitConfig { runner, credentials, key: RsaParameters::from_key(key()).unwrap() }.encode()
}
