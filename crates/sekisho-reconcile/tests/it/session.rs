//! A session whose polls last, and whose numbers are not always the newest.

use std::time::Duration;

use sekisho_api::JobResult;
use sekisho_reconcile::deployment::Size;

use crate::github::Wire;
use crate::operator::Operator;
use crate::simulation::Play;
use crate::world::World;

const SECOND: Duration = Duration::from_secs(1);

fn size(max: u32) -> Size {
    Size::Scaled { min: 0, max, idle: 0, scale_down_delay: Duration::ZERO }
}

/// A calm world with room for one runner, and a poll that has begun.
fn small(wire: Wire) -> Play {
    let mut world = World::new(1, wire);
    world.hostile = false;
    world.change(|known| known.size = size(1));
    let mut play = Play { world, operators: [Operator::new(0), Operator::new(1)], holder: 0 };
    (0..5).for_each(|_| play.round(SECOND));
    play
}

impl Play {
    fn queues(&mut self, seconds: u64) {
        let now = self.world.now;
        self.world.github.queue(now, Duration::from_secs(seconds));
    }

    fn assigned(&self) -> usize {
        self.world.github.jobs.values().filter(|job| job.assigned).count()
    }

    fn rounds(&mut self, count: u32) {
        (0..count).for_each(|_| self.round(SECOND));
    }
}

#[test]
fn more_room_is_told_while_a_poll_is_under_way() {
    let mut play = small(Wire::Assigned);
    (0..3).for_each(|_| play.queues(600));
    play.rounds(10);
    assert_eq!(play.assigned(), 1);
    // The poll of before would be held for most of a minute.
    play.world.change(|known| known.size = size(3));
    play.rounds(5);
    assert_eq!(play.assigned(), 3);
}

#[test]
fn less_room_is_told_while_a_poll_is_under_way() {
    let mut play = small(Wire::Assigned);
    play.world.change(|known| known.size = size(3));
    // Another poll has begun with it.
    play.rounds(60);
    play.world.change(|known| known.size = size(1));
    play.rounds(5);
    (0..3).for_each(|_| play.queues(600));
    play.rounds(5);
    assert_eq!(play.assigned(), 1, "no job comes for which there is no room");
}

#[test]
fn a_job_that_was_taken_off_twice_is_soon_counted_again() {
    let mut play = small(Wire::Assigned);
    play.queues(20);
    play.until("a job that runs", |play| play.world.github.demand().running == 1);
    play.rounds(2);
    let (&first, job) = play.world.github.jobs.first_key_value().unwrap();
    let runner = job.runner.clone().unwrap();
    // It ends, and the next one is assigned; of the first's end no message comes.
    play.world.github.conclude(first, JobResult::Succeeded, false, false);
    play.world.github.messages.clear();
    play.queues(20);
    play.rounds(3);
    assert_eq!(play.operators[0].reckoned, None, "by GitHub's numbers there is one job");
    assert_eq!(play.operators[0].demand, Some(play.world.github.demand()));
    assert!(play.world.objects.runners.contains_key(&runner));
    // Now its pod is seen to be over: GitHub's numbers did not have the job any more.
    play.until("its end", |play| play.operators[0].reckoned.is_some());
    assert_ne!(play.operators[0].demand, Some(play.world.github.demand()));
    play.rounds(6);
    assert_eq!(play.operators[0].demand, Some(play.world.github.demand()));
    play.rounds(10);
    let next = play.world.github.jobs.values().next_back().unwrap();
    assert!(next.runner.is_some(), "it has a runner");
}
