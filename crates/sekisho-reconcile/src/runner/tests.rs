//! One decision at a time: every state, every deadline.

use sekisho_api::condition::Truth;
use sekisho_api::{JobResult, Lifecycle, Reason};

use super::*;

const START: At = At::from_secs(1_000);

fn at(seconds: u64) -> At {
    START + secs(seconds)
}

/// A runner that has nothing yet, `seconds` after it was made.
fn seen(seconds: u64) -> Observed {
    Observed {
        now: at(seconds),
        name: "r".to_owned(),
        created: START,
        deleting: None,
        finalizer: true,
        stop_now: false,
        namespace_terminating: false,
        lifecycle: Lifecycle::default(),
        record: Record::default(),
        pod: None,
        node: Node::Unknown,
        secret: None,
        github: None,
        fate: None,
        trouble: None,
    }
}

fn pod(container: Container) -> Pod {
    Pod {
        uid: "p".to_owned(),
        ours: true,
        created: START,
        gone_by: None,
        node: Some("n".to_owned()),
        waiting: None,
        runner: container,
        disrupted: None,
        out_of_memory: false,
    }
}

fn secret() -> Secret {
    Secret { uid: "s".to_owned(), pod_uid: "p".to_owned(), registration: 7 }
}

fn job() -> Job {
    Job {
        id: "j".to_owned(),
        run_id: 9,
        repository: "acme/app".to_owned(),
        display_name: "build".to_owned(),
        workflow_ref: None,
        started: Some(at(10)),
        completed: None,
        result: None,
    }
}

fn present(online: bool, busy: bool, seconds: u64) -> Option<AtGitHub> {
    Some(AtGitHub { at: at(seconds), seen: Registration::Present { id: 7, online, busy } })
}

fn absent(sweeps: u32, seconds: u64) -> Option<AtGitHub> {
    Some(AtGitHub { at: at(seconds), seen: Registration::Absent { sweeps } })
}

/// One whose container runs since the start, and that is registered.
fn running(seconds: u64) -> Observed {
    let pod = Some(pod(Container::Running { since: START }));
    Observed { pod, node: Node::Ready, secret: Some(secret()), ..seen(seconds) }
}

fn bound(state: Reason) -> Record {
    Record {
        state,
        registration: Some(7),
        pod: Some(PodRecord { uid: "p".to_owned(), node: Some("n".to_owned()) }),
        pod_created: Some(START),
        online: Some(at(5)),
        ..Record::default()
    }
}

fn idle(seconds: u64) -> Observed {
    let github = present(true, false, 5);
    Observed { record: bound(Reason::Idle), secret: None, github, ..running(seconds) }
}

fn busy(seconds: u64) -> Observed {
    let record = Record { job: Some(job()), ..bound(Reason::Busy) };
    Observed { record, secret: None, github: None, ..running(seconds) }
}

/// The names of the effects, and what of them matters.
fn effects(seen: &Observed) -> Vec<String> {
    decide(seen)
        .effects
        .iter()
        .map(|effect| match effect {
            Effect::WriteStatus(record) => match record.truth {
                Truth::Unknown => format!("note {}", record.state),
                _ => format!("end {}", record.state),
            },
            Effect::DeletePod { at_once: true, .. } => "delete pod at once".to_owned(),
            Effect::DeletePod { .. } => "delete pod".to_owned(),
            Effect::Event { reason, .. } => format!("tell {reason}"),
            Effect::DeleteSecret { .. } => "delete secret".to_owned(),
            Effect::Deregister { .. } => "deregister".to_owned(),
            Effect::Register { pod_uid } => format!("register {pod_uid}"),
            Effect::ReadFate { run_id } => format!("read fate {run_id}"),
            other => format!("{other:?}"),
        })
        .collect()
}

#[track_caller]
fn check(seen: &Observed, want: &[&str]) {
    assert_eq!(effects(seen), want, "{seen:?}");
}

fn trouble(failure: Failure, next: u64) -> Option<Trouble> {
    Some(Trouble { failure, failures: 1, next: at(next) })
}

