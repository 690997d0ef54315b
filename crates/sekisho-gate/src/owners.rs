//! Who has a name: the repository of which an image was the first to be promoted to it.
//!
//! ```text
//! DIR/<hash of the name>.json
//! ```
//!
//! A token says what its repository is called, and a name can be given up and registered anew by somebody
//! else. So what decides is the issuer with the repository's id, which it never gives out twice.

use std::io;

use jiff::Timestamp;
use sekisho_policy::{Identity, Target};
use sekisho_store::{Keep, Records};
use sekisho_types::{RepositoryName, Tag};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::auth::users;
use crate::gate::{Inner, is_loopback};
use crate::places;

/// Whose a name is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    repository: RepositoryName,
    issuer: String,
    repository_id: String,
    since: Timestamp,
}

impl Owner {
    fn is(&self, identity: &Identity) -> bool {
        self.issuer == stable(&identity.issuer) && self.repository_id == identity.repository_id
    }
}

/// An issuer on this machine is the plane's own hub, which may listen on another port after a restart.
fn stable(issuer: &str) -> String {
    match Url::parse(issuer) {
        Ok(mut url) if is_loopback(&url) => {
            // It cannot fail: a loopback address has a host.
            let _ = url.set_port(None);
            url.into()
        }
        _ => issuer.to_owned(),
    }
}

/// Whether an identity has its names from the gate's own configuration, and takes none from others.
fn is_of_the_gate(identity: &Identity) -> bool {
    identity.issuer == users::ISSUER
}

/// The owners of all names. Everything blocks.
pub(crate) struct Owners {
    records: Records,
}

fn name(repository: &RepositoryName) -> String {
    format!("{}.json", places::hashed(repository))
}

impl Owners {
    pub(crate) fn new(records: Records) -> Self {
        Self { records }
    }

    /// Whose the name is; `None` while it is nobody's.
    pub(crate) fn of(&self, repository: &RepositoryName) -> io::Result<Option<Owner>> {
        self.records.read_json(&name(repository))
    }

    /// Gives a name that is nobody's to the identity; `false` when somebody else was faster.
    pub(crate) fn bind(
        &self,
        repository: &RepositoryName,
        identity: &Identity,
        since: Timestamp,
    ) -> io::Result<bool> {
        if is_of_the_gate(identity) {
            return Ok(true);
        }
        let owner = Owner {
            repository: repository.clone(),
            issuer: stable(&identity.issuer),
            repository_id: identity.repository_id.clone(),
            since,
        };
        let bytes = serde_json::to_vec(&owner).map_err(io::Error::other)?;
        if self.records.create(&name(repository), &bytes, Keep::Durably)? {
            return Ok(true);
        }
        Ok(self.of(repository)?.is_some_and(|owner| owner.is(identity)))
    }

    /// Makes the name nobody's; `false` when it was.
    pub(crate) fn release(&self, repository: &RepositoryName) -> io::Result<bool> {
        self.records.remove(&name(repository))
    }
}

/// Where a push or a deletion goes, with what is known of the place. Blocks.
pub(crate) fn target(
    gate: &Inner,
    identity: &Identity,
    repository: &RepositoryName,
    owner: Option<&Owner>,
    (tag, overwrites): (Option<&Tag>, bool),
) -> Target {
    let may_have = |owner: &Owner| owner.is(identity) || is_of_the_gate(identity);
    Target {
        same_owner: owner.is_none_or(may_have),
        tag: tag.map(ToString::to_string),
        overwrites,
        ..Target::of(repository, identity, gate.local_owner.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sekisho_store::Bucket;

    use super::*;

    fn identity(issuer: &str, id: &str) -> Identity {
        Identity { issuer: issuer.into(), repository_id: id.into(), ..Identity::default() }
    }

    fn the_first_has_it(open: impl Fn() -> Records) {
        let at = Timestamp::UNIX_EPOCH;
        let (app, other) = ("acme/app".parse().unwrap(), "acme/app/worker".parse().unwrap());
        let owners = Owners::new(open());
        assert_eq!(owners.of(&app).unwrap(), None);
        assert!(owners.bind(&app, &identity(users::ISSUER, "ann"), at).unwrap());
        assert_eq!(owners.of(&app).unwrap(), None, "a user takes no name");
        assert!(owners.bind(&app, &identity("https://a", "7"), at).unwrap());
        assert!(owners.bind(&app, &identity("https://a", "7"), at).unwrap(), "again");
        let owners = Owners::new(open());
        for thief in [identity("https://a", "8"), identity("https://b", "7")] {
            assert!(!owners.bind(&app, &thief, at).unwrap());
            assert!(!owners.of(&app).unwrap().unwrap().is(&thief));
        }
        assert!(owners.bind(&other, &identity("https://a", "8"), at).unwrap());
        assert!(owners.release(&app).unwrap() && !owners.release(&app).unwrap());
        assert!(owners.bind(&app, &identity("https://b", "7"), at).unwrap());
    }

    #[test]
    fn an_issuer_elsewhere_is_its_whole_address() {
        let hub = |port: u16| stable(&format!("http://127.0.0.1:{port}/_services/token"));
        assert_eq!(hub(7350), hub(40_001));
        assert_ne!(hub(7350), stable("http://127.0.0.1:7350/other"));
        for elsewhere in ["https://ci.example:8443/a", "https://token.example", "no address"] {
            assert_eq!(stable(elsewhere), elsewhere);
        }
    }

    #[test]
    fn a_name_is_the_first_ones_until_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        the_first_has_it(|| Records::in_folder(dir.path()).unwrap());
        let bucket = Bucket::on(Arc::new(object_store::memory::InMemory::new()), "gate");
        the_first_has_it(|| Records::in_bucket(bucket.clone()));
    }
}
