//! Who the client is: the token of each request, and how an App comes by it.

use jiff::Timestamp;
use reqwest::Method;
use secrecy::SecretString;

use super::{Call, GithubClient, read};
use crate::http::Answer;
use crate::rest::app;
use crate::rest::error::RestError;
use crate::rest::group::InstallationToken;
use crate::rest::token::{Credential, TokenDecision};
use crate::retry::{Policy, retry};

impl GithubClient {
    /// The token to send; an App's is renewed by whoever comes first.
    pub(super) async fn token(&self, operation: &'static str) -> Result<SecretString, RestError> {
        if let Credential::Token(token) = &self.credential {
            return Ok(token.clone());
        }
        if let (TokenDecision::Use, Some(token)) = self.token.look(self.now()) {
            return Ok(token);
        }
        let _permit = self.renewing.acquire().await.ok();
        let (decision, token) = self.token.look(self.now());
        if let (TokenDecision::Use, Some(token)) = (decision, &token) {
            return Ok(token.clone());
        }
        match self.renew(operation).await {
            Ok((token, expires_at)) => {
                self.token.put(token.clone(), expires_at);
                Ok(token)
            }
            Err(error) => {
                self.token.failed(self.now());
                match (decision, token) {
                    (TokenDecision::Renew, Some(token)) => {
                        tracing::warn!("the installation token is not renewed yet: {error}");
                        Ok(token)
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// A new installation token, and when it ends.
    async fn renew(&self, operation: &'static str) -> Result<(SecretString, Timestamp), RestError> {
        let installation = match &self.credential {
            Credential::App { installation: Some(id), .. } => *id,
            _ => self.installation().await?.id,
        };
        let id = installation.to_string();
        let path = vec!["app", "installations", &id, "access_tokens"];
        let call = Call::new("making an installation token", Method::POST, path)
            .needs("an App that is installed there")
            .reserved();
        let answer = self.as_app(operation, call).await?;
        let token: InstallationToken = read("making an installation token", &answer.body)?;
        Ok((token.token.to_secret(), token.expires_at))
    }

    /// A call that an App makes as itself.
    pub(in crate::rest) async fn as_app(
        &self,
        operation: &'static str,
        call: Call<'_>,
    ) -> Result<Answer, RestError> {
        let Credential::App { issuer, signer, .. } = &self.credential else {
            let reason = "a personal token where an App's key is needed".to_owned();
            return Err(RestError::Body { operation, reason });
        };
        let url = self.url(&call, None);
        // To ask twice for a token does no harm.
        retry(Policy::QUICK, RestError::is_transient, |_| async {
            let jwt = app::assertion(signer.as_ref(), issuer, self.now()).await;
            let jwt = jwt.map_err(|source| RestError::Sign { operation, source })?;
            self.send(&call, &url, &jwt.into()).await
        })
        .await
    }
}
