//! Every route of the hub: what it says to credentials that are not its own, and to bodies that are
//! none. A route that is not in [`TABLE`] fails the first test.

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::credentials::Tokens;
use crate::job::Runner;
use crate::world::{ADMIN, WORKFLOW, World};
use Who::{
    App, Assertion, Broker, Git, Issuer, JobOfLaunch, JobOfResults, JobOfRun, Own, Public, Queue,
    Registrar, Rest, RunnerOfRun, Signed, SignedRest, Tenant,
};

/// Who may ask, and so how a refusal reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// GitHub's REST: the administrator, an installation, a job's `github.token`.
    Rest,
    /// REST for the App as itself.
    App,
    /// `RemoteAuth` with a registration token.
    Registrar,
    /// The hub's own API: the administrator.
    Own,
    Tenant,
    Queue,
    /// A runner, at the broker.
    Broker,
    /// A runner, at the run service.
    RunnerOfRun,
    JobOfRun,
    JobOfResults,
    JobOfLaunch,
    /// A job that asks for an ID token.
    Issuer,
    /// The URL itself, in Azure's words.
    Signed,
    /// The URL itself, in REST's words.
    SignedRest,
    /// A runner that proves its key.
    Assertion,
    /// Programs of the plane's user on this machine.
    Git,
    Public,
}

