//! Uploads that any replica may go on with.
//!
//! ```text
//! <id>/session.json   who began it, where for, and how far it came
//! <id>/<offset>       what one request brought from there on
//! ```
//!
//! A request first writes its bytes, then says so in the session, on condition that nobody else did
//! meanwhile. Of two requests at once one is told that it was not alone.

use std::io;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use sekisho_store::{BlobWriter, Bucket, Keep, Records, Version};
use sekisho_types::RepositoryName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::staging::Scope;

/// Most requests that bring bytes to one upload.
const MAX_CHUNKS: usize = 10_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Session {
    owner: String,
    repository: RepositoryName,
    /// Where each chunk ends.
    ends: Vec<u64>,
    touched: Timestamp,
}

/// An upload as all replicas know it.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    id: Uuid,
    session: Session,
    version: Version,
}

impl Shared {
    /// How many bytes came.
    pub(super) fn end(&self) -> u64 {
        self.session.ends.last().copied().unwrap_or_default()
    }
}

/// The uploads in a bucket. Everything blocks.
pub(crate) struct Sessions {
    bucket: Bucket,
    records: Records,
}

fn session_name(id: Uuid) -> String {
    format!("{id}/session.json")
}

fn chunk_name(id: Uuid, first: u64) -> String {
    format!("{id}/{first:012}")
}

impl Sessions {
    pub(super) fn new(bucket: Bucket) -> Self {
        Self { records: Records::in_bucket(bucket.clone()), bucket }
    }

    fn read(&self, id: Uuid) -> io::Result<Option<Shared>> {
        let Some((bytes, version)) = self.records.read_versioned(&session_name(id))? else {
            return Ok(None);
        };
        let session = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
        Ok(Some(Shared { id, session, version }))
    }

    pub(super) fn begin(
        &self,
        id: Uuid,
        owner: &Scope,
        repository: &RepositoryName,
        now: Timestamp,
    ) -> io::Result<Shared> {
        let (owner, repository) = (owner.as_str().to_owned(), repository.clone());
        let session = Session { owner, repository, ends: Vec::new(), touched: now };
        let bytes = serde_json::to_vec(&session).map_err(io::Error::other)?;
        self.records.create(&session_name(id), &bytes, Keep::Durably)?;
        self.read(id)?.ok_or_else(|| io::Error::other("the upload has gone"))
    }

    /// The upload of this id, if this run began it for this repository.
    pub(super) fn get(
        &self,
        id: Uuid,
        owner: &Scope,
        repository: &RepositoryName,
    ) -> io::Result<Option<Shared>> {
        let of_owner = |shared: &Shared| {
            shared.session.owner == owner.as_str() && shared.session.repository == *repository
        };
        Ok(self.read(id)?.filter(of_owner))
    }

    /// What other replicas have from byte `from` on, which is where a chunk begins.
    pub(super) fn missing(
        &self,
        shared: &Shared,
        from: u64,
    ) -> impl Iterator<Item = io::Result<Bytes>> + use<> {
        let (bucket, id, ends) = (self.bucket.clone(), shared.id, shared.session.ends.clone());
        let firsts: Vec<u64> = std::iter::once(0).chain(ends.iter().copied()).collect();
        let chunks = firsts.into_iter().zip(ends).filter(move |(first, _)| *first >= from);
        chunks.flat_map(move |(first, end)| {
            let mut reader = bucket.reader(&chunk_name(id, first), 0, end - first);
            let mut is_over = false;
            std::iter::from_fn(move || {
                let piece = if is_over { return None } else { reader.next_piece() };
                is_over = !matches!(&piece, Ok(piece) if !piece.is_empty());
                if matches!(&piece, Ok(piece) if piece.is_empty()) { None } else { Some(piece) }
            })
        })
    }

    /// Adds what the writer has beyond what is known.
    pub(super) fn add(
        &self,
        shared: &mut Shared,
        writer: &mut BlobWriter,
        now: Timestamp,
    ) -> io::Result<()> {
        let (first, end) = (shared.end(), writer.written());
        if end <= first {
            return Ok(());
        }
        if shared.session.ends.len() >= MAX_CHUNKS {
            return Err(io::Error::other("the upload comes in too many pieces"));
        }
        writer.send(&self.bucket, &chunk_name(shared.id, first), first)?;
        shared.session.ends.push(end);
        shared.session.touched = now;
        let bytes = serde_json::to_vec(&shared.session).map_err(io::Error::other)?;
        let name = session_name(shared.id);
        if !self.records.replace(&name, &bytes, &shared.version, Keep::Durably)? {
            return Err(io::Error::other("another request used this upload"));
        }
        if let Some(now) = self.read(shared.id)? {
            *shared = now;
        }
        Ok(())
    }

    pub(super) fn end(&self, id: Uuid) -> io::Result<()> {
        self.records.remove(&session_name(id))?;
        self.records.remove_all(&id.to_string())
    }

    pub(super) fn expire(&self, now: Timestamp, idle: SignedDuration) -> io::Result<()> {
        for name in self.records.names("")? {
            let Ok(id) = name.parse::<Uuid>() else { continue };
            let known = self.read(id)?;
            let is_live = |it: &Shared| now.duration_since(it.session.touched) <= idle;
            // Without a session: what an end that was cut short left.
            if !known.as_ref().is_some_and(is_live) {
                self.end(id)?;
            }
        }
        Ok(())
    }
}
