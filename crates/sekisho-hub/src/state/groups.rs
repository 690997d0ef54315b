//! Runner groups: which exist. On the hub they hold no job back: every repository may use each.

use std::collections::BTreeMap;

use sekisho_github::rest::RunnerGroupChange;

use super::State;

/// The group that is always there.
pub(crate) const DEFAULT_GROUP: u64 = 1;
/// Groups there may be.
const MAX_GROUPS: usize = 1_000;
/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// The most workflows of a group.
const MAX_WORKFLOWS: usize = 100;

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) visibility: String,
    pub(crate) allows_public_repositories: bool,
    pub(crate) restricted_to_workflows: bool,
    pub(crate) selected_workflows: Vec<String>,
}

/// All groups, by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    all: BTreeMap<u64, Group>,
    last_id: u64,
}

/// Why a group is not made, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupError {
    /// There is none.
    NotFound,
    /// The name is taken.
    NameTaken,
    /// What is wrong with the request.
    Invalid(&'static str),
}

impl Default for Groups {
    fn default() -> Self {
        let default = Group {
            id: DEFAULT_GROUP,
            name: "Default".to_owned(),
            visibility: "all".to_owned(),
            allows_public_repositories: true,
            restricted_to_workflows: false,
            selected_workflows: Vec::new(),
        };
        // 2 is the hosted runners' on GitHub: nobody may have it.
        Self { all: BTreeMap::from([(DEFAULT_GROUP, default)]), last_id: 2 }
    }
}

impl Groups {
    pub(crate) fn get(&self, id: u64) -> Option<&Group> {
        self.all.get(&id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Group> {
        self.all.values()
    }

    fn is_taken(&self, name: &str, by_other_than: u64) -> bool {
        let same = |group: &Group| group.name.eq_ignore_ascii_case(name);
        self.all.values().any(|group| same(group) && group.id != by_other_than)
    }
}

impl State {
    /// Makes a group.
    pub(crate) fn create_group(&mut self, new: RunnerGroupChange) -> Result<Group, GroupError> {
        if new.name.is_none() {
            return Err(GroupError::Invalid("name is missing"));
        }
        if self.groups.all.len() >= MAX_GROUPS {
            return Err(GroupError::Invalid("there are too many runner groups"));
        }
        let id = self.groups.last_id + 1;
        let group = Group {
            id,
            name: String::new(),
            visibility: "all".to_owned(),
            allows_public_repositories: false,
            restricted_to_workflows: false,
            selected_workflows: Vec::new(),
        };
        let group = self.changed(group, new)?;
        self.groups.last_id = id;
        self.groups.all.insert(id, group.clone());
        Ok(group)
    }

    /// Changes a group.
    pub(crate) fn update_group(
        &mut self,
        id: u64,
        change: RunnerGroupChange,
    ) -> Result<Group, GroupError> {
        let group = self.groups.get(id).cloned().ok_or(GroupError::NotFound)?;
        let group = self.changed(group, change)?;
        self.groups.all.insert(id, group.clone());
        Ok(group)
    }

    fn changed(&self, mut group: Group, change: RunnerGroupChange) -> Result<Group, GroupError> {
        if let Some(name) = change.name {
            let good = (1..=MAX_NAME).contains(&name.chars().count());
            if !good || name.chars().any(char::is_control) {
                return Err(GroupError::Invalid("name is empty or too long"));
            }
            if self.groups.is_taken(&name, group.id) {
                return Err(GroupError::NameTaken);
            }
            group.name = name;
        }
        if let Some(visibility) = change.visibility {
            if !matches!(visibility.as_str(), "all" | "selected" | "private") {
                return Err(GroupError::Invalid("visibility is all, selected or private"));
            }
            group.visibility = visibility;
        }
        if let Some(workflows) = change.selected_workflows {
            if workflows.len() > MAX_WORKFLOWS {
                return Err(GroupError::Invalid("there are too many selected workflows"));
            }
            group.selected_workflows = workflows;
        }
        if let Some(allows) = change.allows_public_repositories {
            group.allows_public_repositories = allows;
        }
        if let Some(restricted) = change.restricted_to_workflows {
            group.restricted_to_workflows = restricted;
        }
        Ok(group)
    }

    /// Removes a group; its runners go to the default group.
    pub(crate) fn delete_group(&mut self, id: u64) -> Result<(), GroupError> {
        if id == DEFAULT_GROUP {
            return Err(GroupError::Invalid("the default group cannot be removed"));
        }
        self.groups.all.remove(&id).ok_or(GroupError::NotFound)?;
        for runner in self.runners.values_mut().filter(|runner| runner.group == id) {
            runner.group = DEFAULT_GROUP;
        }
        Ok(())
    }

    /// Puts a runner into a group. False if one of them is not there.
    pub(crate) fn move_runner(&mut self, runner: u64, group: u64) -> bool {
        let known = self.groups.get(group).is_some();
        let Some(runner) = self.runners.get_mut(&runner).filter(|_| known) else { return false };
        runner.group = group;
        true
    }
}
