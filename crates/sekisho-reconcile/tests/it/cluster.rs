//! Scheduler, kubelets, and the runners in the pods.

use std::time::Duration;

use sekisho_api::JobResult;
use sekisho_reconcile::runner::{Container, Node};

use crate::world::World;

impl World {
    /// One pod gets a little further.
    pub(crate) fn pod_moves(&mut self, name: &str) {
        let Some(pod) = self.objects.pods.get(name).cloned() else { return };
        let Some(node) = pod.node.clone() else {
            self.schedule(name, pod.gone_by.is_some());
            return;
        };
        match self.objects.nodes.get(&node).copied().unwrap_or(Node::Gone) {
            Node::Ready => self.kubelet(name),
            Node::Gone => {
                // The cluster's own clean-up of pods on nodes that are gone.
                if self.dice.one_in(3) {
                    self.objects.pods.remove(name);
                    self.say(|| format!("pod {name} went with its node"));
                }
            }
            Node::Silent { .. } | Node::Unknown => {}
        }
    }

    fn schedule(&mut self, name: &str, deleting: bool) {
        if deleting {
            self.objects.pods.remove(name);
            return;
        }
        let ready: Vec<String> = self
            .objects
            .nodes
            .iter()
            .filter(|(_, state)| **state == Node::Ready)
            .map(|(name, _)| name.clone())
            .collect();
        if ready.is_empty() || self.goes_wrong(3) {
            return;
        }
        let node = ready[self.dice.pick(ready.len())].clone();
        self.say(|| format!("pod {name} gets {node}"));
        self.pod(name).unwrap().node = Some(node);
    }

    fn kubelet(&mut self, name: &str) {
        let pod = self.objects.pods[name].clone();
        match (pod.container, pod.gone_by) {
            (Container::Waiting, Some(_)) | (Container::Ended { .. }, Some(_)) => {
                self.objects.pods.remove(name);
                self.say(|| format!("pod {name} is gone"));
            }
            (Container::Waiting, None) => self.start(name),
            (Container::Running { .. }, None) => self.runner(name),
            (Container::Running { .. }, Some(gone_by)) => {
                if self.now >= gone_by {
                    // Killed: nobody tells GitHub.
                    self.objects.pods.remove(name);
                    self.say(|| format!("pod {name} is killed"));
                } else {
                    self.stops(name);
                }
            }
            (Container::Ended { .. }, None) => {}
        }
    }

    fn start(&mut self, name: &str) {
        let Some(secret) = self.objects.secrets.get(name).cloned() else { return };
        let (now, bad) = (self.now, self.bad_image);
        let pod = self.pod(name).unwrap();
        if bad {
            pod.pull_failed.get_or_insert(now);
            return;
        }
        pod.pull_failed = None;
        pod.jit = Some(secret.registration);
        pod.container = Container::Running { since: now };
        let uid = pod.uid.clone();
        self.say(|| format!("pod {name} starts with {}", secret.registration));
        if let Some(known) = self.github.registrations.get_mut(&secret.registration) {
            assert!(
                known.used_by.is_none() || known.used_by.as_ref() == Some(&uid),
                "JIT configuration {} is used twice: by {:?} and {uid}",
                secret.registration,
                known.used_by
            );
            known.used_by = Some(uid);
        }
    }

    /// The runner in a pod that nobody stops.
    fn runner(&mut self, name: &str) {
        let (now, jit) = (self.now, self.objects.pods[name].jit.unwrap());
        let Some(known) = self.github.registrations.get_mut(&jit) else {
            // Its registration went: with its job, or because it was removed.
            let code = i32::from(self.goes_wrong(8));
            self.exit(name, Some(code));
            return;
        };
        if !known.online {
            known.online = true;
            self.say(|| format!("{name} is online"));
            return;
        }
        match known.job {
            None => {
                if let Some(job) = self.github.take(jit, now) {
                    self.say(|| format!("{name} takes job {job}"));
                }
            }
            Some(id) => {
                let job = self.github.jobs.get_mut(&id).unwrap();
                job.heard = now;
                if now.is_past(job.started.unwrap(), job.runs_for) {
                    let failed = self.dice.one_in(5);
                    let result = if failed { JobResult::Failed } else { JobResult::Succeeded };
                    self.github.conclude(id, result, false, false);
                    self.say(|| format!("{name} ends job {id}: {result:?}"));
                    if self.hostile && self.dice.one_in(4) {
                        self.exit(name, Some(0));
                    }
                }
            }
        }
    }

