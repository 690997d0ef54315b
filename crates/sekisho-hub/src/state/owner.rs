//! Whose runners, scale sets and runner groups.

use sekisho_github::rest::Scope;
use serde::{Deserialize, Serialize};

/// A repository, an organization or an enterprise: a [`Scope`] as text, in lower case, as REST paths have
/// it: `repos/O/R`, `orgs/O` or `enterprises/E`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Owner(String);

impl From<&Scope> for Owner {
    fn from(scope: &Scope) -> Self {
        Self(scope.segments().join("/").to_ascii_lowercase())
    }
}

impl From<&str> for Owner {
    fn from(text: &str) -> Self {
        Self(text.to_ascii_lowercase())
    }
}

impl Owner {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether jobs of a repository (`owner/name`) are its: an enterprise has all of the hub.
    pub(crate) fn has(&self, repository: &str) -> bool {
        if let Some(own) = self.repository() {
            return own.eq_ignore_ascii_case(repository);
        }
        let of = |own: &str| {
            repository.split_once('/').is_some_and(|(owner, _)| owner.eq_ignore_ascii_case(own))
        };
        self.0.strip_prefix("orgs/").is_none_or(of)
    }

    /// The account that a repository is of; an organization and an enterprise are their own.
    pub(super) fn account(&self) -> Self {
        match self.repository().and_then(|name| name.split_once('/')) {
            Some((owner, _)) => Self(format!("orgs/{owner}")),
            None => self.clone(),
        }
    }

    /// Whether it is this account, or a repository of it.
    pub(super) fn is_of(&self, account: &Self) -> bool {
        let owner = self.repository().and_then(|name| name.split_once('/')).map(|(owner, _)| owner);
        self == account || (owner.is_some() && account.0.strip_prefix("orgs/") == owner)
    }

    /// `o/r`, if it is a repository.
    pub(super) fn repository(&self) -> Option<&str> {
        self.0.strip_prefix("repos/")
    }

    /// Whether it is above all organizations of the hub.
    pub(super) fn is_enterprise(&self) -> bool {
        self.0.starts_with("enterprises/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_of_whom() {
        let owner = |text: &str| Owner::from(text);
        for (place, account, repository) in [
            ("repos/Acme/App", "orgs/acme", Some("acme/app")),
            ("orgs/acme", "orgs/acme", None),
            ("enterprises/big", "enterprises/big", None),
        ] {
            let it = owner(place);
            assert_eq!((it.account(), it.repository()), (owner(account), repository), "{place}");
            for other in ["orgs/acme", "orgs/other", "enterprises/big", "repos/acme/web"] {
                assert_eq!(
                    it.is_of(&owner(other)),
                    it.account() == owner(other),
                    "{place} {other}"
                );
            }
        }
        assert!(owner("repos/acme/app").is_of(&owner("repos/acme/app")));
        let has = |place: &str, name: &str| owner(place).has(name);
        assert!(has("repos/acme/app", "Acme/App") && !has("repos/acme/app", "acme/web"));
        assert!(has("orgs/acme", "ACME/web") && !has("orgs/acme", "acme2/web"));
        assert!(has("enterprises/big", "anybody/web"));
    }
}
