//! What the scheduler says to the hub: three calls of the hub's own, one of GitHub's.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use sekisho_github::hub_api::{Queue, RunnerGone};
use sekisho_github::rest::{GenerateJitConfig, JitConfig};
use serde::Serialize;
use url::Url;

/// How long one long poll waits, and how much longer its answer may take.
const POLL: Duration = Duration::from_secs(25);
const DEADLINE: Duration = Duration::from_secs(10);

/// The runner group that every repository has.
const DEFAULT_GROUP: u64 = 1;

/// A client of one hub.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    client: reqwest::Client,
    url: Url,
    admin_token: SecretString,
}

impl Hub {
    pub(crate) fn new(url: Url, admin_token: SecretString) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("sekisho/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .connect_timeout(DEADLINE)
            .build()
            .context("making the scheduler's HTTP client")?;
        Ok(Self { client, url, admin_token })
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let url = self.url.join(path).with_context(|| format!("joining `{path}`"))?;
        Ok(self
            .client
            .request(method, url)
            .timeout(DEADLINE)
            .bearer_auth(self.admin_token.expose_secret()))
    }

    /// Long poll: returns when the queue is newer than `after`, or unchanged after [`POLL`].
    pub(crate) async fn queue_after(&self, after: u64) -> anyhow::Result<Queue> {
        self.queue(after, POLL).await
    }

    /// The queue as it is now.
    pub(crate) async fn queue_now(&self) -> anyhow::Result<Queue> {
        self.queue(0, Duration::ZERO).await
    }

    async fn queue(&self, after: u64, wait: Duration) -> anyhow::Result<Queue> {
        let path = format!("/_hub/v1/queue?after={after}&wait_ms={}", wait.as_millis());
        let request = self.request(Method::GET, &path)?.timeout(wait + DEADLINE);
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        answer.context("asking for the queue")?.json().await.context("reading the queue")
    }

    /// Registers a runner for one job; the answer's secret is all it needs.
    pub(crate) async fn register(
        &self,
        repository: &str,
        name: &str,
        labels: &[String],
    ) -> anyhow::Result<(u64, SecretString)> {
        let path = format!("/api/v3/repos/{repository}/actions/runners/generate-jitconfig");
        let body = GenerateJitConfig {
            name: name.to_owned(),
            runner_group_id: DEFAULT_GROUP,
            labels: labels.to_vec(),
            work_folder: None,
        };
        let answer: JitConfig = self
            .send(self.request(Method::POST, &path)?, &body)
            .await
            .with_context(|| format!("registering runner `{name}`"))?
            .json()
            .await
            .with_context(|| format!("reading the registration of runner `{name}`"))?;
        Ok((answer.runner.id, answer.encoded_jit_config.into()))
    }

    /// Says that a runner's process has ended. That the hub has forgotten it already, as it does
    /// when a runner has had its job, is no error.
    pub(crate) async fn gone(&self, registration: u64, reason: &str) -> anyhow::Result<()> {
        let path = format!("/_hub/v1/runners/{registration}/gone");
        let body = RunnerGone { reason: reason.to_owned() };
        let request = self.request(Method::POST, &path)?.json(&body);
        let answer = request.send().await.and_then(|answer| match answer.status() {
            StatusCode::NOT_FOUND => Ok(()),
            _ => answer.error_for_status().map(drop),
        });
        answer.with_context(|| format!("removing registration {registration}"))
    }

    pub(crate) async fn cancel(&self, run: u64) -> anyhow::Result<()> {
        let path = format!("/_hub/v1/runs/{run}/cancel");
        match self.send(self.request(Method::POST, &path)?, &()).await {
            // It is over already.
            Err(error) if error.status() == Some(StatusCode::CONFLICT) => Ok(()),
            answer => answer.map(drop).with_context(|| format!("cancelling run {run}")),
        }
    }

    async fn send(
        &self,
        request: RequestBuilder,
        body: &impl Serialize,
    ) -> reqwest::Result<reqwest::Response> {
        request.json(body).send().await.and_then(reqwest::Response::error_for_status)
    }
}
