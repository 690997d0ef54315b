//! Scale sets, by our own client, over a real socket.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use sekisho_github::http::ClientOptions;
use sekisho_github::jit::JitConfig;
use sekisho_github::rest::{Address, Clock, Credential, GithubClient};
use sekisho_github::retry::Policy;
use sekisho_github::scale_set::wanted::Wanted;
use sekisho_github::scale_set::{
    Acquired, Delivery, Event, Listener, ListenerOptions, Tenant, TenantOptions,
};
use sekisho_github::wire::scale_set::{
    JobMessageKind, JobResult, ScaleSetRequest, Statistics, exception,
};
use sekisho_hub::{Assignment, Config};
use serde_json::{Value, json};

use crate::runner::Runner;
use crate::world::{ADMIN, World};

pub(crate) const FILE: &str = ".github/workflows/gpu.yml";
/// Two jobs for the set `gpu`.
pub(crate) const JOBS: &str = "\
name: gpu
on: push
jobs:
  one:
    runs-on: gpu
    steps: [{ name: Say it, run: echo 1 }]
  two:
    runs-on: [gpu, Large]
    steps: [{ name: Say it, run: echo 2 }]
";

/// A hub with a set, and jobs that wait for it.
pub(crate) struct Pool {
    pub(crate) world: World,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) set: i64,
    pub(crate) run: u64,
}

pub(crate) fn tenant(world: &World, place: &str) -> Arc<Tenant> {
    let address = Address::parse(&format!("{}/{place}", world.url), false).unwrap();
    let http = ClientOptions::default();
    let token = Credential::Token(ADMIN.to_owned().into());
    let github = GithubClient::new(address, token, &http, Clock::default()).unwrap();
    let quick =
        Policy { attempts: 4, base: Duration::from_millis(5), cap: Duration::from_millis(20) };
    let options = TenantOptions { http, retry: quick, subsystem: "test" };
    Arc::new(Tenant::new(Arc::new(github), options).unwrap())
}

pub(crate) fn wanted(labels: &[&str]) -> Wanted {
    Wanted {
        name: "gpu".to_owned(),
        group: 1,
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        disable_update: true,
    }
}

impl Pool {
    pub(crate) async fn new(change: impl FnOnce(&mut Config)) -> Self {
        let world = World::with(tempfile::tempdir().unwrap(), change).await;
        let folder = world.folder("work", &[(FILE, JOBS)]);
        let run = world.push(&folder, "acme/app").await;
        let tenant = tenant(&world, "acme");
        let made = tenant.ensure_set(&wanted(&["gpu", "large"]), None).await.unwrap();
        assert_eq!(made.dropped_labels, [""; 0]);
        Self { world, set: made.set.id, tenant, run }
    }

    pub(crate) fn listener(&self, owner: &str) -> Listener {
        let options = ListenerOptions { owner: owner.to_owned(), previous: None };
        Listener::new(Arc::clone(&self.tenant), self.set, options)
    }

    /// A runner of the set, that listens.
    pub(crate) async fn runner(&self, name: &str) -> Runner {
        let made = self.tenant.jit_config(self.set, name, "_work").await.unwrap();
        assert_eq!(made.runner.runner_scale_set_id, self.set);
        let config = JitConfig::decode(&made.encoded.to_secret()).unwrap();
        Runner::of(&self.world, made.runner.id.try_into().unwrap(), config).await
    }
}

/// The next message, whatever trouble comes before it.
pub(crate) async fn message(listener: &mut Listener, capacity: u32) -> Delivery {
    loop {
        match listener.next(capacity).await.unwrap() {
            Event::Message(delivery) => return delivery,
            Event::Opened { .. } | Event::Idle | Event::Trouble { .. } => {}
        }
    }
}

/// What a message tells, in short.
pub(crate) fn told(delivery: &Delivery) -> Vec<String> {
    let jobs = delivery.jobs().unwrap();
    assert_eq!(jobs.unreadable, 0);
    let short = |job: &sekisho_github::wire::scale_set::JobMessage| {
        format!("{} {}", job.kind.as_str(), job.job_display_name)
    };
    jobs.messages.iter().map(short).collect()
}

