//! A JIT configuration whose name is taken: an answer that was lost leaves a registration behind.

use crate::wire::scale_set::RunnerReference;

/// How often a registration of ours is removed to make room.
pub const MAX_REMOVALS: u32 = 3;

/// What came of the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing was done yet.
    Start,
    /// The name is taken (409).
    NameTaken,
    /// Who has the name; `None`: nobody any more.
    Found(Option<RunnerReference>),
    /// The registration is gone.
    Removed,
    /// The runner has a job, and cannot be removed.
    Busy {
        /// The runner.
        runner: i64,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for a configuration.
    Make,
    /// Look for who has the name.
    LookUp,
    /// Remove the registration.
    Remove {
        /// Its id.
        runner: i64,
    },
    /// The name cannot be had.
    GiveUp(NameTaken),
}

/// Why a name cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameTaken {
    /// It is a runner of another set, or of none.
    #[error("the name is taken by runner {runner} of scale set {set}")]
    Foreign {
        /// The runner.
        runner: i64,
        /// Its set; 0: none.
        set: i64,
    },
    /// The runner with the name is at a job.
    #[error("the name is taken by runner {runner}, which is at a job")]
    Busy {
        /// The runner.
        runner: i64,
    },
    /// It was taken again and again.
    #[error("the name was taken again after {removals} removals")]
    Again {
        /// How many.
        removals: u32,
    },
}

/// Decides. `set`: ours; `removals`: registrations removed or found to be gone so far.
pub fn decide(set: i64, removals: u32, seen: &Seen) -> Step {
    match seen {
        Seen::Start | Seen::Removed | Seen::Found(None) => Step::Make,
        Seen::NameTaken if removals >= MAX_REMOVALS => Step::GiveUp(NameTaken::Again { removals }),
        Seen::NameTaken => Step::LookUp,
        Seen::Found(Some(runner)) if runner.runner_scale_set_id == set => {
            Step::Remove { runner: runner.id }
        }
        Seen::Found(Some(runner)) => {
            Step::GiveUp(NameTaken::Foreign { runner: runner.id, set: runner.runner_scale_set_id })
        }
        Seen::Busy { runner } => Step::GiveUp(NameTaken::Busy { runner: *runner }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(set: i64) -> Seen {
        let runner = RunnerReference { id: 9, name: "r".to_owned(), runner_scale_set_id: set };
        Seen::Found(Some(runner))
    }

    #[test]
    fn only_a_registration_of_ours_is_removed() {
        for (removals, seen, want) in [
            (0, Seen::Start, Step::Make),
            (0, Seen::NameTaken, Step::LookUp),
            (0, runner(4), Step::Remove { runner: 9 }),
            (0, runner(5), Step::GiveUp(NameTaken::Foreign { runner: 9, set: 5 })),
            (0, runner(0), Step::GiveUp(NameTaken::Foreign { runner: 9, set: 0 })),
            (0, Seen::Found(None), Step::Make),
            (1, Seen::Removed, Step::Make),
            (0, Seen::Busy { runner: 9 }, Step::GiveUp(NameTaken::Busy { runner: 9 })),
            (2, Seen::NameTaken, Step::LookUp),
            (3, Seen::NameTaken, Step::GiveUp(NameTaken::Again { removals: 3 })),
        ] {
            assert_eq!(decide(4, removals, &seen), want, "{seen:?}");
        }
    }
}
