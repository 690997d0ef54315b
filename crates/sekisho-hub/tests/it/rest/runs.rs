//! Runs: run again, their attempts, their logs.

use super::*;

/// Runs the next job of the queue.
async fn work(world: &World, name: &str, conclusion: &str) -> Runner {
    let mut runner = Runner::new(world, name).await;
    runner.acquire(world).await;
    assert_eq!(runner.complete(world, conclusion).await.status(), 200);
    runner
}

fn shown(jobs: &[sekisho_github::rest::WorkflowJob]) -> Vec<(&str, u64, Option<RunConclusion>)> {
    jobs.iter().map(|job| (job.name.as_str(), job.run_attempt, job.conclusion)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_run_again() {
    use RunConclusion::{Failure, Skipped, Success};
    let world = world().await;
    let folder = world.folder("work", &[(FILE, THREE)]);
    let id = push(&world, &folder).await;
    let (client, repository) = (client(&world, "acme/app", app(CLIENT_ID, None)), repository());
    let status = |error: RestError| error.status();
    let early = client.rerun(&repository, id).await.map_err(status);
    assert_eq!(early, Err(Some(403)), "it is not over");
    work(&world, "r1", "failed").await;
    work(&world, "r2", "succeeded").await;
    let run = client.run(&repository, id).await.unwrap();
    assert_eq!((run.status, run.conclusion), (RunStatus::Completed, Some(Failure)));
    assert_eq!((run.run_attempt, run.event.as_str(), run.path.as_str()), (1, "push", FILE));
    let first = client.jobs(&repository, id, RunJobs::Latest).await.unwrap();
    let ends = [("a", 1, Some(Failure)), ("b", 1, Some(Skipped)), ("c", 1, Some(Success))];
    assert_eq!(shown(&first), ends);
    assert_eq!(first[0].runner_name.as_deref(), Some("r1"));

    client.rerun_failed_jobs(&repository, id).await.unwrap();
    let run = client.run(&repository, id).await.unwrap();
    assert_eq!((run.status, run.conclusion, run.run_attempt), (RunStatus::Queued, None, 2));
    let second = work(&world, "r3", "succeeded").await;
    let message = second.message_of_job();
    let attempt = message.context_data["github"].0.get("run_attempt").to_text();
    assert_eq!(&*attempt, "2");
    work(&world, "r4", "succeeded").await;
    let jobs = client.jobs(&repository, id, RunJobs::Latest).await.unwrap();
    let ends = [("a", 2, Some(Success)), ("b", 2, Some(Success)), ("c", 1, Some(Success))];
    assert_eq!(shown(&jobs), ends);
    assert_eq!(jobs[2].id, first[2].id, "what was kept is the same job");
    assert!(jobs[0].id > first[2].id && jobs[1].id > jobs[0].id);
    world.hub.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn earlier_attempts_are_still_there() {
    use RunConclusion::{Failure, Success};
    let world = world().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    let id = push(&world, &folder).await;
    let (client, repository) = (client(&world, "acme/app", admin()), repository());
    work(&world, "r1", "failed").await;
    let job = client.jobs(&repository, id, RunJobs::Latest).await.unwrap()[0].id;
    client.rerun_job(&repository, job).await.unwrap();
    work(&world, "r2", "succeeded").await;
    client.rerun(&repository, id).await.unwrap();
    assert_eq!(client.cancel(&repository, id).await.map_err(|e| e.status()), Ok(()));
    let attempts = async |n| client.run_attempt(&repository, id, n).await;
    // Written on a thread of its own, each attempt when the next began.
    let first = loop {
        match attempts(1).await {
            Ok(run) => break run,
            Err(error) => assert_eq!(error.status(), Some(404)),
        }
    };
    assert_eq!((first.run_attempt, first.conclusion), (1, Some(Failure)));
    assert_eq!(attempts(3).await.unwrap().conclusion, Some(RunConclusion::Cancelled));
    assert_eq!(attempts(4).await.unwrap_err().status(), Some(404));
    while attempts(2).await.is_err() {}
    let jobs = client.jobs(&repository, id, RunJobs::Attempt(2)).await.unwrap();
    assert_eq!(shown(&jobs), [("hello", 2, Some(Success))]);
    let all = client.jobs(&repository, id, RunJobs::All).await.unwrap();
    let attempts: Vec<u64> = all.iter().map(|job| job.run_attempt).collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert_eq!(client.job(&repository, job).await.unwrap().conclusion, Some(Failure));
    let over = client.cancel(&repository, id).await.unwrap_err();
    assert_eq!(over.status(), Some(409));
    assert!(over.to_string().contains("cancelling a run was answered 409: Cannot cancel"));
    let failed = client.rerun_job(&repository, 99).await.unwrap_err();
    assert_eq!(failed.status(), Some(404));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_behind_a_signed_url() {
    let world = world().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    let id = push(&world, &folder).await;
    let (client, repository) = (client(&world, "acme/app", app(CLIENT_ID, None)), repository());
    let job = client.jobs(&repository, id, RunJobs::Latest).await.unwrap()[0].id;
    let none = client.job_log(&repository, job, 1000).await.unwrap_err();
    assert_eq!(none.status(), Some(404));
    let mut runner = Runner::new(&world, "r1").await;
    runner.acquire(&world).await;
    let url = runner.results(&world, "GetJobLogsSignedBlobURL", json!({})).await;
    let url: Value = url.json().await.unwrap();
    let put = world.client.put(url["logs_url"].as_str().unwrap());
    let put = put.header("x-ms-blob-type", "BlockBlob").body("one\ntwo\n");
    assert_eq!(put.send().await.unwrap().status(), 201);
    runner.complete(&world, "succeeded").await;
    assert_eq!(client.job_log(&repository, job, 1000).await.unwrap(), b"one\ntwo\n");
    let long = client.job_log(&repository, job, 7).await.unwrap_err();
    assert!(long.to_string().contains("reading a job's log failed"), "{long}");
    let open = format!("{}/_blobs/{id}/{job}/job.log?sig=x", world.url);
    assert_eq!(world.client.get(open).send().await.unwrap().status(), 403);
    let path = format!("/api/v3/repos/acme/app/actions/runs/{id}/pending_deployments");
    assert_eq!(world.get(&path).await, json!([]));
}

/// Names and texts of a run's packed logs.
async fn packed(world: &World, path: &str) -> Vec<(String, String)> {
    use std::io::Read as _;
    let get = world.request(Method::GET, path).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(get.headers()["content-type"], "application/zip");
    let bytes = get.bytes().await.unwrap();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    let count = zip.len();
    let read = |place: usize| {
        let mut file = zip.by_index(place).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        (file.name().unwrap().into_owned(), text)
    };
    (0..count).map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_of_a_run_in_one_archive() {
    let world = world().await;
    let folder = world.folder("work", &[(FILE, WORKFLOW)]);
    let id = push(&world, &folder).await;
    let path = format!("/api/v3/repos/acme/app/actions/runs/{id}");
    let logs = format!("{path}/logs");
    let none = world.request(Method::GET, &logs).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(none.status(), 404);
    let run = async |name: &str, text: &str| {
        let mut runner = Runner::new(&world, name).await;
        runner.acquire(&world).await;
        let step = json!({"step_backend_id": runner.job["steps"][0]["id"]});
        for (method, field, extra) in [
            ("GetJobLogsSignedBlobURL", "logs_url", json!({})),
            ("GetStepLogsSignedBlobURL", "logs_url", step),
        ] {
            let url: Value = runner.results(&world, method, extra).await.json().await.unwrap();
            let put = world.client.put(url[field].as_str().unwrap());
            let put = put.header("x-ms-blob-type", "BlockBlob").body(format!("{text} {method}\n"));
            assert_eq!(put.send().await.unwrap().status(), 201);
        }
        assert_eq!(runner.complete(&world, "succeeded").await.status(), 200);
    };
    run("r1", "first").await;
    let texts = |text: &str| {
        vec![
            ("0_hello.txt".to_owned(), format!("{text} GetJobLogsSignedBlobURL\n")),
            ("hello/1_Say it.txt".to_owned(), format!("{text} GetStepLogsSignedBlobURL\n")),
        ]
    };
    assert_eq!(packed(&world, &logs).await, texts("first"));
    assert_eq!(world.post(&format!("{path}/rerun"), &json!({})).await.status(), 201);
    run("r2", "second").await;
    assert_eq!(packed(&world, &logs).await, texts("second"));
    // Written on a thread of its own.
    let earlier = format!("{path}/attempts/1");
    let get = async || world.request(Method::GET, &earlier).bearer_auth(ADMIN).send().await;
    while get().await.unwrap().status() == 404 {}
    assert_eq!(packed(&world, &format!("{earlier}/logs")).await, texts("first"));
    let forged = format!("{}/_blobs/{id}/attempts/1/logs.zip?sig=x", world.url);
    assert_eq!(world.client.get(forged).send().await.unwrap().status(), 403);
}
