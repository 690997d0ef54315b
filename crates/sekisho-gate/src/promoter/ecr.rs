//! The password for ECR, by the role of this process.
//!
//! ECR takes a password that lives for 12 hours, and gives it to whoever signs a request with the
//! credentials of a role: those come from the pod (EKS Pod Identity, IRSA), the task or the machine, and
//! `object_store` has both that chain and the signature. Source: Amazon ECR API reference,
//! "GetAuthorizationToken"; AWS SDKs and Tools reference guide, "Standardized credential providers".

mod answer;
mod error;
mod host;
pub(crate) mod identity;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use object_store::aws::{AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use sekisho_github::http::{self, HttpError, is_loopback};
use sekisho_types::causes;
use tokio::sync::Mutex;
use url::Url;

use self::answer::MAX_ANSWER_BYTES;
pub(crate) use self::error::{EcrError, Problem};
pub(crate) use self::host::region;
use self::host::{address, is_endpoint, is_region, named};

/// Who asks with a password.
const USER: &str = "AWS";

/// The request, which has no field that we would set.
const BODY: &str = "{}";
const TARGET: &str = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";

/// For the whole of it: credentials, tries and pauses.
const DEADLINE: Duration = Duration::from_secs(30);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How long to wait behind a try that may go better next time.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// No password lives longer, whatever is said about it.
const MAX_LIFE: SignedDuration = SignedDuration::from_hours(12);

/// A password, and when it was asked for.
#[derive(Clone, Debug)]
struct Password {
    secret: SecretString,
    asked: Timestamp,
    expires: Timestamp,
}

impl Password {
    /// Whether more than 20 % of its life is left.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let life = self.expires.duration_since(self.asked).min(MAX_LIFE);
        let age = now.duration_since(self.asked);
        // A clock that was put back says nothing about an age.
        !age.is_negative() && age < life / 5 * 4
    }
}

/// How the last request ended, and the how-manieth it was.
type Last = (u64, Result<Password, EcrError>);

/// What somebody who came when `before` requests had ended is told without another one: a password that is fresh, or
/// what was asked for while it waited, whatever that is.
fn known(last: Option<&Last>, before: u64, now: Timestamp) -> Option<Result<Password, EcrError>> {
    let (round, result) = last?;
    let is_fresh = result.as_ref().is_ok_and(|password| password.is_fresh(now));
    (*round > before || is_fresh).then(|| result.clone())
}

/// ECR of one region.
pub(crate) struct Ecr {
    region: String,
    endpoint: Url,
    credentials: AwsCredentialProvider,
    http: reqwest::Client,
    deadline: Duration,
    /// How many requests have ended.
    rounds: AtomicU64,
    /// Held by who asks, for all others want the same.
    last: Mutex<Option<Last>>,
}

impl fmt::Debug for Ecr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ecr({})", self.endpoint)
    }
}

