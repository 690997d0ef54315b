//! A scale set as it is to be, and what there is to do about the one that is there.

use crate::wire::scale_set::{Label, RunnerSetting, ScaleSet, ScaleSetRequest};

/// A scale set as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Unique in its group.
    pub name: String,
    /// Its group.
    pub group: i64,
    /// Its labels; its name alone if there are none.
    pub labels: Vec<String>,
    /// Whether its runners keep their version.
    pub disable_update: bool,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none.
    Create(ScaleSetRequest),
    /// It is another.
    Update {
        /// Which.
        id: i64,
        /// What is to change.
        change: ScaleSetRequest,
    },
    /// It is as wanted.
    Keep,
}

/// A scale set that is there, and what of it is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// As the service has it.
    pub set: ScaleSet,
    /// Labels that the service dropped without a word, as old GHES do: jobs that want them wait for
    /// ever.
    pub dropped_labels: Vec<String>,
}

impl Wanted {
    /// The labels that are asked for.
    fn labels(&self) -> Vec<Label> {
        match self.labels.as_slice() {
            [] => vec![Label::new(&self.name)],
            labels => labels.iter().map(Label::new).collect(),
        }
    }

    fn request(&self) -> ScaleSetRequest {
        ScaleSetRequest {
            name: Some(self.name.clone()),
            runner_group_id: Some(self.group),
            labels: Some(self.labels()),
            runner_setting: Some(RunnerSetting { disable_update: self.disable_update }),
        }
    }

    /// Compares what the service made with what was wanted.
    pub fn outcome(&self, set: ScaleSet) -> Outcome {
        let has =
            |label: &Label| set.labels.iter().any(|l| l.name.eq_ignore_ascii_case(&label.name));
        let dropped = self.labels().into_iter().filter(|label| !has(label));
        Outcome { dropped_labels: dropped.map(|label| label.name).collect(), set }
    }
}

/// Decides. `found`: the set of this name in this group, or the one of a known id.
pub fn decide(wanted: &Wanted, found: Option<&ScaleSet>) -> Step {
    let Some(found) = found else { return Step::Create(wanted.request()) };
    let names = |labels: &[Label]| {
        let mut names: Vec<String> = labels.iter().map(|l| l.name.to_ascii_lowercase()).collect();
        names.sort();
        names
    };
    let labels = wanted.labels();
    let change = ScaleSetRequest {
        name: (found.name != wanted.name).then(|| wanted.name.clone()),
        runner_group_id: (found.runner_group_id != wanted.group).then_some(wanted.group),
        labels: (names(&found.labels) != names(&labels)).then_some(labels),
        runner_setting: (found.runner_setting.disable_update != wanted.disable_update)
            .then_some(RunnerSetting { disable_update: wanted.disable_update }),
    };
    if change == ScaleSetRequest::default() {
        Step::Keep
    } else {
        Step::Update { id: found.id, change }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(labels: &[&str]) -> Wanted {
        Wanted {
            name: "gpu".to_owned(),
            group: 1,
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            disable_update: true,
        }
    }

    fn found(labels: &[&str]) -> ScaleSet {
        ScaleSet {
            id: 4,
            name: "gpu".to_owned(),
            runner_group_id: 1,
            labels: labels.iter().map(|label| Label::new(*label)).collect(),
            runner_setting: RunnerSetting { disable_update: true },
            ..Default::default()
        }
    }

    #[test]
    fn a_set_is_made_changed_or_kept() {
        let Step::Create(request) = decide(&wanted(&[]), None) else { panic!() };
        assert_eq!(request.labels, Some(vec![Label::new("gpu")]));
        assert_eq!(decide(&wanted(&[]), Some(&found(&["GPU"]))), Step::Keep);
        assert_eq!(decide(&wanted(&["a", "b"]), Some(&found(&["B", "a"]))), Step::Keep);
        let labels = Some(vec![Label::new("a"), Label::new("b")]);
        let change = ScaleSetRequest { labels, ..Default::default() };
        assert_eq!(
            decide(&wanted(&["a", "b"]), Some(&found(&["a"]))),
            Step::Update { id: 4, change }
        );
        let moved = ScaleSet { runner_group_id: 3, ..found(&["gpu"]) };
        let change = ScaleSetRequest { runner_group_id: Some(1), ..Default::default() };
        assert_eq!(decide(&wanted(&[]), Some(&moved)), Step::Update { id: 4, change });
    }

    #[test]
    fn a_label_that_was_dropped_is_told() {
        let outcome = wanted(&["gpu", "Large"]).outcome(found(&["gpu"]));
        assert_eq!(outcome.dropped_labels, ["Large"]);
        assert!(
            wanted(&["gpu", "Large"]).outcome(found(&["large", "GPU"])).dropped_labels.is_empty()
        );
    }
}
