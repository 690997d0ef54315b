//! The rules by example, then a small world in which everything goes wrong at once.

use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn job(id: u64, label: &str) -> Job {
    Job { id, repository: "local/app".into(), labels: vec![label.into()] }
}

fn process(name: &str, label: &str) -> Process {
    Process {
        name: name.into(),
        registration: Some(1),
        labels: vec![label.into()],
        started: at(0),
        stopping: None,
        ended: None,
    }
}

fn registration(id: u64, name: &str, busy: bool) -> Registration {
    Registration { id, name: name.into(), busy, job: None, seen: at(0) }
}

fn seen() -> Observed {
    Observed {
        now: at(1),
        capacity: 2,
        draining: false,
        hurried: false,
        queue: vec![],
        registrations: vec![],
        processes: vec![],
        attempts: BTreeMap::new(),
    }
}

fn start(job: u64, name: &str, label: &str) -> Action {
    Action::Start {
        job,
        repository: "local/app".into(),
        name: name.into(),
        labels: vec![label.into()],
    }
}

#[track_caller]
fn check(seen: &Observed, want: &[Action]) {
    assert_eq!(decide(seen), want, "observed {seen:?}");
}

#[test]
fn one_runner_for_one_job_within_capacity() {
    let queue = vec![job(1, "default"), job(2, "cpu"), job(3, "cpu")];
    check(
        &Observed { queue, ..seen() },
        &[start(1, "local-1-1", "default"), start(2, "local-2-1", "cpu")],
    );
}

#[test]
fn a_waiting_runner_is_enough_whichever_job_it_was_made_for() {
    let world = Observed {
        queue: vec![job(2, "cpu")],
        registrations: vec![registration(1, "local-1-1", false)],
        processes: vec![process("local-1-1", "cpu")],
        ..seen()
    };
    check(&world, &[]);
    let busy = Observed { registrations: vec![registration(1, "local-1-1", true)], ..world };
    check(&busy, &[start(2, "local-2-1", "cpu")]);
    let offered = Registration { job: Some(2), ..registration(1, "local-1-1", true) };
    check(&Observed { registrations: vec![offered], ..busy }, &[]);
}

#[test]
fn a_job_that_nobody_takes_is_given_up() {
    let queue = vec![job(1, "default")];
    let world = Observed { queue, attempts: BTreeMap::from([(1, 2)]), ..seen() };
    check(&world, &[start(1, "local-1-3", "default")]);
    let world = Observed { attempts: BTreeMap::from([(1, MAX_ATTEMPTS)]), ..world };
    check(&world, &[Action::GiveUp { job: 1 }]);
}

#[test]
fn an_idle_runner_is_stopped_and_a_busy_one_is_not() {
    let world = Observed {
        now: at(61),
        registrations: vec![registration(1, "local-1-1", false)],
        processes: vec![process("local-1-1", "cpu")],
        ..seen()
    };
    check(&world, &[Action::Stop { name: "local-1-1".into() }]);
    let busy = Observed { registrations: vec![registration(1, "local-1-1", true)], ..world };
    check(&busy, &[]);
    let done = Observed { registrations: vec![], ..busy.clone() };
    check(&done, &[]);
    let draining = Observed { draining: true, ..busy };
    check(&draining, &[Action::Stop { name: "local-1-1".into() }]);
}

#[test]
fn who_does_not_stop_is_killed() {
    let stopping = Process { stopping: Some(at(0)), ..process("local-1-1", "cpu") };
    let world = Observed { now: at(29), processes: vec![stopping], ..seen() };
    check(&world, &[]);
    let hurried = Observed { draining: true, hurried: true, ..world.clone() };
    check(&hurried, &[Action::Kill { name: "local-1-1".into() }]);
    let late = Observed { now: at(30), ..world };
    check(&late, &[Action::Kill { name: "local-1-1".into() }]);
}

#[test]
fn an_ended_process_takes_its_registration_with_it_even_if_the_answer_was_lost() {
    let ended = Process {
        registration: None,
        ended: Some("exit status: 1".into()),
        ..process("local-1-1", "cpu")
    };
    let world = Observed {
        processes: vec![ended],
        registrations: vec![registration(9, "local-1-1", false)],
        ..seen()
    };
    check(
        &world,
        &[Action::Forget {
            name: "local-1-1".into(),
            registration: Some(9),
            reason: "exit status: 1".into(),
        }],
    );
}

#[test]
fn only_ghosts_of_ours_are_swept_and_not_at_once() {
    let world = Observed {
        now: at(9),
        registrations: vec![registration(1, "local-1-1", false), registration(2, "foreign", false)],
        ..seen()
    };
    check(&world, &[]);
    let later = Observed { now: at(10), ..world };
    check(&later, &[Action::Sweep { registration: 1, name: "local-1-1".into() }]);
}

/// The hub and the kernel, as much of them as the scheduler can touch.
#[derive(Debug)]
struct World {
    seen: Observed,
    next_id: u64,
    done: Vec<u64>,
    given_up: Vec<u64>,
    /// Which job a busy registration has.
    has: BTreeMap<u64, u64>,
}

