//! Copies an image by digest from the gate to another registry: observe, decide, act.
//!
//! Every action may be done again, so a copy that was cut short anywhere is repeated from its start: at no moment
//! does a manifest there name what is not there, or the tag an image without the gate's word on it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use sekisho_oci::{Descriptor, Manifest};
use sekisho_registry::{BlobPush, Client, Fetched, Reference, RegistryError, Repository};
use sekisho_types::{Digest, Tag};
use tokio::sync::Semaphore;

/// Most manifests of one image, its index included.
const MAX_MANIFESTS: usize = 1000;

/// How deep indexes may lie in each other.
const MAX_DEPTH: usize = 4;

/// What the names of folders with blobs begin with.
const PREFIX: &str = "blob-";

/// Blobs of an image that are copied at once; each is on the disk meanwhile.
const AT_ONCE: usize = 4;

/// A repository, and who asks it.
pub(super) struct Side<'a> {
    pub(super) client: &'a Client,
    pub(super) repository: &'a Repository,
}

/// What is to be copied.
pub(super) struct Wanted<'a> {
    pub(super) root: &'a Digest,
    /// The manifest of the gate's word on it.
    pub(super) attestation: Option<&'a Digest>,
    pub(super) tag: Option<&'a Tag>,
}

/// Why an image was not copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// The gate.
    #[error("the gate does not give the image")]
    Source(#[source] RegistryError),
    /// The other registry.
    #[error("`{to}` does not take the image")]
    Target {
        to: String,
        #[source]
        source: RegistryError,
    },
    /// The folder for blobs.
    #[error("the promoter's folder for blobs")]
    Spool(#[source] io::Error),
    /// Something is wrong with the image.
    #[error("the image {0}")]
    Image(&'static str),
    /// Somebody else wrote the tag at the same time.
    #[error("`{0}` names another image at once: somebody else pushes there too")]
    Moved(String),
}

impl CopyError {
    /// Whether the same order may succeed a little later.
    pub(super) fn is_retryable(&self) -> bool {
        match self {
            Self::Source(source) | Self::Target { source, .. } => source.is_retryable(),
            Self::Moved(_) | Self::Spool(_) => true,
            Self::Image(_) => false,
        }
    }
}

/// Where blobs lie while they are copied.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    mib: u32,
    room: Semaphore,
    /// Locked, so that nobody else clears it.
    _lock: File,
}

impl Spool {
    /// Takes a folder, and clears what was left there. At most `mib` MiB lie in it, or one blob that is larger.
    pub(super) fn open(folder: &Path, mib: u32) -> io::Result<Self> {
        fs_err::create_dir_all(folder)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        lock.try_lock().map_err(|_| {
            io::Error::other(format!("another promoter holds `{}`", folder.display()))
        })?;
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                fs_err::remove_dir_all(entry.path())?;
            }
        }
        let mib = mib.max(1);
        let room = Semaphore::new(usize::try_from(mib).unwrap_or(usize::MAX));
        Ok(Self { folder: folder.to_owned(), mib, room, _lock: lock })
    }
}

/// What the target holds already, and what it should.
#[derive(Clone, Debug, Default)]
struct Observed {
    /// Manifests in the order in which they are written, what they name before them; the root, and then what is
    /// said about it: each with whether it is there, and its blobs.
    manifests: Vec<(Digest, bool, Vec<Descriptor>)>,
    /// The tag that is wanted, with what it names now.
    tag: Option<(Tag, Option<Digest>)>,
    root: Option<Digest>,
}

/// One idempotent write.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// Unless it is there: a blob of another image may be.
    Blob(Box<Descriptor>),
    Manifest(Digest),
    Tag(Tag),
}

/// What is left to do, in order. A registry takes no manifest whose blobs it does not have, so those of one that
/// is there are there too.
fn plan(observed: &Observed) -> Vec<Action> {
    let missing = || observed.manifests.iter().filter(|(_, is_there, _)| !is_there);
    let mut seen = BTreeSet::new();
    let blobs = missing().flat_map(|(.., blobs)| blobs);
    let new = blobs.filter(|blob| seen.insert(&blob.digest));
    let mut actions: Vec<Action> = new.map(|blob| Action::Blob(Box::new(blob.clone()))).collect();
    actions.extend(missing().map(|(digest, ..)| Action::Manifest(digest.clone())));
    if let Some((tag, now)) = &observed.tag
        && *now != observed.root
    {
        actions.push(Action::Tag(tag.clone()));
    }
    actions
}

