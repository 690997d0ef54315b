//! Pull requests: of a branch, and of another repository.

mod changes;
mod forks;
mod jobs;
mod limits;
mod workflows;

use reqwest::{Method, Response};
use sekisho_hub::Config;
use serde_json::{Value, json};

use crate::runner::Runner;
use crate::storage::Job;
use crate::world::{ADMIN, Folder, World};

const PUSH: &str =
    "on: {push: {branches: [main]}}\njobs: {a: {runs-on: default, steps: [{run: a}]}}\n";
const PULL: &str = "\
on: pull_request
permissions: {contents: write, id-token: write, pull-requests: write}
jobs: {check: {runs-on: default, steps: [{run: check}]}}
";
const TARGET: &str = "\
on: {pull_request_target: {types: [opened, closed]}}
permissions: {contents: write, id-token: write}
jobs: {greet: {runs-on: default, steps: [{run: greet}]}}
";
const PULLS: &str = "/api/v3/repos/acme/app/pulls";

/// A hub, a repository `acme/app` whose `main` is pushed, and no job that waits.
async fn world() -> (World, Folder) {
    world_with(|_| (), &[]).await
}

/// The same, with a configuration and more files.
async fn world_with(change: impl FnOnce(&mut Config), more: &[(&str, &str)]) -> (World, Folder) {
    let world = World::with(tempfile::tempdir().unwrap(), change).await;
    let mut files = vec![
        (".github/workflows/push.yml", PUSH),
        (".github/workflows/pull.yml", PULL),
        (".github/workflows/target.yml", TARGET),
        ("a.txt", "one\n"),
    ];
    files.extend(more);
    let folder = world.folder("work", &files);
    world.push(&folder, "acme/app").await;
    done(&world, "push").await;
    (world, folder)
}

/// Takes the job that waits longest.
async fn take(world: &World) -> Job {
    let mut runner = Runner::new(world, &format!("r-{}", uuid::Uuid::new_v4())).await;
    runner.acquire(world).await;
    let run = github(&runner, "run_id").parse().unwrap();
    Job { runner, run }
}

/// Takes the job that waits longest, which must be of this event, and ends it.
async fn done(world: &World, event: &str) {
    let job = take(world).await;
    assert_eq!(github(&job.runner, "event_name"), event);
    assert_eq!(job.runner.complete(world, "succeeded").await.status(), 200);
}

/// A field of a job's `github` context.
fn github(runner: &Runner, name: &str) -> String {
    let message = runner.message_of_job();
    let context = &message.context_data["github"].0;
    match name.split_once('.') {
        Some((outer, inner)) => context.get(outer).get(inner).to_text().to_string(),
        None => context.get(name).to_text().to_string(),
    }
}

async fn push(world: &World, folder: &Folder, repository: &str, what: &str) {
    let (folder, remote) = (folder.clone(), world.remote(repository));
    let what = what.to_owned();
    let push = move || folder.git(&["push", "--quiet", &remote, &what]);
    tokio::task::spawn_blocking(push).await.unwrap();
}

/// A branch off `main` with these files, pushed to a repository.
async fn branch(
    world: &World,
    folder: &Folder,
    (repository, name): (&str, &str),
    files: &[(&str, &str)],
) -> String {
    folder.git(&["checkout", "--quiet", "-B", name, "main"]);
    folder.commit(files);
    push(world, folder, repository, name).await;
    let sha = folder.sha();
    folder.git(&["checkout", "--quiet", "main"]);
    sha
}

async fn ask(world: &World, method: Method, path: &str, body: Value) -> Response {
    world.request(method, path).bearer_auth(ADMIN).json(&body).send().await.unwrap()
}

/// Opens one; it must be opened.
async fn open(world: &World, head: &str) -> Value {
    let body = json!({"title": "Better", "body": "Much.", "head": head, "base": "main"});
    let answer = ask(world, Method::POST, PULLS, body).await;
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 201, "{text}");
    serde_json::from_str(&text).unwrap()
}

async fn change(world: &World, number: &Value, body: Value) -> Value {
    ask(world, Method::PATCH, &format!("{PULLS}/{number}"), body).await.json().await.unwrap()
}

