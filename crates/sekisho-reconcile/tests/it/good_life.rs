//! A runner's life when nothing goes wrong, write by write.

use std::time::Duration;

use sekisho_reconcile::deployment::Size;

use crate::github::Wire;
use crate::operator::Operator;
use crate::simulation::Play;
use crate::world::World;

fn calm(wire: Wire, idle: u32) -> Play {
    let mut world = World::new(1, wire);
    world.hostile = false;

    let size = Size::Scaled { min: 0, max: 6, idle, scale_down_delay: Duration::from_secs(60) };
    world.change(|known| known.size = size);
    let operators = [Operator::new(0), Operator::new(1)];
    Play { world, operators, holder: 0 }
}

fn second() -> Duration {
    Duration::from_secs(1)
}

#[test]
fn a_runner_that_is_made_for_a_job_takes_eight_writes() {
    for wire in [Wire::Assigned, Wire::Acquired, Wire::Registered] {
        let mut play = calm(wire, 0);
        (0..5).for_each(|_| play.round(second()));
        let now = play.world.now;
        for _ in 0..4 {
            play.world.github.queue(now, Duration::from_secs(20));
        }
        (0..120).for_each(|_| play.round(second()));
        let results = play.world.github.jobs.values().filter(|job| job.result.is_some());
        assert_eq!(results.count(), 4, "{wire:?}");
        assert!(play.world.objects.runners.is_empty(), "{wire:?}");
        let writes: Vec<u32> = play.world.writes.values().copied().collect();
        assert_eq!(writes, [8; 4], "{wire:?}");
        assert!(play.world.losses.is_empty(), "{wire:?}");
    }
}

#[test]
fn a_runner_that_waits_for_its_job_takes_one_more() {
    let mut play = calm(Wire::Assigned, 1);
    (0..60).for_each(|_| play.round(second()));
    let first = play.world.objects.runners.keys().next().unwrap().clone();
    assert_eq!(play.world.writes[&first], 5, "made, pod, secret, idle, secret gone");
    let now = play.world.now;
    play.world.github.queue(now, Duration::from_secs(20));
    (0..60).for_each(|_| play.round(second()));
    assert_eq!(play.world.github.jobs.values().next().unwrap().runner.as_ref(), Some(&first));
    assert!(!play.world.objects.runners.contains_key(&first));
    assert_eq!(play.world.writes[&first], 9);
}
