//! The effects of one replica of the operator: one at a time, so that anything can come between two.

use std::time::Duration;

use sekisho_api::JobResult;
use sekisho_reconcile::failure::Failure;
use sekisho_reconcile::runner::registration::{self, Holder, Seen, Step};
use sekisho_reconcile::runner::{AtGitHub, Container, Effect, Fate, Registration};
use sekisho_reconcile::{At, deployment, runner, sweep};

use crate::operator::{Flight, Key, Op, Operator};
use crate::operator_sets::sweeps;
use crate::world::{Pod, Runner, Secret, World};

pub(crate) type Done = Result<(), Failure>;

/// The call does not arrive, or its answer does not.
enum Fault {
    None,
    Before,
    After,
}

fn fault(world: &mut World) -> Fault {
    if world.goes_wrong(20) {
        return Fault::Before;
    }
    if world.goes_wrong(20) { Fault::After } else { Fault::None }
}

fn api_server() -> Failure {
    Failure::ApiServer { detail: "no answer".to_owned() }
}

/// Somebody else was there before.
pub(crate) fn conflict() -> Failure {
    Failure::Conflict { detail: String::new() }
}

fn unreachable() -> Failure {
    Failure::Unreachable { detail: "no answer".to_owned() }
}

impl Operator {
    /// Does the next effect of one plan.
    pub(crate) fn step(&mut self, flight: usize, world: &mut World) {
        let mut flight = self.flights.swap_remove(flight);
        let Some(op) = flight.ops.pop_front() else { return };
        let index = self.index;
        world.say(|| format!("operator {index} does {:?} {op:?}", flight.key));
        match self.act(&op, &mut flight, world) {
            Ok(()) if flight.ops.is_empty() => {
                self.troubles.remove(&flight.key);
            }
            Ok(()) => self.flights.push(flight),
            Err(failure) => {
                world.say(|| format!("operator {index} fails: {failure}"));
                if flight.key == Key::Message
                    && let Some(listening) = &mut self.listening
                {
                    listening.cursor = 0;
                }
                self.fails(&flight.key, failure, world);
            }
        }
    }

    fn act(&mut self, op: &Op, flight: &mut Flight, world: &mut World) -> Done {
        if let Op::Registering { pod_uid, progress, seen } = op {
            return self.registers(pod_uid, progress, seen, flight, world);
        }
        let at_github = matches!(
            op,
            Op::Session(_)
                | Op::Acquire(_)
                | Op::Acknowledge(_)
                | Op::Sweep(sweep::Effect::Deregister { .. })
                | Op::Deployment(deployment::Effect::DeleteScaleSet { .. })
                | Op::Runner(
                    Effect::Deregister { .. } | Effect::AskGitHub | Effect::ReadFate { .. }
                )
        );
        let failure = if at_github { unreachable() } else { api_server() };
        let fault = fault(world);
        if matches!(fault, Fault::Before) {
            return Err(failure);
        }
        self.acts(op, flight, world)?;
        if matches!(fault, Fault::After) { Err(failure) } else { Ok(()) }
    }

    fn acts(&mut self, op: &Op, flight: &mut Flight, world: &mut World) -> Done {
        match op {
            Op::Runner(effect) => {
                let Key::Runner(name) = &flight.key else { unreachable!() };
                let name = name.clone();
                self.act_runner(&name, effect, flight, world)
            }
            Op::Set(effect) => {
                let Key::Set(name) = &flight.key else { unreachable!() };
                let name = name.clone();
                self.act_set(&name, effect, flight, world)
            }
            Op::Deployment(effect) => self.act_deployment(effect, world),
            Op::DeploymentStatus { desired } => {
                let version = world.version();
                let known = world.objects.deployment.as_mut().ok_or_else(conflict)?;
                if known.version != flight.version {
                    return Err(conflict());
                }
                (known.desired, known.version) = (Some(*desired), version);
                flight.version = version;
                world.wrote(None);
                Ok(())
            }
            Op::Session(effect) => self.act_session(effect, world),
            Op::Sweep(effect) => {
                sweeps(effect, world);
                Ok(())
            }
            Op::Acquire(ids) => {
                for id in ids {
                    if let Some(job) = world.github.jobs.get_mut(id) {
                        job.assigned = true;
                    }
                }
                Ok(())
            }
            Op::Record(recording) => self.records(recording, world),
            Op::Acknowledge(id) => {
                world.github.messages.remove(id);
                Ok(())
            }
            Op::Registering { .. } => unreachable!(),
        }
    }

