//! Runner groups: which exist, whose they are, and whose jobs their runners may have.
//!
//! A group is an organization's, and seen from its repositories; or an enterprise's, and seen from all
//! organizations. The default group has the same number everywhere, and each of them its own.
//! A repository has no groups. One that a hub of before wrote down without a place was every
//! organization's: it is as an enterprise's, seen by all and changed by an enterprise alone.
//!
//! All repositories of the hub are private: `private` means all of them, and whether public ones are
//! allowed is kept and told, and holds nothing back.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sekisho_github::rest::RunnerGroupChange;
use sekisho_workflow::plan::WorkflowSource;
use serde::{Deserialize, Serialize};

use super::{JobRef, Owner, State};

/// The group that is always there.
pub(crate) const DEFAULT_GROUP: u64 = 1;
/// That group's name.
pub(crate) const DEFAULT_GROUP_NAME: &str = "Default";
/// Groups there may be.
const MAX_GROUPS: usize = 1_000;
/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// The most workflows of a group.
const MAX_WORKFLOWS: usize = 100;
/// Longest name of a workflow, `owner/name/path@ref`, in characters.
const MAX_WORKFLOW: usize = 1_024;
/// The most repositories of a group.
const MAX_REPOSITORIES: usize = 10_000;
/// What an id of a repository takes in a list, in bytes, about.
const REPOSITORY_BYTES: usize = 8;
/// The lists of all groups, in bytes: they are in one file, which is written anew at every change.
const MAX_LISTS: usize = 4 * 1024 * 1024;

/// A group. This is also the form on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) id: u64,
    /// Where it was made; `None`: the default group as it is at first, or one of a hub of before, which
    /// did not write it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<Owner>,
    pub(crate) name: String,
    pub(crate) visibility: String,
    pub(crate) allows_public_repositories: bool,
    pub(crate) restricted_to_workflows: bool,
    pub(crate) selected_workflows: Vec<String>,
    /// Ids of those that may use it, if its visibility is `selected`.
    pub(crate) repositories: BTreeSet<u64>,
}

/// Where a job comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    /// Id of its repository.
    repository: u64,
    /// The file that the job is in.
    file: Option<&'a WorkflowSource>,
    /// The group that its `runs-on` names.
    wants: Option<&'a str>,
}

impl Group {
    /// Whether it is there for a place.
    fn is_seen_from(&self, place: &Owner) -> bool {
        self.place.as_ref().is_none_or(|own| own.is_enterprise() || place.is_of(own))
    }

    /// Whether it is there for a place, and another's.
    pub(crate) fn is_inherited(&self, place: &Owner) -> bool {
        match &self.place {
            Some(own) => !place.is_of(own),
            None => self.id != DEFAULT_GROUP && !place.is_enterprise(),
        }
    }

    /// How much it takes to write its lists down, in bytes, about.
    fn lists(&self) -> usize {
        let workflows: usize = self.selected_workflows.iter().map(|one| one.len() + 3).sum();
        workflows + self.repositories.len() * REPOSITORY_BYTES
    }

    /// Whether its runners may have a job.
    fn allows(&self, job: &Origin<'_>) -> bool {
        let repository =
            self.visibility != "selected" || self.repositories.contains(&job.repository);
        let workflow = !self.restricted_to_workflows
            || job
                .file
                .is_some_and(|file| self.selected_workflows.iter().any(|it| names(it, file)));
        let wanted = job.wants.is_none_or(|name| name.eq_ignore_ascii_case(&self.name));
        repository && workflow && wanted
    }
}

/// Whether a selected workflow, `owner/name/path@ref`, is a file: by its ref, also without what it
/// begins with, or by its commit.
fn names(selected: &str, file: &WorkflowSource) -> bool {
    let Some((path, at)) = selected.rsplit_once('@') else { return false };
    let same = path.eq_ignore_ascii_case(&format!("{}/{}", file.repository, file.path));
    same && (at == file.git_ref || at == crate::event::short_ref(&file.git_ref) || at == file.sha)
}

/// All groups, by id. This is also the form on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Groups {
    /// The default group too, as it is before anybody changes it.
    all: BTreeMap<u64, Group>,
    /// The default groups that were changed, by whose they are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    defaults: BTreeMap<Owner, Group>,
    last_id: u64,
}

/// Why a group is not made, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupError {
    /// There is none.
    NotFound,
    /// The name is taken.
    NameTaken,
    /// It has runners or scale sets.
    InUse,
    /// What is wrong with the request.
    Invalid(String),
}

fn invalid(why: impl Into<String>) -> GroupError {
    GroupError::Invalid(why.into())
}

