//! Servers on loopback that play ECR and the agent of a pod.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as StdMutex};

use axum::Router;
use axum::http::StatusCode;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

/// A server on loopback that ends with its test.
pub(super) struct Served {
    url: Url,
    seen: Arc<StdMutex<Vec<(HeaderMap, String)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    /// Gives these answers in their order, the last one for ever; `None` for a connection that breaks.
    async fn with(answers: Vec<Option<(u16, String)>>) -> Self {
        let seen = Arc::<StdMutex<Vec<_>>>::default();
        let (told, answers) = (Arc::clone(&seen), Arc::new(StdMutex::new(VecDeque::from(answers))));
        let give = move |headers: HeaderMap, body: String| {
            told.lock().unwrap().push((headers, body));
            let mut answers = answers.lock().unwrap();
            let last = answers.len() == 1;
            let answer = if last { answers[0].clone() } else { answers.pop_front().unwrap() };
            async move {
                let (status, text) = answer.unwrap_or_else(|| panic!("the connection breaks"));
                (StatusCode::from_u16(status).unwrap(), text)
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let router = Router::new().fallback(give);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, seen, task }
    }

    async fn one(status: u16, text: impl ToString) -> Self {
        Self::with(vec![Some((status, text.to_string()))]).await
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// What EKS Pod Identity's agent gives, and the environment of the pod that asks it.
pub(super) async fn agent(
    key: &str,
    secret: &str,
    session: &str,
) -> (Served, tempfile::NamedTempFile, Vec<(String, String)>) {
    let credentials = json!({
        "AccessKeyId": key, "SecretAccessKey": secret, "Token": session,
        "Expiration": "2199-01-01T00:00:00Z", "AccountId": "000000000000",
    });
    let served = Served::one(200, credentials).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(file.path(), "token-of-the-pod").unwrap();
    let environment = pod(&served.url, file.path().to_str().unwrap());
    (served, file, environment)
}

fn pod(agent: &Url, token_file: &str) -> Vec<(String, String)> {
    variables(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token_file),
    ])
}

fn ecr(endpoint: &Url, environment: Vec<(String, String)>) -> Ecr {
    provider();
    Ecr::new("eu-central-1", Some(endpoint.clone()), environment, true).unwrap()
}

pub(super) async fn password(ecr: &Ecr, now: i64) -> Result<String, EcrError> {
    let (user, secret) = ecr.login(at(now)).await?;
    assert_eq!(user, "AWS");
    Ok(secret.expose_secret().to_owned())
}

#[tokio::test]
async fn a_pod_gets_a_password_and_keeps_it() {
    let (agent, _file, environment) = agent("ASIA", SECRET, SESSION).await;
    let server = Served::with(
        [token("first", 43_200.0), token("second", 86_400.0), token("third", 86_400.0)]
            .map(|answer| Some((200, answer.to_string())))
            .into(),
    )
    .await;
    let ecr = ecr(&server.url, environment);
    assert_eq!((server.count(), agent.count()), (0, 0));
    assert_eq!(password(&ecr, 0).await.unwrap(), "first");
    assert_eq!(password(&ecr, 34_559).await.unwrap(), "first");
    assert_eq!(server.count(), 1);
    assert_eq!(password(&ecr, 34_560).await.unwrap(), "second");
    // One that is not kept any more is not missed.
    ecr.forget(&"first".to_owned().into()).await;
    assert_eq!(password(&ecr, 34_561).await.unwrap(), "second");
    ecr.forget(&"second".to_owned().into()).await;
    assert_eq!(password(&ecr, 34_561).await.unwrap(), "third");
    assert_eq!(agent.count(), 1);
    assert_eq!(agent.seen.lock().unwrap()[0].0["authorization"], "token-of-the-pod");
    let (headers, body) = server.seen.lock().unwrap()[0].clone();
    assert_eq!(body, "{}");
    assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
    assert_eq!(headers["x-amz-target"], TARGET);
    assert_eq!(headers["x-amz-security-token"], SESSION);
    let signature = headers["authorization"].to_str().unwrap();
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=ASIA/"), "{signature}");
    assert!(signature.contains("/eu-central-1/ecr/aws4_request, "), "{signature}");
    let signed =
        "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token;x-amz-target";
    assert!(signature.contains(&format!("SignedHeaders={signed}, ")), "{signature}");
    let debug = format!("{ecr:?} {:?}", ecr.last.lock().await);
    for secret in [SECRET, SESSION, "third"] {
        assert!(!debug.contains(secret), "{debug}");
    }
}

#[tokio::test]
async fn all_who_ask_at_once_are_one_request() {
    let server = Served::with(vec![
        Some((400, json!({"__type": "AccessDeniedException"}).to_string())),
        // It has expired already: nobody keeps it, and all who waited may try it.
        Some((200, token("dead", 1.0).to_string())),
    ])
    .await;
    let ecr = ecr(&server.url, keys());
    let all = || futures_util::future::join_all((0..20).map(|_| password(&ecr, 100)));
    let denied = Problem::Denied("the role may not".into());
    for result in all().await {
        assert_eq!(result, Err(ecr.failed(denied.clone())));
    }
    assert_eq!(server.count(), 1);
    assert!(all().await.iter().all(|result| result.as_deref() == Ok("dead")));
    assert_eq!(server.count(), 2);
    assert_eq!(password(&ecr, 100).await.unwrap(), "dead");
    assert_eq!(server.count(), 3);
}

#[tokio::test]
async fn what_may_go_better_is_tried_three_times() {
    let fine = Some((200, token("password", 43_200.0).to_string()));
    let server = Served::with(vec![None, Some((500, "{}".into())), fine]).await;
    assert_eq!(password(&ecr(&server.url, keys()), 0).await.unwrap(), "password");
    assert_eq!(server.count(), 3);
    let huge = "x".repeat(MAX_ANSWER_BYTES + 1);
    let denied =
        json!({"__type": "AccessDeniedException", "message": "User x may not"}).to_string();
    for (answer, tries, says) in [
        (Some((503, String::new())), 3, "busy or broken (503 without a reason)"),
        (Some((429, String::new())), 3, "(429 without a reason)"),
        (None, 3, "network policy"),
        (Some((400, denied)), 1, "User x may not; give the role `ecr:GetAuthorizationToken`"),
        (Some((200, "garbage".into())), 1, "not ECR's: it breaks off"),
        (Some((200, huge)), 1, "over 65536 bytes"),
        (Some((302, String::new())), 1, "refuses the request (302"),
    ] {
        let server = Served::with(vec![answer]).await;
        let ecr = ecr(&server.url, keys());
        let error = password(&ecr, 0).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains(&named(&server.url)), "{error}");
        assert_eq!((server.count(), error.is_temporary()), (tries, tries == 3), "{error}");
    }
}