impl Ecr {
    /// ECR of a region, at AWS's own address where no `endpoint` is named. Nothing is asked yet.
    ///
    /// Who we are is in `environment`: of its variables those in [`identity::aws_environment`] are looked at.
    pub(crate) fn new(
        region: &str,
        endpoint: Option<Url>,
        environment: impl IntoIterator<Item = (String, String)>,
        allow_static_keys: bool,
    ) -> Result<Self, EcrError> {
        if !is_region(region) {
            return Err(EcrError::Region(region.to_owned()));
        }
        let client = |error: &dyn fmt::Display| EcrError::Client(error.to_string());
        let own = || Url::parse(&address("api.ecr", region)).map_err(|error| client(&error));
        let endpoint = endpoint.map_or_else(own, Ok)?;
        if !is_endpoint(&endpoint) {
            return Err(EcrError::Endpoint(named(&endpoint)));
        }
        let settings = identity::settings(environment, allow_static_keys)?;
        let mut http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_DEADLINE);
        if is_loopback(&endpoint) {
            // A proxy of the environment must not see what goes to this machine, and a machine without
            // certificates can talk to itself all the same.
            http = http.no_proxy().tls_certs_only([]);
        }
        Ok(Self {
            credentials: identity::credentials(settings, region)?,
            region: region.to_owned(),
            endpoint,
            http: http.build().map_err(|error| client(&error))?,
            deadline: DEADLINE,
            rounds: AtomicU64::new(0),
            last: Mutex::new(None),
        })
    }

    /// User and password, for the registries of this region.
    pub(crate) async fn login(&self, now: Timestamp) -> Result<(String, SecretString), EcrError> {
        let before = self.rounds.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        let known = known(last.as_ref(), before, now);
        let result = if let Some(result) = known {
            result
        } else {
            let late = || Err(self.failed(Problem::Late(self.deadline)));
            let asked = tokio::time::timeout(self.deadline, self.ask(now)).await;
            let result = asked.unwrap_or_else(|_| late());
            let round = self.rounds.fetch_add(1, Ordering::SeqCst) + 1;
            *last = Some((round, result.clone()));
            result
        };
        result.map(|password| (USER.to_owned(), password.secret))
    }

    /// Forgets this password, which the registry did not take; another one that was asked for meanwhile stays.
    pub(crate) async fn forget(&self, which: &SecretString) {
        let mut last = self.last.lock().await;
        let is_it = |password: &Password| password.secret.expose_secret() == which.expose_secret();
        if last.as_ref().is_some_and(|(_, result)| result.as_ref().is_ok_and(is_it)) {
            *last = None;
        }
    }

    fn failed(&self, problem: Problem) -> EcrError {
        EcrError::Asking { endpoint: named(&self.endpoint), problem }
    }

    async fn ask(&self, now: Timestamp) -> Result<Password, EcrError> {
        let credentials = self.credentials.get_credential().await;
        let credentials = credentials.map_err(|error| identity::failed(&error))?;
        for pause in PAUSES {
            match self.send(&credentials, now).await {
                Err(problem) if problem.is_temporary() => {
                    tracing::debug!(endpoint = named(&self.endpoint), %problem, "asking ECR again");
                }
                done => return done.map_err(|problem| self.failed(problem)),
            }
            tokio::time::sleep(pause).await;
        }
        self.send(&credentials, now).await.map_err(|problem| self.failed(problem))
    }

    /// One try.
    async fn send(&self, credential: &AwsCredential, now: Timestamp) -> Result<Password, Problem> {
        let headers = sign(&self.endpoint, &self.region, credential)?;
        let request = self.http.post(self.endpoint.clone()).headers(headers).body(BODY);
        let answer = http::send(request, self.deadline, MAX_ANSWER_BYTES).await;
        let answer = answer.map_err(|error| match error {
            HttpError::Transport(source) => Problem::Unreachable(causes(&source)),
            HttpError::Deadline(after) => Problem::Late(after),
            HttpError::TooLong(most) => Problem::Unreadable(format!("it has over {most} bytes")),
            other => Problem::Unreachable(causes(&other)),
        })?;
        answer::read(answer.status, &answer.body, now)
    }
}

/// The headers of a request, with its signature.
fn sign(endpoint: &Url, region: &str, who: &AwsCredential) -> Result<HeaderMap, Problem> {
    // The authorizer takes for granted that they fit in a header.
    let fits = |text: &str| HeaderValue::from_str(text).is_ok();
    if !fits(&who.key_id) || !who.token.as_deref().is_none_or(fits) {
        return Err(Problem::Unsigned("its credentials hold what no header can"));
    }
    let request = ::http::Request::post(endpoint.as_str())
        .header(CONTENT_TYPE, "application/x-amz-json-1.1")
        .header("x-amz-target", TARGET)
        .body(HttpRequestBody::from(BODY.to_owned()));
    let mut request: HttpRequest =
        request.map_err(|_| Problem::Unsigned("its address makes no request"))?;
    let authorizer = AwsAuthorizer::new(who, "ecr", region);
    authorizer
        .try_authorize(&mut request, None)
        .map_err(|_| Problem::Unsigned("the signature cannot be made"))?;
    let (mut head, _) = request.into_parts();
    for (name, value) in &mut head.headers {
        value.set_sensitive(
            name.as_str() == "authorization" || name.as_str() == "x-amz-security-token",
        );
    }
    Ok(head.headers)
}
