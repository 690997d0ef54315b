//! One client for everything that is asked of GitHub's REST.
//!
//! ```text
//!  call ─▶ token (renewed early, by one) ─▶ budget ─▶ request (If-None-Match) ─▶ budget ─▶ answer
//! ```
//!
//! The client never sleeps for a limit: it says until when, and a caller that looks at the world
//! again and again comes back then. It retries what cannot do harm: reads and deletions, after a
//! broken connection or a 5xx.

mod call;
mod credential;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LINK};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use url::Url;

pub(super) use self::call::Call;
use super::address::Address;
use super::answers::{Answers, Kept};
use super::budget::{Budget, Permit, RateSeen, retry_after};
use super::clock::Clock;
use super::error::{RestError, message};
use super::link;
use super::token::{Cached, Credential};
use crate::http::{self, Answer, ClientOptions};
use crate::retry::{Policy, retry};

/// The version of the API that is spoken.
pub const API_VERSION: &str = "2022-11-28";

/// Every call but downloads.
const DEADLINE: Duration = Duration::from_secs(30);

/// Largest answer, in bytes: a page of 100 runs has about 1 MiB.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Entries of a page: the most there are.
pub(super) const PER_PAGE: usize = 100;

/// Pages of one list that are read: 10,000 entries, as many runners as a group may have.
const MAX_PAGES: usize = 100;

/// Requests at a time; GitHub's secondary limit is 100.
const MAX_AT_ONCE: usize = 50;

/// GitHub's REST, for one address and one credential. To be shared, not cloned.
#[derive(Debug)]
pub struct GithubClient {
    address: Address,
    credential: Credential,
    http: reqwest::Client,
    clock: Clock,
    token: Cached,
    /// One permit: whoever holds it renews the token, the others wait for what it gets.
    renewing: Semaphore,
    at_once: Semaphore,
    budget: Mutex<Budget>,
    answers: Mutex<Answers>,
}

/// A list, a page of which is `T`.
pub(super) trait Page: DeserializeOwned {
    type Entry;

    fn entries(self) -> Vec<Self::Entry>;
}

impl GithubClient {
    /// A client for an address. Nothing is asked yet.
    ///
    /// # Errors
    /// [`RestError::Client`].
    pub fn new(
        address: Address,
        credential: Credential,
        options: &ClientOptions,
        clock: Clock,
    ) -> Result<Self, RestError> {
        let http = options.client(&[address.api()]).map_err(RestError::Client)?;
        Ok(Self {
            address,
            credential,
            http,
            clock,
            token: Cached::default(),
            renewing: Semaphore::new(1),
            at_once: Semaphore::new(MAX_AT_ONCE),
            budget: Mutex::default(),
            answers: Mutex::default(),
        })
    }

    /// What it is for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The token that requests are made with: for programs that are none of ours.
    ///
    /// # Errors
    /// When an App gets none; see [`RestError`].
    pub async fn access_token(&self) -> Result<SecretString, RestError> {
        self.token("getting a token").await
    }

    /// What is known of the limits.
    pub fn budget(&self) -> Budget {
        self.lock_budget().clone()
    }

    fn lock_budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Calls, and reads the answer as JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, RestError> {
        let operation = call.operation;
        let answer = self.call(&call, &self.url(&call, None)).await?;
        read(operation, &answer.body)
    }

    /// Calls; what is answered does not matter if it is a success.
    pub(super) async fn done(&self, call: Call<'_>) -> Result<(), RestError> {
        self.call(&call, &self.url(&call, None)).await.map(drop)
    }

