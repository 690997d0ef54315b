//! Every route of the hub: what it says to credentials that are not its own, and to bodies that are
//! none. A route that is not in [`TABLE`] fails the first test.

mod bodies;
mod refusals;

use std::collections::BTreeSet;

use reqwest::{Method, RequestBuilder, StatusCode};

use crate::credentials::Tokens;
use crate::runner::Runner;
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
    ("POST", "/api/v3/actions/runners/register", Registrar),
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
    ("GET", "/api/v3/orgs/{owner}/repos", Rest),
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
    ("GET POST", "REPO/pulls", Rest),
    ("GET PATCH", "REPO/pulls/{pull}", Rest),
    ("PUT", "REPO/pulls/{pull}/merge", Rest),
    ("GET", "REPO/contents/{*path}", Rest),
    ("GET", "/api/v3/app", App),
    ("GET", "/api/v3/app/installations", App),
    ("POST", "/api/v3/app/installations/{id}/access_tokens", App),
    ("GET", "/api/v3/rate_limit", Rest),
    ("GET", "/_hub/v1/health", Own),
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
    ("GET", "/_tenant/_apis/connectionData", Public),
    ("POST", "/_tenant/_apis/distributedtask/pools/{pool}/sessions", Broker),
    ("DELETE", "/_tenant/_apis/distributedtask/pools/{pool}/sessions/{session}", Broker),
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
            ("pull", "1"),
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

/// What is served is in docs/protocol.md, by the last word of its path that is no parameter.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_names_every_call() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");
    let page = std::fs::read_to_string(page).unwrap();
    let world = World::new().await;
    for path in world.hub.paths() {
        // The hub's own API has its table in `sekisho_github::hub_api`.
        if path.starts_with("/_hub/v1/") {
            continue;
        }
        let mut words = path.split('/').filter(|word| !word.is_empty() && !word.starts_with('{'));
        let last = words.next_back().unwrap().trim_start_matches("github.actions.results.api.v1.");
        let last = last.trim_start_matches("results.services.receiver.");
        assert!(page.contains(last), "docs/protocol.md does not have `{last}` of {path}");
    }
}
