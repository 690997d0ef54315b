//! A runner by its raw requests, from its registration to its job's end.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, Response};
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use sekisho_github::jit::JitConfig;
use serde_json::{Value, json};

use crate::world::World;

/// A runner, as far as its requests go.
pub(crate) struct Runner {
    pub(crate) id: u64,
    pub(crate) config: JitConfig,
    token: String,
    session: String,
    /// The job message.
    pub(crate) job: Value,
}

#[expect(clippy::disallowed_methods, reason = "an assertion says when it is valid")]
pub(crate) fn timestamp() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    timestamp().as_second()
}

impl Runner {
    /// Registered, with a token and a session.
    pub(crate) async fn new(world: &World, name: &str) -> Self {
        let registered = Self::registered(world, name).await;
        Self::of(world, registered.id, registered.config).await
    }

    /// With the configuration that it was registered with: it has a token and a session.
    pub(crate) async fn of(world: &World, id: u64, config: JitConfig) -> Self {
        let mut runner = Self::unconnected(id, config);
        let answer = runner.exchange(world, &runner.claims(), None).await;
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        runner.token = answer["access_token"].as_str().unwrap().to_owned();
        let session = runner.open_session(world).await;
        assert_eq!(session.status(), 200);
        let session: Value = session.json().await.unwrap();
        runner.session = session["sessionId"].as_str().unwrap().to_owned();
        runner
    }

    pub(crate) async fn registered(world: &World, name: &str) -> Self {
        Self::registered_at(world, "repos/acme/app", name).await
    }

    /// For the jobs of a place such as `orgs/acme`.
    pub(crate) async fn registered_at(world: &World, place: &str, name: &str) -> Self {
        let answer = world.register_at(place, name, &["Default", "Linux", "extra"]).await;
        let blob = answer["encoded_jit_config"].as_str().unwrap().to_owned();
        let config = JitConfig::decode(&blob.into()).unwrap();
        Self::unconnected(answer["runner"]["id"].as_u64().unwrap(), config)
    }

    /// With no more than its configuration.
    pub(crate) fn unconnected(id: u64, config: JitConfig) -> Self {
        Self { id, config, token: String::new(), session: String::new(), job: Value::Null }
    }

    pub(crate) fn claims(&self) -> Value {
        let data = &self.config.credentials.data;
        let now = now();
        json!({
            "iss": data.client_id, "sub": data.client_id, "aud": data.authorization_url,
            "jti": uuid::Uuid::new_v4(), "nbf": now, "exp": now + 300,
        })
    }

