//! The scheduler against a hub of a few lines and a runner that is a shell script: what the
//! runner sees, what is left of it, and what the hub is told.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path as Segment, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use sekisho_archive::Reader;
use sekisho_github::hub_api::{Queue, QueuedJob, RunnerGone, RunnerState, RunnerStatus};
use sekisho_github::rest::{GenerateJitConfig, JitConfig, Runner};
use sekisho_scheduler::{Config, Scheduler};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "admin-token";

/// As the binary does; a second call finds it done.
fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Jobs and runners, and what the scheduler said.
#[derive(Debug)]
struct FakeHub {
    queue: watch::Sender<Queue>,
    said: Mutex<Vec<String>>,
    /// A job leaves the queue when its runner registers, as if it had taken it at once.
    taken_at_once: bool,
}

#[derive(serde::Deserialize)]
struct After {
    after: u64,
    wait_ms: u64,
}

async fn queue(
    State(hub): State<Arc<FakeHub>>,
    headers: HeaderMap,
    Query(query): Query<After>,
) -> Json<Queue> {
    assert_eq!(headers["authorization"], format!("Bearer {TOKEN}"));
    let mut queue = hub.queue.subscribe();
    let newer = queue.wait_for(|queue| queue.seq > query.after);
    let _ = tokio::time::timeout(Duration::from_millis(query.wait_ms), newer).await;
    Json(hub.queue.borrow().clone())
}

async fn register(
    State(hub): State<Arc<FakeHub>>,
    Segment((owner, name)): Segment<(String, String)>,
    Json(body): Json<GenerateJitConfig>,
) -> (StatusCode, Json<JitConfig>) {
    let said = format!("register {} {owner}/{name} {:?}", body.name, body.labels);
    hub.said.lock().unwrap().push(said);
    hub.queue.send_modify(|queue| {
        queue.seq += 1;
        queue.runners.push(RunnerState {
            id: 23,
            name: body.name.clone(),
            status: RunnerStatus::Online,
            busy: hub.taken_at_once,
            job_id: hub.taken_at_once.then_some(7),
        });
        queue.jobs.retain(|_| !hub.taken_at_once);
    });
    let runner = Runner {
        id: 23,
        name: body.name,
        os: "unknown".into(),
        status: "offline".into(),
        busy: false,
        labels: vec![],
        runner_group_id: Some(body.runner_group_id),
        ephemeral: Some(true),
    };
    (StatusCode::CREATED, Json(JitConfig { runner, encoded_jit_config: "the-blob".into() }))
}

async fn gone(
    State(hub): State<Arc<FakeHub>>,
    Segment(id): Segment<u64>,
    Json(body): Json<RunnerGone>,
) -> StatusCode {
    hub.said.lock().unwrap().push(format!("gone {id}: {}", body.reason));
    hub.queue.send_modify(|queue| {
        queue.seq += 1;
        queue.runners.retain(|runner| runner.id != id);
    });
    StatusCode::NO_CONTENT
}

async fn cancel(State(hub): State<Arc<FakeHub>>, Segment(run): Segment<u64>) -> StatusCode {
    hub.said.lock().unwrap().push(format!("cancel {run}"));
    hub.queue.send_modify(|queue| {
        queue.seq += 1;
        queue.jobs.clear();
    });
    StatusCode::ACCEPTED
}

/// A hub with one queued job, and a scheduler whose runner is `script`.
struct World {
    hub: Arc<FakeHub>,
    folder: tempfile::TempDir,
    stop: CancellationToken,
    scheduler: tokio::task::JoinHandle<()>,
}

impl World {
    async fn new(script: &str, taken_at_once: bool) -> Self {
        install_tls();
        let job = QueuedJob {
            job_id: 7,
            run_id: 3,
            repository: "local/app".into(),
            name: "build".into(),
            labels: vec!["default".into()],
            queued_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let queue = Queue { seq: 1, jobs: vec![job], runners: vec![] };
        let hub = Arc::new(FakeHub {
            queue: watch::Sender::new(queue),
            said: Mutex::default(),
            taken_at_once,
        });
        let router = Router::new()
            .route("/_hub/v1/queue", get(self::queue))
            .route("/_hub/v1/runners/{id}/gone", post(gone))
            .route("/_hub/v1/runs/{id}/cancel", post(cancel))
            .route("/api/v3/repos/{o}/{r}/actions/runners/generate-jitconfig", post(register))
            .with_state(Arc::clone(&hub));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });

        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("runner.sh");
        fs_err::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let scheduler = Scheduler::new(Config {
            hub_url: format!("http://{address}/").parse().unwrap(),
            admin_token: TOKEN.into(),
            program,
            runners_dir: folder.path().join("runners"),
            archive_dir: folder.path().join("archive"),
            cache_dir: folder.path().join("cache"),
            build_settings: vec![("SEKISHO_DEBIAN_MIRROR", "http://mirror.example".into())],
            capacity: 2,
        })
        .unwrap();
        let stop = CancellationToken::new();
        let scheduler = tokio::spawn(scheduler.run(stop.clone(), CancellationToken::new()));
        Self { hub, folder, stop, scheduler }
    }

    /// Waits until the hub was told something that starts so, and returns all it was told.
    async fn told(&self, start: &str) -> Vec<String> {
        let mut queue = self.hub.queue.subscribe();
        let heard = async {
            while !self.hub.said.lock().unwrap().iter().any(|said| said.starts_with(start)) {
                queue.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), heard).await.expect(start);
        self.hub.said.lock().unwrap().clone()
    }

    fn log(&self, name: &str) -> Vec<String> {
        let path = self.folder.path().join(format!("archive/{name}.log.gz"));
        Reader::open(&path).unwrap().rest().unwrap()
    }

    async fn stopped(self) -> tempfile::TempDir {
        self.stop.cancel();
        self.scheduler.await.unwrap();
        self.folder
    }
}

