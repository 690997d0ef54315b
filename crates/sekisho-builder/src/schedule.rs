//! Which step is next: a pure scheduler over steps that need each other's results.
//!
//! ```text
//!  add(work, rank, needs) ──▶ waiting ──(all needs done)──▶ ready ──next()──▶ running ──done()──▶ done
//! ```
//!
//! Of several ready steps the one of the lowest rank is next, so that with one slot the order is that
//! of the Dockerfile. Steps may be added while others run: what a base leaves for its children is
//! known only once the base is.

use std::collections::BTreeSet;

/// Names a step of a [`Schedule`].
pub(crate) type StepId = usize;

/// Steps, what they wait for, and how many may run at once.
#[derive(Debug)]
pub(crate) struct Schedule<T> {
    steps: Vec<Step<T>>,
    /// Ready steps by rank.
    ready: BTreeSet<(usize, StepId)>,
    running: usize,
    limit: usize,
    stopped: bool,
}

#[derive(Debug)]
struct Step<T> {
    work: Option<T>,
    rank: usize,
    waits: usize,
    followers: Vec<StepId>,
    done: bool,
}

impl<T> Schedule<T> {
    /// With at most `limit` steps at once, and at least one.
    pub(crate) fn new(limit: usize) -> Self {
        let ready = BTreeSet::new();
        Self { steps: Vec::new(), ready, running: 0, limit: limit.max(1), stopped: false }
    }

    /// Adds a step that starts once `needs` are done; those must have been added before.
    pub(crate) fn add(&mut self, work: T, rank: usize, needs: &[StepId]) -> StepId {
        let id = self.promise(rank);
        self.keep(id, work, needs);
        id
    }

    /// Names a step whose work and needs are not known yet, so that others can wait for it.
    pub(crate) fn promise(&mut self, rank: usize) -> StepId {
        let followers = Vec::new();
        self.steps.push(Step { work: None, rank, waits: usize::MAX, followers, done: false });
        self.steps.len() - 1
    }

    /// Says what a promised step is.
    pub(crate) fn keep(&mut self, id: StepId, work: T, needs: &[StepId]) {
        let needs: BTreeSet<StepId> = needs.iter().copied().collect();
        let mut waits = 0;
        for need in needs {
            let Some(step) = self.steps.get_mut(need).filter(|step| !step.done) else { continue };
            step.followers.push(id);
            waits += 1;
        }
        let Some(step) = self.steps.get_mut(id) else { return };
        (step.work, step.waits) = (Some(work), waits);
        if waits == 0 {
            self.ready.insert((step.rank, id));
        }
    }

    /// Takes the next step to start, if there is one and a slot for it.
    pub(crate) fn next(&mut self) -> Option<(StepId, T)> {
        if self.stopped || self.running >= self.limit {
            return None;
        }
        let (_, id) = self.ready.pop_first()?;
        let work = self.steps.get_mut(id)?.work.take()?;
        self.running += 1;
        Some((id, work))
    }

    /// A started step ended well: what waited for it may start.
    pub(crate) fn done(&mut self, id: StepId) {
        self.running = self.running.saturating_sub(1);
        let Some(step) = self.steps.get_mut(id) else { return };
        step.done = true;
        for follower in std::mem::take(&mut step.followers) {
            let Some(step) = self.steps.get_mut(follower) else { continue };
            step.waits -= 1;
            if step.waits == 0 {
                self.ready.insert((step.rank, follower));
            }
        }
    }

    /// A started step failed: nothing starts any more, what runs may end.
    pub(crate) fn failed(&mut self) {
        self.running = self.running.saturating_sub(1);
        self.stop();
    }

    /// Nothing starts any more.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Steps that were started and have not ended.
    pub(crate) fn running(&self) -> usize {
        self.running
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_slot_keeps_the_order_of_ranks() {
        let mut schedule = Schedule::new(1);
        let late = schedule.add("late", 9, &[]);
        let early = schedule.add("early", 1, &[]);
        schedule.add("after both", 0, &[late, early]);
        let mut order = Vec::new();
        while let Some((id, work)) = schedule.next() {
            assert_eq!(schedule.next(), None, "one at a time");
            order.push(work);
            schedule.done(id);
        }
        assert_eq!(order, ["early", "late", "after both"]);
    }

    #[test]
    fn a_failure_starts_nothing_more() {
        let mut schedule = Schedule::new(2);
        let one = schedule.add(1, 0, &[]);
        schedule.add(2, 1, &[]);
        schedule.add(3, 2, &[one]);
        schedule.add(4, 3, &[]);
        assert_eq!(schedule.next(), Some((0, 1)));
        assert_eq!(schedule.next(), Some((1, 2)));
        schedule.failed();
        assert_eq!((schedule.next(), schedule.running()), (None, 1));
        schedule.done(one);
        assert_eq!((schedule.next(), schedule.running()), (None, 0));
    }

    /// A world of steps that end in any order, some of which add others as they end.
    fn simulate(needs: &[Vec<usize>], limit: usize, picks: &[usize]) -> Vec<usize> {
        let mut schedule = Schedule::new(limit);
        let (early, late) = needs.split_at(needs.len() / 2);
        for rank in 0..early.len() {
            assert_eq!(schedule.promise(rank), rank);
        }
        for (rank, needs) in early.iter().enumerate().rev() {
            schedule.keep(rank, rank, needs);
        }
        let (mut running, mut done, mut order) = (Vec::new(), BTreeSet::new(), Vec::new());
        let mut late = Some(late);
        let mut picks = picks.iter().copied().cycle();
        loop {
            while let Some((id, work)) = schedule.next() {
                assert!(needs[work].iter().all(|need| done.contains(need)), "{work} is too early");
                running.push(id);
                order.push(work);
            }
            assert!(running.len() <= limit && running.len() == schedule.running());
            if running.is_empty() && late.is_none() {
                break;
            }
            if !running.is_empty() {
                let id = running.swap_remove(picks.next().unwrap_or(0) % running.len());
                done.insert(id);
                schedule.done(id);
            }
            for needs in late.take().unwrap_or_default() {
                let rank = schedule.steps.len();
                schedule.add(rank, rank, needs);
            }
        }
        assert_eq!(done.len(), needs.len(), "every step runs once");
        order
    }

    proptest! {
        #[test]
        fn every_step_runs_once_after_what_it_needs(
            raw in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..40),
            limit in 1usize..6,
            picks in prop::collection::vec(0usize..8, 1..20),
        ) {
            let needs: Vec<Vec<usize>> = raw.iter().enumerate().map(|(at, raw)| match at {
                0 => Vec::new(),
                at => raw.iter().map(|index| index.index(at)).collect(),
            }).collect();
            let order = simulate(&needs, limit, &picks);
            prop_assert_eq!(&order, &simulate(&needs, limit, &picks), "the same world, the same order");
            if limit == 1 && needs.iter().all(Vec::is_empty) {
                prop_assert!(order.is_sorted());
            }
        }
    }
}
