//! Which repositories there are: their ids, which never change, and their counters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::RepoName;

/// All repositories, by [`RepoName::key`]. This is also the form on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Repositories {
    repositories: BTreeMap<String, Repository>,
    /// Ids of owners, by name in lower case.
    owners: BTreeMap<String, u64>,
    /// The last id that was given.
    last_id: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repository {
    name: RepoName,
    id: u64,
    /// The number of the newest run, by path of the workflow.
    run_numbers: BTreeMap<String, u64>,
}

/// What is known of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RepositoryIds {
    /// As its first push wrote it.
    pub(crate) name: RepoName,
    pub(crate) id: u64,
    pub(crate) owner_id: u64,
}

impl Repositories {
    /// The repository, whatever the case of the letters.
    pub(crate) fn get(&self, name: &RepoName) -> Option<RepositoryIds> {
        let found = self.repositories.get(&name.key())?;
        let owner_id = self.owners.get(&found.name.owner().to_ascii_lowercase())?;
        Some(RepositoryIds { name: found.name.clone(), id: found.id, owner_id: *owner_id })
    }

    /// The repository of that id.
    pub(crate) fn by_id(&self, id: u64) -> Option<RepositoryIds> {
        let found = self.repositories.values().find(|repository| repository.id == id)?;
        self.get(&found.name)
    }

    /// All of them, by id.
    pub(crate) fn ids(&self) -> BTreeMap<u64, &RepoName> {
        self.repositories.values().map(|repository| (repository.id, &repository.name)).collect()
    }

    /// Those of an owner, the newest first.
    pub(crate) fn of_owner(&self, owner: &str) -> Vec<RepositoryIds> {
        let all = self.repositories.values().map(|repository| &repository.name);
        let all = all.filter(|name| name.owner().eq_ignore_ascii_case(owner));
        let mut all: Vec<RepositoryIds> = all.filter_map(|name| self.get(name)).collect();
        all.sort_by_key(|repository| std::cmp::Reverse(repository.id));
        all
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.repositories.len()
    }

    /// The repository, registered if it is new. True if it was.
    pub(crate) fn register(&mut self, name: &RepoName) -> (RepositoryIds, bool) {
        if let Some(known) = self.get(name) {
            return (known, false);
        }
        let owner = name.owner().to_ascii_lowercase();
        let owner_id = match self.owners.get(&owner) {
            Some(id) => *id,
            None => {
                let id = self.next_id();
                self.owners.insert(owner, id);
                id
            }
        };
        let id = self.next_id();
        let repository = Repository { name: name.clone(), id, run_numbers: BTreeMap::new() };
        self.repositories.insert(name.key(), repository);
        (RepositoryIds { name: name.clone(), id, owner_id }, true)
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The number of the next run of a workflow.
    pub(crate) fn next_run_number(&mut self, name: &RepoName, workflow: &str) -> u64 {
        let Some(repository) = self.repositories.get_mut(&name.key()) else { return 1 };
        let number = repository.run_numbers.entry(workflow.to_owned()).or_default();
        *number += 1;
        *number
    }

    /// Makes sure that `number` is not given again.
    pub(crate) fn saw_run_number(&mut self, repository: &str, workflow: &str, number: u64) {
        let found = self.repositories.get_mut(&repository.to_ascii_lowercase());
        if let Some(repository) = found {
            let last = repository.run_numbers.entry(workflow.to_owned()).or_default();
            *last = (*last).max(number);
        }
    }
}
