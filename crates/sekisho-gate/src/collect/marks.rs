//! What gates on one bucket agree about before content is removed.
//!
//! A gate knows what it told its own clients ([`crate::lease`]), and not what another gate told its
//! own. So garbage is marked first, and goes a day later, unless somebody used it meanwhile:
//!
//! ```text
//!  no mark ──it is garbage──▶ condemned ──a day later, garbage still──▶ removing ──▶ no mark
//!                                │
//!                                └──somebody uses it──▶ used: as if there were no mark
//! ```
//!
//! Each change of a mark is a write that expects what was read, so of a use and a removal only one
//! succeeds. Whoever comes while something is removed is told to come again. The clocks of the gates
//! may differ by hours, and not by a day.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use sekisho_store::{Keep, Records, Version};
use sekisho_types::Digest;
use serde::{Deserialize, Serialize};

use crate::config::Clock;

/// How long what is condemned can be saved by its use. Longer than any push takes from its first look
/// to its manifest, and than any client waits between the two.
const CONDEMNED: SignedDuration = SignedDuration::from_hours(24);

/// After this time a removal is that of a gate that died.
const ABANDONED: SignedDuration = SignedDuration::from_mins(10);

/// Within this time of its mark a removal is made, or not at all.
const PROMPT: SignedDuration = SignedDuration::from_mins(1);

/// How long a gate relies on having looked for a mark: popular layers are asked for all the time.
const LOOKED: SignedDuration = SignedDuration::from_mins(10);

/// Most digests of which that is remembered.
const MAX_LOOKED: usize = 100_000;

/// How often a use tries again when the mark changes under its hands.
const TRIES: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Condemned,
    Used,
    Removing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    stage: Stage,
    at: Timestamp,
}

/// What somebody does who wants to use content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnUse {
    Use,
    Save,
    ComeAgain,
}

/// What a collection does with garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnGarbage {
    Condemn,
    Wait,
    Remove,
}

impl Mark {
    fn is_older(&self, age: SignedDuration, now: Timestamp) -> bool {
        now.duration_since(self.at) > age
    }
}

fn on_use(mark: Option<&Mark>, now: Timestamp) -> OnUse {
    match mark {
        None | Some(Mark { stage: Stage::Used, .. }) => OnUse::Use,
        Some(Mark { stage: Stage::Condemned, .. }) => OnUse::Save,
        Some(mark) if mark.is_older(ABANDONED, now) => OnUse::Save,
        Some(_) => OnUse::ComeAgain,
    }
}

fn on_garbage(mark: Option<&Mark>, now: Timestamp) -> OnGarbage {
    match mark {
        None | Some(Mark { stage: Stage::Used, .. }) => OnGarbage::Condemn,
        Some(mark @ Mark { stage: Stage::Condemned, .. }) if mark.is_older(CONDEMNED, now) => {
            OnGarbage::Remove
        }
        Some(mark @ Mark { stage: Stage::Removing, .. }) if mark.is_older(ABANDONED, now) => {
            OnGarbage::Remove
        }
        Some(_) => OnGarbage::Wait,
    }
}

/// The marks of a bucket, as one gate sees them.
#[derive(Debug)]
pub(crate) struct Marks {
    records: Records,
    looked: Mutex<HashMap<Digest, Timestamp>>,
}

impl Marks {
    pub(crate) fn new(records: Records) -> Self {
        Self { records, looked: Mutex::default() }
    }

    /// Whether all of this may be relied on from now on; `false` when some of it is being removed.
    pub(crate) fn use_all(&self, digests: &[Digest], now: Timestamp) -> io::Result<bool> {
        for digest in digests {
            if !self.looked_lately(digest, now) && !self.use_one(digest, now)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn looked_lately(&self, digest: &Digest, now: Timestamp) -> bool {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let ago = looked.get(digest).map(|at| now.duration_since(*at));
        ago.is_some_and(|ago| !ago.is_negative() && ago < LOOKED)
    }

    fn use_one(&self, digest: &Digest, now: Timestamp) -> io::Result<bool> {
        for _ in 0..TRIES {
            let (mark, version) = self.read(digest)?;
            let is_used = match on_use(mark.as_ref(), now) {
                OnUse::Use => true,
                OnUse::Save => self.write(digest, Stage::Used, now, version.as_ref())?,
                OnUse::ComeAgain => return Ok(false),
            };
            if is_used {
                let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
                if looked.len() >= MAX_LOOKED {
                    looked.clear();
                }
                looked.insert(digest.clone(), now);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Condemns a piece of garbage, or removes it when its time has come; whether it did that.
    pub(crate) fn remove(
        &self,
        digest: &Digest,
        clock: &Clock,
        remove: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<bool> {
        let now = clock.now();
        let (mark, version) = self.read(digest)?;
        match on_garbage(mark.as_ref(), now) {
            OnGarbage::Wait => return Ok(false),
            OnGarbage::Condemn => {
                self.write(digest, Stage::Condemned, now, version.as_ref())?;
                return Ok(false);
            }
            OnGarbage::Remove => {}
        }
        if !self.write(digest, Stage::Removing, now, version.as_ref())? {
            return Ok(false);
        }
        // A gate that slept meanwhile may find that others gave it up.
        if clock.now().duration_since(now) > PROMPT {
            return Ok(false);
        }
        remove()?;
        self.records.remove(&name(digest))?;
        Ok(true)
    }

    /// Takes the marks away of what is no garbage any more.
    pub(crate) fn tidy(&self, garbage: &BTreeSet<&Digest>, now: Timestamp) -> io::Result<()> {
        for name in self.records.names("")? {
            let Ok(digest) = name.replacen('-', ":", 1).parse::<Digest>() else { continue };
            if garbage.contains(&digest) {
                continue;
            }
            let (mark, version) = self.read(&digest)?;
            match (mark.map(|mark| mark.stage), on_use(mark.as_ref(), now)) {
                // Nobody removes anything on such a mark.
                (Some(Stage::Used), _) => {
                    self.records.remove(&name)?;
                }
                (_, OnUse::Save) => {
                    self.write(&digest, Stage::Used, now, version.as_ref())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read(&self, digest: &Digest) -> io::Result<(Option<Mark>, Option<Version>)> {
        let Some((bytes, version)) = self.records.read_versioned(&name(digest))? else {
            return Ok((None, None));
        };
        let mark = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
        Ok((Some(mark), Some(version)))
    }

    fn write(
        &self,
        digest: &Digest,
        stage: Stage,
        at: Timestamp,
        version: Option<&Version>,
    ) -> io::Result<bool> {
        let bytes = serde_json::to_vec(&Mark { stage, at }).map_err(io::Error::other)?;
        match version {
            None => self.records.create(&name(digest), &bytes, Keep::Durably),
            Some(version) => self.records.replace(&name(digest), &bytes, version, Keep::Durably),
        }
    }
}

fn name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

#[cfg(test)]
mod tests;
