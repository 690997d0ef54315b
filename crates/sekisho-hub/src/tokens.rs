//! The hub's own tokens: JWTs under a key that lives as long as the process.
//!
//! A job does not survive the process either, so no token needs to.

mod claims;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rsa::rand_core::{OsRng, RngCore as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub(crate) use self::claims::{
    BlobClaims, GithubClaims, Granted, InstallationClaims, JobClaims, Kind, LogClaims, QueueClaims,
    RegistrationClaims, RunLogClaims, RunnerClaims, StorageClaims, TenantClaims, allows,
};
use crate::clock::Clock;

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// How long a runner's access token lives.
pub(crate) const RUNNER_TOKEN: SignedDuration = SignedDuration::from_hours(1);
/// How long a job's token lives: longer than any job may run by default, a day at most.
const JOB_TOKEN: SignedDuration = SignedDuration::from_hours(24);
/// How long an installation token lives, as on GitHub.
pub(crate) const INSTALLATION_LIFE: SignedDuration = SignedDuration::from_hours(1);
/// How long the URL of a log lives, as on GitHub.
const LOG_LIFE: SignedDuration = SignedDuration::from_mins(1);
/// How long a signed URL lives.
const BLOB_TOKEN: SignedDuration = SignedDuration::from_hours(1);
/// How long a registration token lives.
pub(crate) const REGISTRATION_TOKEN: SignedDuration = SignedDuration::from_hours(1);
/// How long a tenant's admin token lives: as on GitHub, where 17 minutes were seen.
const TENANT_TOKEN: SignedDuration = SignedDuration::from_mins(15);
/// How long a queue token lives.
const QUEUE_TOKEN: SignedDuration = SignedDuration::from_hours(1);
/// How far clocks may differ, in seconds.
const LEEWAY: i64 = 60;

/// Makes and checks tokens.
pub(crate) struct Tokens {
    signer: EncodingKey,
    verifier: DecodingKey,
    clock: Arc<Clock>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

#[derive(Serialize, Deserialize)]
struct Signed<T> {
    aud: String,
    exp: i64,
    nbf: i64,
    iat: i64,
    jti: String,
    #[serde(flatten)]
    claims: T,
}

impl Tokens {
    /// With a fresh key.
    pub(crate) fn new(clock: Arc<Clock>) -> Self {
        let mut secret = [0; 32];
        OsRng.fill_bytes(&mut secret);
        Self {
            signer: EncodingKey::from_secret(&secret),
            verifier: DecodingKey::from_secret(&secret),
            clock,
        }
    }

    /// A runner's access token.
    pub(crate) fn runner(&self, runner: u64, now: Timestamp) -> Option<String> {
        self.sign(RunnerClaims { runner }, RUNNER_TOKEN, now)
    }

    /// A job's access token.
    pub(crate) fn job(&self, claims: JobClaims, now: Timestamp) -> Option<String> {
        self.sign(claims, JOB_TOKEN, now)
    }

    /// A job's `github.token`.
    pub(crate) fn github(&self, claims: GithubClaims, now: Timestamp) -> Option<String> {
        self.sign(claims, JOB_TOKEN, now)
    }

    /// An installation token, without what it begins with.
    pub(crate) fn installation(
        &self,
        claims: InstallationClaims,
        now: Timestamp,
    ) -> Option<String> {
        self.sign(claims, INSTALLATION_LIFE, now)
    }

    /// The signature of a log's URL.
    pub(crate) fn log(&self, claims: LogClaims, now: Timestamp) -> Option<String> {
        self.sign(claims, LOG_LIFE, now)
    }

    /// The signature of the URL of a run's logs.
    pub(crate) fn run_log(&self, claims: RunLogClaims, now: Timestamp) -> Option<String> {
        self.sign(claims, LOG_LIFE, now)
    }

    /// The signature of an upload's URL.
    pub(crate) fn blob(&self, claims: BlobClaims, now: Timestamp) -> Option<String> {
        self.sign(claims, BLOB_TOKEN, now)
    }

    /// The signature of an artifact's or cache entry's URL.
    pub(crate) fn storage(
        &self,
        claims: StorageClaims,
        life: SignedDuration,
        now: Timestamp,
    ) -> Option<String> {
        self.sign(claims, life, now)
    }

