//! A session at a gate, for the identity of the job that this runs in.

use std::time::Duration;

use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret as _, SecretString};
use sekisho_github::http::is_loopback;
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::settings;

/// How long the hub or the gate may take to answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a runner gives to a step of a job with `id-token: write`; GitHub documentation, "OpenID
/// Connect reference", "Methods for requesting the OIDC token".
const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

#[derive(Deserialize)]
struct IdToken {
    #[serde(deserialize_with = "secret")]
    value: SecretString,
}

/// What the gate gives for an identity.
#[derive(Debug, Deserialize)]
pub(crate) struct Session {
    /// Shown to the gate.
    #[serde(deserialize_with = "secret")]
    pub(crate) token: SecretString,
    /// How long it is good, in seconds.
    pub(crate) expires_in: u64,
    /// Whose images it may push.
    pub(crate) repository: String,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

/// A session for the job's own identity. `None` outside a job, or when the job may not have one.
pub(crate) async fn of_job(gate: &Url) -> anyhow::Result<Option<Session>> {
    let (Some(url), Some(token)) = (settings::env(REQUEST_URL), settings::env(REQUEST_TOKEN))
    else {
        return Ok(None);
    };
    let client = client()?;
    let identity = identity(&client, &url, &token.into(), gate).await?;
    exchange(&client, &identity, gate).await.map(Some)
}

/// A session for an OIDC token that somebody else asked for.
pub(crate) async fn of_token(identity: &SecretString, gate: &Url) -> anyhow::Result<Session> {
    exchange(&client()?, identity, gate).await
}

fn client() -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder().timeout(DEADLINE).build().context("making an HTTP client")
}

async fn exchange(
    client: &reqwest::Client,
    identity: &SecretString,
    gate: &Url,
) -> anyhow::Result<Session> {
    let exchange = gate.join("oidc/exchange").context("naming the gate's exchange")?;
    let answer = client
        .post(exchange)
        .json(&serde_json::json!({ "subject_token": identity.expose_secret() }))
        .send()
        .await
        .context("exchanging the job's identity at the gate")?;
    if !answer.status().is_success() {
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        bail!("the gate does not take the job's identity: {status}: {line}");
    }
    answer.json().await.context("reading the gate's session")
}

async fn identity(
    client: &reqwest::Client,
    url: &str,
    token: &SecretString,
    gate: &Url,
) -> anyhow::Result<SecretString> {
    let mut url: Url = url.parse().with_context(|| format!("reading `{REQUEST_URL}`"))?;
    url.query_pairs_mut().append_pair("audience", gate.as_str().trim_end_matches('/'));
    let answer = client.get(url).bearer_auth(token.expose_secret()).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    let identity: IdToken = answer
        .context("asking for the job's identity")?
        .json()
        .await
        .context("reading the job's identity")?;
    Ok(identity.value)
}

/// Where a gate is. Loopback is spoken to as it is; everything else over TLS.
pub(crate) fn gate_url(registry: &str) -> anyhow::Result<Url> {
    let at = |scheme: &str| {
        let url = format!("{scheme}://{registry}/").parse::<Url>();
        url.with_context(|| format!("`{registry}` is no registry"))
    };
    let plain = at("http")?;
    if is_loopback(&plain) { Ok(plain) } else { at("https") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_spoken_to_in_the_clear() {
        for (registry, want) in [
            ("127.0.0.1:7350", "http://127.0.0.1:7350/"),
            ("localhost:5000", "http://localhost:5000/"),
            ("[::1]:5000", "http://[::1]:5000/"),
            ("gate.example.org", "https://gate.example.org/"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/"),
            ("localhost.example.org", "https://localhost.example.org/"),
        ] {
            assert_eq!(gate_url(registry).unwrap().as_str(), want);
        }
        assert!(gate_url("a b").is_err());
    }
}