    /// Asks for a token. `key`: another one than its own.
    pub(crate) async fn exchange(
        &self,
        world: &World,
        claims: &Value,
        key: Option<rsa::RsaPrivateKey>,
    ) -> Response {
        let key = key.unwrap_or_else(|| self.config.private_key().unwrap());
        let key = EncodingKey::from_rsa_der(key.to_pkcs1_der().unwrap().as_bytes());
        let jwt = jsonwebtoken::encode(&Header::new(Algorithm::PS256), claims, &key).unwrap();
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &jwt),
        ];
        world.request(Method::POST, "/_oauth/token").form(&form).send().await.unwrap()
    }

    pub(crate) async fn open_session(&self, world: &World) -> Response {
        let body = json!({
            "sessionId": uuid::Uuid::nil(), "ownerName": "test (PID: 1)",
            "agent": {"id": self.id.to_string(), "name": "r", "version": "2.336.0",
                      "osDescription": "Linux 6"},
            "useFipsEncryption": true,
        });
        let request = world.request(Method::POST, "/_broker/session").bearer_auth(&self.token);
        request.json(&body).send().await.unwrap()
    }

    pub(crate) async fn poll(&self, world: &World) -> Response {
        let path = format!(
            "/_broker/message?sessionId={}&status=Online&runnerVersion=2.336.0&os=Linux\
             &architecture=X64&disableUpdate=true",
            self.session
        );
        world.request(Method::GET, &path).bearer_auth(&self.token).send().await.unwrap()
    }

    /// Waits for a message of this type and gives its body.
    pub(crate) async fn message(&self, world: &World, kind: &str) -> Value {
        let answer = self.poll(world).await;
        assert_eq!(answer.status(), 200);
        let message: Value = answer.json().await.unwrap();
        assert_eq!(message["messageType"], kind);
        serde_json::from_str(message["body"].as_str().unwrap()).unwrap()
    }

    pub(crate) async fn try_acquire(&self, world: &World, request: &Value) -> Response {
        let body = json!({"jobMessageId": request, "runnerOS": "Linux", "billingOwnerId": ""});
        let post = world.request(Method::POST, "/_run/acquirejob").bearer_auth(&self.token);
        post.json(&body).send().await.unwrap()
    }

    /// Waits for a job and takes it.
    pub(crate) async fn acquire(&mut self, world: &World) -> Value {
        let offer = self.message(world, "RunnerJobRequest").await;
        assert_eq!(offer["run_service_url"], format!("{}/_run/", world.url));
        let request = offer["runner_request_id"].clone();
        let ack = json!({"runnerRequestId": request});
        let path = format!("/_broker/acknowledge?sessionId={}", self.session);
        let post = world.request(Method::POST, &path).bearer_auth(&self.token);
        assert_eq!(post.json(&ack).send().await.unwrap().status(), 200);
        let answer = self.try_acquire(world, &request).await;
        assert_eq!(answer.status(), 200);
        self.job = answer.json().await.unwrap();
        request
    }

    /// Its access token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The job message, as a runner reads it.
    pub(crate) fn message_of_job(&self) -> sekisho_github::wire::job::AgentJobRequestMessage {
        sekisho_github::lenient::from_value(self.job.clone()).unwrap()
    }

    fn endpoint(&self) -> &Value {
        &self.job["resources"]["endpoints"][0]
    }

    pub(crate) fn job_token(&self) -> &str {
        self.endpoint()["authorization"]["parameters"]["AccessToken"].as_str().unwrap()
    }

    /// Plan and job, as the run service wants them.
    fn ids(&self) -> Value {
        json!({"planId": self.job["plan"]["planId"], "jobId": self.job["jobId"]})
    }

    /// Plan and job, as the results service wants them.
    pub(crate) fn backend_ids(&self) -> Value {
        json!({
            "workflow_run_backend_id": self.job["plan"]["planId"],
            "workflow_job_run_backend_id": self.job["jobId"],
        })
    }

    /// With the job's token; `extra` is added to the ids.
    pub(crate) async fn call(
        &self,
        world: &World,
        path: &str,
        ids: Value,
        extra: Value,
    ) -> Response {
        let mut body = ids;
        for (key, value) in extra.as_object().unwrap() {
            body[key] = value.clone();
        }
        let post = world.request(Method::POST, path).bearer_auth(self.job_token());
        post.json(&body).send().await.unwrap()
    }

    pub(crate) async fn run_service(&self, world: &World, call: &str, extra: Value) -> Response {
        self.call(world, &format!("/_run/{call}"), self.ids(), extra).await
    }

    pub(crate) async fn results(&self, world: &World, method: &str, extra: Value) -> Response {
        let path = format!("/_results/twirp/results.services.receiver.Receiver/{method}");
        self.call(world, &path, self.backend_ids(), extra).await
    }

    pub(crate) async fn step(&self, world: &World, order: u64, status: u64, conclusion: u64) {
        let path =
            "/twirp/github.actions.results.api.v1.WorkflowStepUpdateService/WorkflowStepsUpdate";
        let steps = json!({"change_order": order, "steps": [{
            "external_id": self.job["steps"][0]["id"], "number": 1, "name": "Say it",
            "status": status, "conclusion": conclusion, "started_at": "2026-01-01T00:00:00Z",
        }]});
        let answer = self.call(world, path, self.backend_ids(), steps).await;
        assert_eq!(answer.json::<Value>().await.unwrap(), json!({"ok": true}));
    }

    pub(crate) async fn complete(&self, world: &World, conclusion: &str) -> Response {
        let extra = json!({
            "conclusion": conclusion,
            "outputs": {"answer": {"value": "42"}, "key": {"value": "s3cret", "isSecret": true}},
            "stepResults": [{
                "external_id": self.job["steps"][0]["id"], "number": 1, "name": "Say it",
                "status": "completed", "conclusion": conclusion,
                "annotations": [{"level": "WARNING", "message": "odd", "path": "a.c", "startLine": 3}],
            }],
        });
        self.run_service(world, "completejob", extra).await
    }
}
