//! A set's one session, and what its listener is told.

use jiff::{SignedDuration, Timestamp};
use sekisho_github::wire::scale_set::QueueMessage;
use uuid::Uuid;

use super::{Entry, Order, Owner, ScaleSet, SetError};
use crate::config::Assignment;
use crate::state::State;

/// A session that nobody polled for so long may be replaced. How long GitHub waits is not known.
const SESSION_SILENCE: SignedDuration = SignedDuration::from_secs(90);

/// Somebody who listens to a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenSession {
    pub(crate) id: Uuid,
    pub(crate) owner: String,
    last_seen: Timestamp,
}

impl ScaleSet {
    /// The session, if it has this id.
    fn session(&mut self, id: Uuid) -> Result<&mut ListenSession, SetError> {
        let known = self.session.as_mut().filter(|session| session.id == id);
        known.ok_or(SetError::SessionExpired)
    }
}

impl State {
    /// Opens the set's session, unless another is alive.
    pub(crate) fn open_set_session(
        &mut self,
        owner: &Owner,
        set: u64,
        session: Uuid,
        holder: &str,
        now: Timestamp,
    ) -> Result<(), SetError> {
        self.scale_sets.get(owner, set)?;
        let set = self.scale_sets.sets.get_mut(&set).ok_or(SetError::NotFound)?;
        let alive = |known: &ListenSession| now.duration_since(known.last_seen) < SESSION_SILENCE;
        if set.session.as_ref().is_some_and(alive) {
            return Err(SetError::SessionConflict);
        }
        set.session = Some(ListenSession { id: session, owner: holder.to_owned(), last_seen: now });
        Ok(())
    }

    /// The session is in use. Gives its holder.
    pub(crate) fn touch_set_session(
        &mut self,
        owner: &Owner,
        set: u64,
        session: Uuid,
        now: Timestamp,
    ) -> Result<String, SetError> {
        self.scale_sets.get(owner, set)?;
        let set = self.scale_sets.sets.get_mut(&set).ok_or(SetError::NotFound)?;
        let known = set.session(session)?;
        known.last_seen = now;
        Ok(known.owner.clone())
    }

    /// Ends a session.
    pub(crate) fn close_set_session(
        &mut self,
        owner: &Owner,
        set: u64,
        session: Uuid,
    ) -> Result<(), SetError> {
        self.scale_sets.get(owner, set)?;
        self.end_set_session(set, Some(session))
    }

    /// Ends a session, whoever has it if `session` is not given.
    pub(crate) fn end_set_session(
        &mut self,
        set: u64,
        session: Option<Uuid>,
    ) -> Result<(), SetError> {
        let found = self.scale_sets.sets.get_mut(&set).ok_or(SetError::NotFound)?;
        if let Some(session) = session {
            found.session(session)?;
        }
        found.session = None;
        self.scale_sets.woken.insert(set);
        Ok(())
    }

    /// The listener asks for a message after `after`. `capacity`: how many jobs it can have now; jobs
    /// are assigned up to it. `None`: it does not say, and takes all.
    pub(crate) fn poll_set(
        &mut self,
        set: u64,
        session: Uuid,
        (after, order): (i64, Order),
        capacity: Option<u64>,
        now: Timestamp,
    ) -> Result<Option<QueueMessage>, SetError> {
        let found = self.scale_sets.sets.get_mut(&set).ok_or(SetError::NotFound)?;
        found.session(session)?.last_seen = now;
        match self.scale_sets.assignment {
            Assignment::Automatic => self.assign_up_to(set, capacity.unwrap_or(u64::MAX), now),
            Assignment::Explicit => self.announce(set),
        }
        let found = self.scale_sets.sets.get_mut(&set).ok_or(SetError::NotFound)?;
        let Some(message) = found.log.next(after, order) else { return Ok(None) };
        let statistics = self.set_statistics(set);
        Ok(Some(QueueMessage::new(message.id, &message.jobs, statistics)))
    }

    /// The listener is done with a message. One that is gone already is as good.
    pub(crate) fn delete_set_message(
        &mut self,
        set: u64,
        session: Uuid,
        message: i64,
        now: Timestamp,
    ) -> Result<(), SetError> {
        let found = self.scale_sets.sets.get_mut(&set).ok_or(SetError::NotFound)?;
        found.session(session)?.last_seen = now;
        if found.log.delete(message) {
            self.scale_sets.journal.push(Entry::Deleted { set, message });
        }
        Ok(())
    }

    /// The listener acquires jobs. Gives those that are its now.
    pub(crate) fn acquire_set_jobs(
        &mut self,
        set: u64,
        session: Uuid,
        jobs: &[i64],
        now: Timestamp,
    ) -> Result<Vec<i64>, SetError> {
        let found = self.scale_sets.sets.get_mut(&set).ok_or(SetError::NotFound)?;
        found.session(session)?.last_seen = now;
        if self.scale_sets.assignment == Assignment::Automatic {
            return Err(SetError::NothingToAcquire);
        }
        let mut acquired = Vec::new();
        for id in jobs {
            let job = u64::try_from(*id).ok();
            if job.is_some_and(|job| self.assign(set, job, now)) {
                acquired.push(*id);
            }
        }
        self.offer_jobs(now);
        Ok(acquired)
    }
}
