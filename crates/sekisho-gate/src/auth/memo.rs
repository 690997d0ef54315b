//! Answers that were worked out before.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sekisho_types::Digest;

/// Most answers that are remembered; then all are forgotten. A runner asks with one token, some hundred
/// times.
const MAX_KNOWN: usize = 4096;

/// Answers that are a function of what was asked alone, by its SHA-256.
pub(crate) struct Memo<T>(Mutex<HashMap<Digest, T>>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Memo<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a question, worked out now if it is not known. An error is not remembered.
    pub(crate) fn of<E>(
        &self,
        question: &[u8],
        answer: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let question = Digest::sha256(question);
        if let Some(known) = self.lock().get(&question) {
            return Ok(known.clone());
        }
        let found = answer()?;
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(question, found.clone());
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_worked_out_once_and_an_error_each_time() {
        let memo = Memo::default();
        for (question, answer, want) in [
            ("a", Err("no"), Err("no")),
            ("a", Ok(1), Ok(1)),
            ("a", Ok(2), Ok(1)),
            ("a", Err("no"), Ok(1)),
            ("b", Ok(3), Ok(3)),
        ] {
            assert_eq!(memo.of(question.as_bytes(), || answer), want, "{question}");
        }
        for number in 0..3 * MAX_KNOWN {
            assert_eq!(memo.of(&number.to_le_bytes(), || Ok::<_, ()>(number)), Ok(number));
            assert!(memo.lock().len() <= MAX_KNOWN);
        }
    }
}