    /// A registration token.
    pub(crate) fn registration(
        &self,
        claims: RegistrationClaims,
        now: Timestamp,
    ) -> Option<String> {
        self.sign(claims, REGISTRATION_TOKEN, now)
    }

    /// A tenant's admin token.
    pub(crate) fn tenant(&self, claims: TenantClaims, now: Timestamp) -> Option<String> {
        self.sign(claims, TENANT_TOKEN, now)
    }

    /// A session's queue token.
    pub(crate) fn queue(&self, claims: QueueClaims, now: Timestamp) -> Option<String> {
        self.sign(claims, QUEUE_TOKEN, now)
    }

    /// `None` only if the claims could not be written as JSON, which ours can.
    fn sign<T: Kind>(&self, claims: T, life: SignedDuration, now: Timestamp) -> Option<String> {
        let now = self.clock.told(now);
        let signed = Signed {
            aud: T::AUDIENCE.to_owned(),
            exp: (now + life).as_second(),
            nbf: now.as_second(),
            iat: now.as_second(),
            jti: Uuid::new_v4().to_string(),
            claims,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &signed, &self.signer).ok()
    }

    /// What a token says; `None` for one that is of another kind, too old or not ours.
    pub(crate) fn read<T: Kind>(&self, token: &str) -> Option<T> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_audience(&[T::AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "nbf", "aud"]);
        // By the hub's clock, not by the system's.
        validation.validate_exp = false;
        let signed = jsonwebtoken::decode::<Signed<T>>(token, &self.verifier, &validation);
        let signed = signed.ok()?.claims;
        let now = self.clock.told(self.clock.now()).as_second();
        let good = signed.nbf - LEEWAY <= now && now < signed.exp + LEEWAY;
        good.then_some(signed.claims)
    }
}

/// Whether two secrets are the same, in a time that does not depend on where they differ: their
/// hashes are compared, which nobody can choose byte by byte.
pub(crate) fn same_secret(a: &str, b: &str) -> bool {
    Sha256::digest(a) == Sha256::digest(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_serves_for_one_thing_only() {
        let tokens = Tokens::new(Arc::default());
        let now = crate::clock::now();
        let token = tokens.runner(7, now).unwrap();
        assert_eq!(tokens.read::<RunnerClaims>(&token), Some(RunnerClaims { runner: 7 }));
        assert_eq!(tokens.read::<JobClaims>(&token), None);
        assert_eq!(tokens.read::<BlobClaims>(&token), None);
        assert_eq!(Tokens::new(Arc::default()).read::<RunnerClaims>(&token), None);
        let blob = Uuid::nil();
        let claims = StorageClaims { blob, write: true, mime_type: None, file_name: None };
        let url = tokens.storage(claims.clone(), SignedDuration::from_mins(5), now).unwrap();
        assert_eq!(tokens.read::<StorageClaims>(&url), Some(claims.clone()));
        assert_eq!(tokens.read::<BlobClaims>(&url), None);
        let over = now - SignedDuration::from_mins(10);
        let url = tokens.storage(claims, SignedDuration::from_mins(5), over).unwrap();
        assert_eq!(tokens.read::<StorageClaims>(&url), None);
        let old = tokens.runner(7, now - SignedDuration::from_hours(2)).unwrap();
        assert_eq!(tokens.read::<RunnerClaims>(&old), None);
        // Time that was advanced makes tokens old; a clock that is wrong is wrong at both ends.
        let claims = TenantClaims { owner: "orgs/o".to_owned(), event: "register".to_owned() };
        let token = tokens.tenant(claims, now).unwrap();
        tokens.clock.skew(SignedDuration::from_hours(5));
        let queue = QueueClaims { set: 1, session: blob };
        let skewed = tokens.queue(queue.clone(), tokens.clock.now()).unwrap();
        assert_eq!(tokens.read::<QueueClaims>(&skewed), Some(queue));
        assert_eq!(tokens.read::<TenantClaims>(&token), None);
        tokens.clock.skew(SignedDuration::ZERO);
        assert!(tokens.read::<TenantClaims>(&token).is_some());
        tokens.clock.advance(SignedDuration::from_mins(20));
        assert_eq!(tokens.read::<TenantClaims>(&token), None);
        assert!(same_secret("a", "a") && !same_secret("a", "b"));
    }
}
