//! Every kind of token that the hub gives out, by the requests that make it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::runner::Runner;
use crate::world::{ADMIN, World};

/// A registration token of a place such as `orgs/acme`.
pub(crate) async fn registration(world: &World, place: &str) -> String {
    let path = format!("/api/v3/{place}/actions/runners/registration-token");
    let made: Value = world.post(&path, &json!({})).await.json().await.unwrap();
    made["token"].as_str().unwrap().to_owned()
}

/// The admin token of a place's tenant.
pub(crate) async fn tenant(world: &World, place: &str) -> String {
    let token = registration(world, place).await;
    let url = format!("{}/{}", world.url, place.trim_start_matches("orgs/"));
    let request = world.request(Method::POST, "/api/v3/actions/runner-registration");
    let request = request.header("authorization", format!("RemoteAuth {token}"));
    let body = json!({"url": url, "runner_event": "register"});
    let made: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
    made["token"].as_str().unwrap().to_owned()
}

/// One token of each kind.
pub(crate) struct Tokens {
    pub(crate) registration: String,
    pub(crate) tenant: String,
    /// Of a set's session.
    pub(crate) queue: String,
    pub(crate) set: i64,
    /// Of a runner that is at a job.
    pub(crate) runner: String,
    pub(crate) job: String,
    /// `github.token` of the job.
    pub(crate) github: String,
}

impl Tokens {
    /// Of a world whose queue has a job for `runner`.
    pub(crate) async fn new(world: &World, runner: &mut Runner) -> Self {
        runner.acquire(world).await;
        let tenant = tenant(world, "orgs/acme").await;
        let sets = "/_tenant/_apis/runtime/runnerscalesets";
        let post = async |path: &str, body: Value| -> Value {
            let post = world.request(Method::POST, path).bearer_auth(&tenant).json(&body);
            post.send().await.unwrap().json().await.unwrap()
        };
        let set = post(sets, json!({"name": "tokens"})).await["id"].as_i64().unwrap();
        let session = post(&format!("{sets}/{set}/sessions"), json!({"ownerName": "me"})).await;
        let queue = session["messageQueueAccessToken"].as_str().unwrap().to_owned();
        let message = runner.message_of_job();
        Self {
            registration: registration(world, "orgs/acme").await,
            tenant,
            queue,
            set,
            runner: runner.token().to_owned(),
            job: runner.job_token().to_owned(),
            github: message.variable("system.github.token").unwrap().value.expose().to_owned(),
        }
    }

    /// All of them and the administrator's, by name.
    pub(crate) fn all(&self) -> [(&'static str, &str); 7] {
        [
            ("registration", &self.registration),
            ("tenant", &self.tenant),
            ("queue", &self.queue),
            ("runner", &self.runner),
            ("job", &self.job),
            ("github", &self.github),
            ("admin", ADMIN),
        ]
    }
}
