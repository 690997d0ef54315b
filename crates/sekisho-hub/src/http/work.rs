//! Work that blocks, and holds a permit to its end.

use tokio::sync::OwnedSemaphorePermit;

/// What blocks, with a permit that is given back when it is done, also if nobody waits for it any more.
pub(super) fn holding<T>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> T,
) -> impl FnOnce() -> T {
    move || {
        let _permit = permit;
        work()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Semaphore, oneshot};

    use super::*;
    use crate::http::rest::blocking;

    #[tokio::test(flavor = "multi_thread")]
    async fn who_goes_away_does_not_let_another_in_before_the_work_is_done() {
        let lock = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&lock).acquire_owned().await.unwrap();
        let (begins, begun) = oneshot::channel();
        let (end, ends) = oneshot::channel::<()>();
        let work = blocking(holding(permit, move || {
            begins.send(()).unwrap();
            ends.blocking_recv().unwrap();
        }));
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