impl World {
    fn act(&mut self, action: &Action, answer_lost: bool) {
        match action {
            Action::Start { job, name, labels, .. } => {
                if self.seen.registrations.iter().any(|known| known.name == *name) {
                    return; // A name conflict: counted as an attempt by the shell, below.
                }
                *self.seen.attempts.entry(*job).or_default() += 1;
                self.next_id += 1;
                let id = self.next_id;
                self.seen.registrations.push(Registration {
                    id,
                    name: name.clone(),
                    busy: false,
                    job: None,
                    seen: self.seen.now,
                });
                if !answer_lost {
                    self.seen.processes.push(Process {
                        name: name.clone(),
                        registration: Some(id),
                        labels: labels.clone(),
                        started: self.seen.now,
                        stopping: None,
                        ended: None,
                    });
                }
            }
            Action::Stop { name } => self.each(name, |process, now| process.stopping = Some(now)),
            Action::Kill { name } => {
                self.each(name, |process, _| process.ended = Some("killed".into()));
            }
            Action::Forget { name, registration, .. } => {
                self.seen.processes.retain(|process| process.name != *name);
                self.gone(*registration);
            }
            Action::Sweep { registration, .. } => self.gone(Some(*registration)),
            Action::GiveUp { job } => {
                self.seen.queue.retain(|queued| queued.id != *job);
                self.given_up.push(*job);
            }
        }
    }

    fn each(&mut self, name: &str, change: impl Fn(&mut Process, Timestamp)) {
        let now = self.seen.now;
        self.seen.processes.iter_mut().filter(|p| p.name == name).for_each(|p| change(p, now));
    }

    fn gone(&mut self, registration: Option<u64>) {
        let Some(id) = registration else { return };
        self.seen.registrations.retain(|known| known.id != id);
        // A job whose runner was lost fails; it is not lost.
        self.done.extend(self.has.remove(&id));
    }

    /// The hub gives the oldest job to a waiting runner that is alive.
    fn assign(&mut self) {
        for position in 0..self.seen.queue.len() {
            let job = self.seen.queue[position].clone();
            let taker = self.seen.processes.iter().find(|process| {
                process.ended.is_none()
                    && process.labels == job.labels
                    && self.seen.registrations.iter().any(|r| r.name == process.name && !r.busy)
            });
            let Some(name) = taker.map(|process| process.name.clone()) else { continue };
            let known = self.seen.registrations.iter_mut().find(|r| r.name == name).unwrap();
            known.busy = true;
            self.has.insert(known.id, job.id);
            self.seen.queue.remove(position);
            return;
        }
    }

    /// A busy runner finishes: the hub drops the registration, the process exits.
    fn finish(&mut self) {
        let Some((&id, &job)) = self.has.iter().next() else { return };
        self.has.remove(&id);
        self.done.push(job);
        let position = self.seen.registrations.iter().position(|r| r.id == id).unwrap();
        let name = self.seen.registrations.remove(position).name;
        self.each(&name, |process, _| process.ended = Some("exit status: 0".into()));
    }
}

#[derive(Clone, Debug)]
enum Event {
    Queue(bool),
    Reconcile { crash_after: usize, answer_lost: bool },
    Assign,
    Finish,
    Dies(prop::sample::Index),
    SecondsPass(i64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => any::<bool>().prop_map(Event::Queue),
        5 => (0..6_usize, prop::bool::weighted(0.1)).prop_map(|(crash_after, answer_lost)| {
            Event::Reconcile { crash_after, answer_lost }
        }),
        3 => Just(Event::Assign),
        2 => Just(Event::Finish),
        1 => any::<prop::sample::Index>().prop_map(Event::Dies),
        1 => (0..40_i64).prop_map(Event::SecondsPass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_job_ends_and_nothing_is_left(events in proptest::collection::vec(event(), 0..60)) {
        let mut world = World {
            seen: seen(),
            next_id: 0,
            done: vec![],
            given_up: vec![],
            has: BTreeMap::new(),
        };
        let mut jobs = 0;
        for event in &events {
            match event {
                Event::Queue(cpu) => {
                    jobs += 1;
                    world.seen.queue.push(job(jobs, if *cpu { "cpu" } else { "default" }));
                }
                Event::Reconcile { crash_after, answer_lost } => {
                    for action in decide(&world.seen).iter().take(*crash_after) {
                        world.act(action, *answer_lost);
                    }
                }
                Event::Assign => world.assign(),
                Event::Finish => world.finish(),
                Event::Dies(index) => {
                    if !world.seen.processes.is_empty() {
                        let dies = index.index(world.seen.processes.len());
                        world.seen.processes[dies].ended.get_or_insert("killed".into());
                    }
                }
                Event::SecondsPass(seconds) => {
                    world.seen.now += SignedDuration::from_secs(*seconds);
                }
            }
            let alive = world.seen.processes.iter().filter(|p| p.ended.is_none()).count();
            prop_assert!(alive <= world.seen.capacity, "over capacity");
            let mut names: Vec<_> = world.seen.processes.iter().map(|p| &p.name).collect();
            names.sort();
            names.dedup();
            prop_assert_eq!(names.len(), world.seen.processes.len(), "two runners of one name");
        }
        // Faults stop: every job ends, and with the last one everything is gone.
        for _ in 0..20 * (jobs + 2) {
            world.seen.now += SignedDuration::from_secs(31);
            for action in decide(&world.seen) {
                world.act(&action, false);
            }
            world.assign();
            world.finish();
        }
        prop_assert_eq!(&world.seen.queue, &vec![]);
        let mut ended = [world.done.clone(), world.given_up.clone()].concat();
        ended.sort_unstable();
        prop_assert_eq!(ended, (1..=jobs).collect::<Vec<_>>(), "each job once");
        prop_assert_eq!(&world.seen.processes, &vec![]);
        prop_assert_eq!(&world.seen.registrations, &vec![]);
    }
}
