//! A hub that listens on a port of its own, and a folder to push from.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use reqwest::{Method, RequestBuilder, Response};
use sekisho_hub::{BuiltinRepository, Config, Hub};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub(crate) const ADMIN: &str = "admin-token-of-the-test";

/// One job with one step.
pub(crate) const WORKFLOW: &str = "\
name: build
on: push
permissions:
  contents: read
  id-token: write
jobs:
  hello:
    runs-on: [Default, linux]
    env:
      WHO: ${{ github.actor }}
    outputs:
      answer: ${{ steps.say.outputs.answer }}
    steps:
      - id: say
        name: Say it
        run: echo hello
";

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) url: String,
    pub(crate) hub: Arc<Hub>,
    pub(crate) client: reqwest::Client,
    server: JoinHandle<()>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap()).await
    }

    /// A hub on a folder that may have been used before.
    pub(crate) async fn on(dir: TempDir) -> Self {
        Self::with(dir, |_| ()).await
    }

    /// A hub with a configuration of its own.
    pub(crate) async fn with(dir: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut config = Config::new(dir.path().join("hub"), &url, ADMIN.to_owned().into());
        config.vars.insert("COLOUR".to_owned(), "blue".to_owned());
        config.builtin_repositories.push(BuiltinRepository {
            owner: "sekisho".to_owned(),
            name: "pipeline".to_owned(),
            refs: vec!["refs/heads/main".to_owned(), "refs/tags/v1".to_owned()],
            files: vec![(".github/workflows/image.yml".to_owned(), PIPELINE.as_bytes().to_vec())],
        });
        change(&mut config);
        let hub = Arc::new(Hub::open(config).unwrap());
        let router = hub.router().into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = reqwest::Client::builder()
            .user_agent("sekisho-hub tests")
            .tls_certs_only([])
            .build()
            .unwrap();
        Self { dir, url, hub, client, server }
    }

    /// Ends the process, as far as a test can, and gives the folder back.
    pub(crate) fn kill(self) -> TempDir {
        self.server.abort();
        self.dir
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// With the admin token.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.request(Method::GET, path).bearer_auth(ADMIN).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "GET {path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// With the admin token.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        let request = self.request(Method::POST, path).bearer_auth(ADMIN).json(body);
        request.send().await.unwrap()
    }

    pub(crate) async fn register(&self, name: &str, labels: &[&str]) -> Value {
        self.register_at("repos/acme/app", name, labels).await
    }

    /// At a place such as `orgs/acme`.
    pub(crate) async fn register_at(&self, place: &str, name: &str, labels: &[&str]) -> Value {
        let body = json!({"name": name, "runner_group_id": 1, "labels": labels});
        let path = format!("/api/v3/{place}/actions/runners/generate-jitconfig");
        let answer = self.post(&path, &body).await;
        assert_eq!(answer.status(), 201);
        answer.json().await.unwrap()
    }

    /// A new folder with these files, committed on `main`.
    pub(crate) fn folder(&self, name: &str, files: &[(&str, &str)]) -> Folder {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        let folder = Folder { path, home: self.dir.path().to_owned() };
        folder.git(&["init", "--quiet", "--initial-branch=main"]);
        folder.commit(files);
        folder
    }

    pub(crate) fn remote(&self, repository: &str) -> String {
        format!("{}/{repository}", self.url)
    }

    /// Pushes `main` and gives the id of the only run that this made.
    pub(crate) async fn push(&self, folder: &Folder, repository: &str) -> u64 {
        let (folder, remote) = (folder.clone(), self.remote(repository));
        let sha = folder.sha();
        tokio::task::spawn_blocking(move || folder.git(&["push", "--quiet", &remote, "main"]))
            .await
            .unwrap();
        let path = format!("/_hub/v1/pushes?repository={repository}&sha={sha}");
        let pushed = self.get(&path).await;
        assert_eq!(pushed["errors"], json!([]));
        assert_eq!(pushed["runs"].as_array().unwrap().len(), 1, "{pushed}");
        pushed["runs"][0].as_u64().unwrap()
    }

    pub(crate) async fn run(&self, id: u64) -> Value {
        self.get(&format!("/_hub/v1/runs/{id}")).await
    }

    /// All events of a run that is over.
    pub(crate) async fn events(&self, id: u64) -> Vec<Value> {
        let path = format!("/_hub/v1/runs/{id}/events");
        let answer = self.request(Method::GET, &path).bearer_auth(ADMIN).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        let text = answer.text().await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

const PIPELINE: &str = "\
on:
  workflow_call:
    inputs:
      context: { type: string, default: . }
permissions:
  contents: read
  id-token: write
jobs:
  build:
    runs-on: default
    steps:
      - uses: actions/checkout@v4
      - run: echo \"$CONTEXT\"
        env:
          CONTEXT: ${{ inputs.context }}
";

/// A working copy.
#[derive(Clone)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    home: PathBuf,
}

impl Folder {
    pub(crate) fn commit(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = self.path.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=change"]);
    }

    pub(crate) fn sha(&self) -> String {
        String::from_utf8(self.git(&["rev-parse", "HEAD"]).stdout).unwrap().trim().to_owned()
    }

    /// Runs git, which must succeed.
    #[track_caller]
    pub(crate) fn git(&self, args: &[&str]) -> Output {
        let output = self.try_git(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {stderr}");
        output
    }

    pub(crate) fn try_git(&self, args: &[&str]) -> Output {
        git(&self.home, &self.path).args(args).output().unwrap()
    }
}

/// A git without the user's configuration.
pub(crate) fn git(home: &Path, dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env_clear()
        .env("PATH", sekisho_hub::DEFAULT_SEARCH_PATH)
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "C")
        .env("GIT_COMMITTER_EMAIL", "c@example.com");
    command
}
