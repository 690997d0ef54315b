//! Content-addressed blobs, and the small records that name them: in a folder, or in a bucket of an
//! S3-compatible store, under the same names.
//!
//! ```text
//! DIR/blobs/sha256/ab/abcd…      a blob, read-only, under the digest of its bytes
//! DIR/tmp/…                      what is being written; emptied when the store opens
//! REPOSITORIES/acme/app/_blobs/sha256/abcd…        the repository holds this blob
//!                      /_manifests/sha256/abcd…    its media type, size, subject
//!                      /_tags/v1                   the digest it names
//!                      /_referrers/sha256/abcd…/sha256/ef01…   a manifest with that subject
//! ```
//!
//! A blob or record comes into being by: write a temporary file on the same file system, fsync it,
//! rename it to its name, fsync the folder. So a process that is killed at any point leaves either
//! nothing under the final name or all of it, and what was acknowledged survives a power cut.
//!
//! Where a log is given ([`Wal`]), it is what is synced, once for all who write at that moment, and the
//! files are put in their places after that.
//!
//! In a bucket an object is there whole or not at all.
//!
//! Everything here blocks, and may be called from many threads at once. One process owns a folder; a
//! bucket may be shared, and where two processes could meet a write says what it expects to find.

mod atomic;
mod batch;
mod blobs;
mod bucket;
pub mod json;
mod records;
mod repositories;
mod wal;
mod writer;

pub use atomic::write_atomic;
pub use batch::Batch;
pub use blobs::{Blob, BlobStore, Content};
pub use bucket::{
    BUCKET_IDENTITY, BUCKET_SILENCE, Bucket, BucketConfig, BucketCredentials, BucketReader,
    BucketWriter, Meta, PART_BYTES,
};
pub use records::{Keep, Records, Version};
pub use repositories::{Expected, ManifestRecord, Repositories, TagPage};
pub use wal::{Replayed, Wal};
pub use writer::{BlobWriter, CommitError, Committed};
