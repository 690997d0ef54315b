//! Who asks: the App, its installations, a job; and tokens that are none.

use std::sync::atomic::AtomicBool;

use sekisho_github::rest::{SignError, SignFuture, Signer};

use super::*;

fn jwt(key: usize, algorithm: Algorithm, claims: &Value) -> String {
    let key = EncodingKey::from_rsa_pem(pem(key).as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

fn unsigned(claims: &Value) -> String {
    use base64::Engine as _;
    let part = |value: &Value| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&json!({"alg": "none", "typ": "JWT"})), part(claims))
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_none() {
    let world = world().await;
    let now = timestamp().as_second();
    let claims =
        |iss: Value, iat: i64, exp: i64| json!({"iss": iss, "iat": now + iat, "exp": now + exp});
    let good = claims(json!(CLIENT_ID), -60, 480);
    let rs256 = Algorithm::RS256;
    let token = "/api/v3/app/installations/5/access_tokens";
    let check = async |token: Option<String>, path: &str, want: u16, words: &str| {
        let method = if path.ends_with("access_tokens") { Method::POST } else { Method::GET };
        let mut request = world.request(method, path);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), want, "{path} {words}");
        assert!(answer.headers().contains_key("x-github-request-id"));
        let body: Value = answer.json().await.unwrap();
        let said = body["message"].as_str().unwrap_or_default();
        assert!(said.contains(words), "{said}");
        if want >= 400 {
            assert_eq!(body["status"], want.to_string());
        }
    };
    let runs = "/api/v3/repos/acme/app/actions/runs";
    check(None, runs, 401, "Requires authentication").await;
    check(Some("ghs_x.y.z".into()), runs, 401, "Bad credentials").await;
    check(Some("ghp_nobody".into()), runs, 401, "Bad credentials").await;
    check(Some(jwt(0, rs256, &good)), token, 201, "").await;
    check(Some(jwt(0, rs256, &claims(json!(77), -60, 480))), token, 201, "").await;
    let undecodable = "could not be decoded";
    check(Some(jwt(1, rs256, &good)), token, 401, undecodable).await;
    check(Some(jwt(0, Algorithm::RS384, &good)), token, 401, undecodable).await;
    check(Some(unsigned(&good)), token, 401, undecodable).await;
    check(Some(jwt(0, rs256, &claims(json!("other"), -60, 480))), token, 401, "'Issuer'").await;
    check(Some(jwt(0, rs256, &claims(json!(CLIENT_ID), -600, -1))), token, 401, "in the past")
        .await;
    check(Some(jwt(0, rs256, &claims(json!(CLIENT_ID), 0, 700))), token, 401, "too far").await;
    check(Some(jwt(0, rs256, &claims(json!(CLIENT_ID), 300, 480))), token, 401, "'Issued at'")
        .await;
    check(Some(jwt(0, rs256, &good)), "/api/v3/app", 200, "").await;
    check(Some(jwt(0, rs256, &good)), runs, 401, "installation token").await;
    let unknown = "/api/v3/app/installations/9/access_tokens";
    check(Some(jwt(0, rs256, &good)), unknown, 404, "Not Found").await;
    // Without a User-Agent nobody is heard.
    let plain = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let silent = plain.get(format!("{}{runs}", world.url)).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(silent.status(), 403);
    let text = silent.text().await.unwrap();
    assert!(text.contains("User-Agent"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_what_it_was_made_for() {
    let world = world().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    push(&world, &folder).await;
    let now = timestamp().as_second();
    let app = jwt(0, Algorithm::RS256, &json!({"iss": 77, "iat": now, "exp": now + 300}));
    let make = async |installation: u64, body: Value| {
        let path = format!("/api/v3/app/installations/{installation}/access_tokens");
        let post = world.request(Method::POST, &path).bearer_auth(&app).json(&body);
        let answer = post.send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status, body["token"].as_str().unwrap_or_default().to_owned(), body)
    };
    let status = async |token: &str, path: &str| {
        let request = world.request(Method::GET, path).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    let runs = "/api/v3/repos/acme/app/actions/runs";
    let (made, all, body) = make(5, json!({})).await;
    assert_eq!((made, &body["repository_selection"]), (201, &json!("all")));
    assert!(all.starts_with("ghs_"));
    let until: Timestamp = body["expires_at"].as_str().unwrap().parse().unwrap();
    assert!((3595..=3600).contains(&(until.as_second() - now)));
    assert_eq!(status(&all, runs).await, 200);
    let wanted = json!({"repositories": ["app"], "permissions": {"contents": "read"}});
    let (_, narrow, body) = make(5, wanted).await;
    assert_eq!(body["permissions"], json!({"contents": "read"}));
    assert_eq!(status(&narrow, runs).await, 403);
    let contents = "/api/v3/repos/acme/app/contents/.github/workflows/build.yml";
    assert_eq!(status(&narrow, contents).await, 200);
    assert_eq!(status(&narrow, "/api/v3/repos/acme/other/contents/x").await, 404);
    let (_, other, _) = make(6, json!({})).await;
    assert_eq!(status(&other, runs).await, 404, "of another account");
    for bad in [
        json!({"permissions": {"contents": "write"}}),
        json!({"permissions": {"secrets": "read"}}),
        json!({"repositories": ["nothing"]}),
        json!({"repository_ids": [999]}),
    ] {
        assert_eq!(make(5, bad.clone()).await.0, 422, "{bad}");
    }
    // A registration token registers and removes, in its own scope, and nothing else.
    let token = async |kind: &str| {
        let path = format!("/api/v3/repos/acme/app/actions/runners/{kind}");
        let made: Value = world.post(&path, &json!({})).await.json().await.unwrap();
        made["token"].as_str().unwrap().to_owned()
    };
    let remote = async |method: Method, token: &str, path: &str| {
        let request = world.request(method, path);
        let request = request.header("authorization", format!("RemoteAuth {token}"));
        request.send().await.unwrap().status().as_u16()
    };
    let (register, remove) = (token("registration-token").await, token("remove-token").await);
    let runner = world.register("r1", &["x"]).await["runner"]["id"].as_u64().unwrap();
    let path = format!("/api/v3/repos/acme/app/actions/runners/{runner}");
    let list = "/api/v3/repos/acme/app/actions/runners?name=r1";
    assert_eq!(remote(Method::GET, &register, list).await, 200);
    assert_eq!(remote(Method::GET, &register, runs).await, 401);
    assert_eq!(remote(Method::GET, "x", list).await, 401);
    assert_eq!(status(&register, list).await, 401, "it is no bearer");
    assert_eq!(remote(Method::DELETE, &register, &path).await, 403);
    let elsewhere = path.replace("acme/app", "acme/other");
    assert_eq!(remote(Method::DELETE, &remove, &elsewhere).await, 404);
    assert_eq!(remote(Method::DELETE, &remove, &path).await, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_token_reads_its_repository_while_the_job_runs() {
    let world = world().await;
    let workflow = WORKFLOW.replace("contents: read", "actions: read");
    let folder = world.folder("work", &[(FILE, &workflow)]);
    push(&world, &folder).await;
    let mut runner = Runner::new(&world, "r1").await;
    runner.acquire(&world).await;
    let message = runner.message_of_job();
    let token = message.variable("system.github.token").unwrap().value.expose().to_owned();
    let client = client(&world, "acme/app", Credential::Token(token.into()));
    let repository = repository();
    assert_eq!(client.runs(&repository, &RunFilter::default()).await.unwrap().len(), 1);
    let refused = client.cancel(&repository, 1).await.unwrap_err();
    assert_eq!(refused.status(), Some(403));
    assert!(refused.to_string().ends_with("Resource not accessible by integration"), "{refused}");
    let hint = "give the credential the permission `actions: write`";
    assert_eq!(refused.hint().as_deref(), Some(hint));
    let other = Repository::new("acme", "other").unwrap();
    assert_eq!(client.run(&other, 1).await.unwrap_err().status(), Some(404));
    runner.complete(&world, "succeeded").await;
    let over = client.run(&repository, 1).await.unwrap_err();
    assert_eq!(over.status(), Some(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_is_made_for_many_and_renewed_before_it_ends() {
    let world = World::with(tempfile::tempdir().unwrap(), |config| {
        with_app(config);
        config.rest_requests_per_hour = Some(1000);
    })
    .await;
    let ahead = Arc::new(AtomicI64::new(0));
    let credential = app(CLIENT_ID, Some(5));
    let client = Arc::new(client_ahead(&world, "acme/app", credential, Arc::clone(&ahead)));
    let mut all = tokio::task::JoinSet::new();
    for n in 0..20 {
        let client = Arc::clone(&client);
        all.spawn(async move { client.runners(Some(&n.to_string())).await.unwrap() });
    }
    all.join_all().await;
    // Every token is a credential of its own, so the hub counted twenty requests for one.
    let window = |client: &GithubClient| format!("{:?}", client.budget());
    assert!(window(&client).contains("remaining: 980"), "{}", window(&client));
    // Five minutes before its end, a new one is made: its window is a new one too.
    ahead.store(3600 - 299, Ordering::Relaxed);
    client.runner(1).await.unwrap_err();
    let made = world.get("/api/v3/rate_limit").await;
    assert_eq!(made["rate"]["used"], 0, "the administrator's own");
}

/// A key that another process has: it is asked for each signature, and may refuse.
struct Vault {
    key: KeySigner,
    asked: AtomicI64,
    sealed: AtomicBool,
}

impl Signer for Vault {
    fn sign<'a>(&'a self, message: &'a [u8]) -> SignFuture<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            // As an answer that comes by the network.
            tokio::task::yield_now().await;
            match self.sealed.load(Ordering::Relaxed) {
                true => Err(SignError::Refused("the vault is sealed".to_owned())),
                false => self.key.sign(message).await,
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apps_key_may_be_where_it_can_be_used_but_not_read() {
    let world = world().await;
    let key = KeySigner::from_pem(&pem(0)).unwrap();
    let (asked, sealed) = (AtomicI64::new(0), AtomicBool::new(false));
    let vault = Arc::new(Vault { key, asked, sealed });
    let signer = Arc::clone(&vault) as Arc<dyn Signer>;
    let issuer = CLIENT_ID.to_owned();
    let credential = Credential::App { issuer, installation: Some(5), signer };
    let ahead = Arc::new(AtomicI64::new(0));
    let client = client_ahead(&world, "acme/app", credential, Arc::clone(&ahead));
    for _ in 0..3 {
        assert_eq!(client.runners(None).await.unwrap(), []);
    }
    assert_eq!(vault.asked.load(Ordering::Relaxed), 1, "one token serves all");
    // It does not sign the next one: the old one is used while it is good, and then nothing is.
    vault.sealed.store(true, Ordering::Relaxed);
    ahead.store(3600 - 200, Ordering::Relaxed);
    assert_eq!(client.runners(None).await.unwrap(), []);
    assert!(vault.asked.load(Ordering::Relaxed) > 1);
    ahead.store(3600, Ordering::Relaxed);
    let error = client.runners(None).await.unwrap_err();
    let RestError::Sign { source: SignError::Refused(why), .. } = &error else { panic!("{error}") };
    assert_eq!(why, "the vault is sealed");
}