/// Copies it; how many bytes of blobs were sent. `None`: the gate's own tag names another image by now, which is
/// what will be copied.
///
/// Cancel safe: whoever is dropped leaves blobs and manifests, and no tag that names what is not there.
pub(super) async fn copy(
    from: &Side<'_>,
    to: &Side<'_>,
    wanted: &Wanted<'_>,
    spool: &Spool,
) -> Result<Option<u64>, CopyError> {
    let target = |source| CopyError::Target { to: to.repository.to_string(), source };
    if !stands(from, wanted).await? {
        return Ok(None);
    }
    let mut read = Reading { from, found: Vec::new() };
    read.visit(wanted.root, 0).await?;
    if let Some(attestation) = wanted.attestation {
        read.visit(attestation, 0).await?;
    }
    let found = read.found;
    let observed = observe(to, wanted, &found).await.map_err(target)?;
    let actions = plan(&observed);
    let blobs = actions.iter().filter_map(|action| match action {
        Action::Blob(blob) => Some(Descriptor::clone(blob)),
        _ => None,
    });
    let blobs: Vec<Descriptor> = blobs.collect();
    let copies =
        blobs.into_iter().map(|blob| async move { copy_blob(from, to, &blob, spool).await });
    let sent: Vec<u64> = stream::iter(copies).buffer_unordered(AT_ONCE).try_collect().await?;
    for action in &actions {
        let (digest, reference) = match action {
            Action::Blob(_) => continue,
            Action::Manifest(digest) => (digest, Reference::Digest(digest.clone())),
            // Not before: a blob may have taken its time.
            Action::Tag(_) if !stands(from, wanted).await? => return Ok(None),
            Action::Tag(tag) => (wanted.root, Reference::Tag(tag.clone())),
        };
        let manifest = found.iter().find(|it| it.digest == *digest);
        let manifest = manifest.ok_or(CopyError::Image("was not read"))?;
        let Fetched { bytes, media_type, .. } = manifest;
        let pushed = to.client.push_manifest(to.repository, &reference, bytes, media_type);
        pushed.await.map_err(target)?;
    }
    if let Some(tag) = wanted.tag {
        let reference = Reference::Tag(tag.clone());
        let standing = to.client.standing(to.repository, &reference).await.map_err(target)?;
        // A registry may name by SHA-256 what we name otherwise.
        let other = |digest: &Digest| {
            digest.algorithm() == wanted.root.algorithm() && digest != wanted.root
        };
        if standing.is_some_and(|standing| other(&standing.digest)) {
            return Err(CopyError::Moved(format!("{}:{tag}", to.repository)));
        }
    }
    Ok(Some(sent.into_iter().sum()))
}

/// Whether the gate's tag names the image: what was decided later, and got its tag, is not undone.
async fn stands(from: &Side<'_>, wanted: &Wanted<'_>) -> Result<bool, CopyError> {
    let Some(tag) = wanted.tag else { return Ok(true) };
    let reference = Reference::Tag(tag.clone());
    match from.client.manifest_digest(from.repository, &reference).await {
        Ok(digest) => Ok(digest.as_ref() == Some(wanted.root)),
        Err(RegistryError::NotFound { .. }) => Ok(false),
        Err(error) => Err(CopyError::Source(error)),
    }
}

/// Manifests as they are read: what one names before itself.
struct Reading<'a> {
    from: &'a Side<'a>,
    found: Vec<Fetched>,
}

impl Reading<'_> {
    async fn visit(&mut self, digest: &Digest, depth: usize) -> Result<(), CopyError> {
        if self.found.iter().any(|known| known.digest == *digest) {
            return Ok(());
        }
        if self.found.len() >= MAX_MANIFESTS || depth > MAX_DEPTH {
            return Err(CopyError::Image("has too many manifests, or too deep ones"));
        }
        let Side { client, repository } = self.from;
        let reference = Reference::Digest(digest.clone());
        let manifest = client.manifest(repository, &reference).await.map_err(CopyError::Source)?;
        if let Manifest::Index(index) = &manifest.manifest {
            for part in &index.manifests {
                Box::pin(self.visit(&part.digest, depth + 1)).await?;
            }
        }
        self.found.push(manifest);
        Ok(())
    }
}

fn blobs(manifest: &Manifest) -> Vec<Descriptor> {
    match manifest {
        Manifest::Image(image) => {
            [&image.config].into_iter().chain(&image.layers).cloned().collect()
        }
        Manifest::Index(_) => Vec::new(),
    }
}

async fn observe(
    to: &Side<'_>,
    wanted: &Wanted<'_>,
    found: &[Fetched],
) -> Result<Observed, RegistryError> {
    let mut observed = Observed { root: Some(wanted.root.clone()), ..Observed::default() };
    for Fetched { digest, manifest, .. } in found {
        let is_there = to.client.has_manifest(to.repository, digest).await?;
        observed.manifests.push((digest.clone(), is_there, blobs(manifest)));
    }
    if let Some(tag) = wanted.tag {
        let standing = to.client.standing(to.repository, &Reference::Tag(tag.clone())).await?;
        observed.tag = Some((tag.clone(), standing.map(|standing| standing.digest)));
    }
    Ok(observed)
}

/// Copies a blob unless it is there; how many bytes were sent.
async fn copy_blob(
    from: &Side<'_>,
    to: &Side<'_>,
    blob: &Descriptor,
    spool: &Spool,
) -> Result<u64, CopyError> {
    let target = |source| CopyError::Target { to: to.repository.to_string(), source };
    let Descriptor { digest, size, .. } = blob;
    if to.client.has_blob(to.repository, digest).await.map_err(target)?.is_some() {
        return Ok(0);
    }
    let mib = u32::try_from(size.div_ceil(1 << 20)).unwrap_or(u32::MAX).clamp(1, spool.mib);
    let ended = |_| CopyError::Spool(io::ErrorKind::Interrupted.into());
    let _room = spool.room.acquire_many(mib).await.map_err(ended)?;
    let place = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&spool.folder);
    let place = place.map_err(CopyError::Spool)?;
    let path = place.path().join("data");
    from.client.pull_blob(from.repository, blob, &path).await.map_err(|error| match error {
        RegistryError::File { source, .. } => CopyError::Spool(source),
        other => CopyError::Source(other),
    })?;
    let pushed = to.client.push_blob(to.repository, digest, *size, &path).await;
    Ok(match pushed.map_err(target)? {
        BlobPush::Existed => 0,
        BlobPush::Uploaded => *size,
    })
}

#[cfg(test)]
mod tests;
