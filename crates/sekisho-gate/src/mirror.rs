//! Other registries, through the gate: so that bases too cross it.
//!
//! ```text
//!  GET /v2/docker.io/library/debian/manifests/12     by path
//!  GET /v2/library/debian/manifests/12?ns=docker.io  as containerd asks its mirrors
//!    └─ on the list? ─ kept and young? serve │ ask by HEAD, fetch what changed │ served stale
//! ```
//!
//! Which registries are asked is configuration: nothing that a client sends names a host. What comes is
//! kept by its digest, and is verified before it has its name. One fetch at a time is made for one thing.
//! A registry that asks to be left alone (429) is.

mod answer;
mod config;
mod decide;
mod evict;
mod serve;
mod store;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use sekisho_oci::{Descriptor, ImageConfig, Manifest};
use sekisho_policy::Base;
use sekisho_registry::{Client, Fetched, Reference, RegistryError, Repository};
use sekisho_store::{Blob, Bucket};
use sekisho_types::{Digest, RepositoryName, Tag};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::answer::{failed, may_be_away, wait};
use self::config::{allows, check};
use self::decide::{Decision, Observed, decide, serves_stale};
use self::store::{BaseRecord, Store, TagRecord};
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};

pub use config::{MirrorConfig, Mirrored, MirroredRegistry, load_mirrored};
pub(crate) use serve::serve;

/// Largest blob that is fetched, in bytes: layers of large models are below it.
const MAX_BLOB_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// How long a registry is left alone that does not say for how long.
const BLOCKED: SignedDuration = SignedDuration::from_secs(60);

/// Longest time that a registry can ask for.
const MAX_BLOCKED: SignedDuration = SignedDuration::from_hours(6);

/// One of another registry's repositories.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    registry: MirroredRegistry,
    /// There.
    repository: Repository,
    /// Here, with the registry's name in front.
    name: RepositoryName,
}

/// What a request for another registry's content means.
pub(crate) enum Target {
    Mirrored(Source),
    /// A registry or repository that is not on the list.
    NotAllowed(String),
}

impl Target {
    /// What it is called here.
    pub(crate) fn name(&self) -> Option<&RepositoryName> {
        match self {
            Self::Mirrored(source) => Some(&source.name),
            Self::NotAllowed(_) => None,
        }
    }
}

