//! Pull requests by a job's token: as its `permissions` say, and without an end.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::*;

/// A job for a branch of its own, which may do what is said here.
fn bot(permissions: &str) -> String {
    format!(
        "on: {{push: {{branches: [bot]}}}}\npermissions: {{{permissions}}}\n\
         jobs: {{bot: {{runs-on: default, steps: [{{run: bot}}]}}}}\n"
    )
}

/// A job that runs, with its token.
pub(super) struct Bot {
    job: Job,
    token: String,
}

impl Bot {
    pub(super) async fn new(permissions: &str) -> (World, Folder, Self) {
        let workflow = bot(permissions);
        let files = [(".github/workflows/bot.yml", workflow.as_str())];
        let (world, folder) = world_with(|_| (), &files).await;
        branch(&world, &folder, ("acme/app", "topic"), &[("b.txt", "b\n")]).await;
        push(&world, &folder, "acme/app", "main:bot").await;
        let job = take(&world).await;
        let message = job.runner.message_of_job();
        let token = message.variable("system.github.token").unwrap().value.expose().to_owned();
        (world, folder, Self { job, token })
    }

    fn request(&self, world: &World, method: Method, path: &str) -> RequestBuilder {
        world.request(method, path).bearer_auth(&self.token)
    }

    pub(super) async fn ask(
        &self,
        world: &World,
        method: Method,
        path: &str,
        body: Value,
    ) -> Response {
        self.request(world, method, path).json(&body).send().await.unwrap()
    }

    /// Pushes with the job's token; whether it went well, and what was said.
    pub(super) async fn push(
        &self,
        world: &World,
        folder: &Folder,
        what: &[&str],
    ) -> (bool, String) {
        let credential = STANDARD.encode(format!("x-access-token:{}", self.token));
        let header = format!("http.extraHeader=Authorization: Basic {credential}");
        let remote = world.remote("acme/app");
        let mut args = vec!["-c".to_owned(), header, "push".to_owned()];
        args.extend(what.iter().filter(|one| one.starts_with('-')).map(|&one| one.to_owned()));
        args.push(remote);
        args.extend(what.iter().filter(|one| !one.starts_with('-')).map(|&one| one.to_owned()));
        let from = folder.clone();
        let push = move || from.try_git(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let pushed = tokio::task::spawn_blocking(push).await.unwrap();
        (pushed.status.success(), String::from_utf8_lossy(&pushed.stderr).into_owned())
    }

    /// Status and words of git's first request for a push.
    async fn pushes(&self, world: &World, repository: &str) -> (u16, String) {
        self.get(world, &format!("/{repository}/info/refs?service=git-receive-pack")).await
    }

    /// Asks as git does.
    async fn get(&self, world: &World, path: &str) -> (u16, String) {
        let asked = world.request(Method::GET, path).basic_auth("x", Some(&self.token));
        let answer = asked.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned())
    }
}

const TOPIC: &str = "topic";