/// Records a message and deletes it.
pub(crate) async fn done(listener: &mut Listener, delivery: Delivery) {
    let recorded = delivery.record(async { Ok::<(), ()>(()) }).await.unwrap();
    listener.delete(recorded).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_set_from_its_queue_to_its_result() {
    let pool = Pool::new(|_| ()).await;
    let (world, set) = (&pool.world, pool.set);
    let queue = world.get("/_hub/v1/queue").await;
    assert_eq!(queue["jobs"], json!([]), "the local scheduler has no business with them");
    let mut listener = pool.listener("me");
    let Event::Opened { statistics, .. } = listener.next(0).await.unwrap() else { panic!() };
    let waiting = Statistics { total_available_jobs: 2, ..Default::default() };
    assert_eq!(statistics, waiting);

    let first = message(&mut listener, 1).await;
    assert_eq!(told(&first), ["JobAssigned one"]);
    let job = first.jobs().unwrap().messages.remove(0);
    assert_eq!((job.owner_name.as_str(), job.repository_name.as_str()), ("acme", "app"));
    assert_eq!(job.job_workflow_ref, format!("acme/app/{FILE}@refs/heads/main"));
    assert_eq!(
        (job.workflow_run_id, job.event_name.as_str()),
        (pool.run.try_into().unwrap(), "push")
    );
    assert!(job.queue_time.is_some() && job.scale_set_assign_time.is_some());
    assert_eq!(job.runner_assign_time, None);
    done(&mut listener, first).await;
    let second = message(&mut listener, 2).await;
    assert_eq!(told(&second), ["JobAssigned two"]);
    done(&mut listener, second).await;

    let mut runner = pool.runner("r1").await;
    assert_eq!(pool.tenant.runner_by_name("R1").await.unwrap().unwrap().runner_scale_set_id, set);
    runner.acquire(world).await;
    assert_eq!(runner.job["jobId"], json!(job.job_id));
    let busy = pool.tenant.remove_runner(runner.id.try_into().unwrap()).await.unwrap_err();
    assert!(busy.is_busy(), "{busy}");
    assert_eq!(runner.complete(world, "failed").await.status(), 200);
    let end = message(&mut listener, 2).await;
    let mut kinds = told(&end);
    if kinds.len() == 1 {
        done(&mut listener, end).await;
        let rest = message(&mut listener, 2).await;
        kinds.extend(told(&rest));
        check_completed(&rest, &runner);
    } else {
        check_completed(&end, &runner);
    }
    assert_eq!(kinds, ["JobStarted one", "JobCompleted one"]);
    assert_eq!(pool.tenant.runner(runner.id.try_into().unwrap()).await.unwrap(), None);
    assert!(!pool.tenant.remove_runner(runner.id.try_into().unwrap()).await.unwrap());

    // A run that is cancelled tells of the job that no runner took.
    let cancel = format!("/_hub/v1/runs/{}/cancel", pool.run);
    assert_eq!(world.post(&cancel, &json!({})).await.status(), 202);
    let end = message(&mut listener, 2).await;
    let completed = end.jobs().unwrap().messages.pop().unwrap();
    assert_eq!(completed.result, Some(JobResult::Canceled));
    assert_eq!((completed.runner_id, completed.runner_name.as_deref()), (Some(0), Some("")));
    listener.close().await.unwrap();
    pool.tenant.delete_set(set).await.unwrap();
    pool.tenant.delete_set(set).await.unwrap();
    assert_eq!(pool.tenant.set(set).await.unwrap(), None);
}

fn check_completed(delivery: &Delivery, runner: &Runner) {
    let completed = delivery.jobs().unwrap().messages.pop().unwrap();
    assert_eq!(completed.kind, JobMessageKind::Completed);
    assert_eq!(completed.result, Some(JobResult::Failed));
    assert_eq!(completed.runner_id, Some(runner.id.try_into().unwrap()));
    assert_eq!(completed.runner_name.as_deref(), Some("r1"));
    assert!(completed.runner_assign_time.is_some() && completed.finish_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_listener_acquires_only_what_it_acquires_is_its() {
    let pool = Pool::new(|config| config.assignment = Assignment::Explicit).await;
    let mut listener = pool.listener("me");
    let available = message(&mut listener, 10).await;
    assert_eq!(told(&available), ["JobAvailable one", "JobAvailable two"]);
    let jobs: Vec<i64> =
        available.jobs().unwrap().messages.iter().map(|job| job.runner_request_id).collect();
    done(&mut listener, available).await;
    // As listeners of before the queue ask.
    let token = crate::credentials::tenant(&pool.world, "orgs/acme").await;
    let acquirable = async || {
        let set = pool.set;
        let path = format!("/_tenant/_apis/runtime/runnerscalesets/{set}/acquirablejobs");
        let get = pool.world.request(reqwest::Method::GET, &path).bearer_auth(&token);
        let answer = get.send().await.unwrap();
        if answer.status() == 204 {
            return Vec::new();
        }
        assert_eq!(answer.status(), 200);
        let list: serde_json::Value = answer.json().await.unwrap();
        let all = list["value"].as_array().unwrap().clone();
        assert_eq!(list["count"], all.len());
        assert!(all.iter().all(|job| job["acquireJobUrl"].is_string()), "{list}");
        all.iter().map(|job| job["runnerRequestId"].as_i64().unwrap()).collect()
    };
    assert_eq!(acquirable().await, jobs);
    let acquired = listener.acquire(&[jobs[1], 4711]).await.unwrap();
    assert_eq!(acquirable().await, [jobs[0]]);
    assert_eq!(acquired, Acquired::Jobs(vec![jobs[1]]));
    let assigned = message(&mut listener, 10).await;
    assert_eq!(told(&assigned), ["JobAssigned two"]);
    let numbers = assigned.statistics();
    assert_eq!((numbers.total_available_jobs, numbers.total_assigned_jobs), (1, 1));
    listener.close().await.unwrap();

    let pool = Pool::new(|_| ()).await;
    let mut listener = pool.listener("me");
    let _ = message(&mut listener, 1).await;
    assert_eq!(listener.acquire(&[1]).await.unwrap(), Acquired::Automatic);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_deleted_comes_again_to_the_next_session_and_the_next_process() {
    let pool = Pool::new(|_| ()).await;
    let mut listener = pool.listener("first");
    let one = message(&mut listener, 1).await;
    let id = one.id();
    // It could not be written down.
    let failed = one.record(async { Err::<(), &str>("disk full") }).await;
    assert_eq!(failed.err(), Some("disk full"));
    let two = message(&mut listener, 2).await;
    assert_eq!(told(&two), ["JobAssigned two"]);
    done(&mut listener, two).await;
    listener.replay();
    assert_eq!(message(&mut listener, 2).await.id(), id);
    let old = listener.session().unwrap();

    // The same plane starts again, with its old session still in the way.
    let options = ListenerOptions { owner: "first".to_owned(), previous: Some(old) };
    let mut again = Listener::new(Arc::clone(&pool.tenant), pool.set, options);
    let one = message(&mut again, 2).await;
    assert_eq!((one.id(), told(&one)), (id, vec!["JobAssigned one".to_owned()]));
    // The one that lost its session gets a new one only when this one is gone.
    again.close().await.unwrap();
    assert_eq!(message(&mut listener, 2).await.id(), id);

    // The hub is killed, and comes back at another address.
    let set = pool.set;
    let world = World::on(pool.world.kill()).await;
    let tenant = tenant(&world, "acme");
    assert_eq!(tenant.set(set).await.unwrap().unwrap().name, "gpu");
    let options = ListenerOptions { owner: "first".to_owned(), previous: None };
    let mut listener = Listener::new(Arc::clone(&tenant), set, options);
    let one = message(&mut listener, 2).await;
    assert_eq!((one.id(), told(&one)), (id, vec!["JobAssigned one".to_owned()]));
    done(&mut listener, one).await;
    let ended = message(&mut listener, 2).await;
    assert_eq!(told(&ended), ["JobCompleted one", "JobCompleted two"]);
    assert_eq!(ended.statistics(), Statistics::default());
}

#[expect(clippy::too_many_lines, reason = "one table of what is refused, and why")]
#[tokio::test(flavor = "multi_thread")]
async fn sets_are_their_owners_and_what_is_wrong_is_told_as_github_tells_it() {
    let pool = Pool::new(|_| ()).await;
    let (world, set) = (&pool.world, pool.set);
    let other = tenant(world, "acme/app");
    assert_eq!(other.set(set).await.unwrap(), None, "a repository's are not its owner's");
    let same = ScaleSetRequest { name: Some("GPU".to_owned()), ..Default::default() };
    let taken = pool.tenant.create_set(&same).await.unwrap_err();
    assert!(taken.is(exception::SET_EXISTS) && taken.status() == Some(409), "{taken}");
    assert_eq!(pool.tenant.group("DEFAULT").await.unwrap(), 1);
    let group = pool.tenant.group("gpus").await.unwrap_err();
    assert_eq!(group.to_string(), "there is no runner group `gpus`");
    let changed = pool.tenant.ensure_set(&wanted(&["gpu"]), Some(set)).await.unwrap();
    assert_eq!((changed.set.id, changed.set.labels.len()), (set, 1));

    let path = "/_tenant/_apis/runtime/runnerscalesets";
    let call = |method: Method, path: String, token: String, body: &'static str| {
        let request = world.request(method, &path).bearer_auth(token).body(body);
        async move {
            let answer = request.send().await.unwrap();
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            (status, serde_json::from_str::<Value>(&text).unwrap_or_default())
        }
    };
    // An API token is none here, and a registration token neither.
    let (status, body) = call(Method::GET, path.to_owned(), ADMIN.to_owned(), "").await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let name =
        "GitHub.Actions.Runtime.WebApi.VssUnauthorizedException, GitHub.Actions.Runtime.WebApi";
    assert_eq!(body["typeName"], name);
    let token =
        world.post("/api/v3/orgs/acme/actions/runners/registration-token", &json!({})).await;
    assert_eq!(token.status(), 201);
    let token: Value = token.json().await.unwrap();
    let token = token["token"].as_str().unwrap().to_owned();
    assert_eq!(call(Method::GET, path.to_owned(), token.clone(), "").await.0, 401);
    // A registration token serves for its own place and event alone.
    for (url, event, want) in [
        ("acme", "register", 200),
        ("ACME", "register", 200),
        ("acme", "remove", 401),
        ("acme/app", "register", 401),
        ("", "register", 404),
    ] {
        let body = json!({"url": format!("{}/{url}", world.url), "runner_event": event});
        let request = world.request(Method::POST, "/api/v3/actions/runner-registration");
        let remote = format!("RemoteAuth {token}");
        let answer = request.header("authorization", remote).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), want, "{url} {event}");
    }
    let admin = admin_token(world, &token).await;
    for (method, at, body, want, words) in [
        (Method::GET, "/77", "", 404, exception::SET_NOT_FOUND),
        (Method::POST, "", "{\"name\":", 400, exception::BAD_REQUEST),
        (Method::POST, "", "{\"name\":\"\"}", 400, exception::BAD_REQUEST),
        (Method::POST, "", "{\"name\":\"x\",\"runnerGroupId\":9}", 400, exception::BAD_REQUEST),
        (Method::POST, "", "[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]", 400, exception::BAD_REQUEST),
        (Method::POST, "/1/generatejitconfig", "{\"name\":\"a/b\"}", 400, exception::BAD_REQUEST),
        (
            Method::POST,
            "/1/generatejitconfig",
            "{\"name\":\"a\",\"workFolder\":\"../x\"}",
            400,
            exception::BAD_REQUEST,
        ),
        (Method::POST, "/1/acquirejobs", "[1]", 401, exception::UNAUTHORIZED),
        (
            Method::PATCH,
            "/1/sessions/2f0c1a34-0000-0000-0000-000000000001",
            "",
            400,
            exception::SESSION_EXPIRED,
        ),
    ] {
        let (status, answer) = call(method, format!("{path}{at}"), admin.clone(), body).await;
        let key = answer["typeKey"].as_str().unwrap_or_default();
        assert_eq!((status.as_u16(), key), (want, words), "{at} {body}");
    }
    let mut listener = pool.listener("me");
    listener.next(0).await.unwrap();
    let (status, answer) =
        call(Method::POST, format!("{path}/{set}/sessions"), admin, "{\"OwnerName\":\"you\"}")
            .await;
    assert_eq!(
        (status.as_u16(), answer["typeKey"].as_str().unwrap()),
        (409, exception::SESSION_CONFLICT)
    );
}

async fn admin_token(world: &World, registration: &str) -> String {
    let body = json!({"url": format!("{}/acme", world.url), "runner_event": "register"});
    let request = world.request(Method::POST, "/api/v3/actions/runner-registration");
    let remote = format!("RemoteAuth {registration}");
    let answer = request.header("authorization", remote).json(&body).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["url"], format!("{}/_tenant/", world.url));
    answer["token"].as_str().unwrap().to_owned()
}
