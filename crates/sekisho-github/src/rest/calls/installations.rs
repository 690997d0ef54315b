//! Where the App is installed.

use super::super::Installation;
use super::super::client::{Call, GithubClient};
use super::super::error::RestError;

impl GithubClient {
    /// The App's installation that the address belongs to.
    ///
    /// # Errors
    /// 404 when it is not installed there; a personal token cannot ask.
    pub async fn installation(&self) -> Result<Installation, RestError> {
        const OPERATION: &str = "looking for the App's installation";
        let scope = self.address().scope().clone();
        let path = scope.segments().into_iter().chain(["installation"]).collect();
        let call = Call::get(OPERATION, path).needs("an App that is installed there").reserved();
        let answer = self.as_app(OPERATION, call).await?;
        serde_json::from_slice(&answer.body).map_err(|_| RestError::Body {
            operation: OPERATION,
            reason: "JSON of another shape".to_owned(),
        })
    }
}