    /// It was told to stop: with a job, it tells GitHub how that ended.
    fn stops(&mut self, name: &str) {
        let jit = self.objects.pods[name].jit.unwrap();
        let job = self.github.registrations.get(&jit).and_then(|known| known.job);
        if let Some(id) = job {
            if self.goes_wrong(3) {
                return;
            }
            self.github.conclude(id, JobResult::Failed, true, false);
        } else if let Some(known) = self.github.registrations.get_mut(&jit) {
            known.online = false;
        }
        self.exit(name, Some(0));
    }

    pub(crate) fn exit(&mut self, name: &str, code: Option<i32>) {
        let now = self.now;
        if let Some(pod) = self.pod(name) {
            pod.container = Container::Ended { at: now, code };
            let jit = pod.jit;
            self.say(|| format!("{name} exits {code:?}"));
            if let Some(known) = jit.and_then(|jit| self.github.registrations.get_mut(&jit)) {
                known.online = false;
            }
        }
    }

    /// A new node has the name of a node that is gone; one that was silent answers again.
    pub(crate) fn comes_back(&mut self, node: &str) {
        let state = self.objects.nodes.insert(node.to_owned(), Node::Ready);
        self.say(|| format!("{node} is ready"));
        if state == Some(Node::Gone) {
            self.objects.pods.retain(|_, pod| pod.node.as_deref() != Some(node));
        }
    }

    /// Runners renew their jobs while they live, however little else happens.
    pub(crate) fn beat(&mut self) {
        for pod in self.objects.pods.values() {
            let node = pod.node.as_ref().and_then(|node| self.objects.nodes.get(node));
            let alive = matches!(pod.container, Container::Running { .. })
                && node == Some(&Node::Ready)
                && pod.gone_by.is_none();
            let known = pod.jit.and_then(|jit| self.github.registrations.get(&jit));
            if let Some(job) = known.and_then(|known| known.job).filter(|_| alive)
                && let Some(job) = self.github.jobs.get_mut(&job)
            {
                job.heard = self.now;
            }
        }
    }

    /// Something kills, stops or cuts off.
    pub(crate) fn disaster(&mut self) {
        self.kills += 1;
        let pods: Vec<String> = self.objects.pods.keys().cloned().collect();
        let pod = pods.get(self.dice.pick(pods.len())).cloned();
        let nodes: Vec<String> = self.objects.nodes.keys().cloned().collect();
        let node = nodes[self.dice.pick(nodes.len())].clone();
        let now = self.now;
        match (self.dice.roll(8), pod) {
            (0, Some(pod)) => {
                self.say(|| format!("pod {pod} vanishes"));
                self.objects.pods.remove(&pod);
            }
            (1, Some(name)) => {
                self.say(|| format!("pod {name} is drained"));
                let pod = self.pod(&name).unwrap();
                pod.gone_by.get_or_insert(now + Duration::from_secs(30));
                pod.disrupted = Some("EvictionByEvictionAPI".to_owned());
            }
            (2, Some(name)) => {
                self.say(|| format!("pod {name} is out of memory"));
                let pod = self.pod(&name).unwrap();
                pod.out_of_memory = true;
                self.exit(&name, Some(137));
            }
            (3, Some(name)) => {
                self.say(|| format!("pod {name} is killed"));
                self.exit(&name, Some(137));
            }
            (4, Some(name)) => {
                self.say(|| format!("pod {name} is evicted"));
                let pod = self.pod(&name).unwrap();
                pod.disrupted = Some("Evicted: the node was low on memory".to_owned());
                self.exit(&name, None);
            }
            (5, _) => {
                self.say(|| format!("{node} is gone"));
                self.objects.nodes.insert(node, Node::Gone);
            }
            (6, _) => {
                self.say(|| format!("{node} falls silent"));
                self.objects.nodes.insert(node, Node::Silent { since: now });
            }
            _ => {
                self.comes_back(&node);
            }
        }
    }
}