#[test]
fn the_way_up() {
    check(&Observed { finalizer: false, ..seen(0) }, &["AddFinalizer"]);
    check(&seen(0), &["CreatePod"]);
    let unplaced = Pod { node: None, ..pod(Container::Waiting) };
    check(&Observed { pod: Some(unplaced.clone()), ..seen(1) }, &[]);
    check(&Observed { pod: Some(unplaced), ..seen(20) }, &["note Provisioning"]);
    let placed = Observed { pod: Some(pod(Container::Waiting)), node: Node::Ready, ..seen(2) };
    check(&placed, &["register p"]);
    check(&Observed { secret: Some(secret()), ..placed.clone() }, &[]);
    check(&running(1), &[]);
    check(&running(6), &["AskGitHub"]);
    check(
        &Observed { github: present(true, false, 6), ..running(6) },
        &["note Idle", "delete secret"],
    );
    check(
        &Observed { github: present(true, true, 6), ..running(6) },
        &["note Busy", "delete secret"],
    );
    check(&idle(60), &[]);
    check(&Observed { secret: Some(secret()), ..idle(60) }, &["delete secret"]);
    check(&busy(60), &[]);
}

#[test]
fn the_five_deadlines() {
    let pending = Observed {
        pod: Some(Pod { node: None, ..pod(Container::Waiting) }),
        record: Record { state: Reason::Provisioning, ..Record::default() },
        ..seen(600)
    };
    check(&pending, &["end PendingTimeout", "delete pod at once", "deregister", "RemoveFinalizer"]);
    // Where no status says why, its events may.
    let silent = Observed {
        pod: Some(pod(Container::Waiting)),
        node: Node::Ready,
        secret: Some(secret()),
        ..seen(600)
    };
    let told = decide(&silent).effects.into_iter().find_map(|effect| match effect {
        Effect::WriteStatus(record) => Some(record.message),
        _ => None,
    });
    let events = format!("involvedObject.name={}` may say why", silent.name);
    assert!(told.as_ref().is_some_and(|it| it.ends_with(&events)), "{told:?}");
    // What waits for its registration says what that failed for.
    let failure = Failure::GroupNotFound { group: "nobody".to_owned() };
    let unregistered = Observed {
        pod: Some(pod(Container::Waiting)),
        node: Node::Ready,
        trouble: trouble(failure, 640),
        ..seen(600)
    };
    assert_eq!(effects(&unregistered)[0], "end GroupNotFound");
    // One that never came online may have come just now: its registration goes first.
    let unseen = Observed { github: present(false, false, 170), ..running(180) };
    check(&unseen, &["deregister", "end RegistrationTimeout", "delete secret", "delete pod"]);
    check(&idle(1_805), &["DeleteRunner"]);
    check(&idle(1_804), &[]);
    let overdue = busy(10 + 21_600);
    check(&overdue, &["end JobTimeout", "delete pod", "deregister"]);
    let late = Observed {
        deleting: Some(START),
        trouble: trouble(Failure::Unreachable { detail: String::new() }, 0),
        github: None,
        ..idle(300)
    };
    check(&late, &["delete pod at once", "tell GitHubUnreachable", "RemoveFinalizer"]);
    let early = Observed { now: at(299), ..late };
    check(&early, &["deregister", "delete pod"]);
}

#[test]
fn what_was_given_up_may_have_got_a_job_all_the_same() {
    let record =
        Record { truth: Truth::False, ended: Some(at(60)), ..bound(Reason::PendingTimeout) };
    let given_up = Observed { record, secret: None, ..running(61) };
    check(&given_up, &["deregister", "delete pod"]);
    let busy = Observed { github: present(true, true, 61), ..given_up.clone() };
    check(&busy, &[]);
    check(&Observed { now: at(80), ..busy.clone() }, &["AskGitHub"]);
    check(&Observed { stop_now: true, ..busy }, &["delete pod", "deregister"]);
    // After an outage of ours the time is over before anything was tried: it is tried once.
    let late = Observed { deleting: Some(START), github: None, ..idle(900) };
    check(&late, &["deregister", "delete pod"]);
    // A container starts with the secret of its name, whichever pod that was made for.
    let other = Secret { pod_uid: "lost before".to_owned(), ..secret() };
    let started = Observed { secret: Some(other.clone()), ..running(1) };
    check(&started, &[]);
    let waits = Some(pod(Container::Waiting));
    let waits = Observed { secret: Some(other), pod: waits, ..running(1) };
    assert_eq!(effects(&waits)[0], "end PodLost");
}

