//! Workflow files, which a job's token neither makes nor changes.

use super::jobs::Bot;
use super::*;

const NEW: &str = "on: push\njobs: {new: {runs-on: default, steps: [{run: new}]}}\n";
const FILE: &str = ".github/workflows/new.yml";

#[tokio::test(flavor = "multi_thread")]
async fn a_job_pushes_all_but_workflow_files() {
    let (world, folder, bot) = Bot::new("contents: write, pull-requests: write").await;
    let tips = async || -> String {
        let (from, remote) = (folder.clone(), world.remote("acme/app"));
        let list = move || from.git(&["ls-remote", "--heads", "--tags", &remote]);
        String::from_utf8(tokio::task::spawn_blocking(list).await.unwrap().stdout).unwrap()
    };
    let refused = async |what: &[&str], file: &str| {
        let before = tips().await;
        let (ok, said) = bot.push(&world, &folder, what).await;
        assert!(!ok, "{what:?}: {said}");
        let why = format!("the token of a job may not create or update the workflow {file}");
        assert!(said.contains(&why), "{what:?}: {said}");
        assert_eq!(tips().await, before, "nothing has moved");
    };
    let pushed = async |what: &[&str]| {
        let (ok, said) = bot.push(&world, &folder, what).await;
        assert!(ok, "{what:?}: {said}");
    };
    // New, changed, on a new branch, on a tag, beside what may be pushed.
    folder.git(&["checkout", "--quiet", "-B", "made", "main"]);
    folder.commit(&[(FILE, NEW)]);
    refused(&["made:main"], FILE).await;
    refused(&["made"], FILE).await;
    folder.git(&["tag", "v1"]);
    refused(&["v1"], FILE).await;
    refused(&["--atomic", "main:fine", "made"], FILE).await;
    folder.git(&["checkout", "--quiet", "-B", "changed", "main"]);
    folder.commit(&[(".github/workflows/push.yml", &PUSH.replace("run: a", "run: evil"))]);
    refused(&["+changed:topic"], ".github/workflows/push.yml").await;
    // What is nobody's workflow, what is on a branch already, and what goes.
    folder.git(&["checkout", "--quiet", "-B", "plain", "main"]);
    folder.commit(&[("c.txt", "c\n"), (".github/other.yml", "x\n")]);
    pushed(&["plain", "plain:main"]).await;
    push(&world, &folder, "acme/app", "made").await;
    pushed(&["made:copy"]).await;
    pushed(&["v1"]).await;
    folder.git(&["checkout", "--quiet", "-B", "without", "plain"]);
    folder.git(&["rm", "--quiet", ".github/workflows/target.yml"]);
    folder.commit(&[]);
    pushed(&["without:main"]).await;
    folder.git(&["rm", "--quiet", "-r", ".github/workflows"]);
    folder.commit(&[]);
    pushed(&["without"]).await;
    pushed(&[":copy"]).await;
    // Whoever is no job pushes them.
    push(&world, &folder, "acme/app", "changed:topic2").await;
    let shown = tips().await;
    assert!(shown.contains("refs/heads/topic2") && !shown.contains("refs/heads/copy"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_merges_all_but_workflow_files() {
    let (world, folder, bot) = Bot::new("contents: write, pull-requests: write").await;
    branch(&world, &folder, ("acme/app", "made"), &[(FILE, NEW)]).await;
    let number = open(&world, "made").await["number"].clone();
    let merge = format!("{PULLS}/{number}/merge");
    let refused = bot.ask(&world, Method::PUT, &merge, json!({})).await;
    assert_eq!(refused.status(), 403);
    let why: Value = refused.json().await.unwrap();
    let want = format!("the token of a job may not create or update the workflow {FILE}");
    assert_eq!(why["message"], json!(want));
    assert_eq!(world.get(&format!("{PULLS}/{number}")).await["state"], json!("open"));
    assert_eq!(ask(&world, Method::PUT, &merge, json!({})).await.status(), 200);
}
