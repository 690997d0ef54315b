//! Pull requests of another repository: what their jobs may do.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Job, forked, of_base};

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_reads_and_has_no_identity() {
    let (world, _, [job, target]) = forked().await;
    let permissions = |job: &Job| -> Value {
        let message = job.runner.message_of_job();
        let text = message.variable("system.github.token.permissions").unwrap();
        serde_json::from_str(text.value.expose()).unwrap()
    };
    let reads = json!({"Contents": "read", "Metadata": "read", "PullRequests": "read"});
    assert_eq!(permissions(&job), reads);
    let writes = json!({"Contents": "write", "IdToken": "write", "Metadata": "read"});
    assert_eq!(permissions(&target), writes);
    assert_eq!(
        job.runner.message_of_job().system_connection().unwrap().data("GenerateIdTokenUrl"),
        None
    );
    let path = "/_services/token/id?api-version=2.0";
    let asked = world.request(Method::GET, path).bearer_auth(job.runner.job_token());
    assert_eq!(asked.send().await.unwrap().status(), 403);
    // Its token fetches, and does not push; the secrets it is given are the token alone.
    for (job, pushes) in [(&job, false), (&target, true)] {
        let message = job.runner.message_of_job();
        let token = message.variable("system.github.token").unwrap().value.expose().to_owned();
        for (service, allowed) in [("git-upload-pack", true), ("git-receive-pack", pushes)] {
            let path = format!("/acme/app/info/refs?service={service}");
            let asked = world.request(Method::GET, &path).basic_auth("x", Some(&token));
            let want = if allowed { 200 } else { 403 };
            assert_eq!(asked.send().await.unwrap().status(), want, "{service}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_of_a_pull_request_are_its_own() {
    let (world, folder, [job, target]) = forked().await;
    let base = of_base(&world, &folder).await;
    base.save(&world, "go-1", "of the base").await;
    let found = |content: &str| Some(("go-1".to_owned(), content.to_owned()));
    assert_eq!(job.restore(&world, "go-1", &[]).await, found("of the base"));
    assert_eq!(target.restore(&world, "go-1", &[]).await, found("of the base"));
    // The same key, and another: neither is seen from the base.
    job.save(&world, "go-1", "of the pull request").await;
    job.save(&world, "go-2", "poison").await;
    assert_eq!(job.restore(&world, "go-1", &[]).await, found("of the pull request"));
    assert_eq!(base.restore(&world, "go-1", &[]).await, found("of the base"));
    assert_eq!(base.restore(&world, "go-2", &[]).await, None);
    assert_eq!(base.restore(&world, "x", &["go-"]).await, found("of the base"));
    // What answers it runs in the base's place, and would write what the base reads: it only reads.
    let place = json!({"key": "go-3", "version": "v"});
    let refused = target.cache(&world, "CreateCacheEntry", place).await;
    assert_eq!(refused.status(), 403);
    let why: Value = refused.json().await.unwrap();
    assert!(why["msg"].as_str().unwrap().starts_with("cache write denied:"), "{why}");
}
