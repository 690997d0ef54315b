//! A message, from its arrival to its deletion: an order that the types enforce.

use crate::wire::scale_set::{BudgetError, JOB_MESSAGES, Jobs, QueueMessage, Statistics};

/// A message that arrived. It comes again until it is deleted, which takes a [`Recorded`].
#[derive(Debug)]
#[must_use = "a message that is not recorded and deleted comes again"]
pub struct Delivery {
    set: i64,
    message: QueueMessage,
}

/// The proof that a message was recorded: only [`Delivery::record`] makes one.
#[derive(Debug)]
#[must_use = "a recorded message is to be deleted"]
pub struct Recorded {
    pub(super) set: i64,
    pub(super) id: i64,
}

impl Delivery {
    pub(super) fn new(set: i64, message: QueueMessage) -> Self {
        Self { set, message }
    }

    /// The message's id.
    pub fn id(&self) -> i64 {
        self.message.message_id
    }

    /// The set's numbers when it was sent.
    pub fn statistics(&self) -> Statistics {
        self.message.statistics
    }

    /// What happened. A message of a type that is not known has one part that cannot be read.
    ///
    /// # Errors
    /// When the body as a whole makes no sense. Record that, or it comes for ever.
    pub fn jobs(&self) -> Result<Jobs, BudgetError> {
        if self.message.message_type.eq_ignore_ascii_case(JOB_MESSAGES) {
            return self.message.jobs();
        }
        Ok(Jobs { messages: Vec::new(), unreadable: 1 })
    }

    /// Takes the message, once `recording` has it written down where it outlives this process.
    ///
    /// # Errors
    /// That of `recording`: the message stays in the queue, and is sent again.
    pub async fn record<E>(
        self,
        recording: impl Future<Output = Result<(), E>>,
    ) -> Result<Recorded, E> {
        recording.await?;
        Ok(Recorded { set: self.set, id: self.message.message_id })
    }
}
