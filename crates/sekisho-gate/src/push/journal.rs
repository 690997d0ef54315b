//! The records of pushes, in a folder or a bucket.
//!
//! ```text
//! DIR/<hash of repository>/<tag, or `-`>/<digest>.json
//! ```

use std::io;

use jiff::Timestamp;
use sekisho_store::{Keep, Records};
use sekisho_types::{Digest, RepositoryName, Tag};

use super::state::{Event, Push, State, step};
use crate::places;

/// How often a record that somebody else changed meanwhile is looked at again.
const MAX_TURNS: usize = 8;

/// The place of a push without a tag; no tag is called that.
const UNTAGGED: &str = "-";

/// The journal. Everything blocks.
pub(crate) struct Journal {
    records: Records,
}

fn folder(repository: &RepositoryName, tag: Option<&Tag>) -> String {
    format!("{}/{}", places::hashed(repository), tag.map_or(UNTAGGED, Tag::as_str))
}

fn file(digest: &Digest) -> String {
    format!("{}-{}.json", digest.algorithm().as_str(), digest.hex())
}

fn name(push: &Push) -> String {
    format!("{}/{}", folder(&push.repository, push.tag.as_ref()), file(&push.digest))
}

impl Journal {
    pub(crate) fn new(records: Records) -> Self {
        Self { records }
    }

    /// What is known about a push. A damaged record is none: the push is judged anew.
    pub(crate) fn get(
        &self,
        repository: &RepositoryName,
        tag: Option<&Tag>,
        digest: &Digest,
    ) -> io::Result<Option<Push>> {
        let name = format!("{}/{}", folder(repository, tag), file(digest));
        let Some(bytes) = self.records.read(&name)? else { return Ok(None) };
        Ok(serde_json::from_slice(&bytes).ok())
    }

    /// Writes down what happened to a push, one after the other, and gives its state after it.
    ///
    /// `None`: it could not happen any more, for another replica or a person was faster.
    pub(crate) fn happened(
        &self,
        push: &Push,
        events: &[Event],
        now: Timestamp,
    ) -> io::Result<Option<State>> {
        let name = name(push);
        for _ in 0..MAX_TURNS {
            let there = self.records.read_versioned(&name)?;
            let known: Option<Push> =
                there.as_ref().and_then(|(bytes, _)| serde_json::from_slice(bytes).ok());
            // Where there is none it was lost to a power cut, or begins: what happened counts, on the state
            // that the caller saw.
            let before = known.as_ref().unwrap_or(push).state.clone();
            let state =
                events.iter().try_fold(before, |state, event| step(&state, event.clone(), now));
            let Ok(state) = state else { return Ok(None) };
            let is_known = |known: &Push| known.state == state && known.basis == push.basis;
            if known.as_ref().is_some_and(is_known) {
                return Ok(Some(state));
            }
            let mut next = Push { state: state.clone(), at: now, ..push.clone() };
            if !state.needs_manifest() {
                next.manifest.clear();
            }
            let bytes = serde_json::to_vec(&next).map_err(io::Error::other)?;
            let keep = if state.is_promise() { Keep::Durably } else { Keep::Lightly };
            let written = match &there {
                None => self.records.create(&name, &bytes, keep)?,
                Some((_, version)) => self.records.replace(&name, &bytes, version, keep)?,
            };
            if written {
                return Ok(Some(state));
            }
        }
        Err(io::Error::other("the record of a push is changed again and again"))
    }

    /// Forgets a push.
    pub(crate) fn forget(&self, push: &Push) -> io::Result<()> {
        self.records.remove(&name(push)).map(drop)
    }

    /// Says of every other push to a tag that it has been superseded.
    pub(crate) fn supersede(&self, by: &Push, now: Timestamp) -> io::Result<()> {
        let Some(tag) = &by.tag else { return Ok(()) };
        for other in self.of_folder(&folder(&by.repository, Some(tag)))? {
            if other.digest != by.digest {
                self.happened(&other, &[Event::Superseded(by.digest.clone())], now)?;
            }
        }
        Ok(())
    }

    /// Which push has overtaken one that a crash cut short: another one to its tag that was let pass
    /// later, or itself, where it was judged anew meanwhile.
    pub(crate) fn overtaken(&self, push: &Push) -> io::Result<Option<Digest>> {
        let tag = push.tag.as_ref();
        let others = match tag {
            // Without a tag nobody else has its place.
            None => self.get(&push.repository, tag, &push.digest)?.into_iter().collect(),
            Some(_) => self.of_folder(&folder(&push.repository, tag))?,
        };
        for other in others {
            let is_self = other.digest == push.digest;
            let may_have_the_tag = matches!(
                other.state,
                State::Promoting { .. } | State::PromoteFailed { .. } | State::Promoted { .. }
            );
            match other.state {
                State::Superseded { by, .. } if is_self => return Ok(Some(by)),
                _ if is_self && !may_have_the_tag => return Ok(Some(other.digest)),
                _ => {}
            }
            if !is_self && may_have_the_tag && other.at > push.at {
                return Ok(Some(other.digest));
            }
        }
        Ok(None)
    }

    fn of_folder(&self, folder: &str) -> io::Result<Vec<Push>> {
        let mut pushes = Vec::new();
        for name in self.records.names(folder)? {
            let bytes = self.records.read(&format!("{folder}/{name}"))?;
            pushes.extend(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()));
        }
        Ok(pushes)
    }

    /// Every push that is on record.
    pub(crate) fn all(&self) -> io::Result<Vec<Push>> {
        let mut pushes = Vec::new();
        for repository in self.records.names("")? {
            for tag in self.records.names(&repository)? {
                pushes.extend(self.of_folder(&format!("{repository}/{tag}"))?);
            }
        }
        Ok(pushes)
    }
}
