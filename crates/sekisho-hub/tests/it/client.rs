//! One job, through the client that our own runner speaks with.

use std::collections::BTreeMap;
use std::io::{Seek as _, Write as _};

use sekisho_github::lenient;
use sekisho_github::runner::{Client, Identity, LogKind};
use sekisho_github::wire::message::{RunnerJobRequest, RunnerStatus};
use sekisho_github::wire::run_service::{CompleteJob, Conclusion, OutputValue};

use crate::runner::{Runner, timestamp};
use crate::world::{WORKFLOW, World};

#[tokio::test(flavor = "multi_thread")]
async fn our_own_client_and_the_hub_understand_each_other() {
    let world = World::new().await;
    let folder = world.folder("work", &[(".github/workflows/build.yml", WORKFLOW)]);
    let id = world.push(&folder, "acme/app").await;
    let config = Runner::registered(&world, "r1").await.config;
    let identity = Identity {
        version: "2.336.0".to_owned(),
        os: "Linux",
        architecture: "X64",
        owner: "test".to_owned(),
    };
    let client = Client::new(&config, identity).unwrap();
    let session = client.create_session().await.unwrap();
    let message = client.poll(&session, RunnerStatus::Online).await.unwrap().unwrap();
    let request: RunnerJobRequest = lenient::from_str(&message.message.body).unwrap();
    client.acknowledge(&session, &request).await.unwrap();
    let job = client.acquire(&request).await.unwrap();
    let service = client.job(&job).await.unwrap();
    service.renew().await.unwrap();
    let step = job.steps[0].id;
    service.upload_summary(step, b"# done".to_vec(), timestamp()).await.unwrap();
    // Larger than one block.
    let line = format!("{}\n", "x".repeat(1023));
    let mut log = tempfile::tempfile().unwrap();
    log.write_all(line.repeat(3 * 1024).as_bytes()).unwrap();
    log.rewind().unwrap();
    let log = tokio::fs::File::from_std(log);
    service.upload_log(LogKind::Job, log, 3 * 1024, timestamp()).await.unwrap();
    let answer = OutputValue { value: "42".to_owned(), is_secret: false };
    let done = CompleteJob {
        plan_id: job.plan.plan_id,
        job_id: job.job_id,
        conclusion: Conclusion::Failed,
        outputs: BTreeMap::from([("answer".to_owned(), answer)]),
        step_results: Vec::new(),
        annotations: Vec::new(),
        telemetry: Vec::new(),
        environment_url: None,
        billing_owner_id: None,
        infrastructure_failure_category: None,
    };
    service.complete(&done).await.unwrap();
    client.delete_session(&session).await.unwrap();
    let run = world.run(id).await;
    assert_eq!(run["conclusion"], "failure");
    let logs = world.dir.path().join(format!("hub/runs/{id}/logs/{}", run["jobs"][0]["id"]));
    assert_eq!(std::fs::metadata(logs.join("job.log")).unwrap().len(), 3 * 1024 * 1024);
    assert_eq!(std::fs::read(logs.join(format!("{step}.md"))).unwrap(), b"# done");
}