impl Default for Groups {
    fn default() -> Self {
        let default = Group {
            id: DEFAULT_GROUP,
            place: None,
            name: DEFAULT_GROUP_NAME.to_owned(),
            visibility: "all".to_owned(),
            allows_public_repositories: true,
            restricted_to_workflows: false,
            selected_workflows: Vec::new(),
            repositories: BTreeSet::new(),
        };
        // 2 is the hosted runners' on GitHub: nobody may have it.
        let all = BTreeMap::from([(DEFAULT_GROUP, default)]);
        Self { all, defaults: BTreeMap::new(), last_id: 2 }
    }
}

impl Groups {
    /// A group, as it is for a place.
    pub(crate) fn get(&self, place: &Owner, id: u64) -> Option<&Group> {
        let changed = id == DEFAULT_GROUP && !self.defaults.is_empty();
        let own = if changed { self.defaults.get(&place.account()) } else { None };
        own.or_else(|| self.all.get(&id)).filter(|group| group.is_seen_from(place))
    }

    /// All that are there for a place.
    pub(crate) fn seen_from(&self, place: &Owner) -> impl Iterator<Item = &Group> {
        self.all.keys().filter_map(move |id| self.get(place, *id))
    }

    /// Whether a place's runners of a group may have a job. Those of one that is not there have none.
    pub(crate) fn allows(&self, place: &Owner, group: u64, job: &Origin<'_>) -> bool {
        self.get(place, group).is_some_and(|group| group.allows(job))
    }

    /// A group that a place may change: one of its own, or its default.
    fn own(&self, place: &Owner, id: u64) -> Result<Group, GroupError> {
        let seen = self.get(place, id).filter(|group| !group.is_inherited(place));
        seen.filter(|_| place.repository().is_none()).cloned().ok_or(GroupError::NotFound)
    }

    fn put(&mut self, place: &Owner, group: Group) -> Result<(), GroupError> {
        let is_new = match group.id {
            DEFAULT_GROUP => !self.defaults.contains_key(place),
            id => !self.all.contains_key(&id),
        };
        if is_new && self.all.len() + self.defaults.len() >= MAX_GROUPS {
            return Err(invalid(format!("the hub holds {MAX_GROUPS} runner groups, and no more")));
        }
        let is_default = group.id == DEFAULT_GROUP;
        let others = self.all.values().filter(|other| other.id != group.id);
        let defaults = self.defaults.iter().filter(|(of, _)| !is_default || *of != place);
        let others = others.chain(defaults.map(|(_, other)| other));
        let lists = others.map(Group::lists).sum::<usize>() + group.lists();
        if lists > MAX_LISTS && group.lists() > 0 {
            return Err(invalid(format!(
                "selected_workflows and selected_repository_ids of all groups together hold {MAX_LISTS} \
                 bytes, and no more"
            )));
        }
        match group.id {
            DEFAULT_GROUP => self.defaults.insert(place.clone(), group),
            id => self.all.insert(id, group),
        };
        Ok(())
    }

    fn is_taken(&self, place: &Owner, name: &str, by_other_than: u64) -> bool {
        let same = |group: &Group| group.name.eq_ignore_ascii_case(name);
        self.seen_from(place).any(|group| same(group) && group.id != by_other_than)
    }
}

impl State {
    /// Makes a group of a place.
    pub(crate) fn create_group(
        &mut self,
        place: &Owner,
        new: RunnerGroupChange,
    ) -> Result<Group, GroupError> {
        if place.repository().is_some() {
            return Err(GroupError::NotFound);
        }
        if new.name.is_none() {
            return Err(invalid("name is missing"));
        }
        let id = self.groups.last_id + 1;
        let group = Group {
            id,
            place: Some(place.clone()),
            name: String::new(),
            visibility: "all".to_owned(),
            allows_public_repositories: false,
            restricted_to_workflows: false,
            selected_workflows: Vec::new(),
            repositories: BTreeSet::new(),
        };
        let group = self.changed(place, group, new)?;
        self.groups.put(place, group.clone())?;
        self.groups.last_id = id;
        Ok(group)
    }

    /// The name of a group, or nothing.
    pub(super) fn group_name(&self, place: &Owner, id: u64) -> String {
        self.groups.get(place, id).map(|group| group.name.clone()).unwrap_or_default()
    }

