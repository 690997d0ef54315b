//! Why a job waits, where it runs, how it was lost: one sentence, then the evidence.

use sekisho_api::condition::Truth;
use sekisho_api::{JobResult, Reason};

use crate::At;
use crate::replica_set::Counts;
use crate::runner::Record;
use crate::session::queue::is_for;

/// A workflow run, as GitHub tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// GitHub's number.
    pub id: i64,
    /// `owner/name`.
    pub repository: String,
    /// Its jobs, of the newest attempt.
    pub jobs: Vec<Job>,
}

/// A job, as GitHub tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What GitHub's page calls it.
    pub name: String,
    /// What it asks for with `runs-on`.
    pub labels: Vec<String>,
    /// Where it is.
    pub state: JobState,
    /// The runner that has or had it.
    pub runner: Option<String>,
    /// When it was queued.
    pub queued: Option<At>,
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits for something that is no runner: another job, an approval.
    Held,
    /// It waits for a runner.
    Queued,
    /// It runs.
    Running,
    /// It is over.
    Over(JobResult),
}

/// A RunnerDeployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// `namespace/name`.
    pub name: String,
    /// `spec.labels`, but for those that GitHub did not take.
    pub labels: Vec<String>,
    /// Runners are registered one by one, and have the label `self-hosted`.
    pub registration: bool,
    /// `spec.group`.
    pub group: String,
    /// The condition `Ready`: whether it holds, why, and its message.
    pub ready: (Truth, Reason, String),
    /// The most runners it may have.
    pub max: u32,
    /// `status.desired`.
    pub desired: u32,
    /// `status.jobs.waiting`.
    pub waiting: u32,
    /// How many runners it has.
    pub runners: Counts,
}

/// A Runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// `metadata.name`.
    pub name: String,
    /// `namespace/name` of its RunnerDeployment.
    pub deployment: String,
    /// Its status.
    pub record: Record,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The job that it is about; empty where there is none.
    pub job: String,
    /// One sentence, with the next step where there is one.
    pub sentence: String,
    /// What it rests on, one fact a line.
    pub evidence: Vec<String>,
}

/// Answers for the job of a run that needs an answer most: one that was lost, then one that waits for a
/// runner, then one that runs. `job` picks one by a part of its name. `deployments`: those whose connection
/// is for the run's repository.
pub fn why(
    run: &Run,
    job: Option<&str>,
    deployments: &[Deployment],
    runners: &[Runner],
    now: At,
) -> Answer {
    let named = |candidate: &&Job| job.is_none_or(|part| candidate.name.contains(part));
    let urgency = |job: &&Job| match job.state {
        JobState::Over(_) if loss(job, run, runners).is_some() => 0,
        JobState::Queued => 1,
        JobState::Running => 2,
        JobState::Held => 3,
        JobState::Over(JobResult::Failed | JobResult::Other) => 4,
        JobState::Over(JobResult::Cancelled | JobResult::Succeeded) => 5,
    };
    let Some(chosen) = run.jobs.iter().filter(named).min_by_key(urgency) else {
        let sentence = match job {
            Some(part) => format!("run {} has no job whose name contains `{part}`", run.id),
            None => format!("run {} has no jobs yet", run.id),
        };
        let evidence = run.jobs.iter().map(|job| format!("job {}", job.name)).collect();
        return Answer { job: String::new(), sentence, evidence };
    };
    let mut evidence = vec![format!("run {} of {}", run.id, run.repository)];
    let sentence = match chosen.state {
        JobState::Queued => waiting(chosen, deployments, runners, now, &mut evidence),
        JobState::Running => running(chosen, run, runners, &mut evidence),
        JobState::Over(result) => over(chosen, run, result, runners, &mut evidence),
        JobState::Held => format!(
            "job `{}` waits at GitHub for another job, an approval or its concurrency group, and not for a runner",
            chosen.name
        ),
    };
    Answer { job: chosen.name.clone(), sentence, evidence }
}

