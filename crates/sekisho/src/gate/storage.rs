//! `gate/storage.toml`: where the gate keeps what, and for how long.
//!
//! ```toml
//! reserve_mib = 256                # stays free on the gate's disk
//! keep_days = 400                  # decisions and their evidence; for ever where it is not said
//!
//! [bucket]                         # everything but keys, shared with other gates
//! name = "images"
//! prefix = "gate"
//! region = "eu-central-1"
//! endpoint = "https://s3.example"  # for another service than AWS
//! access_key_id = "…"              # with the file of the secret; else what AWS gives the machine
//! secret_access_key_file = "/run/secrets/bucket"
//! keys_dir = "/etc/sekisho/keys"   # of all gates on the bucket
//! silence_seconds = 60             # a bucket that says nothing for so long is not there
//! ```

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::SignedDuration;
use sekisho_gate::Options;
use sekisho_store::{BUCKET_SILENCE, Bucket, BucketConfig, BucketCredentials};
use serde::Deserialize;

/// Longest secret, in bytes.
const MAX_SECRET_BYTES: u64 = 4096;

/// Longest silence of a bucket.
const MAX_SILENCE: Duration = Duration::from_secs(3600);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    reserve_mib: Option<u64>,
    keep_days: Option<u32>,
    bucket: Option<RawBucket>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBucket {
    name: String,
    #[serde(default)]
    prefix: String,
    region: String,
    endpoint: Option<String>,
    access_key_id: Option<String>,
    secret_access_key_file: Option<PathBuf>,
    keys_dir: PathBuf,
    silence_seconds: Option<u64>,
}

/// What the file says. Nothing is asked of a bucket yet.
///
/// # Errors
/// It is no TOML of these names, the bucket makes no sense, or its secret cannot be read.
pub(crate) fn parse(text: &str) -> anyhow::Result<Options> {
    let raw: Raw = toml::from_str(text).context("it is not TOML of the known names")?;
    let mut options = Options::default();
    if let Some(mib) = raw.reserve_mib {
        options.reserve_bytes = mib.saturating_mul(1024 * 1024);
    }
    if let Some(days) = raw.keep_days {
        ensure!(days > 0, "`keep_days` is 0: a decision is kept for a day at least");
        options.retention = Some(SignedDuration::from_hours(i64::from(days) * 24));
    }
    if let Some(bucket) = raw.bucket {
        options.keys_dir = Some(bucket.keys_dir.clone());
        options.bucket = Some(open(bucket)?);
    }
    Ok(options)
}

fn open(raw: RawBucket) -> anyhow::Result<Bucket> {
    let credentials = match (raw.access_key_id, raw.secret_access_key_file) {
        (Some(access_key_id), Some(file)) => {
            let size = fs_err::metadata(&file)?.len();
            ensure!(size <= MAX_SECRET_BYTES, "`{}` is no secret: {size} bytes", file.display());
            let secret = fs_err::read_to_string(&file)?.trim().to_owned();
            Some(BucketCredentials { access_key_id, secret_access_key: secret.into() })
        }
        (None, None) => None,
        _ => anyhow::bail!("`access_key_id` and `secret_access_key_file` go together"),
    };
    let silence = raw.silence_seconds.map_or(BUCKET_SILENCE, Duration::from_secs);
    let allowed = Duration::from_secs(1)..=MAX_SILENCE;
    ensure!(allowed.contains(&silence), "`silence_seconds` is not between 1 and 3600");
    let config = BucketConfig {
        name: raw.name,
        prefix: raw.prefix,
        endpoint: raw.endpoint,
        region: raw.region,
        credentials,
        identity: crate::settings::aws_identity(),
        silence,
    };
    Bucket::s3(&config).context("opening the bucket")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_read() {
        // A bucket's client needs one; another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = parse("reserve_mib = 2\nkeep_days = 3\n").unwrap();
        assert_eq!(options.reserve_bytes, 2 * 1024 * 1024);
        assert_eq!(options.retention, Some(SignedDuration::from_hours(72)));
        assert!(options.bucket.is_none() && options.keys_dir.is_none());
        let bucket = "[bucket]\nname = \"b\"\nregion = \"r\"\nkeys_dir = \"/k\"\n";
        let options = parse(bucket).unwrap();
        assert!(options.bucket.is_some());
        assert_eq!(options.keys_dir, Some("/k".into()));
        for bad in [
            "reserve = 1",
            "keep_days = 0",
            "[bucket]\nname = \"b\"\nregion = \"r\"",
            &format!("{bucket}access_key_id = \"a\""),
            &format!("{bucket}silence_seconds = 0"),
            &format!("{bucket}secret_access_key = \"in the open\""),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