#[test]
fn what_the_api_server_refuses() {
    let detail = || "spec.containers[0].image: required".to_owned();
    let refused = trouble(Failure::PodInvalid { detail: detail() }, 100);
    check(&Observed { trouble: refused, ..seen(1) }, &["end PodRejected"]);
    let quota = Failure::Quota { detail: "pods: 10 of 10".to_owned() };
    let waits = Observed { trouble: trouble(quota.clone(), 40), ..seen(20) };
    check(&waits, &["note Pending"]);
    check(&Observed { trouble: trouble(quota.clone(), 40), ..seen(41) }, &["CreatePod"]);
    let over = effects(&Observed { trouble: trouble(quota, 640), ..seen(600) });
    assert_eq!(over[0], "end QuotaExceeded");
    check(&Observed { namespace_terminating: true, ..seen(1) }, &[]);
    let foreign = Pod { ours: false, ..pod(Container::Waiting) };
    assert_eq!(effects(&Observed { pod: Some(foreign), ..seen(1) })[0], "end PodRejected");
    let image = |since| Waiting::ImagePull { since: at(since), detail: "no such image".into() };
    let stuck = |since| Observed {
        pod: Some(Pod { waiting: Some(image(since)), ..pod(Container::Waiting) }),
        secret: Some(secret()),
        node: Node::Ready,
        ..seen(35)
    };
    check(&stuck(10), &["note Starting"]);
    check(&stuck(5), &["deregister", "end ImagePullFailed", "delete secret", "delete pod"]);
}

#[test]
fn a_pod_that_is_lost_is_never_made_again() {
    // Its secret proves that it was given a registration.
    let gone = Observed { pod: None, ..running(3) };
    check(&gone, &["end PodLost", "delete secret", "deregister", "RemoveFinalizer"]);
    let other = Pod { uid: "q".to_owned(), ..pod(Container::Waiting) };
    let other = Observed { pod: Some(other), ..running(3) };
    assert_eq!(effects(&other)[0], "end PodLost");
    let noted = Observed { pod: None, ..busy(60) };
    check(&noted, &["end PodLost", "deregister", "RemoveFinalizer"]);
    let Effect::WriteStatus(record) = &decide(&noted).effects[0] else { panic!() };
    assert_eq!(record.job, Some(job()), "which job was lost is on record");
    assert_eq!(record.message, "its pod disappeared (node n)");
    check(
        &Observed { node: Node::Gone, ..busy(60) },
        &["end NodeLost", "delete pod at once", "deregister", "RemoveFinalizer"],
    );
    let oom = Pod { out_of_memory: true, ..pod(Container::Ended { at: at(50), code: Some(137) }) };
    assert_eq!(effects(&Observed { pod: Some(oom), ..busy(60) })[0], "end OutOfMemory");
}

#[test]
fn the_evidence_is_written_before_the_pod_is_gone() {
    let stopped = Pod {
        gone_by: Some(at(90)),
        disrupted: Some("TaintManagerEviction".to_owned()),
        ..pod(Container::Running { since: START })
    };
    let drained = Observed { pod: Some(stopped.clone()), ..busy(60) };
    check(&drained, &["note Interrupted"]);
    let record = Record { state: Reason::Interrupted, ..busy(0).record };
    check(&Observed { record: record.clone(), ..drained.clone() }, &[]);
    let unused = Observed { pod: Some(stopped.clone()), ..idle(60) };
    check(&unused, &["note Interrupted", "deregister"]);
    // Its node is dead: grace period and a minute over, it is forced.
    let dead = Observed {
        node: Node::Silent { since: at(40) },
        record: record.clone(),
        pod: Some(stopped),
        ..busy(150)
    };
    check(&dead, &["end NodeLost", "delete pod at once", "deregister", "RemoveFinalizer"]);
    let silent = Observed { node: Node::Silent { since: at(60) }, ..busy(60) };
    check(&silent, &["note Interrupted"]);
    let back = Observed { record: record.clone(), ..busy(70) };
    check(&back, &["note Busy"]);
    // One without a job is given up when a minute is over, and not before.
    let unused = |seconds| Observed { node: Node::Silent { since: at(60) }, ..idle(seconds) };
    check(&unused(119), &[]);
    assert_eq!(effects(&unused(120))[..2], ["deregister", "end NodeLost"]);
    // What GitHub then says does not hide that somebody stopped it.
    let ended = |result| {
        let job = Some(Job { result: Some(result), ..job() });
        Observed { record: Record { job, ..record.clone() }, pod: None, ..busy(200) }
    };
    assert_eq!(effects(&ended(JobResult::Failed))[0], "end PodLost");
    check(&ended(JobResult::Succeeded), &["DeleteRunner"]);
}