    /// Where a job comes from.
    pub(super) fn origin(&self, at: JobRef) -> Option<Origin<'_>> {
        let (_, live, job, _) = self.job(at)?;
        let planned = live.plan.job(&job.key);
        Some(Origin {
            repository: live.facts.repository.id,
            file: planned.and_then(|planned| live.plan.files.get(planned.file)),
            wants: job.ready.as_ref().and_then(|ready| ready.runner_group.as_deref()),
        })
    }

    /// Changes a group; jobs that wait may then be for its runners, or not any more.
    pub(crate) fn update_group(
        &mut self,
        (place, id): (&Owner, u64),
        change: RunnerGroupChange,
        now: Timestamp,
    ) -> Result<Group, GroupError> {
        let group = self.groups.own(place, id)?;
        let group = self.changed(place, group, change)?;
        self.groups.put(place, group.clone())?;
        self.rebind_group(id, now);
        Ok(group)
    }

    /// Lets a repository use a group, or not.
    pub(crate) fn change_group_repository(
        &mut self,
        (place, id): (&Owner, u64),
        repository: u64,
        allowed: bool,
        now: Timestamp,
    ) -> Result<(), GroupError> {
        let mut group = self.groups.own(place, id)?;
        if !self.has_repository(place, repository) {
            return Err(GroupError::NotFound);
        }
        if group.visibility != "selected" {
            return Err(invalid("the group's visibility is not selected"));
        }
        if allowed {
            group.repositories.insert(repository);
            if group.repositories.len() > MAX_REPOSITORIES {
                return Err(invalid(format!(
                    "the group has {MAX_REPOSITORIES} selected repositories, and no more"
                )));
            }
        } else {
            group.repositories.remove(&repository);
        }
        self.groups.put(place, group)?;
        self.rebind_group(id, now);
        Ok(())
    }

    fn has_repository(&self, place: &Owner, id: u64) -> bool {
        let known = self.repositories.by_id(id);
        known.is_some_and(|repository| place.has(&repository.name.to_string()))
    }

    fn changed(
        &self,
        place: &Owner,
        mut group: Group,
        change: RunnerGroupChange,
    ) -> Result<Group, GroupError> {
        if let Some(name) = change.name {
            let good = (1..=MAX_NAME).contains(&name.chars().count());
            if !good || name.chars().any(char::is_control) {
                return Err(invalid(format!(
                    "name is empty, has control characters, or is longer than {MAX_NAME} characters"
                )));
            }
            if self.groups.is_taken(place, &name, group.id) {
                return Err(GroupError::NameTaken);
            }
            group.name = name;
        }
        if let Some(visibility) = change.visibility {
            if !matches!(visibility.as_str(), "all" | "selected" | "private") {
                return Err(invalid("visibility is all, selected or private"));
            }
            group.visibility = visibility;
        }
        if let Some(workflows) = change.selected_workflows {
            if workflows.len() > MAX_WORKFLOWS {
                return Err(invalid(format!(
                    "selected_workflows has more than {MAX_WORKFLOWS} entries"
                )));
            }
            if workflows.iter().any(|one| one.chars().count() > MAX_WORKFLOW) {
                return Err(invalid(format!(
                    "selected_workflows has an entry of more than {MAX_WORKFLOW} characters"
                )));
            }
            group.selected_workflows = workflows;
        }
        if let Some(ids) = change.selected_repository_ids {
            if ids.len() > MAX_REPOSITORIES {
                return Err(invalid(format!(
                    "selected_repository_ids has more than {MAX_REPOSITORIES} entries"
                )));
            }
            let known = self.repositories.ids();
            let has = |id: &u64| known.get(id).is_some_and(|name| place.has(&name.to_string()));
            if !ids.iter().all(has) {
                return Err(invalid("selected_repository_ids has one that is not there"));
            }
            group.repositories = ids.into_iter().collect();
        }
        if let Some(allows) = change.allows_public_repositories {
            group.allows_public_repositories = allows;
        }
        if let Some(restricted) = change.restricted_to_workflows {
            group.restricted_to_workflows = restricted;
        }
        Ok(group)
    }

    /// Removes a group that nothing is in.
    pub(crate) fn delete_group(&mut self, place: &Owner, id: u64) -> Result<(), GroupError> {
        if id == DEFAULT_GROUP {
            return Err(invalid("the default group cannot be removed"));
        }
        self.groups.own(place, id)?;
        if self.runners.values().any(|runner| runner.group == id) || self.scale_sets.uses_group(id)
        {
            return Err(GroupError::InUse);
        }
        self.groups.all.remove(&id);
        Ok(())
    }

    /// Puts a place's runner into a group. False if one of them is not there.
    pub(crate) fn move_runner(
        &mut self,
        place: &Owner,
        id: u64,
        group: u64,
        now: Timestamp,
    ) -> bool {
        let known = self.groups.get(place, group).is_some();
        let runner = self.runners.get_mut(&id).filter(|runner| known && runner.scope == *place);
        let Some(runner) = runner else { return false };
        runner.group = group;
        self.touch_queue();
        self.keep_runners(id);
        self.offer_jobs(now);
        true
    }
}

#[cfg(test)]
mod tests;