    /// Reads all pages of a list.
    pub(super) async fn list<P: Page>(&self, call: Call<'_>) -> Result<Vec<P::Entry>, RestError> {
        let mut url = self.url(&call, Some(PER_PAGE));
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let answer = self.call(&call, &url).await?;
            all.extend(read::<P>(call.operation, &answer.body)?.entries());
            match link::next(&url, &answer.headers) {
                Some(next) => url = next,
                None => return Ok(all),
            }
        }
        Err(RestError::TooMany { operation: call.operation, limit: MAX_PAGES * PER_PAGE })
    }

    fn url(&self, call: &Call<'_>, per_page: Option<usize>) -> Url {
        let mut url = self.address.api().clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&call.path);
        }
        if !call.query.is_empty() || per_page.is_some() {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(&call.query);
            if let Some(per_page) = per_page {
                query.append_pair("per_page", &per_page.to_string());
            }
        }
        url
    }

    /// Sends a call, and again if it may be.
    pub(super) async fn call(&self, call: &Call<'_>, url: &Url) -> Result<Answer, RestError> {
        let harmless = matches!(call.method, Method::GET | Method::DELETE | Method::PUT);
        let again = |error: &RestError| harmless && error.is_transient();
        retry(Policy::QUICK, again, |attempt| async move {
            let token = self.token(call.operation).await?;
            let answer = self.send(call, url, &token).await;
            // GitHub may take an installation token away at any time: once more with a new one.
            let refused = matches!(&answer, Err(error) if error.status() == Some(401));
            if refused && attempt == 0 && matches!(self.credential, Credential::App { .. }) {
                self.token.forget(&token);
                let token = self.token(call.operation).await?;
                return self.send(call, url, &token).await;
            }
            answer
        })
        .await
    }

    async fn send(
        &self,
        call: &Call<'_>,
        url: &Url,
        token: &SecretString,
    ) -> Result<Answer, RestError> {
        let kept = match call.method {
            Method::GET => self.lock_answers().get(url.as_str()),
            _ => None,
        };
        let mut request = self.http.request(call.method.clone(), url.clone());
        if let Some(kept) = &kept {
            request = request.header(IF_NONE_MATCH, &kept.etag);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let answer = self.exchange(call, request, token).await?;
        match (answer.status, kept) {
            (304, Some(kept)) => {
                let link = kept.link.and_then(|link| HeaderValue::from_str(&link).ok());
                let headers = link.map(|link| (LINK, link)).into_iter().collect();
                Ok(Answer { status: 200, headers, body: kept.body })
            }
            (200, _) if call.method == Method::GET => {
                self.keep(url, &answer);
                Ok(answer)
            }
            (200..=299 | 302, _) => Ok(answer),
            (status, _) => Err(RestError::Status {
                operation: call.operation,
                status,
                message: message(&answer.body),
                needs: call.needs,
                request_id: text(&answer.headers, "x-github-request-id"),
            }),
        }
    }

    fn keep(&self, url: &Url, answer: &Answer) {
        let mut answers = self.lock_answers();
        match answer.headers.get(ETAG).and_then(|etag| etag.to_str().ok()) {
            Some(etag) => {
                let (etag, link) = (etag.to_owned(), text(&answer.headers, LINK.as_str()));
                answers.put(url.as_str(), Kept { etag, link, body: answer.body.clone() });
            }
            None => answers.remove(url.as_str()),
        }
    }

    /// One request within the limits; a limit that is reached is an error of its own.
    async fn exchange(
        &self,
        call: &Call<'_>,
        request: reqwest::RequestBuilder,
        token: &SecretString,
    ) -> Result<Answer, RestError> {
        let operation = call.operation;
        // An error means that the semaphore was closed, which nobody does.
        let _permit = self.at_once.acquire().await.ok();
        let _out = {
            let mut budget = self.lock_budget();
            match budget.decide(call.resource, call.purpose, self.now()) {
                Permit::Go => budget.begin(call.resource),
                Permit::Wait { until, secondary } => {
                    return Err(RestError::Limited { operation, until, secondary });
                }
            }
            // Counted until the answer is there, or nobody waits for it any more.
            Out { client: self, resource: call.resource }
        };
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| RestError::Body { operation, reason: "a token that is none".into() })?;
        bearer.set_sensitive(true);
        let request = request
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", API_VERSION);
        let answer = http::send(request, DEADLINE, MAX_ANSWER_BYTES).await;
        let answer = answer.map_err(|source| RestError::Http { operation, source })?;
        self.account(operation, &answer).map(|()| answer)
    }

    /// Notes what an answer says about the limits.
    fn account(&self, operation: &'static str, answer: &Answer) -> Result<(), RestError> {
        let now = self.now();
        let mut budget = self.lock_budget();
        let seen = RateSeen::read(&answer.headers);
        let used_up = seen.as_ref().is_some_and(|seen| seen.remaining == 0);
        let until = seen.as_ref().map(|seen| seen.resets_at);
        seen.into_iter().for_each(|seen| budget.observe(seen));
        if !matches!(answer.status, 403 | 429) {
            if answer.status < 400 {
                budget.went_well();
            }
            return Ok(());
        }
        let pause = retry_after(&answer.headers);
        let words = message(&answer.body).to_ascii_lowercase();
        let secondary = pause.is_some() || words.contains("secondary rate limit");
        match until.filter(|until| used_up && !secondary && *until > now) {
            Some(until) => Err(RestError::Limited { operation, until, secondary: false }),
            None if secondary || answer.status == 429 => {
                let until = budget.strike(pause, now);
                Err(RestError::Limited { operation, until, secondary: true })
            }
            None => Ok(()),
        }
    }

    /// Follows the redirect of a download, without the credential.
    pub(super) async fn download(
        &self,
        call: Call<'_>,
        max_bytes: usize,
        deadline: Duration,
    ) -> Result<Vec<u8>, RestError> {
        let operation = call.operation;
        let answer = self.call(&call, &self.url(&call, None)).await?;
        if answer.status != 302 {
            let reason = format!("status {}, not with a place to read from", answer.status);
            return Err(RestError::Body { operation, reason });
        }
        let place = text(&answer.headers, "location").and_then(|url| Url::parse(&url).ok());
        let place = place.filter(|url| matches!(url.scheme(), "http" | "https"));
        let reason = || "a place that is no URL".to_owned();
        let place = place.ok_or_else(|| RestError::Body { operation, reason: reason() })?;
        let answer = http::send(self.http.get(place), deadline, max_bytes).await;
        let answer = answer.map_err(|source| RestError::Http { operation, source })?;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        let reason = format!("a place that answers {}", answer.status);
        Err(RestError::Body { operation, reason })
    }
}

/// A request that is out.
struct Out<'a> {
    client: &'a GithubClient,
    resource: &'static str,
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.client.lock_budget().end(self.resource);
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn read<T: DeserializeOwned>(operation: &'static str, body: &[u8]) -> Result<T, RestError> {
    serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        let reason = match error.classify() {
            serde_json::error::Category::Data => format!("JSON of another shape, at {place}"),
            _ => format!("something that is not JSON, at {place}"),
        };
        RestError::Body { operation, reason }
    })
}