#[test]
fn the_result_is_githubs_and_no_exit_code() {
    let exited = |code, seconds| {
        let pod = Some(pod(Container::Ended { at: at(100), code }));
        Observed { pod, ..busy(seconds) }
    };
    check(&exited(Some(0), 101), &[]);
    check(&exited(Some(0), 160), &["read fate 9"]);
    check(&exited(Some(137), 101), &["note Completing"]);
    let fate = |result| Some(Fate { at: at(160), result });
    let told = Observed { fate: fate(Some(JobResult::Failed)), ..exited(Some(0), 161) };
    check(&told, &["DeleteRunner"]);
    let running = Observed { fate: fate(None), ..exited(Some(0), 161) };
    check(&running, &[]);
    assert_eq!(effects(&Observed { now: at(1_000), ..running })[0], "end StoppedWithJob");
    let without = |seconds| {
        let pod = Some(pod(Container::Ended { at: at(100), code: Some(1) }));
        Observed { pod, ..idle(seconds) }
    };
    check(&without(159), &[]);
    assert_eq!(effects(&without(160))[0], "end RunnerExited");
    // A result that is on record ends it at once.
    let job = Some(Job { result: Some(JobResult::Cancelled), ..job() });
    let record = Record { job, ..bound(Reason::Busy) };
    check(&Observed { record, ..busy(101) }, &["DeleteRunner"]);
}

#[test]
fn a_registration_that_is_gone_is_believed_the_second_time() {
    check(&Observed { github: absent(1, 60), ..idle(60) }, &[]);
    check(
        &Observed { github: absent(2, 120), ..idle(120) },
        &["end RegistrationLost", "delete pod"],
    );
    let other = Registration::Present { id: 8, online: true, busy: false };
    let other = Observed { github: Some(AtGitHub { at: at(60), seen: other }), ..idle(60) };
    assert_eq!(effects(&other)[..2], ["deregister", "end RegistrationLost"]);
    // With a job it is asked how that ended.
    check(&Observed { github: absent(2, 120), ..busy(120) }, &["read fate 9"]);
}

#[test]
fn the_way_out() {
    let leaves = |seen: Observed| Observed { deleting: Some(at(60)), ..seen };
    check(&leaves(idle(60)), &["deregister", "delete pod"]);
    // "It has a job": so it stays for that.
    check(&leaves(Observed { github: present(true, true, 61), ..idle(61) }), &[]);
    check(&leaves(busy(60)), &["AskGitHub"]);
    check(&leaves(Observed { github: present(true, true, 60), ..busy(61) }), &[]);
    check(
        &Observed { stop_now: true, ..leaves(busy(61)) },
        &["tell StoppedWithJob", "end StoppedWithJob", "delete pod", "deregister"],
    );
    // Its job is over: it exits by itself, and needs no question then.
    let over = Some(Fate { at: at(60), result: Some(JobResult::Succeeded) });
    check(&leaves(Observed { fate: over, ..busy(61) }), &[]);
    let exited = Some(pod(Container::Ended { at: at(61), code: Some(0) }));
    check(
        &leaves(Observed { fate: over, pod: exited.clone(), ..busy(61) }),
        &["delete pod at once", "RemoveFinalizer"],
    );
    check(
        &leaves(Observed { pod: exited, ..busy(61) }),
        &["delete pod at once", "deregister", "RemoveFinalizer"],
    );
    check(&leaves(Observed { pod: None, ..seen(60) }), &["deregister", "RemoveFinalizer"]);
    let lost = leaves(Observed { pod: None, github: present(false, true, 60), ..busy(61) });
    assert_eq!(effects(&lost)[..2], ["tell PodLost", "end PodLost"]);
    check(&Observed { finalizer: false, ..leaves(seen(60)) }, &[]);
}

#[test]
fn one_that_ended_is_cleaned_and_its_job_looked_after() {
    let ended = |seen: Observed| {
        let record = Record {
            state: Reason::PodLost,
            truth: Truth::False,
            ended: Some(at(60)),
            ..seen.record.clone()
        };
        Observed { record, pod: None, ..seen }
    };
    check(&ended(busy(61)), &["deregister", "RemoveFinalizer", "read fate 9"]);
    let clean = Observed { finalizer: false, ..ended(busy(61)) };
    check(&clean, &["read fate 9"]);
    let fate = Some(Fate { at: at(70), result: Some(JobResult::Failed) });
    let Effect::WriteStatus(record) = &decide(&Observed { fate, ..clean.clone() }).effects[0]
    else {
        panic!()
    };
    let job = record.job.clone().unwrap();
    assert_eq!((job.result, record.state), (Some(JobResult::Failed), Reason::PodLost));
    check(&Observed { now: at(60 + 900), ..clean }, &[]);
    // A ghost: GitHub keeps it busy. At the deadline it is left to the sweep, and somebody is told.
    let ghost = Observed {
        github: present(false, true, 360),
        trouble: trouble(Failure::RunnerBusy, 390),
        ..ended(idle(360))
    };
    check(&ghost, &["tell StoppedWithJob", "RemoveFinalizer"]);
    check(&Observed { now: at(359), ..ghost }, &[]);
}