    fn act_runner(
        &mut self,
        name: &str,
        effect: &Effect,
        flight: &mut Flight,
        world: &mut World,
    ) -> Done {
        let now = self.now(world);
        match effect {
            Effect::AddFinalizer => {
                runner_of(world, name, &flight.uid)?.finalizer = true;
                world.wrote(Some(name));
            }
            Effect::CreatePod => return create_pod(name, flight, world),
            Effect::DeleteSecret { uid } => {
                self.made.remove(name);
                world.objects.secrets.retain(|known, secret| known != name || secret.uid != *uid);
                world.wrote(Some(name));
            }
            Effect::DeletePod { uid, at_once } => {
                return self.deletes_pod(name, uid, *at_once, flight.pod_version, world);
            }
            Effect::Deregister { id } => return self.deregisters(name, *id, world),
            Effect::AskGitHub => {
                let found = world.github.registrations.iter().find(|(_, known)| known.name == name);
                let seen = found.map_or(Registration::Absent { sweeps: 1 }, |(id, known)| {
                    let busy = known.job.is_some();
                    Registration::Present { id: *id, online: known.online, busy }
                });
                self.views.insert(name.to_owned(), AtGitHub { at: now, seen });
            }
            Effect::ReadFate { run_id } => {
                let result = world.github.jobs.get(run_id).and_then(|job| job.result);
                match result {
                    Some(result) => self.job_over(name, result, world),
                    None => drop(self.fates.insert(name.to_owned(), Fate { at: now, result })),
                }
                if result.is_some() {
                    world.results.insert(name.to_owned());
                }
            }
            Effect::JobOver => self.job_over(name, JobResult::Other, world),
            Effect::WriteStatus(record) => {
                let (version, expected) = (world.version(), flight.version);
                let known = runner_of(world, name, &flight.uid)?;
                if known.version != expected {
                    return Err(conflict());
                }
                (known.record, known.version) = ((**record).clone(), version);
                flight.version = version;
                if record.failed() {
                    world.losses.insert(name.to_owned());
                }
                world.wrote(Some(name));
            }
            Effect::DeleteRunner => {
                world.deleted.insert(name.to_owned());
                runner_of(world, name, &flight.uid)?;
                delete_runner(name, &flight.uid, world.now, world);
                world.wrote(Some(name));
            }
            Effect::RemoveFinalizer => {
                let known = runner_of(world, name, &flight.uid)?;
                known.finalizer = false;
                if known.deleting.is_some() {
                    world.objects.runners.remove(name);
                }
                world.wrote(Some(name));
            }
            Effect::Event { .. } => {
                world.losses.insert(name.to_owned());
                world.all_writes += 1;
            }
            Effect::Register { .. } => unreachable!(),
        }
        Ok(())
    }

    /// It is known before GitHub's numbers are read again.
    fn job_over(&mut self, name: &str, result: JobResult, world: &World) {
        let known = self.fates.get(name).is_some_and(|fate| fate.result.is_some());
        let fate = Fate { at: self.now(world), result: Some(result) };
        self.fates.insert(name.to_owned(), fate);
        if !known {
            self.demand = self.demand.map(deployment::Demand::less_one);
            self.reckoned = Some(self.now(world));
        }
    }

    fn deletes_pod(
        &self,
        name: &str,
        uid: &str,
        at_once: bool,
        version: u64,
        world: &mut World,
    ) -> Done {
        world.wrote(Some(name));
        let known = world.objects.pods.get(name);
        let Some(pod) = known.filter(|pod| pod.uid == uid) else { return Ok(()) };
        if pod.version != version {
            return Err(conflict());
        }
        self.may_delete_pod(name, world);
        delete_pod(name, uid, at_once, world);
        Ok(())
    }

    /// No runner with a job is stopped, but for a reason.
    fn may_delete_pod(&self, name: &str, world: &World) {
        let Some(pod) = world.objects.pods.get(name) else { return };
        let running = matches!(pod.container, Container::Running { .. }) && pod.gone_by.is_none();
        let job = pod
            .jit
            .and_then(|jit| world.github.registrations.get(&jit))
            .and_then(|known| known.job);
        let Some(runner) = world.objects.runners.get(name) else { return };
        let (Some(job), true) = (job, running) else { return };
        let started = world.github.jobs[&job].started.unwrap();
        let overdue = self.now(world).since(started).as_secs() + 120
            >= u64::from(world.lifecycle.max_job_seconds);
        let node = pod.node.as_ref().map(|node| world.objects.nodes[node]);
        assert!(
            runner.stop_now || overdue || node != Some(runner::Node::Ready) || pod.out_of_memory,
            "the pod of {name} is deleted while it has job {job}"
        );
    }

    fn deregisters(&mut self, name: &str, id: Option<i64>, world: &mut World) -> Done {
        let now = self.now(world);
        let registrations = &mut world.github.registrations;
        let by_name = || registrations.iter().find(|(_, known)| known.name == name).map(|r| *r.0);
        let found = id.or_else(by_name).filter(|id| registrations.contains_key(id));
        let busy = found.is_some_and(|id| registrations[&id].job.is_some());
        let (seen, done) = match found {
            Some(id) if busy => {
                let online = registrations[&id].online;
                (Registration::Present { id, online, busy }, Err(Failure::RunnerBusy))
            }
            Some(id) => {
                registrations.remove(&id);
                (Registration::Absent { sweeps: 1 }, Ok(()))
            }
            None => (Registration::Absent { sweeps: 1 }, Ok(())),
        };
        self.views.insert(name.to_owned(), AtGitHub { at: now, seen });
        done
    }

