//! Server-side apply, and what any other write does to who manages which fields.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::{self, Manager, Path, Segment, flatten, flatten_some};
use super::resource::Resource;

/// Who applies what.
pub(crate) struct Apply<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) manager: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) force: bool,
}

impl Apply<'_> {
    /// The object and its managers after `config` was applied to `live`.
    pub(crate) fn to(
        &self,
        live: &Value,
        managers: &[Manager],
        config: &Value,
    ) -> Result<(Value, Vec<Manager>), ApiError> {
        let have = flatten(self.resource, live);
        let mut want = flatten(self.resource, config);
        let in_status = |path: &Path| path.first() == Some(&Segment::Field("status".into()));
        if self.resource.status {
            let status = self.subresource == "status";
            want.retain(|path, _| in_status(path) == status);
        }
        let mine = |manager: &&Manager| manager.is(self.manager, true, self.subresource);
        let others: Vec<&Manager> = managers.iter().filter(|manager| !mine(manager)).collect();
        let taken: Vec<&Path> = want
            .iter()
            .filter(|(path, value)| have.get(*path) != Some(*value))
            .map(|(path, _)| path)
            .collect();
        let conflicts: Vec<(String, String)> = others
            .iter()
            .flat_map(|manager| {
                let clash = taken.iter().filter(|path| manager.fields.contains(**path));
                clash.map(|path| (manager.name.clone(), fields::shown(path)))
            })
            .collect();
        if !conflicts.is_empty() && !self.force {
            return Err(ApiError::apply_conflict(&conflicts));
        }
        let mut object = live.clone();
        let before: BTreeSet<Path> =
            managers.iter().find(mine).map(|manager| manager.fields.clone()).unwrap_or_default();
        for path in &before {
            let kept = want.contains_key(path)
                || others.iter().any(|manager| manager.fields.contains(path));
            if !kept {
                fields::remove(&mut object, path);
            }
        }
        for (path, value) in &want {
            fields::set(&mut object, path, value);
        }
        let mut after: Vec<Manager> = others.into_iter().cloned().collect();
        for manager in &mut after {
            manager.fields.retain(|path| !taken.contains(&path));
        }
        after.push(Manager {
            name: self.manager.to_owned(),
            apply: true,
            subresource: self.subresource.to_owned(),
            fields: want.into_keys().collect(),
        });
        after.retain(|manager| !manager.fields.is_empty());
        Ok((object, after))
    }
}

/// The managers after any other write by `manager`.
pub(crate) fn written(
    resource: &Resource,
    (manager, subresource): (&str, &str),
    managers: &[Manager],
    (before, after): (&Value, &Value),
) -> Vec<Manager> {
    // Of a large object that is written again, most stays.
    let both = [before, after].into_iter().filter_map(Value::as_object);
    let names: BTreeSet<&str> = both.flat_map(|it| it.keys().map(String::as_str)).collect();
    let changes: BTreeSet<&str> =
        names.into_iter().filter(|name| before.get(name) != after.get(name)).collect();
    let touched = |name: &str| changes.contains(name);
    let (had, has) =
        (flatten_some(resource, before, touched), flatten_some(resource, after, touched));
    let changed: BTreeSet<Path> = has
        .iter()
        .filter(|(path, value)| had.get(*path) != Some(*value))
        .map(|(path, _)| path.clone())
        .collect();
    let mut all = managers.to_vec();
    for known in &mut all {
        known.fields.retain(|path| match path.first() {
            Some(Segment::Field(name)) if !touched(name) => true,
            _ => has.contains_key(path) && !changed.contains(path),
        });
    }
    match all.iter_mut().find(|known| known.is(manager, false, subresource)) {
        Some(known) => known.fields.extend(changed),
        None => all.push(Manager {
            name: manager.to_owned(),
            apply: false,
            subresource: subresource.to_owned(),
            fields: changed,
        }),
    }
    all.retain(|manager| !manager.fields.is_empty());
    all
}

/// Writes `metadata.managedFields`.
pub(crate) fn show(resource: &Resource, object: &mut Value, managers: &[Manager]) {
    let version = resource.api_version();
    let shown: Vec<Value> = managers.iter().map(|manager| manager.shown(&version)).collect();
    object["metadata"]["managedFields"] = json!(shown);
}