#[test]
fn one_job_is_recorded_once() {
    let record = Record::default();
    let pod = pod(Container::Running { since: START });
    let started = record.started(&job(), 7, Some(&pod), at(12)).unwrap();
    assert_eq!((started.state, started.online), (Reason::Busy, Some(at(12))));
    assert_eq!(started.registration, Some(7));
    assert_eq!(started.pod.as_ref().map(|pod| pod.uid.as_str()), Some("p"));
    assert_eq!(started.started(&job(), 7, Some(&pod), at(13)), None, "a replay says nothing new");
    let over = Job { result: Some(JobResult::Succeeded), ..job() };
    assert_eq!(started.completed(&over, false), Completion::Delete);
    assert_eq!(started.completed(&over, true), Completion::Nothing);
    let other = Job { id: "k".to_owned(), ..over.clone() };
    assert_eq!(started.completed(&other, false), Completion::Nothing);
    // One that is kept because it was lost gets the result, once.
    let lost = Record { truth: Truth::False, state: Reason::PodLost, ..started };
    let Completion::Write(told) = lost.completed(&over, false) else { panic!() };
    assert_eq!(told.job.as_ref().and_then(|job| job.result), Some(JobResult::Succeeded));
    assert_eq!(told.completed(&over, false), Completion::Nothing);
    let late = Record { job: None, ..lost }.started(&job(), 7, None, at(99)).unwrap();
    assert_eq!((late.state, late.job), (Reason::PodLost, Some(job())));
}

#[test]
fn of_two_who_register_one_wins() {
    use registration::{Holder, MAX_REMOVALS, Progress, Seen, Step, decide};
    let play = |events: &[Seen]| {
        let (mut progress, mut step) = (Progress::default(), Step::Make);
        for event in events {
            (progress, step) = decide(&progress, event);
        }
        step
    };
    let made = Seen::Made { id: 4 };
    assert_eq!(play(&[Seen::Start]), Step::Make);
    assert_eq!(play(&[Seen::Start, made.clone()]), Step::CreateSecret { registration: 4 });
    assert_eq!(play(&[made.clone(), Seen::SecretCreated]), Step::Done);
    assert_eq!(play(&[made.clone(), Seen::SecretExists]), Step::RemoveOwn { id: 4 });
    assert_eq!(play(&[made.clone(), Seen::SecretExists, Seen::OwnRemoved]), Step::Done);
    let refused = Seen::SecretRefused(Failure::NamespaceTerminating);
    assert_eq!(
        play(&[made, refused, Seen::OwnRemoved]),
        Step::GiveUp(Failure::NamespaceTerminating)
    );
    let holder = |ours, busy| Seen::Holder(Some(Holder { id: 3, busy, ours }));
    assert_eq!(play(&[Seen::NameTaken]), Step::LookUp);
    assert_eq!(play(&[Seen::NameTaken, holder(true, false)]), Step::Remove { id: 3 });
    for taken in [holder(false, false), holder(true, true)] {
        assert!(matches!(play(&[Seen::NameTaken, taken]), Step::GiveUp(Failure::NameTaken { .. })));
    }
    let mut again = vec![];
    (0..MAX_REMOVALS)
        .for_each(|_| again.extend([Seen::NameTaken, holder(true, false), Seen::Removed]));
    again.push(Seen::NameTaken);
    assert!(matches!(play(&again), Step::GiveUp(Failure::NameTaken { .. })));
}

#[test]
fn one_that_ended_well_and_that_github_forgot_has_done_its_job() {
    let exited = |code, seconds, github| {
        let pod = Some(pod(Container::Ended { at: at(100), code: Some(code) }));
        Observed { pod, github, ..idle(seconds) }
    };
    check(&exited(0, 101, present(true, false, 5)), &[]);
    check(&exited(0, 106, present(true, false, 5)), &["AskGitHub"]);
    // What was seen before it ended says nothing of its end.
    check(&exited(0, 116, absent(1, 99)), &["AskGitHub"]);
    check(&exited(0, 107, absent(1, 106)), &["JobOver", "DeleteRunner"]);
    let still = exited(0, 161, present(false, false, 150));
    assert_eq!(effects(&still)[0], "end RunnerExited");
    let badly = exited(1, 161, absent(1, 150));
    assert_eq!(effects(&badly)[0], "end RunnerExited", "nothing says that it had one");
    check(&exited(1, 106, absent(1, 106)), &[]);
}
