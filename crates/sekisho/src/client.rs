//! What a command says to a plane, its own or another program's.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{Stream, TryStreamExt as _};
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::ExposeSecret as _;
use sekisho_github::hub_api::{Dispatch, Event, Pushed, Run, Runs};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

use crate::exit::hinted;
use crate::plane::Address;

/// How long an answer may take; a stream of events has no end of its own.
const DEADLINE: Duration = Duration::from_secs(30);

/// Longest line of an event stream, in bytes: a batch of 100 log lines with room to spare.
const MAX_EVENT: usize = 4 * 1024 * 1024;

/// How many runs are asked for to see whether any is under way.
const RECENT: u32 = 200;

/// An answer of the gate.
#[derive(Debug)]
pub(crate) enum Said<T> {
    /// What was asked for.
    Yes(T),
    /// The status, and why.
    No(u16, String),
}

/// What the gate says, either way.
async fn said<T: DeserializeOwned>(
    answer: reqwest::Response,
    path: &str,
) -> anyhow::Result<Said<T>> {
    if !answer.status().is_success() {
        return refused(answer).await;
    }
    let body = answer.json().await.with_context(|| format!("reading the gate's `{path}`"))?;
    Ok(Said::Yes(body))
}

/// What the gate says when it does not: the messages of its errors.
async fn refused<T>(answer: reqwest::Response) -> anyhow::Result<Said<T>> {
    let status = answer.status().as_u16();
    let body: serde_json::Value = answer.json().await.unwrap_or_default();
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let messages: Vec<&str> = errors.iter().filter_map(|it| it["message"].as_str()).collect();
    let why = if messages.is_empty() {
        format!("the gate answered {status}")
    } else {
        messages.join(" | ")
    };
    Ok(Said::No(status, why))
}

/// A client of one plane.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    address: Address,
}

impl Client {
    /// Speaks to the plane at `address`.
    pub(crate) fn new(address: Address) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(DEADLINE)
            .build()
            .context("making an HTTP client")?;
        Ok(Self { http, address })
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
        let url = self.address.url.join(path).with_context(|| format!("joining `{path}`"))?;
        Ok(self.http.request(method, url).bearer_auth(self.address.admin_token.expose_secret()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let sent = self.request(Method::GET, path)?.timeout(DEADLINE).send().await;
        let answer = sent.and_then(reqwest::Response::error_for_status);
        let answer = answer.with_context(|| format!("asking the plane for `{path}`"))?;
        answer.json().await.with_context(|| format!("reading the plane's `{path}`"))
    }

    /// Starts the runs of a commit that the hub has.
    pub(crate) async fn dispatch(
        &self,
        repository: &str,
        dispatch: &Dispatch,
    ) -> anyhow::Result<Pushed> {
        let path = format!("/_hub/v1/repositories/{repository}/dispatch");
        let sent = self.request(Method::POST, &path)?.timeout(DEADLINE).json(dispatch).send().await;
        let answer = sent.and_then(reqwest::Response::error_for_status);
        answer.context("starting a run")?.json().await.context("reading what was started")
    }

    /// One run as it is now.
    pub(crate) async fn run(&self, id: u64) -> anyhow::Result<Run> {
        self.get(&format!("/_hub/v1/runs/{id}")).await
    }

    /// The latest runs, newest first.
    pub(crate) async fn recent_runs(&self) -> anyhow::Result<Vec<Run>> {
        Ok(self.get::<Runs>(&format!("/_hub/v1/runs?limit={RECENT}")).await?.runs)
    }

    /// Cancels a run; one that is over is left as it is.
    pub(crate) async fn cancel(&self, id: u64) -> anyhow::Result<()> {
        let path = format!("/_hub/v1/runs/{id}/cancel");
        let answer = self.request(Method::POST, &path)?.timeout(DEADLINE).json(&()).send().await;
        match answer.context("cancelling a run")?.status() {
            StatusCode::ACCEPTED | StatusCode::CONFLICT => Ok(()),
            status => bail!("the plane answered {status} when asked to cancel run {id}"),
        }
    }

    /// The events of a run from its first on; ends when the run is over.
    pub(crate) async fn events(
        &self,
        id: u64,
    ) -> anyhow::Result<impl Stream<Item = anyhow::Result<Event>> + use<>> {
        let path = format!("/_hub/v1/runs/{id}/events?after=0");
        let sent = self.request(Method::GET, &path)?.send().await;
        let answer = sent.and_then(reqwest::Response::error_for_status);
        let bytes = answer.context("following a run")?.bytes_stream();
        let reader = StreamReader::new(bytes.map_err(std::io::Error::other));
        let lines = FramedRead::new(reader, LinesCodec::new_with_max_length(MAX_EVENT));
        let lost = move |error: LinesCodecError| {
            let hint = "another program's plane ended; `sekisho runs` says what became of the run";
            hinted(format!("the plane was lost while run {id} went on: {error}"), hint)
        };
        Ok(lines.map_err(lost).and_then(|line| async move {
            serde_json::from_str(&line).context("reading an event of a run")
        }))
    }

    /// An answer of the gate.
    pub(crate) async fn gate<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Said<T>> {
        let sent = self.request(Method::GET, path)?.timeout(DEADLINE).send().await;
        said(sent.with_context(|| format!("asking the gate for `{path}`"))?, path).await
    }

    /// Says something to the gate that may take as long as a promotion.
    pub(crate) async fn say<T: Serialize>(&self, path: &str, body: &T) -> anyhow::Result<Said<()>> {
        let sent = self.request(Method::POST, path)?.json(body).send().await;
        let answer = sent.with_context(|| format!("telling the gate `{path}`"))?;
        if answer.status().is_success() { Ok(Said::Yes(())) } else { refused(answer).await }
    }

    /// Tells the gate something that it answers.
    pub(crate) async fn ask<T: Serialize, R: DeserializeOwned>(
        &self,
        path: &str,
        body: &T,
    ) -> anyhow::Result<Said<R>> {
        let sent = self.request(Method::POST, path)?.json(body).send().await;
        said(sent.with_context(|| format!("telling the gate `{path}`"))?, path).await
    }

    /// What the gate decided on the images of a run, oldest first.
    pub(crate) async fn decisions(&self, run: u64) -> anyhow::Result<Vec<sekisho_gate::Decision>> {
        self.get::<sekisho_gate::Decisions>(&format!("/_gate/v1/decisions?run_id={run}"))
            .await
            .map(|answer| answer.decisions)
    }
}