/// Methods and path, as axum writes it. `SCOPE`: a repository's, an organization's, an enterprise's.
const TABLE: &[(&str, &str, Who)] = &[
    ("POST", "/api/v3/actions/runner-registration", Registrar),
    ("GET", "SCOPE/installation", App),
    ("POST", "SCOPE/actions/runners/generate-jitconfig", Rest),
    ("POST", "SCOPE/actions/runners/registration-token", Rest),
    ("POST", "SCOPE/actions/runners/remove-token", Rest),
    ("GET", "SCOPE/actions/runners/downloads", Rest),
    ("GET", "SCOPE/actions/runners", Rest),
    ("DELETE GET", "SCOPE/actions/runners/{id}", Rest),
    ("DELETE GET POST PUT", "SCOPE/actions/runners/{id}/labels", Rest),
    ("DELETE", "SCOPE/actions/runners/{id}/labels/{label}", Rest),
    ("GET POST", "SCOPE/actions/runner-groups", Rest),
    ("DELETE GET PATCH", "SCOPE/actions/runner-groups/{group}", Rest),
    ("GET", "SCOPE/actions/runner-groups/{group}/runners", Rest),
    ("DELETE PUT", "SCOPE/actions/runner-groups/{group}/runners/{runner}", Rest),
    ("GET PUT", "SCOPE/actions/runner-groups/{group}/repositories", Rest),
    ("DELETE PUT", "SCOPE/actions/runner-groups/{group}/repositories/{repository}", Rest),
    ("GET", "SCOPE/hooks", Rest),
    ("POST", "SCOPE/hooks/{hook}/pings", Rest),
    ("GET", "SCOPE/hooks/{hook}/deliveries", Rest),
    ("GET", "SCOPE/hooks/{hook}/deliveries/{delivery}", Rest),
    ("POST", "SCOPE/hooks/{hook}/deliveries/{delivery}/attempts", Rest),
    ("GET", "REPO/actions/runs", Rest),
    ("GET", "REPO/actions/runs/{run}", Rest),
    ("GET", "REPO/actions/runs/{run}/attempts/{attempt}", Rest),
    ("GET", "REPO/actions/runs/{run}/jobs", Rest),
    ("GET", "REPO/actions/runs/{run}/attempts/{attempt}/jobs", Rest),
    ("GET", "REPO/actions/runs/{run}/logs", Rest),
    ("GET", "REPO/actions/runs/{run}/attempts/{attempt}/logs", Rest),
    ("POST", "REPO/actions/runs/{run}/cancel", Rest),
    ("POST", "REPO/actions/runs/{run}/force-cancel", Rest),
    ("POST", "REPO/actions/runs/{run}/rerun", Rest),
    ("POST", "REPO/actions/runs/{run}/rerun-failed-jobs", Rest),
    ("GET", "REPO/actions/runs/{run}/artifacts", Rest),
    ("GET POST", "REPO/actions/runs/{run}/pending_deployments", Rest),
    ("GET", "REPO/actions/runs/{run}/concurrency_groups", Rest),
    ("GET", "REPO/actions/artifacts", Rest),
    ("DELETE GET", "REPO/actions/artifacts/{artifact}", Rest),
    ("GET", "REPO/actions/artifacts/{artifact}/zip", Rest),
    ("GET", "REPO/actions/concurrency_groups", Rest),
    ("GET", "REPO/actions/concurrency_groups/{group}", Rest),
    ("GET", "REPO/actions/caches", Rest),
    ("DELETE", "REPO/actions/caches/{cache}", Rest),
    ("GET", "REPO/actions/cache/usage", Rest),
    ("GET", "REPO/actions/jobs/{job}", Rest),
    ("GET", "REPO/actions/jobs/{job}/logs", Rest),
    ("POST", "REPO/actions/jobs/{job}/rerun", Rest),
    ("POST", "REPO/actions/workflows/{workflow}/dispatches", Rest),
    ("GET", "REPO/contents/{*path}", Rest),
    ("GET", "/api/v3/app", App),
    ("GET", "/api/v3/app/installations", App),
    ("POST", "/api/v3/app/installations/{id}/access_tokens", App),
    ("GET", "/api/v3/rate_limit", Rest),
    ("GET", "/_hub/v1/queue", Own),
    ("POST", "/_hub/v1/runners/{id}/gone", Own),
    ("GET", "/_hub/v1/runs", Own),
    ("GET", "/_hub/v1/runs/{id}", Own),
    ("GET", "/_hub/v1/runs/{id}/events", Own),
    ("POST", "/_hub/v1/runs/{id}/cancel", Own),
    ("GET", "/_hub/v1/pushes", Own),
    ("POST", "/_hub/v1/repositories/{owner}/{name}/dispatch", Own),
    ("DELETE GET PUT", "/_hub/v1/faults", Own),
    ("POST", "/_hub/v1/clock", Own),
    ("GET POST", "SETS", Tenant),
    ("DELETE GET PATCH", "SETS/{id}", Tenant),
    ("POST", "SETS/{id}/generatejitconfig", Tenant),
    ("POST", "SETS/{id}/sessions", Tenant),
    ("DELETE PATCH", "SETS/{id}/sessions/{session}", Tenant),
    ("POST", "SETS/{id}/acquirejobs", Queue),
    ("GET", "SETS/{id}/acquirablejobs", Tenant),
    ("GET", "/_tenant/_apis/runtime/runnergroups/", Tenant),
    ("GET", "/_tenant/_apis/runtime/runnergroups", Tenant),
    ("GET", "/_tenant/_apis/distributedtask/pools/0/agents", Tenant),
    ("DELETE GET", "/_tenant/_apis/distributedtask/pools/0/agents/{id}", Tenant),
    ("GET", "/_tenant/scalesets/message", Queue),
    ("DELETE", "/_tenant/scalesets/message/{message}", Queue),
    ("DELETE POST", "/_broker/session", Broker),
    ("GET", "/_broker/message", Broker),
    ("POST", "/_broker/acknowledge", Broker),
    ("DELETE POST", "/_broker//session", Broker),
    ("GET", "/_broker//message", Broker),
    ("POST", "/_broker//acknowledge", Broker),
    ("GET", "/_broker/_apis/connectionData", Public),
    ("POST", "/_broker/_apis/distributedtask/pools/{pool}/sessions", Broker),
    ("DELETE", "/_broker/_apis/distributedtask/pools/{pool}/sessions/{session}", Broker),
    ("POST", "/_run/acquirejob", RunnerOfRun),
    ("POST", "/_run/renewjob", JobOfRun),
    ("POST", "/_run/completejob", JobOfRun),
    ("ANY", "/_run/feed", JobOfRun),
    ("POST", "/actions/build/{plan}/jobs/{job}/runnerresolve/actions", JobOfLaunch),
    ("GET", "/_launch/{owner}/{name}/tarball/{sha}", JobOfLaunch),
    ("POST", "TWIRP/results.services.receiver.Receiver/{method}", JobOfResults),
    (
        "POST",
        "TWIRP/github.actions.results.api.v1.WorkflowStepUpdateService/WorkflowStepsUpdate",
        JobOfResults,
    ),
    ("POST", "TWIRP/github.actions.results.api.v1.ArtifactService/{method}", JobOfResults),
    ("POST", "TWIRP/github.actions.results.api.v1.CacheService/{method}", JobOfResults),
    ("POST", "/_oauth/token", Assertion),
    ("PUT", "/_blobs/{run}/{job}/{file}", Signed),
    ("GET", "/_blobs/{run}/{job}/{file}", SignedRest),
    ("GET", "/_blobs/{run}/attempts/{attempt}/logs.zip", SignedRest),
    ("GET PUT", "/devstoreaccount1/{container}/{blob}", Signed),
    ("GET", "/_services/token/.well-known/openid-configuration", Public),
    ("GET", "/_services/token/.well-known/jwks", Public),
    ("GET", "/_services/token/jwks", Public),
    ("GET", "/_services/token/id", Issuer),
    ("GET", "/{owner}/{name}/info/refs", Git),
    ("POST", "/{owner}/{name}/git-upload-pack", Git),
    ("POST", "/{owner}/{name}/git-receive-pack", Git),
];

