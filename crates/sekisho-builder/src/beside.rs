//! The same work on many things, by several threads.

use std::sync::atomic::{AtomicUsize, Ordering};

/// As many as the machine has cores for us.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// What `work` makes of each item, in the items' order. A panic of it is a panic of the caller.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let some = || {
        let mut made = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return made };
            made.push((at, work(item)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(items.len())).map(|_| scope.spawn(some)).collect();
        let mut all = some();
        for other in others {
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, made)| made).collect()
}

/// The same work on each item until one fails; which is told when several do is left open. A panic of it is a
/// panic of the caller.
pub(crate) fn try_each<T: Sync, E: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let some = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(items.len())).map(|_| scope.spawn(some)).collect();
        let others = others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(some()).chain(others).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_worked_on_once_and_results_are_in_order() {
        let items: Vec<usize> = (0..1000).collect();
        for threads in [0, 1, 2, 7] {
            let calls = AtomicUsize::new(0);
            let made = each(&items, threads, |item| {
                calls.fetch_add(1, Ordering::Relaxed);
                item * 2
            });
            assert_eq!(made, items.iter().map(|item| item * 2).collect::<Vec<_>>());
            assert_eq!(calls.into_inner(), items.len());
        }
        assert!(each(&[], 3, |item: &usize| *item).is_empty());
    }

    #[test]
    fn the_first_failure_ends_the_work() {
        let items: Vec<usize> = (0..100_000).collect();
        for threads in [1, 4] {
            let done = AtomicUsize::new(0);
            let work = |item: &usize| {
                done.fetch_add(1, Ordering::Relaxed);
                if *item == 10 { Err(*item) } else { Ok(()) }
            };
            assert_eq!(try_each(&items, threads, work), Err(10));
            assert!(done.into_inner() < items.len());
        }
        assert_eq!(try_each(&items, 3, |_| Ok::<(), ()>(())), Ok(()));
    }
}
