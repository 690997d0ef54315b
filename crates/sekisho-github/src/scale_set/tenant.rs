//! The tenant: where the Actions service is for a place, and the admin token for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use super::connection::usable;
use super::error::ScaleSetError;
use crate::http::{self, Answer, ClientOptions};
use crate::rest::GithubClient;
use crate::retry::{Policy, retry};
use crate::secret::WireSecret;
use crate::wire::scale_set::{
    API_VERSION, MAX_BODY, RegisterRequest, Registration, RunnerEvent, read,
};

/// Calls that are answered at once.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// How to speak with a tenant.
#[derive(Clone, Debug)]
pub struct TenantOptions {
    /// Proxy, certificates.
    pub http: ClientOptions,
    /// For calls that failed for now.
    pub retry: Policy,
    /// What part of the plane asks, for the service's logs: `listener`.
    pub subsystem: &'static str,
}

impl Default for TenantOptions {
    /// As GitHub's own client has it: four tries more, and never longer than 30 s between them.
    fn default() -> Self {
        let retry =
            Policy { attempts: 5, base: Duration::from_secs(1), cap: Duration::from_secs(30) };
        Self { http: ClientOptions::default(), retry, subsystem: "plane" }
    }
}

/// The Actions service of a place. To be shared: all calls take `&self`.
#[derive(Debug)]
pub struct Tenant {
    github: Arc<GithubClient>,
    options: TenantOptions,
    http: reqwest::Client,
    connection: Mutex<Option<Connection>>,
}

#[derive(Clone, Debug)]
struct Connection {
    http: reqwest::Client,
    url: Url,
    token: WireSecret,
    until: Instant,
}

/// A call to the tenant.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    pub(super) operation: &'static str,
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<Value>,
}

impl Tenant {
    /// A tenant that is not asked for yet. Does no IO.
    ///
    /// # Errors
    /// [`ScaleSetError::Http`] when the HTTP client cannot be made.
    pub fn new(
        github: Arc<GithubClient>,
        mut options: TenantOptions,
    ) -> Result<Self, ScaleSetError> {
        let operation = "making an HTTP client";
        options.http.user_agent = user_agent(options.subsystem);
        let http = options.http.client(&[github.address().api()]);
        let http = http.map_err(|source| ScaleSetError::Http { operation, source })?;
        Ok(Self { github, options, http, connection: Mutex::new(None) })
    }

    /// REST of the same place.
    pub fn github(&self) -> &GithubClient {
        &self.github
    }

    /// Makes sure that there is a connection with an admin token that is good for a while.
    ///
    /// # Errors
    /// [`ScaleSetError`].
    pub async fn connect(&self) -> Result<(), ScaleSetError> {
        retry(self.options.retry, ScaleSetError::is_transient, |_| self.connection())
            .await
            .map(drop)
    }