/// The table, a line for each method, with everything that stands for several paths spelled out.
fn table() -> Vec<(Method, String, Who)> {
    let repository = "/api/v3/repos/{owner}/{name}";
    let mut all = Vec::new();
    for (methods, path, who) in TABLE {
        let prefixes = match path.split('/').next().unwrap_or_default() {
            "SCOPE" => vec![repository, "/api/v3/orgs/{owner}", "/api/v3/enterprises/{enterprise}"],
            "REPO" => vec![repository],
            "SETS" => vec!["/_tenant/_apis/runtime/runnerscalesets"],
            "TWIRP" => vec!["/twirp", "/_results/twirp"],
            _ => vec![""],
        };
        let rest = path.trim_start_matches(|c: char| c.is_ascii_uppercase());
        for prefix in prefixes {
            for method in methods.split(' ') {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                all.push((method, format!("{prefix}{rest}"), *who));
            }
        }
    }
    all
}

struct Plane {
    world: World,
    tokens: Tokens,
    runner: Runner,
    /// Without connections that are kept: a body that nobody reads ends one.
    client: reqwest::Client,
    /// A run that is over.
    done: u64,
}

impl Plane {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::with(dir, |config| config.fault_switches = true).await;
        let folder = world.folder("work", &[(".github/workflows/build.yml", WORKFLOW)]);
        let done = world.push(&folder, "acme/app").await;
        let mut first = Runner::new(&world, "r1").await;
        first.acquire(&world).await;
        assert_eq!(first.complete(&world, "succeeded").await.status(), 200);
        folder.commit(&[]);
        world.push(&folder, "acme/app").await;
        let mut runner = Runner::new(&world, "r2").await;
        let tokens = Tokens::new(&world, &mut runner).await;
        let client = reqwest::Client::builder().user_agent("sekisho-hub tests");
        let client = client.tls_certs_only([]).pool_max_idle_per_host(0).build().unwrap();
        Self { world, tokens, runner, client, done }
    }

    /// A path with its parameters filled in: of things that are there, if they can be.
    fn fill(&self, path: &str) -> String {
        let runner = self.runner.id.to_string();
        let run = self.done.to_string();
        // A runner knows its job by another name.
        let job = match path.starts_with("/actions/build/") {
            true => self.runner.job["jobId"].as_str().unwrap().to_owned(),
            false => (self.done * 100_000).to_string(),
        };
        let set = self.tokens.set.to_string();
        let id = if path.contains("runnerscalesets") { &set } else { &runner };
        let uuid = uuid::Uuid::nil().to_string();
        let plan = self.runner.job["plan"]["planId"].as_str().unwrap().to_owned();
        let mut filled = path.to_owned();
        for (name, value) in [
            ("owner", "acme"),
            ("name", "app"),
            ("enterprise", "e"),
            ("id", id),
            ("label", "x"),
            ("group", "1"),
            ("runner", &runner),
            ("repository", "2"),
            ("hook", "1"),
            ("delivery", "1"),
            ("run", &run),
            ("attempt", "1"),
            ("artifact", "1"),
            ("cache", "1"),
            ("job", &job),
            ("workflow", "build.yml"),
            ("*path", "README.md"),
            ("session", &uuid),
            ("message", "1"),
            ("plan", &plan),
            ("pool", "1"),
            ("sha", "main"),
            ("method", "CreateArtifact"),
            ("file", "job.log"),
            ("container", "caches"),
            ("blob", &uuid),
        ] {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        assert!(!filled.contains('{'), "{filled}");
        filled
    }

    fn request(&self, method: &Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method.clone(), format!("{}{path}", self.world.url));
        if path != "/_run/feed" {
            return request;
        }
        // What is no websocket is refused before anything else.
        let request = request.header("connection", "upgrade").header("upgrade", "websocket");
        let request = request.header("sec-websocket-version", "13");
        request.header("sec-websocket-key", "c2VraXNob3NlbmtpZ2FoYQ==")
    }

    /// The credential that a route wants.
    fn good(&self, who: Who) -> Option<&str> {
        let tokens = &self.tokens;
        match who {
            Rest | App | Own => Some(ADMIN),
            Tenant => Some(&tokens.tenant),
            Queue => Some(&tokens.queue),
            Broker | RunnerOfRun => Some(&tokens.runner),
            JobOfRun | JobOfResults | JobOfLaunch | Issuer => Some(&tokens.job),
            Registrar | Signed | SignedRest | Assertion | Git | Public => None,
        }
    }
}

