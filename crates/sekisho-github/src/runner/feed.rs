//! The connection of the live feed: a websocket that is opened as any other call is made, so that proxy,
//! private certificates and deadlines hold for it too.
//!
//! <https://www.rfc-editor.org/rfc/rfc6455#section-4.1>

use reqwest::Upgraded;
use reqwest::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use url::Url;

use super::error::ClientError;
use super::http::CALL_DEADLINE;
use super::job::JobClient;
use crate::http::{Answer, HttpError};

impl JobClient {
    /// Where a `ws:` or `wss:` URL is to be asked for. A service that was reached by TLS has no feed
    /// in the clear.
    ///
    /// # Errors
    /// `Url`.
    pub fn feed_url(&self, text: &str) -> Result<Url, ClientError> {
        let bad = || ClientError::Url { what: "the live feed's URL" };
        let mut url = Url::parse(text).map_err(|_| bad())?;
        let scheme = match url.scheme() {
            "wss" => "https",
            "ws" if self.run.scheme() == "http" => "http",
            _ => return Err(bad()),
        };
        url.set_scheme(scheme).map_err(|()| bad())?;
        Ok(url)
    }

    /// Opens a websocket with the job's token; `key` is the handshake's nonce, in base64. The answer: the
    /// service's `Sec-WebSocket-Accept`, which is the caller's to check, and the connection. One try.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open_websocket(
        &self,
        url: &Url,
        key: &str,
    ) -> Result<(String, Upgraded), ClientError> {
        const OPERATION: &str = "opening the live feed";
        let request = self.http.client.get(url.clone()).bearer_auth(self.http.token.expose());
        let request = request
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, key);
        let failed = |source| ClientError::Http { operation: OPERATION, source };
        let transport = |source: reqwest::Error| failed(HttpError::Transport(source.without_url()));
        let open = async {
            let response = request.send().await.map_err(transport)?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            if status != 101 {
                Answer { status, headers, body: Vec::new() }.success(OPERATION)?;
                let reason = "something that is no websocket".to_owned();
                return Err(ClientError::Body { operation: OPERATION, reason });
            }
            let accept = headers.get(SEC_WEBSOCKET_ACCEPT).and_then(|value| value.to_str().ok());
            let accept = accept.unwrap_or_default().to_owned();
            Ok((accept, response.upgrade().await.map_err(transport)?))
        };
        match tokio::time::timeout(CALL_DEADLINE, open).await {
            Ok(opened) => opened,
            Err(_) => Err(failed(HttpError::Deadline(CALL_DEADLINE))),
        }
    }
}
