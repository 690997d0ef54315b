//! What must hold once nothing goes wrong any more. (That no JIT configuration is used twice, that no
//! name is given twice and that no runner with a job is stopped are checked where they could happen.)

use std::time::Duration;

use crate::github::Wire;
use crate::simulation::Play;

/// Most writes in the life of one runner, whatever happens to it.
const WRITES_MAX: u32 = 40;
/// Most writes in a quiet time.
const QUIET_WRITES_MAX: u64 = 12;

/// All of it.
#[track_caller]
pub(crate) fn check(play: &mut Play) {
    // Whatever failed, jobs are served again: failed runners hold no capacity.
    play.until("all jobs end", |play| {
        play.world.github.jobs.values().all(|job| job.result.is_some())
    });
    play.until("one idle runner remains", settled);
    let before = play.world.all_writes;
    for _ in 0..20 {
        play.round(Duration::from_secs(10));
    }
    let quiet = play.world.all_writes - before;
    assert!(quiet <= QUIET_WRITES_MAX, "{quiet} writes while nothing happens");

    let now = play.world.now;
    play.world.change(|known| known.deleting = Some(now));
    play.until("nothing is left", |play| {
        let (objects, github) = (&play.world.objects, &play.world.github);
        objects.deployment.is_none()
            && objects.sets.is_empty()
            && objects.runners.is_empty()
            && objects.pods.is_empty()
            && objects.secrets.is_empty()
            && github.registrations.is_empty()
            && github.set.is_none()
    });

    for (id, job) in play.world.github.jobs.iter().filter(|(_, job)| job.lost) {
        let runner = job.runner.as_ref().unwrap();
        // Over REST there is a list and no messages: what is not asked for any more is not heard.
        let unheard = play.world.github.wire == Wire::Registered;
        let world = &play.world;
        assert!(
            world.losses.contains(runner)
                || world.results.contains(runner)
                || (unheard && world.deleted.contains(runner)),
            "job {id} was lost with {runner}, and nobody was told"
        );
    }
    for (runner, writes) in &play.world.writes {
        assert!(*writes <= WRITES_MAX, "{writes} writes for {runner}");
    }
}

/// One runner, online and without a job, and nothing besides.
fn settled(play: &Play) -> bool {
    let objects = &play.world.objects;
    let live: Vec<&String> = objects
        .runners
        .iter()
        .filter(|(_, runner)| {
            runner.deleting.is_none()
                && runner.record.ended.is_none()
                && runner.record.online.is_some()
        })
        .map(|(name, _)| name)
        .collect();
    let registered = play.world.github.registrations.values().map(|known| &known.name);
    let wanted: u32 = objects.sets.values().map(|set| set.replicas).sum();
    let desired = objects.deployment.as_ref().and_then(|known| known.desired);
    (desired, wanted, live.len()) == (Some(1), 1, 1)
        && objects.pods.keys().collect::<Vec<_>>() == live
        && registered.collect::<Vec<_>>() == live
        && objects.secrets.is_empty()
        && objects.runners.values().all(|runner| runner.deleting.is_none())
}