/// The Runner that has or had the job.
fn runner_of<'a>(job: &Job, run: &Run, runners: &'a [Runner]) -> Option<&'a Runner> {
    let by_job = |runner: &&Runner| {
        runner.record.job.as_ref().is_some_and(|known| {
            known.run_id == run.id
                && known.repository == run.repository
                && known.display_name == job.name
        })
    };
    let by_name = |runner: &&Runner| Some(&runner.name) == job.runner.as_ref();
    runners.iter().find(by_job).or_else(|| runners.iter().find(by_name))
}

fn loss<'a>(job: &Job, run: &Run, runners: &'a [Runner]) -> Option<&'a Runner> {
    runner_of(job, run, runners).filter(|runner| runner.record.failed())
}

fn waiting(
    job: &Job,
    deployments: &[Deployment],
    runners: &[Runner],
    now: At,
    evidence: &mut Vec<String>,
) -> String {
    evidence.push(format!("it asks for runs-on: {}", job.labels.join(", ")));
    let since = job.queued.map(|at| format!(" for {} s", now.since(at).as_secs()));
    let waits = format!("job `{}` waits{}", job.name, since.unwrap_or_default());
    let mut fits: Vec<&Deployment> =
        deployments.iter().filter(|deployment| takes(deployment, &job.labels)).collect();
    // GitHub gives it to any of them: it waits for the one that is nearest to having a runner for it.
    fits.sort_by_key(|deployment| (distance(deployment), &deployment.name));
    let Some((deployment, others)) = fits.split_first() else {
        for other in deployments {
            evidence.push(format!("{} takes {}", other.name, other.labels.join(", ")));
        }
        return format!(
            "{waits} because no RunnerDeployment takes [{}]; correct `runs-on`, or create one",
            job.labels.join(", ")
        );
    };
    for deployment in &fits {
        describe(deployment, evidence);
    }
    let waits = match others.len() {
        0 => waits,
        others => format!("{waits}, for which {} RunnerDeployments may run it,", others + 1),
    };
    let (_, reason, message) = &deployment.ready;
    if is_blocked(deployment) {
        let step = match reason.next_step() {
            "" => String::new(),
            step => format!("; {step}"),
        };
        evidence.push(format!("Ready is False: {reason}: {message}"));
        return format!("{waits} because {} is not ready: {reason}{step}", deployment.name);
    }
    if deployment.runners.live >= deployment.max && deployment.runners.idle == 0 {
        return format!(
            "{waits} because {} has all its {} runners at work; raise `spec.scaling.max`, or wait",
            deployment.name, deployment.max
        );
    }
    starting(&waits, deployment, runners, evidence)
}

/// Whether it gets no runner until somebody puts something right. Labels that GitHub dropped are of no
/// matter to a job that does not ask for them.
fn is_blocked(deployment: &Deployment) -> bool {
    let (truth, reason, _) = &deployment.ready;
    let passes = matches!(
        reason,
        Reason::Scaling | Reason::RollingOut | Reason::AllRunnersReady | Reason::LabelsDropped
    );
    *truth == Truth::False && !passes
}

/// How far it is from having a runner for a job: it has been given jobs, it could be, it has no room, it
/// cannot work.
fn distance(deployment: &Deployment) -> u8 {
    let full = deployment.runners.live >= deployment.max && deployment.runners.idle == 0;
    match (is_blocked(deployment), full, deployment.waiting) {
        (true, _, _) => 3,
        (false, true, _) => 2,
        (false, false, 0) => 1,
        (false, false, _) => 0,
    }
}

/// It is a matter of time, or of what a pod waits for.
fn starting(
    waits: &str,
    deployment: &Deployment,
    runners: &[Runner],
    evidence: &mut Vec<String>,
) -> String {
    let mut pending: Vec<&Runner> = runners
        .iter()
        .filter(|runner| runner.deployment == deployment.name)
        .filter(|runner| runner.record.truth == Truth::Unknown && runner.record.online.is_none())
        .collect();
    pending.sort_by_key(|runner| (runner.record.message.is_empty(), runner.name.clone()));
    for runner in pending.iter().take(5) {
        let Record { state, message, .. } = &runner.record;
        evidence.push(format!("runner {}: {state} {message}", runner.name).trim_end().to_owned());
    }
    match pending.first().map(|runner| (&runner.name, &runner.record)) {
        Some((name, record)) if !record.message.is_empty() => {
            format!(
                "{waits} while its runner starts: {name} is {}: {}",
                record.state, record.message
            )
        }
        Some((name, record)) => {
            format!("{waits} while its runner starts: {name} is {}", record.state)
        }
        None if deployment.runners.idle > 0 => format!(
            "{waits} although {} has {} idle runners; check that runner group `{}` may be used by this repository",
            deployment.name, deployment.runners.idle, deployment.group
        ),
        None if deployment.waiting == 0 => format!(
            "{waits} and GitHub has not given it to {}; check that runner group `{}` may be used by this repository",
            deployment.name, deployment.group
        ),
        None => format!("{waits} and {} is about to start a runner", deployment.name),
    }
}

