//! GitHub, as much of it as an operator meets: a set, its session and messages, runners, jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use sekisho_api::JobResult;
use sekisho_reconcile::At;
use sekisho_reconcile::deployment::Demand;
use sekisho_reconcile::runner::Job;
use sekisho_reconcile::session::message::Event;

/// How long a job lives whose runner is silent.
const LEASE: Duration = Duration::from_secs(600);
/// How long a session lives that nobody polls.
const SESSION: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// github.com: jobs are assigned.
    Assigned,
    /// An Enterprise Server: jobs are acquired.
    Acquired,
    /// No set: runners one by one, the queue is polled.
    Registered,
}

pub(crate) struct GitHub {
    pub(crate) wire: Wire,
    pub(crate) set: Option<i64>,
    pub(crate) session: Option<Session>,
    pub(crate) messages: BTreeMap<i64, Vec<Event>>,
    pub(crate) registrations: BTreeMap<i64, Registration>,
    pub(crate) jobs: BTreeMap<i64, SimJob>,
    pub(crate) capacity: u32,
    next: i64,
}

pub(crate) struct Session {
    pub(crate) id: i64,
    pub(crate) owner: usize,
    pub(crate) polled: At,
}

pub(crate) struct Registration {
    pub(crate) name: String,
    /// The pod that its JIT configuration was used by.
    pub(crate) used_by: Option<String>,
    pub(crate) online: bool,
    pub(crate) job: Option<i64>,
}

pub(crate) struct SimJob {
    pub(crate) assigned: bool,
    pub(crate) runner: Option<String>,
    pub(crate) registration: Option<i64>,
    pub(crate) started: Option<At>,
    pub(crate) runs_for: Duration,
    pub(crate) heard: At,
    pub(crate) result: Option<JobResult>,
    /// Its runner fell silent, or was stopped with it.
    pub(crate) lost: bool,
}

impl GitHub {
    pub(crate) fn new(wire: Wire) -> Self {
        Self {
            wire,
            set: None,
            session: None,
            messages: BTreeMap::new(),
            registrations: BTreeMap::new(),
            jobs: BTreeMap::new(),
            capacity: 0,
            next: 0,
        }
    }

    pub(crate) fn id(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn queue(&mut self, now: At, runs_for: Duration) {
        let id = self.id();
        let job = SimJob {
            assigned: self.wire == Wire::Registered,
            runner: None,
            registration: None,
            started: None,
            runs_for,
            heard: now,
            result: None,
            lost: false,
        };
        self.jobs.insert(id, job);
        if self.wire == Wire::Acquired {
            self.tell(Event::Available { request: id });
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        let id = self.id();
        self.messages.insert(id, vec![event]);
    }

    /// Gives queued jobs to the set, as far as its capacity goes.
    pub(crate) fn assign(&mut self) {
        if self.wire != Wire::Assigned || self.set.is_none() || self.session.is_none() {
            return;
        }
        let mut room = (self.capacity as usize).saturating_sub(self.demand().assigned as usize);
        let ids: Vec<i64> = self.jobs.keys().copied().collect();
        for id in ids {
            let job = self.jobs.get_mut(&id).unwrap();
            if room > 0 && !job.assigned && job.result.is_none() {
                job.assigned = true;
                room -= 1;
                self.tell(Event::Assigned);
            }
        }
    }

    pub(crate) fn demand(&self) -> Demand {
        let open = || self.jobs.values().filter(|job| job.assigned && job.result.is_none());
        let running = open().filter(|job| job.runner.is_some()).count();
        Demand { assigned: open().count() as u32, running: running as u32, available: 0 }
    }

    /// How many jobs were over before a runner had them.
    pub(crate) fn cancelled(&self) -> usize {
        self.jobs.values().filter(|job| job.result.is_some() && job.runner.is_none()).count()
    }

    pub(crate) fn job(&self, id: i64) -> Job {
        let job = &self.jobs[&id];
        Job {
            id: id.to_string(),
            run_id: id,
            repository: "acme/app".to_owned(),
            display_name: format!("job {id}"),
            workflow_ref: None,
            started: job.started,
            completed: None,
            result: job.result,
        }
    }

    /// A runner that is online asks for a job.
    pub(crate) fn take(&mut self, registration: i64, now: At) -> Option<i64> {
        let (&id, _) = self
            .jobs
            .iter()
            .find(|(_, job)| job.assigned && job.runner.is_none() && job.result.is_none())?;
        let known = self.registrations.get_mut(&registration)?;
        known.job = Some(id);
        let runner = known.name.clone();
        let job = self.jobs.get_mut(&id)?;
        job.runner = Some(runner.clone());
        (job.registration, job.started, job.heard) = (Some(registration), Some(now), now);
        let job = self.job(id);
        self.tell(Event::Started { runner, registration, job });
        Some(id)
    }

    /// A job is over. Its registration goes, unless GitHub forgets it for a while.
    pub(crate) fn conclude(&mut self, id: i64, result: JobResult, lost: bool, keep: bool) {
        let job = self.jobs.get_mut(&id).unwrap();
        if job.result.is_some() {
            return;
        }
        (job.result, job.lost) = (Some(result), lost);
        let (runner, registration) = (job.runner.clone(), job.registration);
        if let Some(registration) = registration {
            if keep {
                if let Some(known) = self.registrations.get_mut(&registration) {
                    (known.job, known.online) = (None, false);
                }
            } else {
                self.registrations.remove(&registration);
            }
        }
        let job = self.job(id);
        self.tell(Event::Completed { runner, job });
    }

    /// Jobs of silent runners end, sessions that nobody polls too.
    pub(crate) fn time_passes(&mut self, now: At, keep: bool) {
        let silent: Vec<i64> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.result.is_none() && job.runner.is_some())
            .filter(|(_, job)| now.is_past(job.heard, LEASE))
            .map(|(id, _)| *id)
            .collect();
        for id in silent {
            self.conclude(id, JobResult::Failed, true, keep);
        }
        if self.session.as_ref().is_some_and(|session| now.is_past(session.polled, SESSION)) {
            self.session = None;
        }
    }

    /// Everything that is known of jobs, as a list of the queue has it.
    pub(crate) fn list(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (id, known) in &self.jobs {
            let (Some(runner), Some(registration)) = (&known.runner, known.registration) else {
                continue;
            };
            let (runner, job) = (runner.clone(), self.job(*id));
            events.push(match known.result {
                None => Event::Started { runner, registration, job },
                Some(_) => Event::Completed { runner: Some(runner), job },
            });
        }
        events
    }
}
