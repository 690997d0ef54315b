//! Who this process is to AWS: what the environment says, and the chain behind it.

use std::fmt::Display;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredentialProvider};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use sekisho_store::BUCKET_IDENTITY;

use super::answer;
use super::error::EcrError;
use super::host::{address, is_chinese};

/// The variables of a static key.
const STATIC_KEYS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// The variables that say who this process is: those of a static key, then those of a role.
pub fn aws_environment() -> impl Iterator<Item = &'static str> {
    STATIC_KEYS.into_iter().chain(BUCKET_IDENTITY)
}

/// What makes sense together alone. Half of it would be passed over without a word, and the credentials of the
/// machine taken in its place: another role.
const PAIRS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
];

/// Asking for credentials has to fit into the deadline of the whole.
const DEADLINE: Duration = Duration::from_secs(10);
const RETRIES: usize = 2;

/// Longest text of somebody else's error.
const MAX_REASON: usize = 300;

/// A variable of [`aws_environment`], and its value.
pub(super) type Setting = (&'static str, String);

/// What of the environment counts. In an error no value is said.
pub(super) fn settings(
    environment: impl IntoIterator<Item = (String, String)>,
    allow_static_keys: bool,
) -> Result<Vec<Setting>, EcrError> {
    let known = |name: &str| aws_environment().find(|one| one.eq_ignore_ascii_case(name));
    let given = environment.into_iter().filter(|(_, value)| !value.is_empty());
    let settings: Vec<Setting> =
        given.filter_map(|(name, value)| Some((known(&name)?, value))).collect();
    let has = |name: &str| settings.iter().any(|(one, _)| *one == name);
    if !allow_static_keys && let Some(name) = STATIC_KEYS.into_iter().find(|name| has(name)) {
        return Err(EcrError::StaticKeys(name));
    }
    for (one, other) in PAIRS {
        match (has(one), has(other)) {
            (true, false) => return Err(EcrError::Half { named: one, lacks: other }),
            (false, true) => return Err(EcrError::Half { named: other, lacks: one }),
            _ => {}
        }
    }
    Ok(settings)
}

/// Who gives the credentials. It keeps them and asks for new ones in time. Nothing is asked yet.
pub(super) fn credentials(
    settings: Vec<Setting>,
    region: &str,
) -> Result<AwsCredentialProvider, EcrError> {
    let client = |error: object_store::Error| EcrError::Client(error.to_string());
    let retry = RetryConfig {
        max_retries: RETRIES,
        retry_timeout: DEADLINE,
        backoff: BackoffConfig::default(),
    };
    // The chain is a bucket's; no bucket is ever asked for.
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name("none")
        .with_region(region)
        .with_retry(retry)
        .with_client_options(ClientOptions::new().with_timeout(DEADLINE));
    if is_chinese(region) {
        builder = builder.with_config(AmazonS3ConfigKey::StsEndpoint, address("sts", region));
    }
    for (name, value) in settings {
        let key: AmazonS3ConfigKey = name.to_ascii_lowercase().parse().map_err(client)?;
        builder = builder.with_config(key, value);
    }
    let store = builder.build().map_err(client)?;
    Ok(store.credentials().clone())
}

/// Why nobody gave any: the library's words, which leave out the address where that holds a token.
pub(super) fn failed(error: &dyn Display) -> EcrError {
    let text = error.to_string();
    // No bucket has to do with it.
    let text = text.trim_start_matches("Generic S3 error: ");
    // The parser's words hold what it met in the place of something else.
    let quotes = ["invalid type: ", "invalid value: "].iter().any(|words| text.contains(words));
    let text = if quotes { "the answer has another form than credentials have" } else { text };
    EcrError::Credentials(answer::clean(text, MAX_REASON))
}
