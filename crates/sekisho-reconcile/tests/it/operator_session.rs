//! What an operator does at GitHub with its session, and what it writes down of a message.

use sekisho_reconcile::deployment::ScaleSet;
use sekisho_reconcile::failure::Failure;
use sekisho_reconcile::runner::Fate;
use sekisho_reconcile::session::message::{self, Recording, What, Write};
use sekisho_reconcile::session::scale_set::{self, Step};
use sekisho_reconcile::{deployment, session};

use crate::operator::{Listening, Operator};
use crate::operator_act::{Done, delete_runner};
use crate::operator_observe::seen_pod;
use crate::world::World;

impl Operator {
    pub(crate) fn act_session(&mut self, effect: &session::Effect, world: &mut World) -> Done {
        let now = self.now(world);
        match effect {
            session::Effect::EnsureScaleSet => {
                // Read anew, and one step at a time: between any two it may die.
                let Some(known) = world.objects.deployment.clone() else { return Ok(()) };
                let step = scale_set::decide(&scale_set::Observed {
                    known: known.scale_set.id(),
                    claimed: known.scale_set == ScaleSet::Claimed,
                    take_over: false,
                    found: world.github.set,
                });
                let written = match (step, world.github.set) {
                    (Step::Make, _) => {
                        world.github.set = Some(world.github.id());
                        return Ok(());
                    }
                    (Step::Claim, _) => ScaleSet::Claimed,
                    (Step::Use, Some(id)) => ScaleSet::Known(id),
                    (step, found) => unreachable!("{step:?} of {found:?}: nobody else makes sets"),
                };
                let version = world.version();
                if let Some(known) = &mut world.objects.deployment
                    && known.scale_set != written
                {
                    (known.scale_set, known.version) = (written, version);
                    world.wrote(None);
                }
            }
            session::Effect::Listen { set, .. } => {
                let owner = world.github.session.as_ref().map(|session| session.owner);
                if owner.is_some_and(|owner| owner != self.index) {
                    let (set, owner) = (set.to_string(), "the other".to_owned());
                    return Err(Failure::SessionHeld { set, owner });
                }
                if world.github.set != Some(*set) {
                    return Err(Failure::ScaleSetGone);
                }
                let id = world.github.id();
                let polled = world.now;
                world.github.session =
                    Some(crate::github::Session { id, owner: self.index, polled });
                self.listening = Some(Listening {
                    set: *set,
                    session: id,
                    cursor: 0,
                    alive: now,
                    replayed: now,
                    poll: None,
                });
                (self.demand, self.settled) = (Some(world.github.demand()), None);
                self.reckoned = None;
            }
            session::Effect::StopListening => {
                let ours = self.listening.take().map(|known| known.session);
                if ours.is_some() && world.github.session.as_ref().map(|s| s.id) == ours {
                    world.github.session = None;
                }
            }
            session::Effect::ReadStatistics { .. } => {
                (self.demand, self.statistics) = (Some(world.github.demand()), Some(now));
                self.reckoned = None;
                self.settled = self.settled.map(|_| now + deployment::SETTLE);
            }
            session::Effect::Replay => {
                if let Some(listening) = &mut self.listening {
                    (listening.cursor, listening.replayed) = (0, now);
                    listening.poll = None;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn records(&mut self, recording: &Recording, world: &mut World) -> Done {
        let (now, name) = (self.now(world), &recording.runner);
        if let What::Completed { job } = &recording.what {
            self.fates.insert(name.clone(), Fate { at: now, result: job.result });
            if world.objects.runners.contains_key(name) || world.deleted.contains(name) {
                world.results.insert(name.clone());
            }
        }
        let objects = &world.objects;
        let known = objects.runners.get(name);
        let pod =
            known.and_then(|runner| objects.pods.get(name).map(|pod| seen_pod(pod, &runner.uid)));
        let target = known.map(|runner| message::Target {
            record: &runner.record,
            deleting: runner.deleting.is_some(),
            pod: pod.as_ref(),
        });
        match message::record(&recording.what, target, now) {
            Write::Nothing => return Ok(()),
            Write::Status(record) => {
                let version = world.version();
                let runner = world.objects.runners.get_mut(name).unwrap();
                (runner.record, runner.version) = (*record, version);
            }
            Write::Delete => {
                let uid = world.objects.runners[name].uid.clone();
                delete_runner(name, &uid, world.now, world);
            }
        }
        world.wrote(Some(name));
        Ok(())
    }
}
