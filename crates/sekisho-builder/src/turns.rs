//! Steps that are the same are carried out once: those of stages side by side, and of a stage that several platforms
//! need and that is none of theirs, such as a compiler's on this machine.
//!
//! Who is to carry a step out takes the turn of its key, and has it until the result is in the store. Who wants the
//! same waits that long, and finds it there.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use sekisho_types::Digest;

use crate::slots::lock;

/// Keys of steps that are being carried out.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    keys: Mutex<BTreeSet<Digest>>,
    ended: Condvar,
}

/// The right to carry a step out, which nobody else has meanwhile.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    key: Digest,
}

impl Turns {
    /// Waits until nobody carries the step out. A step holds one turn at most, so two never wait for each other.
    pub(crate) fn take(self: &Arc<Self>, key: &Digest) -> Turn {
        let mut keys = lock(&self.keys);
        while !keys.insert(key.clone()) {
            keys = self.ended.wait(keys).unwrap_or_else(PoisonError::into_inner);
        }
        Turn { turns: Arc::clone(self), key: key.clone() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.turns.keys).remove(&self.key);
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_at_a_time_has_the_turn_of_a_key() {
        let turns = Arc::new(Turns::default());
        let keys = [b"one", b"two"].map(|text| Digest::sha256(text));
        // Another key is another turn.
        drop((turns.take(&keys[0]), turns.take(&keys[1])));
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _turn = turns.take(&keys[0]);
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
        assert!(lock(&turns.keys).is_empty());
    }
}
