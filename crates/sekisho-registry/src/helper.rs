//! Credential helpers: programs named `docker-credential-NAME` that keep credentials.
//!
//! ```text
//! $ echo https://index.docker.io/v1/ | docker-credential-NAME get
//! {"ServerURL":"…","Username":"me","Secret":"…"}
//! ```
//!
//! Source: the protocol of docker/docker-credential-helpers. The user name `<token>` marks an identity
//! token. The address goes in by stdin, the secret comes out by stdout, and neither is ever an argument.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use crate::auth::Auth;
use crate::config_json::AuthError;

/// Longest answer of a helper, in bytes: tokens of clouds have a few KiB.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// Longest name of a helper.
const MAX_NAME_BYTES: usize = 64;

/// What helpers say when they know nothing of a registry, by exiting with 1 and this on stdout.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// The user name of an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    #[serde(deserialize_with = "crate::auth::secret")]
    secret: Option<SecretString>,
}

/// Asks a helper. Cancel-safe: the program is killed with the future.
pub(crate) async fn get(
    helper: &str,
    folder: Option<&Path>,
    registry: &str,
    deadline: Duration,
) -> Result<Auth, AuthError> {
    let failed = |problem: String| AuthError::Helper {
        registry: registry.to_owned(),
        helper: helper.to_owned(),
        problem,
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if helper.is_empty() || helper.len() > MAX_NAME_BYTES || !helper.bytes().all(plain) {
        return Err(failed("has a name that is none".to_owned()));
    }
    match timeout(deadline, ask(&program(helper, folder), registry)).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(failed(format!("did not answer within {} s", deadline.as_secs_f32()))),
    }
}

fn program(helper: &str, folder: Option<&Path>) -> PathBuf {
    let name = format!("docker-credential-{helper}");
    let ours = folder.map(|folder| folder.join(&name)).filter(|path| path.exists());
    ours.unwrap_or_else(|| name.into())
}

async fn ask(program: &Path, registry: &str) -> Result<Auth, String> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let server = match registry {
        "docker.io" => "https://index.docker.io/v1/",
        other => other,
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read it says so by its answer.
        let _ = stdin.write_all(format!("{server}\n").as_bytes()).await;
    }
    let mut bytes = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(MAX_ANSWER_BYTES + 1).read_to_end(&mut bytes).await;
        read.map_err(|error| format!("cannot be read: {error}"))?;
    }
    if bytes.len() as u64 > MAX_ANSWER_BYTES {
        return Err(format!("answers with more than {MAX_ANSWER_BYTES} bytes"));
    }
    let status = child.wait().await.map_err(|error| format!("cannot be waited for: {error}"))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&bytes);
        return match said.trim() == NOT_FOUND {
            true => Ok(Auth::Anonymous),
            false => Err(format!("failed with {status}")),
        };
    }
    given(&bytes).ok_or_else(|| "gives no credentials".to_owned())
}

/// What a helper's answer holds.
pub(crate) fn given(bytes: &[u8]) -> Option<Auth> {
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    let secret = answer.secret?;
    Some(match answer.username.as_str() {
        TOKEN_USER => Auth::Identity(secret),
        _ => Auth::Basic { username: answer.username, password: secret },
    })
}
