//! Scale sets and groups: look up, make, change, delete.

use reqwest::Method;
use serde_json::json;

use super::error::ScaleSetError;
use super::tenant::{Call, Tenant, parse};
use super::wanted::{Outcome, Step, Wanted, decide};
use crate::wire::scale_set::{
    Counted, DEFAULT_GROUP, RUNNER_GROUPS, RunnerGroup, SCALE_SETS, ScaleSet, ScaleSetRequest,
};

impl Tenant {
    /// The set of this name in a group.
    ///
    /// # Errors
    /// [`ScaleSetError`]; `Ambiguous` when the service has several.
    pub async fn set_by_name(
        &self,
        group: i64,
        name: &str,
    ) -> Result<Option<ScaleSet>, ScaleSetError> {
        let group = group.to_string();
        let query = [("runnerGroupId", group.as_str()), ("name", name)];
        let operation = "looking a scale set up";
        let call =
            Call { operation, method: Method::GET, path: SCALE_SETS, query: &query, body: None };
        let found: Counted<ScaleSet> = self.json(call).await?;
        one("scale sets", name, found)
    }

    /// The set of this id; `None` if there is none.
    ///
    /// # Errors
    /// [`ScaleSetError`].
    pub async fn set(&self, id: i64) -> Result<Option<ScaleSet>, ScaleSetError> {
        let found = self.set_call("reading a scale set", Method::GET, id, None).await;
        match found {
            Ok(set) => Ok(Some(set)),
            Err(error) if error.is_set_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a set. It is tried once: where the answer is lost, a second try would say that somebody else
    /// has the name.
    ///
    /// # Errors
    /// [`ScaleSetError`]; status 409 when the name is taken in the group.
    pub async fn create_set(&self, request: &ScaleSetRequest) -> Result<ScaleSet, ScaleSetError> {
        let operation = "creating a scale set";
        let body = Some(json!(request));
        let call = Call { operation, method: Method::POST, path: SCALE_SETS, query: &[], body };
        parse(operation, &self.once(&call).await?)
    }

    /// Changes what `change` has.
    ///
    /// # Errors
    /// [`ScaleSetError`].
    pub async fn update_set(
        &self,
        id: i64,
        change: &ScaleSetRequest,
    ) -> Result<ScaleSet, ScaleSetError> {
        self.set_call("changing a scale set", Method::PATCH, id, Some(change)).await
    }

    /// Deletes a set; that there is none is as good.
    ///
    /// # Errors
    /// [`ScaleSetError`].
    pub async fn delete_set(&self, id: i64) -> Result<(), ScaleSetError> {
        let path = format!("{SCALE_SETS}/{id}");
        let operation = "deleting a scale set";
        let call = Call { operation, method: Method::DELETE, path: &path, query: &[], body: None };
        match self.call(call).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_set_gone() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the set as wanted, whether it is there or not, and whoever made it.
    ///
    /// `id`: its id, where it is known: a set that was renamed is found by it.
    ///
    /// # Errors
    /// [`ScaleSetError`].
    pub async fn ensure_set(
        &self,
        wanted: &Wanted,
        id: Option<i64>,
    ) -> Result<Outcome, ScaleSetError> {
        let found = self.find_set(wanted, id).await?;
        self.put_set(wanted, found).await
    }

    /// The set that is to be as wanted: the one of the id, else the one of the name.
    ///
    /// # Errors
    /// [`ScaleSetError`].
    pub async fn find_set(
        &self,
        wanted: &Wanted,
        id: Option<i64>,
    ) -> Result<Option<ScaleSet>, ScaleSetError> {
        let known = match id {
            Some(id) => self.set(id).await?,
            None => None,
        };
        match known {
            Some(known) => Ok(Some(known)),
            None => self.set_by_name(wanted.group, &wanted.name).await,
        }
    }

    /// Makes the set that was found as wanted, or a new one.
    ///
    /// # Errors
    /// [`ScaleSetError`]; status 409 when the name is taken in the group.
    pub async fn put_set(
        &self,
        wanted: &Wanted,
        found: Option<ScaleSet>,
    ) -> Result<Outcome, ScaleSetError> {
        let set = match (decide(wanted, found.as_ref()), found) {
            (Step::Create(request), _) => self.create_set(&request).await?,
            (Step::Update { id, change }, _) => self.update_set(id, &change).await?,
            (Step::Keep, Some(found)) => found,
            // Nothing is kept that was not found.
            (Step::Keep, None) => self.create_set(&ScaleSetRequest::default()).await?,
        };
        Ok(wanted.outcome(set))
    }

    /// The id of a group. `default`, in any case, needs no look-up.
    ///
    /// # Errors
    /// [`ScaleSetError`]; `NoSuchGroup`.
    pub async fn group(&self, name: &str) -> Result<i64, ScaleSetError> {
        if name.eq_ignore_ascii_case("default") {
            return Ok(DEFAULT_GROUP);
        }
        let operation = "looking a runner group up";
        let query = [("groupName", name)];
        let call =
            Call { operation, method: Method::GET, path: RUNNER_GROUPS, query: &query, body: None };
        let found: Counted<RunnerGroup> = self.json(call).await?;
        let group = one("runner groups", name, found)?;
        group
            .map(|group| group.id)
            .ok_or_else(|| ScaleSetError::NoSuchGroup { name: name.to_owned() })
    }

    async fn set_call(
        &self,
        operation: &'static str,
        method: Method,
        id: i64,
        body: Option<&ScaleSetRequest>,
    ) -> Result<ScaleSet, ScaleSetError> {
        let path = format!("{SCALE_SETS}/{id}");
        let body = body.map(|body| json!(body));
        self.json(Call { operation, method, path: &path, query: &[], body }).await
    }
}

/// The only one, if there is one.
pub(super) fn one<T>(
    what: &'static str,
    name: &str,
    found: Counted<T>,
) -> Result<Option<T>, ScaleSetError> {
    let mut found = found.value;
    if found.len() > 1 {
        let (name, count) = (name.to_owned(), found.len());
        return Err(ScaleSetError::Ambiguous { what, name, count });
    }
    Ok(found.pop())
}