    /// One step of a registration. The client of scale sets frees a taken name by itself.
    fn registers(
        &mut self,
        pod_uid: &str,
        progress: &registration::Progress,
        seen: &Seen,
        flight: &mut Flight,
        world: &mut World,
    ) -> Done {
        let Key::Runner(name) = flight.key.clone() else { unreachable!() };
        let (progress, step) = registration::decide(progress, seen);
        let fault = fault(world);
        if matches!(fault, Fault::Before) && !matches!(step, Step::Done | Step::GiveUp(_)) {
            let failure = unreachable();
            return self.goes_on(pod_uid, progress, Seen::Failed(failure), flight);
        }
        let found = world.github.registrations.iter().find(|(_, known)| known.name == name);
        let found = found.map(|(id, known)| (*id, known.job.is_some()));
        let next = match step {
            Step::Done => return Ok(()),
            Step::GiveUp(failure) => return Err(failure),
            Step::Make if found.is_some() => Seen::NameTaken,
            Step::Make => {
                let id = world.github.id();
                let made = crate::github::Registration {
                    name: name.clone(),
                    used_by: None,
                    online: false,
                    job: None,
                };
                world.github.registrations.insert(id, made);
                Seen::Made { id }
            }
            Step::LookUp => Seen::Holder(found.map(|(id, busy)| Holder { id, busy, ours: true })),
            Step::Remove { id } | Step::RemoveOwn { id } => {
                let busy = world.github.registrations.get(&id).is_some_and(|r| r.job.is_some());
                if busy {
                    Seen::Failed(Failure::RunnerBusy)
                } else {
                    world.github.registrations.remove(&id);
                    let own = matches!(step, Step::RemoveOwn { .. });
                    if own { Seen::OwnRemoved } else { Seen::Removed }
                }
            }
            Step::CreateSecret { registration } => {
                let seen = create_secret(&name, pod_uid, registration, flight, world);
                if seen == Seen::SecretCreated && !matches!(fault, Fault::After) {
                    self.made.insert(name.clone(), world.objects.secrets[&name].clone());
                }
                seen
            }
        };
        if matches!(fault, Fault::After) {
            return self.goes_on(pod_uid, progress, Seen::Failed(unreachable()), flight);
        }
        self.goes_on(pod_uid, progress, next, flight)
    }

    fn goes_on(
        &self,
        pod_uid: &str,
        progress: registration::Progress,
        seen: Seen,
        flight: &mut Flight,
    ) -> Done {
        let pod_uid = pod_uid.to_owned();
        flight.ops.push_front(Op::Registering { pod_uid, progress, seen });
        Ok(())
    }
}

pub(crate) fn runner_of<'a>(
    world: &'a mut World,
    name: &str,
    uid: &str,
) -> Result<&'a mut Runner, Failure> {
    let runner = world.objects.runners.get_mut(name).filter(|runner| runner.uid == uid);
    runner.ok_or_else(conflict)
}

pub(crate) fn delete_runner(name: &str, uid: &str, now: At, world: &mut World) {
    let version = world.version();
    let Some(runner) = world.objects.runners.get_mut(name) else { return };
    if runner.uid != uid {
        return;
    }
    if runner.finalizer {
        runner.deleting.get_or_insert(now);
        runner.version = version;
    } else {
        world.objects.runners.remove(name);
    }
}

fn create_pod(name: &str, flight: &Flight, world: &mut World) -> Done {
    world.wrote(Some(name));
    if world.objects.pods.contains_key(name) {
        return Ok(());
    }
    if world.objects.pods.len() >= world.quota {
        return Err(Failure::Quota { detail: "exceeded quota".to_owned() });
    }
    let pod = Pod {
        uid: world.uid(),
        version: world.version(),
        owner: flight.uid.clone(),
        created: world.now,
        gone_by: None,
        node: None,
        container: Container::Waiting,
        jit: None,
        pull_failed: None,
        disrupted: None,
        out_of_memory: false,
    };
    world.objects.pods.insert(name.to_owned(), pod);
    Ok(())
}

pub(crate) fn delete_pod(name: &str, uid: &str, at_once: bool, world: &mut World) {
    let now = world.now;
    let Some(pod) = world.objects.pods.get_mut(name).filter(|pod| pod.uid == uid) else { return };
    if at_once {
        world.objects.pods.remove(name);
    } else {
        pod.gone_by.get_or_insert(now + Duration::from_secs(30));
    }
}

fn create_secret(
    name: &str,
    pod_uid: &str,
    registration: i64,
    flight: &Flight,
    world: &mut World,
) -> Seen {
    world.wrote(Some(name));
    if world.objects.secrets.contains_key(name) {
        return Seen::SecretExists;
    }
    let secret = Secret {
        uid: world.uid(),
        owner: flight.uid.clone(),
        pod_uid: pod_uid.to_owned(),
        registration,
        created: world.now,
    };
    world.objects.secrets.insert(name.to_owned(), secret);
    Seen::SecretCreated
}
