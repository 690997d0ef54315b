//! Runners of a set: registered with a JIT configuration, looked up, removed.

use reqwest::Method;
use serde_json::json;

use super::error::ScaleSetError;
use super::jit::{Seen, Step, decide};
use super::sets::one;
use super::tenant::{Call, Tenant};
use crate::wire::scale_set::{
    Counted, JitConfig, JitRequest, RUNNERS, RunnerReference, SCALE_SETS, exception,
};

impl Tenant {
    /// Registers a runner for one job of the set.
    ///
    /// A name that is taken by a runner of the same set is freed first: an answer that was lost
    /// leaves such a registration behind. So a name must be given to one runner only.
    ///
    /// # Errors
    /// [`ScaleSetError`]; `NameTaken` when the name is another's, or its runner at a job.
    pub async fn jit_config(
        &self,
        set: i64,
        name: &str,
        work_folder: &str,
    ) -> Result<JitConfig, ScaleSetError> {
        let (mut seen, mut removals) = (Seen::Start, 0);
        loop {
            seen = match decide(set, removals, &seen) {
                Step::Make => match self.generate(set, name, work_folder).await {
                    Ok(made) => return Ok(made),
                    Err(error) if error.is(exception::AGENT_EXISTS) => Seen::NameTaken,
                    Err(error) => return Err(error),
                },
                Step::LookUp => {
                    let found = self.runner_by_name(name).await?;
                    // One that is gone by itself counts too: this must end.
                    removals += u32::from(found.is_none());
                    Seen::Found(found)
                }
                Step::Remove { runner } => match self.remove_runner(runner).await {
                    Ok(_) => {
                        removals += 1;
                        Seen::Removed
                    }
                    Err(error) if error.is_busy() => Seen::Busy { runner },
                    Err(error) => return Err(error),
                },
                Step::GiveUp(source) => {
                    return Err(ScaleSetError::NameTaken { name: name.to_owned(), source });
                }
            };
        }
    }

    async fn generate(
        &self,
        set: i64,
        name: &str,
        work_folder: &str,
    ) -> Result<JitConfig, ScaleSetError> {
        let path = format!("{SCALE_SETS}/{set}/generatejitconfig");
        let body = JitRequest { name: name.to_owned(), work_folder: work_folder.to_owned() };
        let operation = "asking for a JIT configuration";
        let body = Some(json!(body));
        self.json(Call { operation, method: Method::POST, path: &path, query: &[], body }).await
    }

    /// The runner of this name.
    ///
    /// # Errors
    /// [`ScaleSetError`].
    pub async fn runner_by_name(
        &self,
        name: &str,
    ) -> Result<Option<RunnerReference>, ScaleSetError> {
        let operation = "looking a runner up";
        let query = [("agentName", name)];
        let call =
            Call { operation, method: Method::GET, path: RUNNERS, query: &query, body: None };
        let found: Counted<RunnerReference> = self.json(call).await?;
        one("runners", name, found)
    }

    /// The runner of this id; `None` if there is none.
    ///
    /// # Errors
    /// [`ScaleSetError`].
    pub async fn runner(&self, id: i64) -> Result<Option<RunnerReference>, ScaleSetError> {
        let path = format!("{RUNNERS}/{id}");
        let operation = "reading a runner";
        let call = Call { operation, method: Method::GET, path: &path, query: &[], body: None };
        match self.json(call).await {
            Ok(runner) => Ok(Some(runner)),
            Err(error) if error.is(exception::AGENT_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a registration. False if it was gone already.
    ///
    /// # Errors
    /// [`ScaleSetError`]; [`ScaleSetError::is_busy`] while it has a job: try later.
    pub async fn remove_runner(&self, id: i64) -> Result<bool, ScaleSetError> {
        let path = format!("{RUNNERS}/{id}");
        let operation = "removing a runner";
        let call = Call { operation, method: Method::DELETE, path: &path, query: &[], body: None };
        match self.call(call).await {
            Ok(_) => Ok(true),
            Err(error) if error.is(exception::AGENT_NOT_FOUND) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
