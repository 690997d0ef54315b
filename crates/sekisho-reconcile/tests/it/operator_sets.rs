//! What an operator does to sets, to the deployment, and to what is left over.

use sekisho_reconcile::{deployment, replica_set, runner, session, sweep};

use crate::operator::{Flight, Operator};
use crate::operator_act::{Done, conflict, delete_pod, delete_runner};
use crate::world::{Deployment, Runner, Set, World};

impl Operator {
    pub(crate) fn act_set(
        &mut self,
        name: &str,
        effect: &replica_set::Effect,
        flight: &mut Flight,
        world: &mut World,
    ) -> Done {
        match effect {
            replica_set::Effect::WriteStatus(status) => {
                let version = world.version();
                let known = world.objects.sets.get_mut(name).ok_or_else(conflict)?;
                if known.version != flight.version || known.uid != flight.uid {
                    return Err(conflict());
                }
                (known.next_number, known.last_success) = (status.next_number, status.last_success);
                known.version = version;
                flight.version = version;
                world.wrote(None);
            }
            replica_set::Effect::CreateRunners { numbers } => {
                for number in numbers {
                    self.create_runner(*number, &flight.uid, world);
                }
            }
            replica_set::Effect::DeleteRunner { name, uid } => {
                world.deleted.insert(name.clone());
                delete_runner(name, uid, world.now, world);
                world.wrote(Some(name));
            }
            replica_set::Effect::MarkStopNow { name } => {
                let version = world.version();
                if let Some(runner) = world.objects.runners.get_mut(name) {
                    (runner.stop_now, runner.version) = (true, version);
                }
                world.wrote(Some(name));
            }
        }
        Ok(())
    }

    fn create_runner(&mut self, number: u64, owner: &str, world: &mut World) {
        let name =
            sekisho_reconcile::name::runner(&world.mark, crate::world::DEPLOYMENT, owner, number);
        self.expected.entry(owner.to_owned()).or_default().insert(number);
        assert!(world.names.insert(name.clone()), "the name {name} is used twice");
        world.may_create_runner(&name);
        let (uid, version) = (world.uid(), world.version());
        let runner = Runner {
            uid,
            owner: owner.to_owned(),
            version,
            created: world.now,
            deleting: None,
            finalizer: true,
            stop_now: false,
            record: runner::Record::default(),
        };
        world.objects.runners.insert(name.clone(), runner);
        world.wrote(Some(&name));
    }

    pub(crate) fn act_deployment(
        &mut self,
        effect: &deployment::Effect,
        world: &mut World,
    ) -> Done {
        world.wrote(None);
        match effect {
            deployment::Effect::AddFinalizer => {
                let version = world.version();
                if let Some(known) = &mut world.objects.deployment {
                    (known.finalizer, known.version) = (true, version);
                }
            }
            deployment::Effect::CreateSet { revision, replicas } => {
                create_set(revision, *replicas, world);
            }
            deployment::Effect::ScaleSet { name, replicas } => {
                let version = world.version();
                let seen = self.cache.sets.get(name).map(|set| set.version);
                if let Some(set) = world.objects.sets.get_mut(name) {
                    if Some(set.version) != seen {
                        return Err(conflict());
                    }
                    (set.replicas, set.version) = (*replicas, version);
                }
            }
            deployment::Effect::DeleteSet { name, uid } => {
                world.objects.sets.retain(|known, set| known != name || set.uid != *uid);
            }
            deployment::Effect::MarkStopNow { name } => {
                let version = world.version();
                if let Some(set) = world.objects.sets.get_mut(name) {
                    (set.stop_now, set.version) = (true, version);
                }
            }
            deployment::Effect::StopSession => {
                self.act_session(&session::Effect::StopListening, world)?;
            }
            deployment::Effect::LeaveScaleSet { .. } => {}
            deployment::Effect::DeleteScaleSet { .. } => {
                (world.github.set, world.github.session) = (None, None);
            }
            deployment::Effect::RemoveFinalizer => {
                if let Some(known) = &mut world.objects.deployment {
                    known.finalizer = false;
                    if known.deleting.is_some() {
                        world.objects.deployment = None;
                    }
                }
            }
        }
        Ok(())
    }
}

fn create_set(revision: &str, replicas: u32, world: &mut World) {
    let name = sekisho_reconcile::name::replica_set(crate::world::DEPLOYMENT, revision);
    if world.objects.sets.contains_key(&name) {
        return;
    }
    let set = Set {
        uid: world.uid(),
        version: world.version(),
        revision: revision.to_owned(),
        created: world.now,
        deleting: false,
        stop_now: false,
        replicas,
        next_number: 0,
        last_success: None,
    };
    world.objects.sets.insert(name, set);
}

pub(crate) fn sweeps(effect: &sweep::Effect, world: &mut World) {
    match effect {
        sweep::Effect::Deregister { id, .. } => {
            let busy = world.github.registrations.get(id).is_some_and(|r| r.job.is_some());
            if !busy {
                world.github.registrations.remove(id);
            }
        }
        sweep::Effect::DeleteRunner { name, uid } => {
            world.deleted.insert(name.clone());
            delete_runner(name, uid, world.now, world);
            world.wrote(Some(name));
        }
        sweep::Effect::DeletePod { name, uid } => {
            delete_pod(name, uid, false, world);
            world.wrote(Some(name));
        }
        sweep::Effect::DeleteSecret { name, uid } => {
            world.objects.secrets.retain(|known, secret| known != name || secret.uid != *uid);
            world.wrote(Some(name));
        }
    }
}

/// What a user does to the deployment.
impl World {
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Deployment)) {
        let version = self.version();
        if let Some(known) = &mut self.objects.deployment {
            change(known);
            known.version = version;
        }
    }
}