fn entries(folder: &Path) -> usize {
    fs_err::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn a_runner_has_one_job_an_empty_environment_and_leaves_nothing() {
    let script = r#"env | sed "s|$PWD|FOLDER|g" | grep -v -e ^PWD= -e ^_= | sort
echo "arguments: $*" >&2
touch home/file; mkdir tmp/locked; touch tmp/locked/file; chmod 555 tmp/locked
(setsid sleep 600 &)
printf 'no line end'"#;
    let world = World::new(script, true).await;
    let said = world.told("gone").await;
    assert_eq!(said, [r#"register local-7-1 local/app ["default"]"#, "gone 23: exit status: 0"]);
    let log = world.log("local-7-1");
    let cache = world.folder.path().join("cache");
    let tracking = log.iter().find(|line| line.starts_with("SEKISHO_RUNNER_TRACKING=")).unwrap();
    assert_eq!(
        log,
        [
            "ACTIONS_RUNNER_INPUT_JITCONFIG=the-blob",
            "HOME=FOLDER/home",
            "LANG=C.UTF-8",
            "PATH=FOLDER/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            &format!("SEKISHO_CACHE_DIR={}", cache.display()),
            "SEKISHO_DEBIAN_MIRROR=http://mirror.example",
            tracking,
            "TMPDIR=FOLDER/tmp",
            "arguments: runner run",
            "no line end",
        ]
    );
    let folder = world.stopped().await;
    assert_eq!(entries(&folder.path().join("runners")), 0);
}

#[tokio::test]
async fn a_killed_runner_is_reported_with_the_signal() {
    let world = World::new("echo before; kill -9 $$", true).await;
    let said = world.told("gone").await;
    assert_eq!(said.last().unwrap(), "gone 23: signal: 9 (SIGKILL)");
    assert_eq!(world.log("local-7-1"), ["before"]);
    world.stopped().await;
}

#[tokio::test]
async fn a_job_whose_runners_fail_is_given_up_after_three() {
    let world = World::new("exit 1", false).await;
    let said = world.told("cancel").await;
    let registered: Vec<_> = said.iter().filter(|said| said.starts_with("register")).collect();
    assert_eq!(registered.len(), 3, "{said:?}");
    assert!(said.contains(&"cancel 3".to_owned()));
    world.stopped().await;
}

#[tokio::test]
async fn stopping_ends_a_runner_that_works() {
    let script = "trap 'echo ending; exit 3' TERM; echo up; while :; do sleep 0.05; done";
    let world = World::new(script, true).await;
    world.told("register").await;
    let path = world.folder.path().join("archive/local-7-1.log.gz");
    // The trap is set once the first line is there.
    while !Reader::open(&path).is_ok_and(|mut log| log.next_text().unwrap().is_some()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let hub = Arc::clone(&world.hub);
    let folder = world.stopped().await;
    assert_eq!(hub.said.lock().unwrap().last().unwrap(), "gone 23: exit status: 3");
    assert_eq!(Reader::open(&path).unwrap().rest().unwrap(), ["up", "ending"]);
    assert_eq!(entries(&folder.path().join("runners")), 0);
}

#[tokio::test]
async fn what_a_killed_plane_left_is_swept_at_the_next_start() {
    install_tls();
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join("runners/local-1-1");
    fs_err::create_dir_all(&left).unwrap();
    let marker = format!("left-{}", std::process::id());
    fs_err::write(left.join("tracking"), &marker).unwrap();
    let mut orphan = std::process::Command::new("sleep")
        .arg("600")
        .env("SEKISHO_RUNNER_TRACKING", &marker)
        .spawn()
        .unwrap();
    Scheduler::new(Config {
        hub_url: "http://127.0.0.1:9/".parse().unwrap(),
        admin_token: TOKEN.into(),
        program: "/nowhere".into(),
        runners_dir: folder.path().join("runners"),
        archive_dir: folder.path().join("archive"),
        cache_dir: folder.path().join("cache"),
        build_settings: vec![],
        capacity: 1,
    })
    .unwrap();
    assert_eq!(orphan.wait().unwrap().to_string(), "signal: 9 (SIGKILL)");
    assert_eq!(entries(&folder.path().join("runners")), 0);
}
