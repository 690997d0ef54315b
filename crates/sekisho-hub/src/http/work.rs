//! Work that blocks, and holds a permit to its end.

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinError;

use super::reply::GithubError;

/// Does what blocks. The permit is given back when it is done, also if nobody waits for it any more.
pub(super) async fn holding<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, GithubError> {
    held(permit, work).await.map_err(|error| GithubError::internal(&error))
}

/// The same, for whoever has another form of errors.
pub(super) async fn held<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let held = move || {
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(held).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Semaphore, oneshot};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn who_goes_away_does_not_let_another_in_before_the_work_is_done() {
        let lock = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&lock).acquire_owned().await.unwrap();
        let (begins, begun) = oneshot::channel();
        let (end, ends) = oneshot::channel::<()>();
        let work = holding(permit, move || {
            begins.send(()).unwrap();
            ends.blocking_recv().unwrap();
        });
        tokio::select! {
            biased;
            _ = work => panic!("it is not over"),
            begun = begun => begun.unwrap(),
        }
        assert_eq!(lock.available_permits(), 0);
        end.send(()).unwrap();
        assert!(lock.acquire().await.is_ok());
    }
}
