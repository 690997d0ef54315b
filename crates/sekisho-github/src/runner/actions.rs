//! Actions of other repositories: asked for, and fetched.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::AUTHORIZATION;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use url::Url;

use super::error::ClientError;
use super::http::{self, CALL_DEADLINE, MAX_ANSWER, retry};
use super::job::JobClient;
use crate::http::{Answer, HttpError};
use crate::lenient;
use crate::retry::Policy;
use crate::wire::launch::{
    ActionRequest, ResolveActions, ResolveErrors, ResolvedAction, ResolvedActions, path,
};

/// Largest archive of an action, in bytes.
const MAX_ARCHIVE: usize = 1024 * 1024 * 1024;
/// Until an archive is fetched.
const FETCH_DEADLINE: std::time::Duration = std::time::Duration::from_secs(600);

/// What came of a question.
#[derive(Debug)]
pub enum Resolution {
    /// All are there.
    Found(ResolvedActions),
    /// Some are not; the texts say which and why.
    Refused(Vec<String>),
}

impl JobClient {
    /// Whether there is anyone who knows actions.
    pub fn can_resolve(&self) -> bool {
        self.launch.is_some()
    }

    /// Asks which commits actions are, and where.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn resolve_actions(
        &self,
        actions: Vec<ActionRequest>,
    ) -> Result<Resolution, ClientError> {
        const OPERATION: &str = "resolving actions";
        let launch = self.launch.as_ref().ok_or(ClientError::Message { what: "launch service" })?;
        let mut url = launch.clone();
        url.set_path(&path(self.plan_id, self.job_id));
        let body = ResolveActions { actions };
        let send = |_| async {
            let request = self.http.client.post(url.clone()).json(&body);
            let request = request.bearer_auth(self.http.token.expose());
            let answer = http::send(OPERATION, request, CALL_DEADLINE, MAX_ANSWER).await?;
            if answer.status == 422 { Ok(answer) } else { answer.success(OPERATION) }
        };
        let again = |error: &ClientError| error.is_transient() && error.status() != Some(429);
        let answer: Answer = retry(Policy::QUICK, again, send).await?;
        if answer.status != 422 {
            return answer.json(OPERATION).map(Resolution::Found);
        }
        let errors: ResolveErrors = lenient::from_slice(&answer.body).unwrap_or_default();
        let mut texts: Vec<String> = errors
            .errors
            .into_iter()
            .map(|(key, error)| format!("Unable to resolve action `{key}`: {}", error.message))
            .collect();
        if texts.is_empty() {
            texts.push("Unable to resolve the job's actions".to_owned());
        }
        Ok(Resolution::Refused(texts))
    }

    /// Fetches an action's archive into `file`, which is at its start. One try.
    ///
    /// # Errors
    /// [`ClientError`]; 403 and 404 are final.
    pub async fn fetch_action(
        &self,
        action: &ResolvedAction,
        file: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), ClientError> {
        const OPERATION: &str = "fetching an action";
        let what = "an action's URL";
        let url = Url::parse(&action.tar_url).map_err(|_| ClientError::Url { what })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ClientError::Url { what });
        }
        let mut request = self.http.client.get(url);
        if let Some(authentication) = &action.authentication {
            let pair = format!("x-access-token:{}", authentication.token.expose());
            let value = format!("Basic {}", STANDARD.encode(pair));
            let value = reqwest::header::HeaderValue::from_str(&value);
            let mut value = value.map_err(|_| ClientError::Message { what: "usable token" })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let failed = |source| ClientError::Http { operation: OPERATION, source };
        let transport = |source: reqwest::Error| failed(HttpError::Transport(source.without_url()));
        let unwritten = |source| ClientError::File { what: "writing an action's archive", source };
        let fetch = async {
            let mut response = request.send().await.map_err(transport)?;
            let status = response.status().as_u16();
            if status != 200 {
                let (headers, body) = (response.headers().clone(), Vec::new());
                return Answer { status, headers, body }.success(OPERATION).map(drop);
            }
            let mut length = 0;
            while let Some(chunk) = response.chunk().await.map_err(transport)? {
                length += chunk.len();
                if length > MAX_ARCHIVE {
                    return Err(failed(HttpError::TooLong(MAX_ARCHIVE)));
                }
                file.write_all(&chunk).await.map_err(unwritten)?;
            }
            file.flush().await.map_err(unwritten)
        };
        match tokio::time::timeout(FETCH_DEADLINE, fetch).await {
            Ok(fetched) => fetched,
            Err(_) => Err(failed(HttpError::Deadline(FETCH_DEADLINE))),
        }
    }
}