    /// A call with the admin token. What failed for now is tried again; a 401 gets one more try with
    /// a new token.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Answer, ScaleSetError> {
        retry(self.options.retry, ScaleSetError::is_transient, |_| self.once(&call)).await
    }

    /// As [`Self::call`], once.
    pub(super) async fn once(&self, call: &Call<'_>) -> Result<Answer, ScaleSetError> {
        let connection = self.connection().await?;
        let answer = send(call.operation, request(&connection, call), CALL_DEADLINE).await?;
        if answer.status != 401 {
            return ScaleSetError::check(call.operation, answer);
        }
        self.forget(&connection.token);
        let connection = self.connection().await?;
        let answer = send(call.operation, request(&connection, call), CALL_DEADLINE).await?;
        ScaleSetError::check(call.operation, answer)
    }

    /// A call whose answer is JSON.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
    ) -> Result<T, ScaleSetError> {
        let operation = call.operation;
        parse(operation, &self.call(call).await?)
    }

    /// A request to the tenant with another bearer than the admin token.
    pub(super) async fn request_as(
        &self,
        call: &Call<'_>,
        bearer: &WireSecret,
    ) -> Result<Answer, ScaleSetError> {
        let mut connection = self.connection().await?;
        connection.token = bearer.clone();
        send(call.operation, request(&connection, call), CALL_DEADLINE).await
    }

    async fn connection(&self) -> Result<Connection, ScaleSetError> {
        let known = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known
            && Instant::now() < known.until
        {
            return Ok(known);
        }
        // Two at a time may do this: each gets a token that is good.
        let connection = self.register().await?;
        let mut place = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Some(connection.clone());
        Ok(connection)
    }

    /// Forgets a token, unless another has taken its place already.
    fn forget(&self, token: &WireSecret) {
        let mut known = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| known.token.expose() == token.expose()) {
            *known = None;
        }
    }

    async fn register(&self) -> Result<Connection, ScaleSetError> {
        const OPERATION: &str = "registering with the Actions service";
        // A registration token may be too fresh to be known everywhere: 401 and 403 pass.
        let passes = |error: &ScaleSetError| matches!(error.status(), Some(401 | 403));
        let token = self.github.registration_token().await;
        let token = token.map_err(|source| ScaleSetError::Rest { source })?;
        let address = self.github.address();
        let body = RegisterRequest { url: address.place(), runner_event: RunnerEvent::Register };
        let registration: Registration = retry(self.options.retry, passes, |_| async {
            let remote = format!("RemoteAuth {}", token.token.expose());
            let mut url = address.api().clone();
            url.set_path(&format!("{}actions/runner-registration", url.path()));
            let request = self.http.post(url).header(reqwest::header::AUTHORIZATION, remote);
            let answer = send(OPERATION, request.json(&body), CALL_DEADLINE).await?;
            parse(OPERATION, &ScaleSetError::check(OPERATION, answer)?)
        })
        .await?;
        let url = Url::parse(&registration.url).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        let url = url.ok_or(ScaleSetError::Url { operation: OPERATION })?;
        // What came over TLS is not continued in the clear.
        if address.api().scheme() == "https" && url.scheme() != "https" {
            return Err(ScaleSetError::Url { operation: OPERATION });
        }
        let http = self.client(OPERATION, &url)?;
        let until = Instant::now() + usable(registration.token.expose(), seconds_now());
        Ok(Connection { http, url, token: registration.token, until })
    }

    /// A client for another of the service's addresses: the tenant's own, if it is at the same place.
    pub(super) fn client(
        &self,
        operation: &'static str,
        url: &Url,
    ) -> Result<reqwest::Client, ScaleSetError> {
        let known = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.url.origin() == url.origin()) {
            return Ok(known.http);
        }
        let client = self.options.http.client(&[url]);
        client.map_err(|source| ScaleSetError::Http { operation, source })
    }
}

fn request(connection: &Connection, call: &Call<'_>) -> RequestBuilder {
    let mut url = connection.url.clone();
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}/{}", call.path));
    url.query_pairs_mut().extend_pairs(call.query).append_pair("api-version", API_VERSION);
    let request = connection
        .http
        .request(call.method.clone(), url)
        .bearer_auth(connection.token.expose())
        .header(reqwest::header::ACCEPT, "application/json");
    match &call.body {
        Some(body) => request.json(body),
        None => request,
    }
}

pub(super) async fn send(
    operation: &'static str,
    request: RequestBuilder,
    deadline: Duration,
) -> Result<Answer, ScaleSetError> {
    let answer = http::send(request, deadline, MAX_BODY).await;
    answer.map_err(|source| ScaleSetError::Http { operation, source })
}

pub(super) fn parse<T: DeserializeOwned>(
    operation: &'static str,
    answer: &Answer,
) -> Result<T, ScaleSetError> {
    read(&answer.body).map_err(|source| ScaleSetError::Body { operation, source })
}

/// As GitHub's own client has it: a JSON object, for the service's logs.
fn user_agent(subsystem: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "system": "sekisho", "version": version, "commit_sha": "", "scale_set_id": 0,
        "subsystem": subsystem, "build_version": version, "build_commit_sha": "", "kind": "scaleset",
    })
    .to_string()
}

#[expect(
    clippy::disallowed_methods,
    reason = "act: for a token that does not say when it was made"
)]
fn seconds_now() -> f64 {
    jiff::Timestamp::now().as_duration().as_secs_f64()
}