fn wanted() -> Value {
    json!({"title": "By a job", "head": TOPIC, "base": "main"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_opens_changes_pushes_and_merges_and_starts_nothing() {
    let (world, folder, bot) = Bot::new("contents: write, pull-requests: write").await;
    let opened = bot.ask(&world, Method::POST, PULLS, wanted()).await;
    assert_eq!(opened.status(), 201);
    let opened: Value = opened.json().await.unwrap();
    assert_eq!(opened["user"]["login"], json!("github-actions[bot]"));
    let path = format!("{PULLS}/{}", opened["number"]);
    let edited = bot.ask(&world, Method::PATCH, &path, json!({"title": "Better"})).await;
    assert_eq!(edited.status(), 200);

    // What it pushes is seen, and starts nothing either.
    folder.git(&["checkout", "--quiet", TOPIC]);
    folder.commit(&[("b.txt", "more\n")]);
    let (pushed, said) = bot.push(&world, &folder, &[TOPIC]).await;
    assert!(pushed, "{said}");
    let shown = world.get(&path).await;
    assert_eq!((&shown["title"], &shown["head"]["sha"]), (&json!("Better"), &json!(folder.sha())));
    let merged = bot.ask(&world, Method::PUT, &format!("{path}/merge"), json!({})).await;
    assert_eq!(merged.status(), 200);
    let merged: Value = merged.json().await.unwrap();
    let shown = bot.request(&world, Method::GET, &path).send().await.unwrap();
    let shown: Value = shown.json().await.unwrap();
    assert_eq!((&shown["state"], &shown["merged"]), (&json!("closed"), &json!(true)));
    let (from, remote) = (folder.clone(), world.remote("acme/app"));
    let listed = move || from.git(&["ls-remote", &remote, "refs/heads/main"]);
    let listed = tokio::task::spawn_blocking(listed).await.unwrap();
    let main = String::from_utf8(listed.stdout).unwrap();
    assert!(main.starts_with(merged["sha"].as_str().unwrap()), "{main}");
    assert_eq!(waiting(&world).await, [""; 0]);

    // Another's repository is not its own, and what is over may nothing.
    let (status, why) = bot.pushes(&world, "acme/other").await;
    assert_eq!(status, 403);
    assert!(why.contains("to the repository of the job alone"), "{why}");
    let other = PULLS.replace("acme/app", "acme/other");
    assert_eq!(bot.ask(&world, Method::POST, &other, wanted()).await.status(), 404);
    // Nor does it bring in what is another's.
    push(&world, &folder, "other/app", "main:there").await;
    let foreign = json!({"title": "t", "head": "other:there", "base": "bot"});
    let refused = bot.ask(&world, Method::POST, PULLS, foreign).await;
    assert_eq!(refused.status(), 422);
    let runs = "/api/v3/repos/acme/app/actions/runs";
    assert_eq!(bot.request(&world, Method::GET, runs).send().await.unwrap().status(), 403);
    assert_eq!(bot.pushes(&world, "acme/app").await.0, 200);
    bot.job.runner.complete(&world, "succeeded").await;
    assert_eq!(bot.ask(&world, Method::POST, PULLS, wanted()).await.status(), 401);
    let (status, why) = bot.pushes(&world, "acme/app").await;
    assert_eq!((status, why.trim()), (403, "the job whose token this is is over"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_starts_by_name_is_done_in_its_own() {
    let (world, folder, bot) = Bot::new("actions: write").await;
    let by_hand = "on: workflow_dispatch\njobs: {a: {runs-on: default, steps: [{run: a}]}}\n";
    folder.commit(&[(".github/workflows/by-hand.yml", by_hand)]);
    world.push(&folder, "acme/app").await;
    done(&world, "push").await;
    let path = "/api/v3/repos/acme/app/actions/workflows/by-hand.yml/dispatches";
    let asked = bot.ask(&world, Method::POST, path, json!({"ref": "main"})).await;
    assert_eq!(asked.status(), 204);
    let job = take(&world).await;
    let name = "github-actions[bot]";
    check(&job, &[("event_name", "workflow_dispatch"), ("actor", name)]);
    check(&job, &[("triggering_actor", name)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_fetches_it_fetches_while_it_runs() {
    let (world, folder, bot) = Bot::new("contents: read").await;
    let refs = "/acme/app/info/refs?service=git-upload-pack";
    let tarball = format!("/_launch/acme/app/tarball/{}", folder.sha());
    assert_eq!(bot.get(&world, refs).await.0, 200);
    assert_eq!(bot.get(&world, &tarball).await.0, 200);
    bot.job.runner.complete(&world, "succeeded").await;
    let (status, why) = bot.get(&world, refs).await;
    assert_eq!((status, why.trim()), (403, "the job whose token this is is over"));
    assert_eq!(bot.get(&world, &tarball).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_may_no_more_than_its_permissions_say() {
    for (permissions, [reads, opens, merges, pushes]) in [
        ("pull-requests: read", [200, 403, 403, 403]),
        ("pull-requests: write, contents: read", [200, 201, 403, 403]),
        ("contents: write", [403, 403, 200, 200]),
        ("actions: write", [403, 403, 403, 403]),
    ] {
        let (world, _, bot) = Bot::new(permissions).await;
        let read = bot.request(&world, Method::GET, PULLS).send().await.unwrap();
        assert_eq!(read.status(), reads, "{permissions}");
        let opened = bot.ask(&world, Method::POST, PULLS, wanted()).await;
        assert_eq!(opened.status(), opens, "{permissions}");
        if opens == 403 {
            let why: Value = opened.json().await.unwrap();
            assert_eq!(why["message"], json!("Resource not accessible by integration"));
            open(&world, TOPIC).await;
        }
        let path = format!("{PULLS}/1/merge");
        let merged = bot.ask(&world, Method::PUT, &path, json!({})).await;
        assert_eq!(merged.status(), merges, "{permissions}");
        assert_eq!(bot.pushes(&world, "acme/app").await.0, pushes, "{permissions}");
    }
}
