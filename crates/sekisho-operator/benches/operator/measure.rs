//! What is measured, one after the other on one API server.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::played::Failure;
use crate::world::World;

/// A job ends each time, where it is measured how soon its runner is gone.
const BEAT: Duration = Duration::from_millis(20);
/// Jobs that are under way when the operator is killed; and as many wait then.
const FAIL_OVER_JOBS: usize = 100;

/// How much is measured.
pub(crate) struct Scale {
    /// Jobs of the burst.
    burst: usize,
    /// Jobs that end at once.
    sustained: usize,
    /// Runners that are kept.
    runners: usize,
}

impl Scale {
    pub(crate) const fn full() -> Self {
        Self { burst: 1_000, sustained: 3_000, runners: 10_000 }
    }

    pub(crate) const fn quick() -> Self {
        Self { burst: 100, sustained: 300, runners: 1_000 }
    }
}

/// All of it on the double, or on a real API server if there is one.
pub(crate) async fn run(real: bool, scale: &Scale) -> Result<Option<Value>, Failure> {
    let Some(mut world) = World::new(real).await? else { return Ok(None) };
    let mut one = world.operator("one")?;
    world.deployment().await?;
    world.ready().await?;
    // The first is not counted.
    world.seen.ends.add_permits(1);
    let first = world.push(1).await?;
    world.concluded(&first).await?;
    world.clean(1).await?;

    let (burst, removals, mut surplus) = burst(&world, scale.burst).await?;
    eprintln!("the burst: {burst:?}");
    drop(world.calls()?);
    let before = world.written(&one).await?;
    let (sustained, more) = sustained(&world, scale.sustained).await?;
    surplus += more;
    let written = json!({ "as the operator counts them": world.written(&one).await? - before });
    let calls = world.calls()?.unwrap_or_else(|| json!({ "writes": written }));
    eprintln!("{} jobs: {sustained:?}; {calls}; {surplus} too many", scale.sustained);
    let two = world.operator("two")?;
    let fail_over = fail_over(&world, one).await?;
    eprintln!("the fail-over: {fail_over:?}");
    drop(two);
    one = world.operator("one")?;
    let resident = keep(&world, &one, scale.runners).await?;
    drop(one);
    Ok(Some(json!({
        "server": if real { "kube-apiserver" } else { "double" },
        "burst_jobs": scale.burst,
        "burst_ms": millis(burst),
        "removed_us": removals,
        "sustained_jobs": scale.sustained,
        "sustained_ms": millis(sustained),
        "writes": calls["writes"],
        "reads": calls["reads"],
        "surplus": surplus,
        "fail_over_jobs": 2 * FAIL_OVER_JOBS,
        "fail_over_ms": millis(fail_over),
        "runners": scale.runners,
        "resident_bytes": resident,
    })))
}

/// What an operator needs for many runners, on the double; in bytes.
pub(crate) async fn memory(runners: usize) -> Result<u64, Failure> {
    let world = World::new(false).await?.ok_or("no double")?;
    let operator = world.operator("one")?;
    world.deployment().await?;
    world.ready().await?;
    keep(&world, &operator, runners).await
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// From the push of many jobs until each has a pod; then, how soon after a job's end its runner is gone.
async fn burst(world: &World, jobs: usize) -> Result<(Duration, Vec<u64>, usize), Failure> {
    world.seen.lock().forget();
    let begin = Instant::now();
    let runs = world.push(jobs).await?;
    world.until("a pod for each job", async || Ok(world.seen.lock().made >= jobs)).await?;
    let took = begin.elapsed();
    world.until("jobs that begin", async || Ok(world.seen.lock().begun.len() >= jobs)).await?;
    let mut beat = tokio::time::interval(BEAT);
    for _ in 0..jobs {
        beat.tick().await;
        world.seen.ends.add_permits(1);
    }
    world.concluded(&runs).await?;
    let surplus = world.clean(jobs).await?;
    world.until("all events", async || Ok(world.seen.lock().removals().len() >= jobs)).await?;
    let removals = world.seen.lock().removals();
    Ok((took, removals, surplus))
}

/// From the push of many jobs that do nothing until nothing is left of them.
async fn sustained(world: &World, jobs: usize) -> Result<(Duration, usize), Failure> {
    world.seen.lock().forget();
    world.seen.ends.add_permits(jobs);
    let begin = Instant::now();
    let runs = world.push(jobs).await?;
    world.until("the end of all", async || Ok(world.seen.lock().removals().len() >= jobs)).await?;
    let took = begin.elapsed();
    world.concluded(&runs).await?;
    Ok((took, world.clean(jobs).await?))
}

/// From the kill of the operator that works until the other one makes a pod for a job.
async fn fail_over(world: &World, leader: crate::process::Process) -> Result<Duration, Failure> {
    world.seen.lock().forget();
    let jobs = FAIL_OVER_JOBS;
    let mut runs = world.push(jobs).await?;
    world.until("jobs that begin", async || Ok(world.seen.lock().begun.len() >= jobs)).await?;
    let before = world.seen.lock().made;
    let begin = Instant::now();
    // With SIGKILL.
    drop(leader);
    runs.extend(world.push(jobs).await?);
    world.until("the other's first pod", async || Ok(world.seen.lock().made > before)).await?;
    let took = begin.elapsed();
    world.seen.ends.add_permits(2 * jobs);
    world.concluded(&runs).await?;
    world.clean(2 * jobs).await?;
    Ok(took)
}

/// What an operator needs for many runners; in bytes.
async fn keep(
    world: &World,
    operator: &crate::process::Process,
    runners: usize,
) -> Result<u64, Failure> {
    world.seen.lock().forget();
    world.seen.idle.store(true, Ordering::SeqCst);
    let begin = Instant::now();
    world.keep(runners).await?;
    world
        .until("runners that are online", async || Ok(world.seen.lock().online >= runners))
        .await?;
    eprintln!("{runners} runners: {:?}", begin.elapsed());
    let peak = operator.peak()?;
    world.seen.idle.store(false, Ordering::SeqCst);
    world.keep(0).await?;
    world.clean(0).await?;
    Ok(peak.max(operator.peak()?))
}