fn describe(deployment: &Deployment, evidence: &mut Vec<String>) {
    let counts = deployment.runners;
    evidence.push(format!(
        "{} takes it: {} wanted of at most {}; {} pending, {} idle, {} busy, {} failed; {} jobs wait",
        deployment.name,
        deployment.desired,
        deployment.max,
        counts.pending,
        counts.idle,
        counts.busy,
        counts.failed,
        deployment.waiting,
    ));
}

fn takes(deployment: &Deployment, labels: &[String]) -> bool {
    if deployment.registration {
        return is_for(labels, &deployment.labels);
    }
    // A scale set has no label `self-hosted`.
    !labels.is_empty()
        && labels
            .iter()
            .all(|want| deployment.labels.iter().any(|label| label.eq_ignore_ascii_case(want)))
}

fn running(job: &Job, run: &Run, runners: &[Runner], evidence: &mut Vec<String>) -> String {
    let Some(runner) = runner_of(job, run, runners) else {
        let who = job.runner.as_deref().unwrap_or("a runner that GitHub does not name");
        return format!("job `{}` runs on {who}, which is none of this cluster's", job.name);
    };
    place(runner, evidence);
    match runner.record.truth {
        Truth::False => lost(job, runner),
        _ if runner.record.state == Reason::Interrupted => format!(
            "job `{}` is about to be lost with runner {}: {}",
            job.name, runner.name, runner.record.message
        ),
        _ => format!("job `{}` runs on runner {} of {}", job.name, runner.name, runner.deployment),
    }
}

fn over(
    job: &Job,
    run: &Run,
    result: JobResult,
    runners: &[Runner],
    evidence: &mut Vec<String>,
) -> String {
    evidence.push(format!("GitHub concluded it: {}", result_word(result)));
    if let Some(runner) = loss(job, run, runners) {
        place(runner, evidence);
        return lost(job, runner);
    }
    if let Some(runner) = &job.runner {
        evidence.push(format!("it ran on runner {runner}"));
    }
    match result {
        JobResult::Succeeded => format!("job `{}` succeeded", job.name),
        JobResult::Cancelled => format!("job `{}` was cancelled", job.name),
        JobResult::Failed | JobResult::Other => format!(
            "job `{}` {} by itself: its runner was not lost; read its log on GitHub",
            job.name,
            result_word(result)
        ),
    }
}

fn lost(job: &Job, runner: &Runner) -> String {
    let Record { state, message, .. } = &runner.record;
    let step = match state.next_step() {
        "" => String::new(),
        step => format!("; {step}"),
    };
    format!("job `{}` was lost with runner {}: {state}: {message}{step}", job.name, runner.name)
}

fn place(runner: &Runner, evidence: &mut Vec<String>) {
    let record = &runner.record;
    evidence.push(format!("runner {} of {}: {}", runner.name, runner.deployment, record.state));
    if let Some(pod) = &record.pod {
        let node = pod.node.as_deref().unwrap_or("no node");
        evidence.push(format!("pod {} (uid {}) on {node}", runner.name, pod.uid));
    }
    if !record.message.is_empty() {
        evidence.push(record.message.clone());
    }
}

const fn result_word(result: JobResult) -> &'static str {
    match result {
        JobResult::Succeeded => "succeeded",
        JobResult::Failed => "failed",
        JobResult::Cancelled => "cancelled",
        JobResult::Other => "ended",
    }
}

#[cfg(test)]
mod tests;