/// What a route is asked with, beside a body: enough for it to look at the credential.
fn needs(path: &str) -> &'static str {
    match path {
        path if path.ends_with("/info/refs") => "?service=git-upload-pack",
        "/_broker/message" | "/_broker//message" => {
            "?sessionId=00000000-0000-0000-0000-000000000000&status=Online"
        }
        "/_broker/acknowledge"
        | "/_broker/session"
        | "/_broker//acknowledge"
        | "/_broker//session" => "?sessionId=00000000-0000-0000-0000-000000000000",
        "/_hub/v1/pushes" => "?repository=acme/app&sha=x",
        _ => "",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_has_every_route_and_method() {
    let plane = Plane::new().await;
    let mut served = BTreeSet::new();
    for path in plane.world.hub.paths() {
        // A method that no route has is refused with those that it has.
        let odd = Method::from_bytes(b"PROPFIND").unwrap();
        let refused = plane.request(&odd, &plane.fill(&path)).bearer_auth(ADMIN).send().await;
        let refused = refused.unwrap();
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        // One that takes every method says none.
        let Some(allowed) = refused.headers().get("allow") else {
            served.insert(format!("ANY {path}"));
            continue;
        };
        let allowed = allowed.to_str().unwrap().to_owned();
        let methods = allowed.split(',').filter(|method| *method != "HEAD");
        served.extend(methods.map(|method| format!("{method} {path}")));
    }
    let known: BTreeSet<String> =
        table().into_iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert_eq!(known.len(), table().len(), "a line is there twice");
    let missing: Vec<_> = served.difference(&known).collect();
    let gone: Vec<_> = known.difference(&served).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in TABLE: {missing:?}; no route: {gone:?}");
}

/// How a route refuses a credential: its status, and its form.
async fn check_refusal(who: Who, answer: Response, about: &str, secret: &str) {
    let status = answer.status();
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    assert!(answer.headers().contains_key("x-github-request-id"), "{about}");
    let text = answer.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    assert!(secret.is_empty() || !text.contains(secret), "{about}: {text}");
    let (want, has): (&[u16], bool) = match who {
        Rest | App | Registrar | Issuer => (&[401], body["message"].is_string()),
        Own => (&[401], body["code"] == "unauthorized" && body["request_id"].is_string()),
        Tenant | Queue => (&[401], body["typeKey"].is_string() && body["message"].is_string()),
        Broker | RunnerOfRun | JobOfRun if about.contains("/feed") => (&[401], text.is_empty()),
        Broker | RunnerOfRun | JobOfRun => (&[401], body["errorMessage"].is_string()),
        JobOfLaunch => (&[401], body.is_object()),
        JobOfResults => (&[401], body["code"] == "unauthenticated" && body["msg"].is_string()),
        Signed => (&[403], text.contains("<Code>AuthenticationFailed</Code>")),
        SignedRest => (&[403], body["message"].is_string()),
        Assertion | Git | Public => unreachable!("{about}"),
    };
    assert!(want.contains(&status.as_u16()), "{about}: {status} {text}");
    assert!(has, "{about}: {kind:?} {text}");
}

/// A token's claims under no key, and under another.
fn forged(token: &str) -> Vec<(&'static str, String)> {
    use base64::Engine as _;
    let encode = |text: &[u8]| base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(text);
    let token = token.strip_prefix("ghs_").unwrap_or(token);
    let Some(claims) = token.split('.').nth(1) else { return Vec::new() };
    let none = encode(br#"{"typ":"JWT","alg":"none"}"#);
    let signed = format!("{}.{claims}", token.split('.').next().unwrap());
    let decoded = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let decoded: Value = serde_json::from_slice(&decoded).unwrap();
    let key = jsonwebtoken::EncodingKey::from_secret(b"another key of the same length..");
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let other = jsonwebtoken::encode(&header, &decoded, &key).unwrap();
    vec![
        ("alg none", format!("{none}.{claims}.")),
        ("alg none, with a signature", format!("{none}.{}", token.split_once('.').unwrap().1)),
        ("no signature", format!("{signed}.")),
        ("another key", other),
        ("cut off", token[..token.len() - 4].to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_takes_a_credential_that_is_not_its_own() {
    let plane = Plane::new().await;
    for (method, path, who) in table() {
        if matches!(who, Assertion | Git | Public) {
            continue;
        }
        let method = if method.as_str() == "ANY" { Method::GET } else { method };
        let filled = format!("{}{}", plane.fill(&path), needs(&path));
        let ask = async |what: &str, header: Option<String>, secret: &str| {
            let mut request = plane.request(&method, &filled).json(&json!({}));
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let about = format!("{method} {path} with {what}");
            check_refusal(who, request.send().await.unwrap(), &about, secret).await;
        };
        ask("nothing", None, "").await;
        ask("garbage", Some("Bearer a.b.c".to_owned()), "").await;
        ask("a password", Some("Basic YWRtaW46YWRtaW4=".to_owned()), "").await;
        ask("half a header", Some("Bearer".to_owned()), "").await;
        let good = plane.good(who);
        for (name, token) in plane.tokens.all() {
            let own = good == Some(token);
            // A job reads the REST of its repository; who registers looks at runners.
            let also = matches!((who, name), (Rest | App, "github" | "admin"));
            if !own && !also {
                ask(&format!("a token of kind {name}"), Some(format!("Bearer {token}")), token)
                    .await;
            }
            let scheme = if who == Registrar { "RemoteAuth" } else { "Bearer" };
            for (what, token) in forged(token) {
                let about = format!("a token of kind {name}: {what}");
                ask(&about, Some(format!("{scheme} {token}")), &token).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_time_and_its_job() {
    let plane = Plane::new().await;
    let ask = async |method: &Method, path: &str, who: Who, token: &str| {
        let filled = format!("{}{}", plane.fill(path), needs(path));
        let request = plane.request(method, &filled).bearer_auth(token).json(&json!({}));
        check_refusal(who, request.send().await.unwrap(), &format!("{method} {path}"), token).await;
    };
    // Longer than any token lives.
    plane.world.hub.advance(jiff::SignedDuration::from_hours(25));
    for (method, path, who) in table() {
        let Some(token) = plane.good(who).filter(|token| *token != ADMIN) else { continue };
        let method = if method.as_str() == "ANY" { Method::GET } else { method };
        ask(&method, &path, who, token).await;
    }
    let runs = "/api/v3/repos/{owner}/{name}/actions/runs";
    ask(&Method::GET, runs, Rest, &plane.tokens.github).await;
    ask(&Method::GET, runs, Rest, &format!("ghs_{}", plane.tokens.job)).await;
}

/// Bodies that no call can mean, by name.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |open: &str, close: &str, n: usize| [open.repeat(n), close.repeat(n)].concat();
    let texts = [
        ("nothing", String::new()),
        ("cut off", r#"{"name": "x", "labels": ["#.to_owned()),
        ("no JSON", "\u{0}\u{1}{{{".to_owned()),
        ("a list", "[]".to_owned()),
        ("a list of lists", "[[],[[]]]".to_owned()),
        ("text", "\"x\"".to_owned()),
        ("a number", "1e400".to_owned()),
        ("null", "null".to_owned()),
        (
            "wrong types",
            r#"{"name":7,"labels":{"a":1},"ref":[],"inputs":"x","id":{},"runnerRequestId":{},
            "sessionId":[],"url":[],"runner_event":9,"planId":{},"jobId":[],"key":[],"version":{},
            "runner_group_id":"x","RunnerSetting":7,"actions":{"a":0},"rules":"x","advance_s":"x"}"#
                .to_owned(),
        ),
        (
            "the same key twice",
            r#"{"name":"a","name":"b","NAME":"c","labels":["x"],"labels":["y"]}"#.to_owned(),
        ),
        ("deep lists", deep("[", "]", 100_000)),
        ("deep objects", format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000))),
        ("a key a mebibyte long", format!("{{\"{}\":1}}", "k".repeat(900_000))),
    ];
    let mut all: Vec<(&str, Vec<u8>)> =
        texts.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
    all.push(("no UTF-8", b"{\"name\":\"\xff\xfe\"}".to_vec()));
    all.push(("larger than any body", vec![b' '; 9 * 1024 * 1024]));
    all
}

/// Calls that do not read a body: what comes in one changes nothing.
fn is_bodiless(path: &str) -> bool {
    let ends = [
        "-token",
        "/cancel",
        "/force-cancel",
        "/pings",
        "/attempts",
        "/sessions/{session}",
        "/pending_deployments",
        "/runners/{runner}",
        "/repositories/{repository}",
    ];
    ends.iter().any(|end| path.ends_with(end))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_breaks_a_route() {
    let plane = Plane::new().await;
    for (method, path, who) in table() {
        let writes = [Method::POST, Method::PUT, Method::PATCH].contains(&method);
        // Blobs and packs may hold any bytes; they have tests of their own.
        if !writes || matches!(who, Signed | Git) {
            continue;
        }
        let filled = format!("{}{}", plane.fill(&path), needs(&path));
        for (what, body) in bodies() {
            let size = body.len();
            let mut request = plane.request(&method, &filled);
            request = match (who, plane.good(who)) {
                (Registrar, _) => {
                    let token = &plane.tokens.registration;
                    request.header("authorization", format!("RemoteAuth {token}"))
                }
                (_, Some(token)) => request.bearer_auth(token),
                (_, None) => request,
            };
            let request = request.header("content-type", "application/json").body(body);
            let about = format!("{method} {path} with {what}");
            let answer = match request.send().await {
                Ok(answer) => answer,
                // It was refused before it was sent: the connection is closed on the rest of it.
                Err(_) if size > 512 * 1024 => continue,
                Err(error) => panic!("{about}: {error}"),
            };
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            assert!(!status.is_server_error(), "{about}: {status} {text}");
            assert!(text.len() < 4096, "{about}: an answer of {} bytes", text.len());
            let broken = ["cut off", "no JSON", "no UTF-8", "deep lists", "deep objects"];
            if broken.contains(&what) && !is_bodiless(&path) {
                assert!(status.is_client_error(), "{about}: {status} {text}");
            }
            if size > 8 * 1024 * 1024 && !is_bodiless(&path) {
                assert_eq!(status, 413, "{about}: {text}");
            }
        }
    }
    // It is all as it was: the job goes on.
    assert_eq!(plane.runner.complete(&plane.world, "succeeded").await.status(), 200);
}
