//! Answers that are kept for conditional requests: what has not changed costs no request.
//!
//! Source: protocol reference 1.8. A `304` is not counted, so an operator that looks at the same
//! lists every few seconds pays for the changes alone.

use std::collections::BTreeMap;

/// Answers that are kept.
const MAX_ANSWERS: usize = 512;

/// Largest answer that is kept, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// All answers together, in bytes.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// An answer, and what to ask the service about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) etag: String,
    /// The `Link` header, for a `304` may come without.
    pub(super) link: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Answers by URL; the one that was not used for longest goes first.
#[derive(Debug, Default)]
pub(super) struct Answers {
    kept: BTreeMap<String, (u64, Kept)>,
    uses: u64,
    bytes: usize,
}

impl Answers {
    pub(super) fn get(&mut self, url: &str) -> Option<Kept> {
        self.uses += 1;
        let (used, kept) = self.kept.get_mut(url)?;
        *used = self.uses;
        Some(kept.clone())
    }

    pub(super) fn put(&mut self, url: &str, answer: Kept) {
        self.remove(url);
        if answer.body.len() > MAX_ANSWER_BYTES {
            return;
        }
        self.uses += 1;
        self.bytes += answer.body.len();
        self.kept.insert(url.to_owned(), (self.uses, answer));
        while self.kept.len() > MAX_ANSWERS || self.bytes > MAX_BYTES {
            let oldest = self.kept.iter().min_by_key(|(_, (used, _))| *used);
            let Some(oldest) = oldest.map(|(url, _)| url.clone()) else { break };
            self.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, url: &str) {
        if let Some((_, kept)) = self.kept.remove(url) {
            self.bytes -= kept.body.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(size: usize) -> Kept {
        Kept { etag: "\"e\"".into(), link: None, body: vec![b'x'; size] }
    }

    #[test]
    fn it_is_bounded_and_the_unused_go_first() {
        let mut answers = Answers::default();
        for n in 0..MAX_ANSWERS {
            answers.put(&n.to_string(), answer(1));
        }
        assert_eq!(answers.get("0"), Some(answer(1)));
        answers.put("new", answer(1));
        assert_eq!(answers.kept.len(), MAX_ANSWERS);
        assert!(answers.get("0").is_some() && answers.get("1").is_none());
        answers.put("0", answer(7));
        assert_eq!(answers.bytes, MAX_ANSWERS - 1 + 7);
        answers.put("0", answer(MAX_ANSWER_BYTES + 1));
        assert!(answers.get("0").is_none());
        for n in 0..40 {
            answers.put(&format!("large {n}"), answer(MAX_ANSWER_BYTES));
        }
        let held: usize = answers.kept.values().map(|(_, kept)| kept.body.len()).sum();
        assert_eq!(answers.bytes, held);
        assert!(held <= MAX_BYTES);
    }
}