#[tokio::test]
async fn a_silent_server_has_a_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let mut ecr = ecr(&url, keys());
    ecr.deadline = Duration::from_millis(200);
    let error = password(&ecr, 0).await.unwrap_err();
    assert_eq!(error, ecr.failed(Problem::Late(ecr.deadline)));
    assert!(error.is_temporary());
}

#[tokio::test]
async fn a_pod_without_credentials_is_told_so() {
    let server = Served::one(200, "never asked").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    // Of another form than credentials have, with a secret in it.
    let odd =
        json!({"AccessKeyId": "A", "SecretAccessKey": [SECRET], "Token": {SESSION: 1}}).to_string();
    // What no header can hold would end the process in the library.
    let broken = json!({
        "AccessKeyId": "A", "SecretAccessKey": SECRET, "Token": "line\nfeed", "Expiration": "2199-01-01T00:00:00Z",
    });
    for (status, answer, token_file, says) in [
        (404, "no such role".to_owned(), path, "no credentials of AWS for this process: "),
        (200, odd, path, "another form than credentials have; give its service account a role"),
        (200, json!(SECRET).to_string(), path, "another form than credentials have"),
        (200, broken.to_string(), path, "cannot be signed"),
        (200, "{}".to_owned(), "/nowhere/token", "`/nowhere/token`"),
    ] {
        let agent = Served::one(status, answer).await;
        let ecr = ecr(&server.url, pod(&agent.url, token_file));
        let error = password(&ecr, 0).await.unwrap_err().to_string();
        let is_safe = !error.contains(SECRET) && !error.contains(SESSION);
        assert!(error.replace('\'', "`").contains(says) && is_safe, "{error}");
    }
    assert_eq!(server.count(), 0);
}