/// Events of the runs that wait, the oldest first.
async fn waiting(world: &World) -> Vec<String> {
    let runs = world.get("/api/v3/repos/acme/app/actions/runs?status=queued").await;
    let runs = runs["workflow_runs"].as_array().unwrap().iter().rev();
    runs.map(|run| run["event"].as_str().unwrap().to_owned()).collect()
}

/// The claims of the job's ID token.
async fn id_token(world: &World, job: &Job) -> Value {
    use base64::Engine as _;
    let message = job.runner.message_of_job();
    let url = message.system_connection().unwrap().data("GenerateIdTokenUrl").unwrap().to_owned();
    let asked = world.client.get(url).bearer_auth(job.runner.job_token()).send().await.unwrap();
    let token = asked.json::<Value>().await.unwrap()["value"].as_str().unwrap().to_owned();
    let claims = token.split('.').nth(1).unwrap().to_owned();
    let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

/// What must be of a job, by names of its `github` context.
#[track_caller]
fn check(job: &Job, wanted: &[(&str, &str)]) {
    for (name, want) in wanted {
        assert_eq!(github(&job.runner, name), *want, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_runs_at_what_would_come_of_it() {
    let (world, folder) = world().await;
    let changed = PULL.replace("check:", "changed:");
    let files = [(".github/workflows/pull.yml", changed.as_str()), ("b.txt", "b\n")];
    let head = branch(&world, &folder, ("acme/app", "topic"), &files).await;
    // The base goes on, so that what comes of both is neither.
    folder.commit(&[("c.txt", "c\n")]);
    world.push(&folder, "acme/app").await;
    done(&world, "push").await;
    let base = folder.sha();

    let pull = open(&world, "topic").await;
    assert_eq!((&pull["number"], &pull["state"]), (&json!(1), &json!("open")));
    assert_eq!((&pull["head"]["sha"], &pull["base"]["sha"]), (&json!(head), &json!(base)));
    assert_eq!((&pull["mergeable"], &pull["head"]["repo"]["fork"]), (&json!(true), &json!(false)));
    let (from, merge) = (folder.clone(), pull["merge_commit_sha"].as_str().unwrap().to_owned());
    let remote = world.remote("acme/app");
    let fetched = tokio::task::spawn_blocking(move || {
        from.git(&["fetch", "--quiet", &remote, "refs/pull/1/merge"]);
        let parsed = from.git(&["rev-parse", "FETCH_HEAD", "FETCH_HEAD^1", "FETCH_HEAD^2"]);
        String::from_utf8(parsed.stdout).unwrap()
    });
    let fetched = fetched.await.unwrap();
    assert_eq!(fetched.lines().collect::<Vec<_>>(), [merge.as_str(), &base, &head]);

    assert_eq!(waiting(&world).await, ["pull_request", "pull_request_target"]);
    let job = take(&world).await;
    let workflow = "acme/app/.github/workflows/pull.yml@refs/pull/1/merge";
    check(
        &job,
        &[
            ("event_name", "pull_request"),
            ("ref", "refs/pull/1/merge"),
            ("ref_name", "1/merge"),
            ("sha", &merge),
            ("base_ref", "main"),
            ("head_ref", "topic"),
            ("workflow_ref", workflow),
            ("workflow_sha", &merge),
            ("event.action", "opened"),
            ("event.number", "1"),
        ],
    );
    // The job of the branch's own workflow.
    assert_eq!(job.runner.job["jobName"], json!("changed"));
    let claims = id_token(&world, &job).await;
    for (name, want) in [
        ("sub", "repo:acme/app:pull_request"),
        ("event_name", "pull_request"),
        ("ref", "refs/pull/1/merge"),
        ("base_ref", "main"),
        ("head_ref", "topic"),
        ("sha", &merge),
        ("workflow_ref", workflow),
    ] {
        assert_eq!(claims[name], json!(want), "{name}");
    }
    let shown = world.get(&format!("/api/v3/repos/acme/app/actions/runs/{}", job.run)).await;
    assert_eq!((&shown["head_branch"], &shown["head_sha"]), (&json!("topic"), &json!(head)));
    job.runner.complete(&world, "succeeded").await;

    let job = take(&world).await;
    check(&job, &[("event_name", "pull_request_target"), ("ref", "refs/heads/main")]);
    check(&job, &[("sha", &base)]);
    check(&job, &[("head_ref", "topic"), ("base_ref", "main")]);
    assert_eq!(job.runner.job["jobName"], json!("greet"));
    assert_eq!(id_token(&world, &job).await["sub"], json!("repo:acme/app:ref:refs/heads/main"));
    job.runner.complete(&world, "succeeded").await;

    // A push to the branch is news of it; TARGET does not wait for that.
    folder.git(&["checkout", "--quiet", "topic"]);
    folder.commit(&[("b.txt", "more\n")]);
    push(&world, &folder, "acme/app", "topic").await;
    let job = take(&world).await;
    check(&job, &[("event.action", "synchronize"), ("event.before", &head)]);
    assert_eq!(github(&job.runner, "event.after"), folder.sha());
    job.runner.complete(&world, "succeeded").await;
    assert_eq!(waiting(&world).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_conflict_to_a_merge() {
    let (world, folder) = world().await;
    branch(&world, &folder, ("acme/app", "topic"), &[("a.txt", "topic\n")]).await;
    folder.commit(&[("a.txt", "main\n")]);
    world.push(&folder, "acme/app").await;
    done(&world, "push").await;
    let pull = open(&world, "topic").await;
    let number = pull["number"].clone();
    assert_eq!((&pull["mergeable"], &pull["merge_commit_sha"]), (&json!(false), &Value::Null));
    assert_eq!(waiting(&world).await, ["pull_request_target"]);
    done(&world, "pull_request_target").await;
    let merge = format!("{PULLS}/{number}/merge");
    assert_eq!(ask(&world, Method::PUT, &merge, json!({})).await.status(), 405);

    // Whose commit says so starts nothing, though it goes together now.
    folder.git(&["checkout", "--quiet", "-B", "topic", "main"]);
    std::fs::write(folder.path.join("d.txt"), "d\n").unwrap();
    folder.git(&["add", "--all"]);
    folder.git(&["commit", "--quiet", "--message=d [skip ci]"]);
    push(&world, &folder, "acme/app", "+topic").await;
    assert_eq!(world.get(&format!("{PULLS}/{number}")).await["mergeable"], json!(true));
    assert_eq!(waiting(&world).await, [""; 0]);
    folder.commit(&[("e.txt", "e\n")]);
    push(&world, &folder, "acme/app", "topic").await;
    done(&world, "pull_request").await;

    let closed = change(&world, &number, json!({"state": "closed", "title": "Best"})).await;
    assert_eq!((&closed["state"], &closed["title"]), (&json!("closed"), &json!("Best")));
    done(&world, "pull_request_target").await;
    folder.commit(&[("f.txt", "f\n")]);
    push(&world, &folder, "acme/app", "topic").await;
    assert_eq!(waiting(&world).await, [""; 0]);
    let again = change(&world, &number, json!({"state": "open"})).await;
    assert_eq!(again["head"]["sha"], json!(folder.sha()));
    done(&world, "pull_request").await;

    let stale = json!({"sha": "0".repeat(40)});
    assert_eq!(ask(&world, Method::PUT, &merge, stale).await.status(), 405);
    let merged = ask(&world, Method::PUT, &merge, json!({})).await;
    assert_eq!(merged.status(), 200);
    let merged: Value = merged.json().await.unwrap();
    let shown = world.get(&format!("{PULLS}/{number}")).await;
    assert_eq!((&shown["merged"], &shown["state"]), (&json!(true), &json!("closed")));
    assert_eq!(waiting(&world).await, ["push", "pull_request_target"]);
    let job = take(&world).await;
    check(&job, &[("event_name", "push"), ("sha", merged["sha"].as_str().unwrap())]);
    let path = format!("{PULLS}/{number}");
    let reopened = ask(&world, Method::PATCH, &path, json!({"state": "open"})).await;
    assert_eq!(reopened.status(), 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_pull_request_is_refused_and_all_are_kept() {
    let (world, folder) = world().await;
    branch(&world, &folder, ("acme/app", "topic"), &[("b.txt", "b\n")]).await;
    let refused = async |body: Value, want: &str| {
        let answer = ask(&world, Method::POST, PULLS, body).await;
        assert_eq!(answer.status(), 422, "{want}");
        let answer: Value = answer.json().await.unwrap();
        assert!(answer["message"].as_str().unwrap().contains(want), "{answer}");
    };
    let of = |head: &str, base: &str| json!({"title": "t", "head": head, "base": base});
    refused(of("main", "main"), "No commits between main and main").await;
    refused(of("none", "main"), "head is invalid").await;
    refused(of("topic", "none"), "base is invalid").await;
    refused(of("nobody:topic", "main"), "head is invalid").await;
    refused(of("../../x", "main"), "head is invalid").await;
    refused(json!({"title": "", "head": "topic", "base": "main"}), "title is empty").await;
    let long = |title: usize, body: usize| {
        let (title, body) = ("t".repeat(title), "ä".repeat(body));
        json!({"title": title, "body": body, "head": "none", "base": "main"})
    };
    refused(long(257, 1), "title is too long (maximum is 256 characters)").await;
    refused(long(1, 65_537), "body is too long (maximum is 65536 characters)").await;
    refused(long(256, 65_536), "head is invalid").await;
    let pull = open(&world, "topic").await;
    refused(of("topic", "main"), "A pull request already exists for acme:topic.").await;
    folder.git(&["checkout", "--quiet", "--orphan", "alone"]);
    folder.commit(&[("z.txt", "z\n")]);
    push(&world, &folder, "acme/app", "alone").await;
    refused(of("alone", "main"), "no history in common").await;

    // The refs are the hub's: nobody pushes to them.
    let (from, remote) = (folder.clone(), world.remote("acme/app"));
    let pushed = move || from.try_git(&["push", &remote, "HEAD:refs/pull/1/head"]);
    let pushed = tokio::task::spawn_blocking(pushed).await.unwrap();
    assert!(!pushed.status.success());
    let why = String::from_utf8_lossy(&pushed.stderr).into_owned();
    assert!(why.contains("deny updating a hidden ref"), "{why}");

    let world = World::on(world.kill()).await;
    let count =
        async |query: &str| world.get(&format!("{PULLS}{query}")).await.as_array().unwrap().len();
    assert_eq!([count("").await, count("?state=closed").await], [1, 0]);
    assert_eq!([count("?head=acme:topic").await, count("?head=acme:x").await], [1, 0]);
    assert_eq!([count("?base=main").await, count("?base=x").await], [1, 0]);
    let number = &pull["number"];
    assert_eq!(change(&world, number, json!({"state": "closed"})).await["state"], json!("closed"));
    assert_eq!(
        [count("").await, count("?state=closed").await, count("?state=all").await],
        [0, 1, 1]
    );
    // It is not opened again beside another of the same branches.
    let other = open(&world, "topic").await["number"].clone();
    let path = format!("{PULLS}/{number}");
    let refused = ask(&world, Method::PATCH, &path, json!({"state": "open"})).await;
    assert_eq!(refused.status(), 422);
    let why: Value = refused.json().await.unwrap();
    assert_eq!(why["message"], json!("A pull request already exists for acme:topic."));
    change(&world, &other, json!({"state": "closed"})).await;
    assert_eq!(change(&world, number, json!({"state": "open"})).await["state"], json!("open"));
    let missing = world.request(Method::GET, &format!("{PULLS}/99")).bearer_auth(ADMIN);
    assert_eq!(missing.send().await.unwrap().status(), 404);
}

/// A world in which `fork/app` asks for something of `acme/app`: the jobs of its pull request and of
/// the base's answer to it.
pub(crate) async fn forked() -> (World, Folder, [Job; 2]) {
    let (world, folder) = world().await;
    branch(&world, &folder, ("fork/app", "topic"), &[("b.txt", "b\n")]).await;
    let pull = open(&world, "fork:topic").await;
    assert_eq!(pull["head"]["repo"]["full_name"], json!("fork/app"));
    assert_eq!(pull["head"]["repo"]["fork"], json!(true));
    let jobs = [take(&world).await, take(&world).await];
    check(&jobs[0], &[("event_name", "pull_request"), ("repository", "acme/app")]);
    check(&jobs[1], &[("event_name", "pull_request_target"), ("repository", "acme/app")]);
    (world, folder, jobs)
}

/// A job of a push to the base.
pub(crate) async fn of_base(world: &World, folder: &Folder) -> Job {
    folder.commit(&[]);
    world.push(folder, "acme/app").await;
    let job = take(world).await;
    check(&job, &[("event_name", "push"), ("ref", "refs/heads/main")]);
    job
}
