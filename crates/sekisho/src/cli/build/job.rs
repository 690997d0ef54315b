//! What a build has to do with the job it runs in: the job's identity in, outputs out.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use secrecy::{ExposeSecret as _, SecretString};
use sekisho_builder::{BuildResult, Credential};
use serde::Deserialize;
use url::Url;

use super::settings;

/// How long the hub or the gate may take to answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a runner gives to a step of a job with `id-token: write`; GitHub documentation, "OpenID
/// Connect reference", "Methods for requesting the OIDC token".
const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// Where a step writes its outputs.
const OUTPUT_FILE: &str = "GITHUB_OUTPUT";

#[derive(Deserialize)]
struct IdToken {
    value: String,
}

#[derive(Deserialize)]
struct Session {
    token: String,
}

/// The job's identity, exchanged at the gate for a session that ends with the job. `None` outside
/// a job, or when the job may not have an identity.
pub(super) async fn credential(registry: &str) -> anyhow::Result<Option<Credential>> {
    let (Some(url), Some(token)) = (settings::env(REQUEST_URL), settings::env(REQUEST_TOKEN))
    else {
        return Ok(None);
    };
    let token = SecretString::from(token);
    let gate = gate_url(registry)?;
    let client =
        reqwest::Client::builder().timeout(DEADLINE).build().context("making an HTTP client")?;
    let identity = identity(&client, &url, &token, &gate).await?;
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
        bail!("the gate does not take the job's identity: {status}: {}", first_line(&text));
    }
    let session: Session = answer.json().await.context("reading the gate's session")?;
    Ok(Some(Credential::Bearer(session.token.into())))
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
    Ok(identity.value.into())
}

/// Loopback is spoken to as it is; everything else over TLS.
fn gate_url(registry: &str) -> anyhow::Result<Url> {
    let scheme = if is_loopback(registry) { "http" } else { "https" };
    format!("{scheme}://{registry}/")
        .parse()
        .with_context(|| format!("`{registry}` is no registry"))
}

fn is_loopback(registry: &str) -> bool {
    let url = format!("http://{registry}/");
    match url.parse::<Url>().ok().as_ref().and_then(Url::host) {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Tells later steps which image it is, when there is a job to tell.
pub(super) fn set_outputs(result: &BuildResult) -> anyhow::Result<()> {
    let Some(path) = settings::env(OUTPUT_FILE) else { return Ok(()) };
    let mut text = format!("digest={}\n", result.manifest_digest);
    if let Some(image) = result.pushed.first() {
        let digest = &result.manifest_digest;
        text.push_str(&format!("image={}/{}@{digest}\n", image.registry, image.repository));
    }
    let file = fs_err::OpenOptions::new().append(true).create(true).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).context("writing the step's outputs")
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
