//! GitHub's runner in a container that is played, as far as its requests go.

use std::error::Error;

use sekisho_github::jit::JitConfig;
use sekisho_github::runner::{Client, Identity};
use sekisho_github::wire::message::{RunnerJobRequest, RunnerStatus};
use sekisho_github::wire::run_service::{CompleteJob, Conclusion};
use serde_json::json;
use testkit::PodRun;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Takes one job and does it; whether there was one before it was told to stop. `online` is awaited when
/// it has its session, `steps` is given the job's number.
pub(crate) async fn work<S: Future<Output = Result<(), Failure>>>(
    run: &PodRun,
    online: impl Future<Output = ()>,
    steps: impl FnOnce(String) -> S,
) -> Result<bool, Failure> {
    let jit = run.files.get("/run/sekisho/jit/jitconfig").ok_or("no registration")?;
    let jit = JitConfig::decode(&String::from_utf8(jit.clone())?.into())?;
    let identity = Identity {
        version: "2.336.0".to_owned(),
        os: "Linux",
        architecture: "X64",
        owner: "test".to_owned(),
    };
    let client = Client::new(&jit, identity)?;
    let session = client.create_session().await?;
    online.await;
    let request: RunnerJobRequest = loop {
        let polled = tokio::select! {
            () = run.stop.cancelled() => {
                client.delete_session(&session).await?;
                return Ok(false);
            }
            polled = client.poll(&session, RunnerStatus::Online) => polled?,
        };
        let message = polled.map(|polled| polled.message.body);
        if let Some(request) = message.and_then(|body| serde_json::from_str(&body).ok()) {
            break request;
        }
    };
    client.acknowledge(&session, &request).await?;
    let message = client.acquire(&request).await?;
    let job = client.job(&message).await?;
    steps(message.job_id.to_string()).await?;
    let complete = json!({ "planId": message.plan.plan_id, "jobId": message.job_id, "conclusion": "succeeded" });
    let mut complete: CompleteJob = serde_json::from_value(complete)?;
    complete.conclusion = Conclusion::Succeeded;
    job.complete(&complete).await?;
    Ok(true)
}
