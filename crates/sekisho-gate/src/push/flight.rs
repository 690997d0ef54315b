//! One piece of work, however many ask for it at once.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use sekisho_types::{Digest, RepositoryName, Tag};

use super::Done;
use crate::error::{ApiError, ApiResult};
use crate::gate::Inner;
use crate::staging::Scope;

/// What makes two requests the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) scope: Scope,
    pub(crate) repository: RepositoryName,
    pub(crate) tag: Option<Tag>,
    pub(crate) digest: Digest,
    /// Of policies, exceptions and data: another basis is another question.
    pub(crate) basis: Digest,
}

type Flight = Shared<BoxFuture<'static, ApiResult<Done>>>;

/// The decisions that are being made.
#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<Key, Flight>>);

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Flight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the work, or waits for the same that was started before.
    ///
    /// The work is a task of its own: it ends, also when everybody who waits for it is gone.
    pub(crate) async fn join(
        &self,
        gate: &Arc<Inner>,
        key: Key,
        work: impl Future<Output = ApiResult<Done>> + Send + 'static,
    ) -> ApiResult<Done> {
        let flight = {
            let mut flights = self.lock();
            match flights.get(&key) {
                Some(flight) => flight.clone(),
                None => {
                    let (gate, done) = (Arc::clone(gate), key.clone());
                    let task = tokio::spawn(async move {
                        let result = work.await;
                        // Waits for the lock above, so the entry is there to be removed.
                        gate.flights.lock().remove(&done);
                        result
                    });
                    let flight = task
                        .map(|joined| {
                            joined.unwrap_or_else(|error| {
                                Err(ApiError::internal("judging a manifest", &error))
                            })
                        })
                        .boxed()
                        .shared();
                    flights.insert(key, flight.clone());
                    flight
                }
            }
        };
        flight.await
    }
}
