//! Layers, and statements about images, are read by other processes: copies of a server, `sekisho gate
//! analyse-layers`, that was started once.
//!
//! Each has an empty environment and no file but its ends of two pipes, so it holds no credential (the key
//! that its input begins with makes fingerprints of secrets and opens nothing), and what it says is only taken
//! as what is in that blob. One that crashes, hangs or eats too much is an error, and so is a layer that
//! could not be read: never one without findings.

pub(crate) mod child;
mod limits;
mod seats;

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use sekisho_gate::Busy;
use sekisho_sandbox::{ParserError, ParserLimits, Parsers};
use serde_json::Value;

use self::child::{Answer, DOCUMENT, LAYER};
pub(super) use self::limits::parse_limits;
use self::seats::Seats;

/// Most children that read at once. Four may read uploads, which last as long as their clients like.
const MAX_CHILDREN: usize = 8;

/// An answer that makes no sense.
const LIE: &str = "what its reader says is damaged";

/// What reads layers. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Analyser {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    parsers: Parsers,
    limits: ParserLimits,
    seats: Seats,
}

impl Analyser {
    /// The server is this program, started again.
    pub(super) fn new(limits: ParserLimits) -> Self {
        // Whatever becomes of the file that it was started from.
        let parsers = Parsers::new("/proc/self/exe", &["gate", "analyse-layers"]);
        Self { inner: Arc::new(Inner { parsers, limits, seats: Seats::new(MAX_CHILDREN) }) }
    }

    /// What is in a layer, by a child's word; `key` is for its fingerprints of secrets.
    ///
    /// # Errors
    /// [`Busy`] when no child can be started. Else the child says so, or says nothing: it died, hung, or
    /// was stopped at a limit.
    pub(super) fn layer(&self, key: &[u8; 32], layer: &mut dyn Read) -> anyhow::Result<Value> {
        match self.ask(&mut [LAYER].chain(&key[..]).chain(layer))? {
            Answer::Layer(value) => Ok(value),
            Answer::Error(why) => bail!("{why}"),
            Answer::Document(_) => bail!(LIE),
        }
    }

    /// What a JSON document says and holds, and who of `attestors` signed it, by a child's word.
    ///
    /// # Errors
    /// As [`Analyser::layer`].
    pub(super) fn document(
        &self,
        key: &[u8; 32],
        attestors: &[u8],
        document: &mut dyn Read,
    ) -> anyhow::Result<Value> {
        let length = u32::try_from(attestors.len()).context("there are too many attestors")?;
        let known = [&[DOCUMENT], &key[..], &length.to_be_bytes(), attestors].concat();
        match self.ask(&mut known.chain(document))? {
            Answer::Document(value) => Ok(value),
            Answer::Error(why) => bail!("{why}"),
            Answer::Layer(_) => bail!(LIE),
        }
    }

    fn ask(&self, input: &mut dyn Read) -> anyhow::Result<Answer> {
        let _seat = self.inner.seats.take();
        said(self.inner.parsers.ask(&self.inner.limits, input))
    }
}

/// What a child said.
fn said(answer: Result<Vec<u8>, ParserError>) -> anyhow::Result<Answer> {
    let bytes = answer.map_err(|error| match error {
        // Nothing is wrong with what was to be read.
        ParserError::Unavailable(_) => anyhow::Error::from(Busy(error.to_string())),
        _ => anyhow::Error::from(error).context("it was not read"),
    })?;
    serde_json::from_slice(&bytes).context(LIE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_answer_is_one_of_three() {
        let of = |text: &str| said(Ok(text.as_bytes().to_vec())).map_err(|it| format!("{it:#}"));
        assert_eq!(of("{\"layer\": [1]}"), Ok(Answer::Layer(serde_json::json!([1]))));
        assert_eq!(of("{\"error\": \"no tar\"}"), Ok(Answer::Error("no tar".to_owned())));
        assert_eq!(of("{\"document\": 1}"), Ok(Answer::Document(1.into())));
        for lie in ["{\"layer\"", "{\"verdict\": \"allow\"}", ""] {
            assert!(of(lie).unwrap_err().contains("damaged"), "{lie}");
        }
    }

    #[test]
    fn one_that_cannot_be_started_is_no_fault_of_the_layer() {
        let missing = ParserError::Unavailable(std::io::ErrorKind::NotFound.into());
        assert!(said(Err(missing)).unwrap_err().is::<Busy>());
        let error = said(Err(ParserError::Silent(Duration::from_secs(60)))).unwrap_err();
        assert!(!error.is::<Busy>());
        assert_eq!(
            format!("{error:#}"),
            "it was not read: the parser did nothing for 60s and was stopped"
        );
    }
}
