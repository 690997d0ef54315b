//! Scripts of the runner's owner before and after the job's steps.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::json;

use crate::fixture::{Finished, Fixture, Job, blob, run, run_if};

fn script(fixture: &Fixture, name: &str, text: &str) -> PathBuf {
    let path = fixture.root.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

async fn with_hooks(started: &str, completed: &str, job: Job) -> Finished {
    let fixture = Fixture::new().await;
    let mut options = fixture.options();
    for (variable, name, text) in [
        ("ACTIONS_RUNNER_HOOK_JOB_STARTED", "started.sh", started),
        ("ACTIONS_RUNNER_HOOK_JOB_COMPLETED", "completed.sh", completed),
    ] {
        let path = if text.starts_with('/') { text.into() } else { script(&fixture, name, text) };
        options.environment.push((variable.into(), path.into()));
    }
    fixture.set_job(&job);
    let outcome = sekisho_runner::run(blob(&fixture.server.url), options).await.unwrap();
    fixture.finish(outcome)
}

fn names(done: &Finished) -> Vec<(String, String)> {
    done.conclusions()
}

fn pairs(want: &[(&str, &str)]) -> Vec<(String, String)> {
    want.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[tokio::test]
async fn hooks_run_around_the_steps_and_change_their_environment() {
    let done = with_hooks(
        "echo \"repository $GITHUB_REPOSITORY output [$GITHUB_OUTPUT]\"; pwd
         echo FROM_HOOK=yes >> $GITHUB_ENV; echo /from/hook >> $GITHUB_PATH",
        "echo \"completed sees $FROM_HOOK\"",
        Job::new([run("use", "echo \"env $FROM_HOOK\"; echo $PATH")]),
    )
    .await;
    done.assert_conclusion("succeeded");
    let want = [
        ("Set up runner", "succeeded"),
        ("Run echo \"env $FROM_HOOK\"; echo $PATH", "succeeded"),
        ("Complete runner", "succeeded"),
    ];
    assert_eq!(names(&done), pairs(&want));
    assert!(done.stdout.contains("Z repository acme/app output []\n"), "{}", done.stdout);
    done.assert_logged("use", "env yes");
    assert!(done.log("use").iter().any(|line| line.starts_with("/from/hook:")));
    assert!(done.stdout.contains("Z completed sees yes\n"), "{}", done.stdout);
}

#[tokio::test]
async fn a_hook_that_fails_fails_the_job_and_the_other_one_runs() {
    let done = with_hooks(
        "false; echo not reached",
        "echo cleaned up",
        Job::new([run("first", "echo no"), run_if("always", "always()", "echo always")]),
    )
    .await;
    done.assert_conclusion("failed");
    let want = [
        ("Set up runner", "failed"),
        ("Run echo no", "skipped"),
        ("Run echo always", "succeeded"),
        ("Complete runner", "succeeded"),
    ];
    assert_eq!(names(&done), pairs(&want));
    assert!(!done.stdout.contains("not reached"));
    assert!(done.stdout.contains("Z cleaned up\n"));
    let done = with_hooks("true", "exit 4", Job::new([run("first", "true")])).await;
    done.assert_conclusion("failed");
    assert!(done.stdout.contains("Z ##[error]Process completed with exit code 4.\n"));
}

#[tokio::test]
async fn a_hook_that_is_no_script_is_an_error() {
    for (path, want) in [
        ("/nowhere/x.sh", "is `/nowhere/x.sh`, which is not the absolute path of a file"),
        ("/etc/passwd", "only `.sh` files can be run"),
    ] {
        let done = with_hooks(path, "true", Job::new([run("first", "true")])).await;
        done.assert_conclusion("failed");
        assert!(done.stdout.contains(want), "{}", done.stdout);
        let error = &done.complete["stepResults"][1];
        assert_eq!(error["conclusion"], json!("failed"));
    }
}
