//! A small seeded world: random graphs of jobs and calls, runners that end as they like, a hub
//! that crashes between two writes and decides on stale views, a user who cancels.

use proptest::prelude::*;

use super::*;

/// A job of a random workflow.
#[derive(Clone, Debug)]
struct RandomJob {
    /// Places of earlier jobs it needs.
    needs: Vec<prop::sample::Index>,
    condition: Option<&'static str>,
    /// Calls the second file, in place of steps.
    call: bool,
    matrix: Option<(u8, bool, u8)>,
    tolerant: bool,
}

fn random_job() -> impl Strategy<Value = RandomJob> {
    let condition = prop_oneof![
        4 => Just(None),
        1 => Just(Some("always()")),
        1 => Just(Some("failure()")),
        1 => Just(Some("'!cancelled()'")),
        1 => Just(Some("cancelled()")),
        1 => Just(Some("success() || failure()")),
        1 => Just(Some("github.event_name == 'push'")),
        1 => Just(Some("false")),
        1 => Just(Some("fromJSON('')")),
    ];
    (
        proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        condition,
        prop::bool::weighted(0.25),
        proptest::option::weighted(0.25, (2..4_u8, any::<bool>(), 1..4_u8)),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(needs, condition, call, matrix, tolerant)| RandomJob {
            needs,
            condition,
            call,
            matrix,
            tolerant,
        })
}

fn file(jobs: &[RandomJob], may_call: bool, on: &str) -> String {
    let mut text = format!("on: {on}\njobs:\n");
    for (place, job) in jobs.iter().enumerate() {
        text.push_str(&format!("  j{place}:\n"));
        let needs: std::collections::BTreeSet<usize> =
            job.needs.iter().filter(|_| place > 0).map(|index| index.index(place)).collect();
        let needs: Vec<String> = needs.iter().map(|need| format!("j{need}")).collect();
        text.push_str(&format!("    needs: [{}]\n", needs.join(", ")));
        if let Some(condition) = job.condition {
            text.push_str(&format!("    if: {condition}\n"));
        }
        if let Some((size, fail_fast, parallel)) = job.matrix {
            let items: Vec<String> = (0..size).map(|n| n.to_string()).collect();
            text.push_str(&format!(
                "    strategy: {{ fail-fast: {fail_fast}, max-parallel: {parallel}, matrix: {{ v: [{}] }} }}\n",
                items.join(", ")
            ));
        }
        if job.call && may_call {
            text.push_str("    uses: ./.github/workflows/called.yml\n");
        } else {
            let tolerant = job.tolerant;
            text.push_str(&format!(
                "    continue-on-error: {tolerant}\n    runs-on: x\n    steps: [{{ run: x }}]\n"
            ));
        }
    }
    text
}

#[derive(Clone, Debug)]
enum Event {
    /// The hub decides on a view some steps old, and crashes after some of the actions.
    Decide {
        crash_after: usize,
        stale_by: usize,
    },
    RunnerTakes(prop::sample::Index),
    RunnerEnds(prop::sample::Index, Conclusion),
    UserCancels,
}

fn event() -> impl Strategy<Value = Event> {
    let conclusion = prop_oneof![
        4 => Just(Conclusion::Success),
        2 => Just(Conclusion::Failure),
        1 => Just(Conclusion::Cancelled),
    ];
    prop_oneof![
        6 => (0..4_usize, 0..2_usize)
            .prop_map(|(crash_after, stale_by)| Event::Decide { crash_after, stale_by }),
        4 => any::<prop::sample::Index>().prop_map(Event::RunnerTakes),
        4 => (any::<prop::sample::Index>(), conclusion).prop_map(|(i, c)| Event::RunnerEnds(i, c)),
        1 => Just(Event::UserCancels),
    ]
}

/// The hub's record, and what must never happen to it.
struct World {
    hub: Hub,
    queued: std::collections::BTreeSet<String>,
}

impl World {
    fn keys(&self, wanted: impl Fn(&JobState) -> bool) -> Vec<String> {
        let calls = |key: &String| self.hub.plan.job(key).is_some_and(PlannedJob::is_call);
        let states = self.hub.states.iter();
        states.filter(|(key, state)| wanted(state) && !calls(key)).map(|(k, _)| k.clone()).collect()
    }

    fn end(&mut self, key: &str, conclusion: Conclusion) {
        let tolerated = self.hub.ready.get(key).is_some_and(|ready| ready.continue_on_error);
        let state = JobState::Completed { conclusion, tolerated, outputs: BTreeMap::new() };
        self.hub.states.insert(key.to_owned(), state);
    }

