//! Tokens that were exchanged: each is taken once, at whichever gate of a bucket.

use std::io;
use std::net::IpAddr;

use jiff::Timestamp;
use sekisho_store::{Keep, Records};
use sekisho_types::Digest;
use uuid::Uuid;

/// Remembers tokens until some time after they expired, also through a restart.
///
/// One record per token, `<expiry>-<hash of issuer and jti>`: making it anew is what only one can
/// succeed in. Its content is whose taking it was, so that a request that is sent again is no second one.
pub(crate) struct Exchanged {
    records: Records,
}

/// What the name of a record ends with that says where a token was shown first.
const SHOWN: &str = "-shown";

/// Longer than any skew that is tolerated, in seconds.
const KEPT_SECONDS: i64 = 300;

fn name(issuer: &str, jti: &str, expires: i64) -> String {
    // Both hashed: neither is ours, and a jti is nothing to leave lying about.
    let hash = Digest::sha256(format!("{}:{issuer}{jti}", issuer.len()).as_bytes());
    format!("{expires}-{}", hash.hex())
}

impl Exchanged {
    pub(crate) fn new(records: Records) -> Self {
        Self { records }
    }

    /// Takes a token; `false` when it was taken before. Blocks.
    pub(crate) fn take(&self, issuer: &str, jti: &str, expires: i64) -> io::Result<bool> {
        let taker = Uuid::new_v4().to_string();
        self.records.create(&name(issuer, jti, expires), taker.as_bytes(), Keep::Durably)
    }

    /// Whether a token was taken. Blocks.
    pub(crate) fn contains(&self, issuer: &str, jti: &str, expires: i64) -> io::Result<bool> {
        self.records.exists(&name(issuer, jti, expires))
    }

    /// Whether a token that is shown as a password was shown from that address first, or is now. Blocks.
    pub(crate) fn is_first_shown_from(
        &self,
        (issuer, jti, expires): (&str, &str, i64),
        address: IpAddr,
    ) -> io::Result<bool> {
        let (name, address) = (name(issuer, jti, expires) + SHOWN, address.to_string());
        if self.records.create(&name, address.as_bytes(), Keep::Durably)? {
            return Ok(true);
        }
        Ok(self.records.read(&name)?.is_some_and(|first| first == address))
    }

    /// Forgets tokens that expired. Blocks.
    pub(crate) fn expire(&self, now: Timestamp) -> io::Result<()> {
        for name in self.records.names("")? {
            let expires = name.split_once('-').and_then(|(expires, _)| expires.parse::<i64>().ok());
            if expires.is_none_or(|expires| expires.saturating_add(KEPT_SECONDS) < now.as_second())
            {
                self.records.remove(&name)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sekisho_store::Bucket;

    use super::*;

    fn taken_once(open: impl Fn() -> Records) {
        let exchanged = Exchanged::new(open());
        assert!(!exchanged.contains("i", "j", 100).unwrap());
        assert!(exchanged.take("i", "j", 100).unwrap());
        assert!(!exchanged.take("i", "j", 100).unwrap());
        assert!(exchanged.take("i", "../k", 100).unwrap(), "a jti is no path");
        assert!(exchanged.take("ij", "", 100).unwrap(), "issuer and jti do not run together");
        let exchanged = Exchanged::new(open());
        assert!(!exchanged.take("i", "j", 100).unwrap());
        // Where it was shown is another question, of each token.
        let from = |jti: &str, address: &str| {
            let exchanged = Exchanged::new(open());
            exchanged.is_first_shown_from(("i", jti, 100), address.parse().unwrap()).unwrap()
        };
        assert!(from("j", "10.0.0.1") && from("j", "10.0.0.1") && !from("j", "10.0.0.2"));
        assert!(from("k", "10.0.0.2") && from("j", "10.0.0.1"));
        let at = |second| Timestamp::from_second(second).unwrap();
        exchanged.expire(at(400)).unwrap();
        assert!(exchanged.contains("i", "j", 100).unwrap());
        exchanged.expire(at(401)).unwrap();
        assert!(!exchanged.contains("i", "j", 100).unwrap());
        assert_eq!(exchanged.records.names("").unwrap(), [""; 0], "nothing is left of it");
    }

    #[test]
    fn a_token_is_taken_once_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        taken_once(|| Records::in_folder(dir.path()).unwrap());
        let bucket = Bucket::on(Arc::new(object_store::memory::InMemory::new()), "gate");
        taken_once(|| Records::in_bucket(bucket.clone()));
    }

    #[test]
    fn of_many_at_once_one_succeeds() {
        let bucket = Bucket::on(Arc::new(object_store::memory::InMemory::new()), "gate");
        for round in 0..50 {
            let taken = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|_| {
                        let exchanged = Exchanged::new(Records::in_bucket(bucket.clone()));
                        scope.spawn(move || exchanged.take("i", &round.to_string(), 100).unwrap())
                    })
                    .collect();
                threads.into_iter().map(|it| it.join().unwrap()).filter(|it| *it).count()
            });
            assert_eq!(taken, 1, "round {round}");
        }
    }
}