/// The mirror of a gate.
pub(crate) struct Mirror {
    registries: Vec<MirroredRegistry>,
    client: Arc<Client>,
    store: Store,
    keep_bytes: u64,
    /// How much is kept, as far as this gate knows; `None` before it looked.
    kept_bytes: Mutex<Option<u64>>,
    blocked: Mutex<HashMap<String, Timestamp>>,
    /// One permit each: whoever holds it fetches, the others wait for what it finds.
    flights: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Mirror {
    /// In a folder; or in a bucket, for all gates on it, with the folder for what is being fetched.
    pub(crate) fn open(
        dir: &Path,
        bucket: Option<&Bucket>,
        config: MirrorConfig,
    ) -> io::Result<Self> {
        check(&config.registries).map_err(io::Error::other)?;
        Ok(Self {
            registries: config.registries,
            client: config.client,
            store: Store::open(dir, bucket)?,
            keep_bytes: config.keep_bytes,
            kept_bytes: Mutex::default(),
            blocked: Mutex::default(),
            flights: Mutex::default(),
        })
    }

    /// Whether a request is for another registry, by its path or its `ns`.
    pub(crate) fn target(&self, name: &RepositoryName, request: &Parts) -> Option<Target> {
        let query = request.uri.query().unwrap_or_default();
        let mut fields = url::form_urlencoded::parse(query.as_bytes());
        let ns = fields.find(|(name, _)| name == "ns").map(|(_, value)| value.into_owned());
        let (host, rest) = match &ns {
            Some(ns) => (ns.as_str(), name.as_str()),
            None => {
                name.as_str().split_once('/').filter(|(first, _)| self.named(first).is_some())?
            }
        };
        let Some(registry) = self.named(host) else {
            return Some(Target::NotAllowed(format!(
                "the registry `{host:.100}` is not mirrored here"
            )));
        };
        let (Ok(there), Ok(here)) = (rest.parse(), format!("{host}/{rest}").parse()) else {
            return Some(Target::NotAllowed("this is no name of a repository".to_owned()));
        };
        if !registry.allow.iter().any(|pattern| allows(pattern, rest)) {
            let message = format!("`{rest}` of {host} is not on the list of allowed bases");
            return Some(Target::NotAllowed(message));
        }
        let address = registry.address.clone().unwrap_or_else(|| registry.name.clone());
        let repository = Repository { registry: address, name: there };
        Some(Target::Mirrored(Source { registry: registry.clone(), repository, name: here }))
    }

    fn named(&self, host: &str) -> Option<&MirroredRegistry> {
        self.registries.iter().find(|registry| registry.name == host)
    }

    /// The mirrored image that an image with these layers was built on. Blocks.
    pub(crate) fn base_of(&self, diff_ids: &[Digest]) -> io::Result<Option<Base>> {
        self.store.base_of(diff_ids)
    }

    /// What a tag is now, as far as anybody can say.
    async fn resolve(&self, source: &Source, tag: &Tag, now: Timestamp) -> ApiResult<Digest> {
        let _one = self.alone(&format!("{}:{tag}", source.name)).await?;
        let kept = self.kept(source, tag).await?;
        let ages = source.registry.ages();
        let observed = Observed {
            now,
            checked_at: kept.as_ref().map(|kept| kept.checked_at),
            blocked_until: self.blocked_until(&source.registry.name),
        };
        let reference = Reference::Tag(tag.clone());
        let asked = match (decide(&observed, ages), &kept) {
            (Decision::Serve, Some(kept)) => return Ok(kept.digest.clone()),
            (Decision::Wait(left), _) => return Err(wait(source, left)),
            (Decision::Revalidate, Some(kept)) => {
                match self.client.manifest_digest(&source.repository, &reference).await {
                    Ok(Some(digest)) if digest == kept.digest => Ok(digest),
                    // It changed, or the registry does not say.
                    Ok(_) => self.fetch(source, &reference).await,
                    Err(error) => Err(error),
                }
            }
            _ => self.fetch(source, &reference).await,
        };
        match asked {
            Ok(digest) => {
                let record = TagRecord { digest: digest.clone(), checked_at: now };
                let (store, name, tag) = (self.store.clone(), source.name.clone(), tag.clone());
                blocking("keeping a tag", move || {
                    store.put_tag(&name, &tag, &record).or_fail("keeping a tag")
                })
                .await?;
                Ok(digest)
            }
            Err(error) => {
                self.note(source, &error, now);
                match kept.filter(|_| may_be_away(&error) && serves_stale(&observed, ages)) {
                    Some(kept) => {
                        tracing::warn!(repository = %source.name, "served stale: {error}");
                        Ok(kept.digest)
                    }
                    None => Err(failed(source, &error, Code::ManifestUnknown)),
                }
            }
        }
    }

    async fn kept(&self, source: &Source, tag: &Tag) -> ApiResult<Option<TagRecord>> {
        let (store, name, tag) = (self.store.clone(), source.name.clone(), tag.clone());
        blocking("reading a tag", move || {
            let Some(record) = store.tag(&name, &tag).or_fail("reading a tag")? else {
                return Ok(None);
            };
            // A tag whose manifest is gone is none.
            let manifest = store.manifest(&name, &record.digest).or_fail("reading a manifest")?;
            Ok(manifest.map(|_| record))
        })
        .await
    }

    /// A manifest by its digest: its media type and bytes.
    async fn manifest(
        &self,
        source: &Source,
        digest: &Digest,
        now: Timestamp,
    ) -> ApiResult<(String, Vec<u8>)> {
        let _one = self.alone(&format!("{}@{digest}", source.name)).await?;
        let read = || {
            let (store, name, digest) = (self.store.clone(), source.name.clone(), digest.clone());
            blocking("reading a manifest", move || {
                store.used(&digest, now);
                store.manifest(&name, &digest).or_fail("reading a manifest")
            })
        };
        if let Some(found) = read().await? {
            return Ok(found);
        }
        self.check_blocked(source, now)?;
        let reference = Reference::Digest(digest.clone());
        if let Err(error) = self.fetch(source, &reference).await {
            self.note(source, &error, now);
            return Err(failed(source, &error, Code::ManifestUnknown));
        }
        let gone = || ApiError::new(Code::ManifestUnknown, "the manifest is gone again");
        read().await?.ok_or_else(gone)
    }

    /// Fetches a manifest, verified, and what tells bases apart.
    async fn fetch(&self, source: &Source, reference: &Reference) -> Result<Digest, RegistryError> {
        let fetched = self.client.manifest(&source.repository, reference).await?;
        let Fetched { digest, media_type, bytes, manifest } = fetched;
        let (store, name) = (self.store.clone(), source.name.clone());
        let key = digest.clone();
        let kept = run(move || store.put_manifest(&name, &key, &media_type, &bytes));
        kept.await.map_err(|source| RegistryError::File { path: "manifest".into(), source })?;
        if let Manifest::Image(image) = manifest
            && sekisho_oci::media_type::is_image_config(&image.config.media_type)
        {
            let config = self.client.config(&source.repository, &image.config).await?;
            self.note_base(source, reference, &digest, &config).await;
        }
        Ok(digest)
    }

    /// Remembers an image as a base. That it cannot be written down costs a fact, not the pull.
    async fn note_base(
        &self,
        source: &Source,
        reference: &Reference,
        digest: &Digest,
        config: &ImageConfig,
    ) {
        let name = match reference {
            Reference::Tag(tag) => format!("{}:{tag}", source.name),
            Reference::Digest(_) => source.name.to_string(),
        };
        let record = BaseRecord {
            name,
            digest: digest.clone(),
            created: config.created.as_deref().and_then(|text| text.parse().ok()),
            diff_ids: config.rootfs.diff_ids.clone(),
        };
        let store = self.store.clone();
        if let Err(error) = run(move || store.put_base(&record)).await {
            tracing::warn!("a base is not known: {error}");
        }
    }

    /// A blob, fetched and verified if it is not here.
    async fn blob(&self, source: &Source, digest: &Digest, now: Timestamp) -> ApiResult<Blob> {
        let _one = self.alone(&format!("{}#{digest}", source.name)).await?;
        let open = || {
            let (store, name, digest) = (self.store.clone(), source.name.clone(), digest.clone());
            blocking("looking for a blob", move || {
                store.blob(&name, &digest, now).or_fail("looking for a blob")
            })
        };
        if let Some(blob) = open().await? {
            return Ok(blob);
        }
        self.check_blocked(source, now)?;
        if let Err(error) = self.pull(source, digest).await {
            self.note(source, &error, now);
            return Err(failed(source, &error, Code::BlobUnknown));
        }
        let gone = || ApiError::new(Code::BlobUnknown, "the blob is gone again");
        let blob = open().await?.ok_or_else(gone)?;
        self.make_room(blob.size, now).await;
        Ok(blob)
    }

    /// Fetches a blob and says that the repository has it.
    async fn pull(&self, source: &Source, digest: &Digest) -> Result<(), RegistryError> {
        // Asked for again in each repository: what one has says nothing about another.
        let size = self.client.has_blob(&source.repository, digest).await?;
        let missing = || RegistryError::NotFound { what: format!("{}@{digest}", source.name) };
        let size = size.filter(|size| *size <= MAX_BLOB_BYTES).ok_or_else(missing)?;
        let mut descriptor =
            Descriptor::of(sekisho_oci::media_type::OCI_LAYER, digest.hex().as_bytes());
        descriptor.digest = digest.clone();
        descriptor.size = size;
        let path = self.store.fetching();
        let failed = |source| RegistryError::File { path: "mirror".into(), source };
        let (store, key) = (self.store.clone(), digest.clone());
        let is_here = run(move || store.has(&key)).await.map_err(failed)?;
        if !is_here {
            self.client.pull_blob(&source.repository, &descriptor, &path).await?;
        }
        let (store, name, key) = (self.store.clone(), source.name.clone(), digest.clone());
        let kept = run(move || {
            if !is_here {
                store.take(&path, &key)?;
            }
            store.link(&name, &key)
        });
        kept.await.map_err(failed)
    }

    /// Removes what was not used for longest, when there is more than may be kept.
    async fn make_room(&self, added: u64, now: Timestamp) {
        let known = || self.kept_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let total = known().map(|kept| kept.saturating_add(added));
        *known() = total;
        if total.is_some_and(|total| total <= self.keep_bytes) {
            return;
        }
        let (store, keep_bytes) = (self.store.clone(), self.keep_bytes);
        match run(move || evict::make_room(&store, keep_bytes, now)).await {
            Ok(left) => *known() = Some(left),
            Err(error) => tracing::warn!("no room was made for what is mirrored: {error}"),
        }
    }

    /// Waits until nobody else fetches the same.
    async fn alone(&self, key: &str) -> ApiResult<OwnedSemaphorePermit> {
        let semaphore = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            // What nobody waits for or holds is forgotten.
            flights.retain(|_, flight| Arc::strong_count(flight) > 1);
            Arc::clone(flights.entry(key.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let permit = semaphore.acquire_owned().await;
        permit.map_err(|error| ApiError::internal("waiting for a fetch", &error))
    }

    fn blocked_until(&self, registry: &str) -> Option<Timestamp> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner).get(registry).copied()
    }

    fn check_blocked(&self, source: &Source, now: Timestamp) -> ApiResult<()> {
        let left = self.blocked_until(&source.registry.name).map(|until| until.duration_since(now));
        match left.filter(|left| left.is_positive()) {
            Some(left) => Err(wait(source, left)),
            None => Ok(()),
        }
    }

    /// Remembers that a registry wants to be left alone.
    fn note(&self, source: &Source, error: &RegistryError, now: Timestamp) {
        let RegistryError::TooManyRequests { retry_after, .. } = error else { return };
        let asked = retry_after.and_then(|it| SignedDuration::try_from(it).ok());
        let until = now + asked.unwrap_or(BLOCKED).min(MAX_BLOCKED);
        let mut blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        blocked.insert(source.registry.name.clone(), until);
    }
}

/// Where it may block.
async fn run<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