    /// Applies an action as the hub does: only if the job's state still is what the decision was
    /// about. That is the one guard a stale view needs.
    fn apply(
        &mut self,
        action: &JobAction,
        seen: &BTreeMap<String, JobState>,
    ) -> Result<(), TestCaseError> {
        let key = match action {
            JobAction::Queue(ready) => &ready.key,
            JobAction::Start { key, .. }
            | JobAction::Skip { key }
            | JobAction::Fail { key, .. }
            | JobAction::Cancel { key }
            | JobAction::Complete { key, .. } => key,
            JobAction::CompleteRun { .. } => {
                let open =
                    self.hub.plan.jobs.iter().find(|job| {
                        !self.hub.states.get(&job.key).is_some_and(JobState::is_completed)
                    });
                prop_assert!(open.is_none(), "the run ends before {:?}", open.map(|j| &j.key));
                self.hub.apply(action.clone());
                return Ok(());
            }
        };
        if self.hub.states.get(key) != seen.get(key) {
            return Ok(());
        }
        let before = self.hub.states.get(key).cloned();
        prop_assert!(
            !before.is_some_and(|state| state.is_completed()),
            "{key} changes after its end"
        );
        if let JobAction::Queue(ready) = action {
            prop_assert!(self.queued.insert(ready.key.clone()), "{key} is queued twice");
            let job = self.hub.plan.job(key).expect("a planned job");
            prop_assert!(!job.is_call(), "{key} is a call");
            for other in &self.hub.plan.jobs {
                let done = self.hub.states.get(&other.key).is_some_and(JobState::is_completed);
                prop_assert!(
                    done || !job.needs.contains(&other.group),
                    "{key} before {}",
                    other.key
                );
            }
            if let Some(parent) = &job.parent {
                prop_assert_eq!(self.hub.states.get(parent), Some(&JobState::Running));
            }
        }
        self.hub.apply(action.clone());
        Ok(())
    }

    fn step(
        &mut self,
        event: &Event,
        past: &[(BTreeMap<String, JobState>, bool)],
    ) -> Result<(), TestCaseError> {
        match event {
            Event::Decide { crash_after, stale_by } => {
                let (states, cancelled) = past[past.len().saturating_sub(1 + stale_by)].clone();
                let seen = RunObserved { jobs: &states, cancelled, ..self.hub.observed() };
                let actions = decide(&seen);
                prop_assert_eq!(&actions, &decide(&seen), "the same view, another decision");
                for action in actions.iter().take(*crash_after) {
                    self.apply(action, &states)?;
                }
            }
            Event::RunnerTakes(index) => {
                let queued = self.keys(|state| *state == JobState::Queued);
                if !queued.is_empty() {
                    let key = index.get(&queued).clone();
                    self.hub.states.insert(key, JobState::Running);
                }
            }
            Event::RunnerEnds(index, conclusion) => {
                let busy = self.keys(|s| matches!(s, JobState::Running | JobState::Cancelling));
                if !busy.is_empty() {
                    self.end(&index.get(&busy).clone(), *conclusion);
                }
            }
            Event::UserCancels => self.hub.cancelled = true,
        }
        self.check_parallel()
    }

    fn check_parallel(&self) -> Result<(), TestCaseError> {
        for job in &self.hub.plan.jobs {
            let busy = self.hub.plan.jobs.iter().filter(|other| {
                other.group == job.group
                    && self.hub.states.get(&other.key).is_some_and(|s| !s.is_completed())
            });
            let most = job.strategy.max_parallel as usize;
            prop_assert!(busy.count() <= most, "more than {most} of {}", job.group);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_and_no_job_runs_twice_or_early(
        main in proptest::collection::vec(random_job(), 1..6),
        called in proptest::collection::vec(random_job(), 1..4),
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let files = Files(vec![
            (".github/workflows/main.yml", file(&main, true, "push")),
            (".github/workflows/called.yml", file(&called, false, "workflow_call")),
        ]);
        let mut world = World { hub: Hub::new(plan_of(&files)), queued: Default::default() };
        let mut past = vec![(world.hub.states.clone(), world.hub.cancelled)];
        for event in &events {
            if world.hub.ended.is_some() {
                break;
            }
            world.step(event, &past)?;
            past.push((world.hub.states.clone(), world.hub.cancelled));
        }

        // Faults stop: runners end what they have, and the hub decides until it has nothing.
        for _ in 0..world.hub.plan.jobs.len() * 4 + 4 {
            let view = (world.hub.states.clone(), world.hub.cancelled);
            world.step(&Event::Decide { crash_after: usize::MAX, stale_by: 0 }, &[view])?;
            let open = world.keys(|state| !state.is_completed());
            for key in open {
                world.end(&key, Conclusion::Success);
            }
        }
        prop_assert!(world.hub.ended.is_some(), "the run never ends: {:?}", world.hub.states);
        prop_assert_eq!(decide(&world.hub.observed()), []);
        prop_assert_eq!(world.hub.states.len(), world.hub.plan.jobs.len());
        // A job that was skipped or failed by the hub never had a runner.
        for (key, state) in &world.hub.states {
            if *state == JobState::completed(Conclusion::Skipped) {
                prop_assert!(!world.queued.contains(key), "{key} was queued and is skipped");
            }
        }
    }
}
