//! Runners: their registration, labels, groups and end.

use reqwest::Method;
use serde_json::{Value, json};

use super::super::budget::REGISTRATION;
use super::super::client::{Call, GithubClient, Page};
use super::super::error::RestError;
use super::super::{
    GenerateJitConfig, JitConfig, Label, Labels, RegistrationToken, Runner, RunnerGroup,
    RunnerGroupChange, RunnerGroups, Runners,
};

impl Page for Runners {
    type Entry = Runner;

    fn entries(self) -> Vec<Runner> {
        self.runners
    }
}

impl Page for RunnerGroups {
    type Entry = RunnerGroup;

    fn entries(self) -> Vec<RunnerGroup> {
        self.runner_groups
    }
}

impl GithubClient {
    /// A call about the address's own scope.
    fn scoped<'a>(&'a self, operation: &'static str, method: Method, rest: &[&'a str]) -> Call<'a> {
        let scope = self.address().scope();
        let path = scope.segments().into_iter().chain(["actions"]).chain(rest.iter().copied());
        Call::new(operation, method, path.collect()).needs(scope.runner_permission())
    }

    /// A token to register a runner with, good for an hour.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn registration_token(&self) -> Result<RegistrationToken, RestError> {
        let path = ["runners", "registration-token"];
        let call = self.scoped("making a registration token", Method::POST, &path);
        self.json(call.resource(REGISTRATION)).await
    }

    /// A token to take a runner's registration away with, good for an hour.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn remove_token(&self) -> Result<RegistrationToken, RestError> {
        let path = ["runners", "remove-token"];
        self.json(self.scoped("making a removal token", Method::POST, &path).reserved()).await
    }

    /// Registers a runner for one job. An answer that is lost leaves a registration behind: a 409
    /// then says so, and the runner is found by its name.
    ///
    /// # Errors
    /// 409 when the name is taken, 404 for an unknown group; see [`RestError`].
    pub async fn generate_jit_config(
        &self,
        request: &GenerateJitConfig,
    ) -> Result<JitConfig, RestError> {
        let path = ["runners", "generate-jitconfig"];
        let call = self.scoped("registering a runner", Method::POST, &path);
        let body = serde_json::to_value(request).unwrap_or_default();
        self.json(call.resource(REGISTRATION).body(body)).await
    }

    /// All runners, or the one of that name.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn runners(&self, name: Option<&str>) -> Result<Vec<Runner>, RestError> {
        let mut call = self.scoped("listing the runners", Method::GET, &["runners"]);
        if let Some(name) = name {
            call = call.query("name", name);
        }
        self.list::<Runners>(call).await
    }

    /// One runner.
    ///
    /// # Errors
    /// 404 when it is gone; see [`RestError`].
    pub async fn runner(&self, id: u64) -> Result<Runner, RestError> {
        let id = id.to_string();
        self.json(self.scoped("looking at a runner", Method::GET, &["runners", &id])).await
    }

    /// Takes a registration away. False if it was gone already. May use the reserve.
    ///
    /// # Errors
    /// 422 while a job runs on it; see [`RestError`].
    pub async fn delete_runner(&self, id: u64) -> Result<bool, RestError> {
        let id = id.to_string();
        let call = self.scoped("removing a runner", Method::DELETE, &["runners", &id]).reserved();
        gone(self.done(call).await)
    }

    /// The labels of a runner.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn runner_labels(&self, id: u64) -> Result<Vec<Label>, RestError> {
        self.labels(id, Method::GET, &[], None).await
    }

    /// Adds custom labels; gives all that it has then.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn add_runner_labels(
        &self,
        id: u64,
        labels: &[String],
    ) -> Result<Vec<Label>, RestError> {
        self.labels(id, Method::POST, &[], Some(json!({ "labels": labels }))).await
    }

    /// Replaces the custom labels; gives all that it has then.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn set_runner_labels(
        &self,
        id: u64,
        labels: &[String],
    ) -> Result<Vec<Label>, RestError> {
        self.labels(id, Method::PUT, &[], Some(json!({ "labels": labels }))).await
    }

    /// Takes one custom label away; gives all that it has then.
    ///
    /// # Errors
    /// 404 if it has no such label; see [`RestError`].
    pub async fn remove_runner_label(&self, id: u64, label: &str) -> Result<Vec<Label>, RestError> {
        self.labels(id, Method::DELETE, &[label], None).await
    }

    async fn labels(
        &self,
        id: u64,
        method: Method,
        rest: &[&str],
        body: Option<Value>,
    ) -> Result<Vec<Label>, RestError> {
        let id = id.to_string();
        let path = [&["runners", &id, "labels"], rest].concat();
        let mut call = self.scoped("looking after a runner's labels", method, &path);
        call.body = body;
        Ok(self.json::<Labels>(call).await?.labels)
    }

    /// All runner groups. A repository has none of its own: 404.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn runner_groups(&self) -> Result<Vec<RunnerGroup>, RestError> {
        let call = self.scoped("listing the runner groups", Method::GET, &["runner-groups"]);
        self.list::<RunnerGroups>(call).await
    }

    /// Makes a runner group.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn create_runner_group(
        &self,
        group: &RunnerGroupChange,
    ) -> Result<RunnerGroup, RestError> {
        let call = self.scoped("making a runner group", Method::POST, &["runner-groups"]);
        self.json(call.body(serde_json::to_value(group).unwrap_or_default())).await
    }

    /// One runner group.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn runner_group(&self, id: u64) -> Result<RunnerGroup, RestError> {
        let id = id.to_string();
        let path = ["runner-groups", &id];
        self.json(self.scoped("looking at a runner group", Method::GET, &path)).await
    }

    /// Changes a runner group.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn update_runner_group(
        &self,
        id: u64,
        change: &RunnerGroupChange,
    ) -> Result<RunnerGroup, RestError> {
        let id = id.to_string();
        let path = ["runner-groups", &id];
        let call = self.scoped("changing a runner group", Method::PATCH, &path);
        self.json(call.body(serde_json::to_value(change).unwrap_or_default())).await
    }

    /// Removes a runner group. False if it was gone already.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn delete_runner_group(&self, id: u64) -> Result<bool, RestError> {
        let id = id.to_string();
        let path = ["runner-groups", &id];
        gone(self.done(self.scoped("removing a runner group", Method::DELETE, &path)).await)
    }

    /// The runners of a group.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn group_runners(&self, id: u64) -> Result<Vec<Runner>, RestError> {
        let id = id.to_string();
        let path = ["runner-groups", &id, "runners"];
        self.list::<Runners>(self.scoped("listing a group's runners", Method::GET, &path)).await
    }

    /// Puts a runner into a group.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn add_group_runner(&self, group: u64, runner: u64) -> Result<(), RestError> {
        let (group, runner) = (group.to_string(), runner.to_string());
        let path = ["runner-groups", &group, "runners", &runner];
        self.done(self.scoped("moving a runner to a group", Method::PUT, &path)).await
    }

    /// Takes a runner out of a group: it goes to the default one. False if it is not in it.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn remove_group_runner(&self, group: u64, runner: u64) -> Result<bool, RestError> {
        let (group, runner) = (group.to_string(), runner.to_string());
        let path = ["runner-groups", &group, "runners", &runner];
        let call = self.scoped("taking a runner out of a group", Method::DELETE, &path);
        gone(self.done(call).await)
    }
}

/// What is to go and is gone, is done.
fn gone(result: Result<(), RestError>) -> Result<bool, RestError> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.status() == Some(404) => Ok(false),
        Err(error) => Err(error),
    }
}
