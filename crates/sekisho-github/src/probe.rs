//! The assumptions that Sekisho makes about GitHub, one by one, against a server that answers.
//!
//! Each is a small entry of [`ASSUMPTIONS`]: what is assumed, where it is written, whether finding
//! out changes something, and how to find out. Drift at GitHub, or a fault of the hub, is then a
//! line of a table. What changes something cleans up after itself.

mod access;
mod reading;
mod registration;

use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::http::{self, Answer, ClientOptions, HttpError};
use crate::rest::{API_VERSION, Address, Clock, GithubClient, Repository, RestError, Scope};

/// Of one request.
const DEADLINE: Duration = Duration::from_secs(30);

/// Largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// One assumption.
pub struct Assumption {
    /// Short, and the same in every version.
    pub id: &'static str,
    /// What is assumed.
    pub what: &'static str,
    /// Where it is written: a section of the protocol reference, or an RFC.
    pub source: &'static str,
    /// Finding out registers a runner, which is removed again, or asks for what must be refused.
    pub changes: bool,
    check: for<'a> fn(&'a Probe) -> Checking<'a>,
}

/// A check that is under way.
type Checking<'a> = Pin<Box<dyn Future<Output = Result<(), Miss>> + Send + 'a>>;

/// What became of an assumption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It held.
    Held,
    /// It did not: what was seen instead.
    Broken(String),
    /// It was not looked at: why.
    Skipped(String),
}

/// Why a check did not end well.
#[derive(Debug)]
enum Miss {
    Broken(String),
    Skipped(&'static str),
}

/// One row of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// [`Assumption::id`].
    pub id: &'static str,
    /// [`Assumption::what`].
    pub what: &'static str,
    /// [`Assumption::source`].
    pub source: &'static str,
    /// What became of it.
    pub outcome: Outcome,
}

/// All of them, in the order in which they are tried.
pub const ASSUMPTIONS: &[&[Assumption]] =
    &[access::ASSUMPTIONS, reading::ASSUMPTIONS, registration::ASSUMPTIONS];

/// Asks a server.
#[derive(Debug)]
pub struct Probe {
    client: GithubClient,
    http: http::Client,
    token: SecretString,
    clock: Clock,
}

impl Probe {
    /// Makes ready: gets a token for an App, if that is who asks.
    ///
    /// # Errors
    /// When no client can be made, or no token be had.
    pub async fn new(
        client: GithubClient,
        options: &ClientOptions,
        clock: Clock,
    ) -> Result<Self, RestError> {
        let token = client.access_token().await?;
        let address = client.address();
        let http = options.client(&[address.api(), address.web()]).map_err(RestError::Client)?;
        Ok(Self { client, http, token, clock })
    }

    /// Tries every assumption, one after the other. `changes`: those too that change something.
    pub async fn run(&self, changes: bool) -> Vec<Row> {
        let mut rows = Vec::new();
        for assumption in ASSUMPTIONS.iter().flat_map(|part| part.iter()) {
            let Assumption { id, what, source, .. } = *assumption;
            let outcome = if assumption.changes && !changes {
                Outcome::Skipped("it changes something: ask for it with --changes".into())
            } else {
                match (assumption.check)(self).await {
                    Ok(()) => Outcome::Held,
                    Err(Miss::Broken(seen)) => Outcome::Broken(seen),
                    Err(Miss::Skipped(why)) => Outcome::Skipped(why.to_owned()),
                }
            };
            rows.push(Row { id, what, source, outcome });
        }
        rows
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn address(&self) -> &Address {
        self.client.address()
    }

    /// The repository, where the address is one.
    fn repository(&self) -> Result<&Repository, Miss> {
        match self.address().scope() {
            Scope::Repository(repository) => Ok(repository),
            _ => Err(Miss::Skipped("the address is no repository")),
        }
    }

    /// The path of the address's scope, and what follows.
    fn scoped(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address().scope().segments().join("/"))
    }

    /// A request to the API as everybody makes them, with this `Authorization`.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        authorization: Option<&str>,
        change: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> Result<Answer, Miss> {
        let url = self.address().api().join(path);
        let url = url.map_err(|_| Miss::Broken(format!("`{path}` is no path")))?;
        let mut request = self
            .http
            .request(method, url)
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", API_VERSION);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.send(change(request)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, Miss> {
        let answer = http::send(request, DEADLINE, MAX_ANSWER_BYTES).await;
        answer.map_err(|error: HttpError| Miss::Broken(error.to_string()))
    }

    /// With the credential.
    async fn authorized(&self, method: Method, path: &str) -> Result<Answer, Miss> {
        let bearer = format!("Bearer {}", self.token.expose_secret());
        self.ask(method, path, Some(&bearer), |request| request).await
    }

    /// With the credential and a body.
    async fn post(&self, path: &str, body: &Value) -> Result<Answer, Miss> {
        let bearer = format!("Bearer {}", self.token.expose_secret());
        self.ask(Method::POST, path, Some(&bearer), |request| request.json(body)).await
    }
}

/// What was expected, or what was seen instead.
fn expect(holds: bool, seen: impl FnOnce() -> String) -> Result<(), Miss> {
    if holds { Ok(()) } else { Err(Miss::Broken(seen())) }
}

fn status(answer: &Answer, want: u16) -> Result<(), Miss> {
    expect(answer.status == want, || format!("status {}, not {want}", answer.status))
}

fn json(answer: &Answer) -> Result<Value, Miss> {
    serde_json::from_slice(&answer.body).map_err(|_| Miss::Broken("the answer is no JSON".into()))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Miss> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| Miss::Broken(format!("there is no header `{name}`")))
}

/// Header and claims of a JWT, unverified.
fn jwt(token: &str) -> Result<(Value, Value), Miss> {
    let mut parts = token.split('.').map(|part| {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok()
    });
    let both = parts.next().flatten().zip(parts.next().flatten());
    both.ok_or_else(|| Miss::Broken("the token is no JWT".into()))
}
