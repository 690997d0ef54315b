//! The sentences.

use super::*;
use crate::runner::{Job as RunnerJob, PodRecord};

fn labels(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn run(state: JobState) -> Run {
    let job = Job {
        name: "build".to_owned(),
        labels: labels(&["image-build"]),
        state,
        runner: None,
        queued: Some(At::from_secs(100)),
    };
    Run { id: 9, repository: "acme/app".to_owned(), jobs: vec![job] }
}

fn deployment(pending: u32, idle: u32, busy: u32) -> Deployment {
    Deployment {
        name: "ci/image-build".to_owned(),
        labels: labels(&["image-build"]),
        registration: false,
        group: "trusted".to_owned(),
        ready: (Truth::True, Reason::AllRunnersReady, String::new()),
        max: 4,
        desired: 4,
        waiting: 1,
        runners: Counts { live: pending + idle + busy, pending, idle, busy, failed: 0 },
    }
}

fn runner(state: Reason, truth: Truth, message: &str) -> Runner {
    let record = Record {
        state,
        truth,
        message: message.to_owned(),
        job: Some(RunnerJob::example()),
        pod: Some(PodRecord { uid: "p".to_owned(), node: Some("node-1".to_owned()) }),
        ..Record::default()
    };
    Runner { name: "r-1".to_owned(), deployment: "ci/image-build".to_owned(), record }
}

fn answer(run: &Run, deployments: &[Deployment], runners: &[Runner]) -> Answer {
    why(run, None, deployments, runners, At::from_secs(160))
}

#[test]
fn why_a_job_waits() {
    let sentence = |deployments: &[Deployment], runners: &[Runner]| {
        answer(&run(JobState::Queued), deployments, runners).sentence
    };
    assert_eq!(
        sentence(&[], &[]),
        "job `build` waits for 60 s because no RunnerDeployment takes [image-build]; correct `runs-on`, or create one"
    );
    assert_eq!(
        sentence(&[deployment(0, 0, 4)], &[]),
        "job `build` waits for 60 s because ci/image-build has all its 4 runners at work; raise `spec.scaling.max`, or wait"
    );
    let held = Deployment {
        ready: (Truth::False, Reason::SessionHeldByOther, "held by b".to_owned()),
        ..deployment(0, 0, 0)
    };
    assert_eq!(
        sentence(&[held], &[]),
        "job `build` waits for 60 s because ci/image-build is not ready: SessionHeldByOther; stop the other listener, or wait until its session ends"
    );
    let mut starts = runner(Reason::Provisioning, Truth::Unknown, "0/3 nodes are available");
    starts.record.job = None;
    assert_eq!(
        sentence(&[deployment(1, 0, 0)], &[starts]),
        "job `build` waits for 60 s while its runner starts: r-1 is Provisioning: 0/3 nodes are available"
    );
    assert_eq!(
        sentence(&[deployment(0, 2, 0)], &[]),
        "job `build` waits for 60 s although ci/image-build has 2 idle runners; check that runner group `trusted` may be used by this repository"
    );
    assert_eq!(
        sentence(&[deployment(0, 0, 1)], &[]),
        "job `build` waits for 60 s and ci/image-build is about to start a runner"
    );
    let hosted = Run {
        jobs: vec![Job {
            labels: labels(&["self-hosted", "image-build"]),
            ..run(JobState::Queued).jobs[0].clone()
        }],
        ..run(JobState::Queued)
    };
    assert!(
        answer(&hosted, &[deployment(0, 0, 0)], &[]).sentence.contains("no RunnerDeployment takes")
    );
    let one_by_one = Deployment { registration: true, ..deployment(0, 0, 1) };
    assert!(answer(&hosted, &[one_by_one], &[]).sentence.ends_with("is about to start a runner"));
}

#[test]
fn where_a_job_runs_and_how_it_was_lost() {
    let busy = runner(Reason::Busy, Truth::Unknown, "");
    let there = answer(&run(JobState::Running), &[], std::slice::from_ref(&busy));
    assert_eq!(there.sentence, "job `build` runs on runner r-1 of ci/image-build");
    assert_eq!(
        there.evidence,
        ["run 9 of acme/app", "runner r-1 of ci/image-build: Busy", "pod r-1 (uid p) on node-1"]
    );
    let lost = runner(Reason::PodLost, Truth::False, "its pod disappeared (node node-1)");
    for state in [JobState::Running, JobState::Over(JobResult::Failed)] {
        assert_eq!(
            answer(&run(state), &[], std::slice::from_ref(&lost)).sentence,
            "job `build` was lost with runner r-1: PodLost: its pod disappeared (node node-1); look at the node's events; a lost job can be run again on GitHub"
        );
    }
    assert_eq!(
        answer(&run(JobState::Over(JobResult::Failed)), &[], &[busy]).sentence,
        "job `build` failed by itself: its runner was not lost; read its log on GitHub"
    );
    let elsewhere = answer(&run(JobState::Running), &[], &[]).sentence;
    assert!(elsewhere.ends_with("which is none of this cluster's"), "{elsewhere}");
}

#[test]
fn the_job_that_needs_an_answer_most_gets_it() {
    let job =
        |name: &str, state| Job { name: name.to_owned(), state, ..run(state).jobs[0].clone() };
    let jobs = vec![
        job("done", JobState::Over(JobResult::Succeeded)),
        job("runs", JobState::Running),
        job("waits", JobState::Queued),
    ];
    let run = Run { jobs, ..run(JobState::Held) };
    assert_eq!(answer(&run, &[], &[]).job, "waits");
    let named = why(&run, Some("run"), &[], &[], At::from_secs(160));
    assert_eq!(named.job, "runs");
    let none = why(&run, Some("x"), &[], &[], At::from_secs(160));
    assert_eq!(none.sentence, "run 9 has no job whose name contains `x`");
    assert_eq!(none.evidence, ["job done", "job runs", "job waits"]);
}

#[test]
fn of_several_that_take_a_job_the_nearest_is_named_and_the_others_are_evidence() {
    let blocked = Deployment {
        name: "ci/a".to_owned(),
        ready: (Truth::False, Reason::ClassNotFound, String::new()),
        ..deployment(0, 0, 0)
    };
    let full = Deployment { name: "ci/b".to_owned(), ..deployment(0, 0, 4) };
    let starts = Deployment { name: "ci/c".to_owned(), ..deployment(0, 0, 1) };
    let all = [blocked, full, starts];
    let said = |all: &[Deployment]| answer(&run(JobState::Queued), all, &[]);
    let answer = said(&all);
    assert_eq!(
        answer.sentence,
        "job `build` waits for 60 s, for which 3 RunnerDeployments may run it, and ci/c is about to start a runner"
    );
    let named = |name: &str| answer.evidence.iter().any(|it| it.starts_with(name));
    assert!(named("ci/a takes it") && named("ci/b takes it") && named("ci/c takes it"));
    assert!(said(&all[..2]).sentence.contains("because ci/b has all its 4 runners at work"));
    assert!(said(&all[..1]).sentence.contains("because ci/a is not ready: ClassNotFound"));
}

#[test]
fn labels_that_github_dropped_keep_those_from_running_who_ask_for_them() {
    let ready = (Truth::False, Reason::LabelsDropped, String::new());
    let deployment = Deployment { ready, ..deployment(0, 0, 0) };
    let sentence = |run: &Run| answer(run, std::slice::from_ref(&deployment), &[]).sentence;
    let mut run = run(JobState::Queued);
    assert_eq!(
        sentence(&run),
        "job `build` waits for 60 s and ci/image-build is about to start a runner"
    );
    run.jobs[0].labels.push("large".to_owned());
    assert!(sentence(&run).contains("no RunnerDeployment takes [image-build, large]"));
}
