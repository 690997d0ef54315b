//! Registries, as the build's thread sees them: every call waits, and ends when the build is cancelled.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use sekisho_oci::{Descriptor, Manifest, Platform, media_type, parse_manifest};
use sekisho_registry::{Auth, BlobPush, Client, Pushed, Reference, RegistryError, Repository};
use sekisho_types::{Digest, ImageReference, RepositoryName};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::now;
use crate::git::Commits;
use crate::names::{Names, Resolved};
use crate::progress::{Event, Progress};
use crate::store::Store;
use crate::{BuildError, BuildOptions, Credential};

/// Layers that are sent at once: enough to fill a link of some latency, few for a registry to hold.
const UPLOADS_MAX: usize = 4;

/// A blob to push.
pub(crate) struct Upload {
    pub(crate) descriptor: Descriptor,
    /// In the store; not looked at when the registry has it.
    pub(crate) path: PathBuf,
    /// The image that it came from.
    pub(crate) origin: Option<ImageReference>,
}

/// A repository of the same registry, in which the image's blobs are.
fn neighbour<'a>(
    origin: Option<&'a ImageReference>,
    destination: &ImageReference,
) -> Option<&'a RepositoryName> {
    let near = |origin: &&ImageReference| {
        origin.registry == destination.registry && origin.repository != destination.repository
    };
    origin.filter(near).map(|origin| &origin.repository)
}

/// What a registry has of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As far as is known, nothing.
    New,
    /// Its manifests, and so its blobs: a registry takes no manifest whose blobs it does not have.
    There,
    /// All of it under its name, and pushing it again would change and tell nothing.
    Named,
}

/// Under which an image is pushed.
fn name_of(destination: &ImageReference, digest: &Digest) -> Reference {
    match &destination.tag {
        Some(tag) => Reference::Tag(tag.clone()),
        None => Reference::Digest(digest.clone()),
    }
}

/// A blob that is on its way; `None` when it did not get there.
type Sending = AbortOnDropHandle<Option<BlobPush>>;

/// Blobs that a registry has, by what it said of one manifest; asked for once.
type There = Arc<OnceCell<BTreeSet<Digest>>>;

/// Calls to registries.
pub(crate) struct Remote {
    handle: Handle,
    cancel: CancellationToken,
    client: Arc<Client>,
    names: Names,
    /// The same of commits.
    pub(crate) commits: Commits,
    progress: Arc<dyn Progress>,
    /// What is on its way before the image is done, by repository and digest.
    ahead: Mutex<HashMap<(String, Digest), Sending>>,
    /// What would be, while all that was found is what an earlier build made; see [`Self::begin`].
    held: Mutex<Option<Vec<(ImageReference, Upload)>>>,
    slots: Arc<Semaphore>,
    /// What the image has that stands under a name now, by that name.
    there: Mutex<HashMap<String, There>>,
    /// Repositories of which a blob was taken for being there by that alone.
    assumed: Arc<Mutex<BTreeSet<String>>>,
    store: Store,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn repository_key(destination: &ImageReference) -> String {
    format!("{}/{}", destination.registry, destination.repository)
}

impl Remote {
    pub(crate) fn new(
        handle: Handle,
        cancel: CancellationToken,
        options: &BuildOptions,
        progress: Arc<dyn Progress>,
        store: &Store,
    ) -> anyhow::Result<Self> {
        let known = options.registries.keyring.clone();
        let keyring = options.credentials.iter().fold(known, |keyring, (registry, one)| {
            let auth = match one {
                Credential::Basic { username, password } => {
                    Auth::Basic { username: username.clone(), password: password.clone() }
                }
                Credential::Bearer(token) => Auth::Bearer(token.clone()),
            };
            keyring.with(registry, auth)
        });
        let mut client = sekisho_registry::Options {
            mirrors: options.registries.mirrors.clone(),
            plain_http: options.registries.plain_http.clone(),
            ..sekisho_registry::Options::default()
        };
        for path in &options.registries.ca_files {
            let pem = std::fs::read(path)
                .with_context(|| format!("cannot read the certificates `{}`", path.display()))?;
            client.ca_pem.push(pem);
        }
        let client = Arc::new(Client::with_options(keyring, client));
        let (ahead, slots) = (Mutex::default(), Arc::new(Semaphore::new(UPLOADS_MAX)));
        let held = Mutex::new(Some(Vec::new()));
        let (names, commits) = (Names::default(), Commits::default());
        let (there, assumed) = (Mutex::default(), Arc::default());
        Ok(Self {
            handle,
            cancel,
            client,
            names,
            commits,
            progress,
            ahead,
            held,
            slots,
            there,
            assumed,
            store: store.clone(),
        })
    }

    /// Ends every call when it is set.
    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Where asynchronous work is done.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits for something that is not of a registry; `None` when the build was cancelled.
    pub(crate) fn run<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        self.handle.block_on(async {
            tokio::select! {
                // What was fetched by half is a file of the session.
                () = self.cancel.cancelled() => None,
                result = call => Some(result),
            }
        })
    }

    fn wait<T>(
        &self,
        call: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, CallError> {
        self.handle.block_on(async {
            tokio::select! {
                // Dropping a call closes its connection; what is half done by it is a temporary file,
                // which it removes.
                () = self.cancel.cancelled() => Err(CallError::Cancelled),
                result = call => result.map_err(CallError::Registry),
            }
        })
    }

    /// Finds the manifest of an image for a platform, the same one throughout the build. One that is named by digest,
    /// and was here before, needs no registry.
    pub(crate) fn resolve(
        &self,
        reference: &ImageReference,
        platform: &Platform,
        store: &Store,
    ) -> Result<Resolved, CallError> {
        self.names.resolve(reference, platform, |name| {
            if let Some(digest) = &name.digest
                && let Some(known) = Resolved::of_store(store, digest)
            {
                return Ok((digest.clone(), known));
            }
            let found = self.wait(self.client.resolve(name, platform))?;
            let sekisho_registry::Resolved { digest, media_type, bytes, root, .. } = found;
            Ok((root, Resolved { digest, manifest: bytes, media_type }))
        })
    }

    /// Downloads a blob; its digest is verified.
    pub(crate) fn fetch(
        &self,
        origin: Option<&ImageReference>,
        descriptor: &Descriptor,
        to: &Path,
    ) -> Result<(), BuildError> {
        let digest = &descriptor.digest;
        let origin = origin
            .with_context(|| format!("layer {digest} is gone from the cache; build without it"))?;
        let begun = now();
        let repository = Repository::of(origin);
        match self.wait(self.client.pull_blob(&repository, descriptor, to)) {
            Ok(()) => {}
            Err(CallError::Cancelled) => return Err(BuildError::Cancelled),
            Err(CallError::Registry(error)) => {
                let error = anyhow::Error::new(error);
                return Err(error.context(format!("cannot pull {digest} of {origin}")).into());
            }
        }
        self.progress.event(Event::Pulled {
            reference: origin.clone(),
            digest: digest.clone(),
            size_bytes: descriptor.size,
            duration: begun.elapsed(),
        });
        Ok(())
    }

    /// Whether the repository has the blob, or takes it from the one it came from.
    pub(crate) fn has(
        &self,
        destination: &ImageReference,
        digest: &Digest,
        origin: Option<&ImageReference>,
    ) -> Result<bool, CallError> {
        let repository = Repository::of(destination);
        self.wait(async {
            if self.client.has_blob(&repository, digest).await?.is_some() {
                return Ok(true);
            }
            match neighbour(origin, destination) {
                Some(other) => self.client.mount(&repository, digest, other).await,
                None => Ok(false),
            }
        })
    }

    /// Pushes a blob as soon as the image is known to be a new one. Waits for nothing, and tells no error.
    pub(crate) fn send_ahead(&self, destination: &ImageReference, upload: Upload) {
        if let Some(held) = &mut *lock(&self.held) {
            held.push((destination.clone(), upload));
            return;
        }
        self.send_now(destination, upload);
    }

    /// The image is a new one: what is pushed ahead begins. Until then nothing is, for a registry that has the
    /// image need not be asked for each of its blobs.
    pub(crate) fn begin(&self) {
        let held = lock(&self.held).take();
        for (destination, upload) in held.into_iter().flatten() {
            self.send_now(&destination, upload);
        }
    }

    /// What the registry has of an image. Not asked of a new one.
    pub(crate) fn standing<'a>(
        &self,
        destination: &ImageReference,
        root: &Digest,
        manifests: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Standing, CallError> {
        if lock(&self.held).is_none() {
            return Ok(Standing::New);
        }
        let repository = Repository::of(destination);
        let name = name_of(destination, root);
        // What is wrong with the registry, the push tells.
        match self.wait(self.client.standing(&repository, &name)) {
            Ok(Some(standing)) if standing.digest == *root => {
                return Ok(if standing.decides { Standing::There } else { Standing::Named });
            }
            Ok(_) | Err(CallError::Registry(_)) => {}
            Err(error) => return Err(error),
        }
        for manifest in manifests {
            let digest = Digest::sha256(manifest);
            match self.wait(self.client.has_manifest(&repository, &digest)) {
                Ok(true) => {}
                Ok(false) | Err(CallError::Registry(_)) => return Ok(Standing::New),
                Err(error) => return Err(error),
            }
        }
        Ok(Standing::There)
    }

    fn send_now(&self, destination: &ImageReference, upload: Upload) {
        let Upload { descriptor, path, origin } = upload;
        let key = (repository_key(destination), descriptor.digest.clone());
        let (client, slots) = (Arc::clone(&self.client), Arc::clone(&self.slots));
        let repository = Repository::of(destination);
        let other = neighbour(origin.as_ref(), destination).cloned();
        let there = Arc::clone(lock(&self.there).entry(destination.to_string()).or_default());
        let (assumed, store) = (Arc::clone(&self.assumed), self.store.clone());
        let destination = destination.clone();
        lock(&self.ahead).entry(key).or_insert_with(|| {
            AbortOnDropHandle::new(self.handle.spawn(async move {
                let _slot = slots.acquire_owned().await.ok()?;
                let (digest, size) = (&descriptor.digest, descriptor.size);
                let known = there.get_or_init(|| standing_blobs(&client, &destination, &store));
                if known.await.contains(digest) {
                    lock(&assumed).insert(repository_key(&destination));
                    return Some(BlobPush::Existed);
                }
                let other = other.as_ref();
                client.push_blob_of(&repository, digest, size, &path, other).await.ok()
            }))
        });
    }

    /// Whether a blob was taken for being there without being asked for; said once.
    pub(crate) fn assumed(&self, destination: &ImageReference) -> bool {
        lock(&self.assumed).remove(&repository_key(destination))
    }

    /// What came of a blob that was sent ahead.
    async fn sent_ahead(&self, destination: &ImageReference, digest: &Digest) -> Option<BlobPush> {
        let sending = lock(&self.ahead).remove(&(repository_key(destination), digest.clone()));
        sending?.await.ok()?
    }

    /// Pushes blobs, a few at a time.
    pub(crate) fn upload(
        &self,
        destination: &ImageReference,
        uploads: &[Upload],
    ) -> Result<(), CallError> {
        let repository = Repository::of(destination);
        self.wait(async {
            let pushes = uploads.iter().map(|upload| async {
                let Upload { descriptor, path, origin } = upload;
                let (digest, size) = (&descriptor.digest, descriptor.size);
                let other = neighbour(origin.as_ref(), destination);
                let how = match self.sent_ahead(destination, digest).await {
                    Some(how) => how,
                    None => {
                        self.client.push_blob_of(&repository, digest, size, path, other).await?
                    }
                };
                self.progress.event(Event::BlobPushed {
                    digest: digest.clone(),
                    size_bytes: size,
                    existed: how == BlobPush::Existed,
                });
                Ok(())
            });
            let mut pushes = futures_util::stream::iter(pushes).buffer_unordered(UPLOADS_MAX);
            while let Some(pushed) = pushes.next().await {
                pushed?;
            }
            Ok(())
        })
    }

    /// Pushes the manifest, which is where a registry decides.
    pub(crate) fn push_manifest(
        &self,
        destination: &ImageReference,
        manifest: &[u8],
        kind: &str,
    ) -> Result<Pushed, CallError> {
        let reference = name_of(destination, &Digest::sha256(manifest));
        let repository = Repository::of(destination);
        self.wait(self.client.push_manifest(&repository, &reference, manifest, kind))
    }
}

/// The blobs of the image that a name leads to now, where this machine made or pulled it: a registry takes no manifest whose
/// blobs it does not have, so they need not be asked for one by one.
async fn standing_blobs(
    client: &Client,
    destination: &ImageReference,
    store: &Store,
) -> BTreeSet<Digest> {
    let Some(tag) = &destination.tag else { return BTreeSet::new() };
    let tag = Reference::Tag(tag.clone());
    let Ok(Some(standing)) = client.standing(&Repository::of(destination), &tag).await else {
        return BTreeSet::new();
    };
    let manifest = std::fs::read(store.blob_path(&standing.digest)).ok();
    let manifest = manifest.filter(|bytes| Digest::sha256(bytes) == standing.digest);
    let manifest = manifest.and_then(|bytes| parse_manifest(&bytes, media_type::OCI_MANIFEST).ok());
    match manifest {
        Some(Manifest::Image(image)) => {
            let blobs = image.layers.into_iter().chain([image.config]);
            blobs.map(|blob| blob.digest).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Why a call brought nothing.
#[derive(Debug)]
pub(crate) enum CallError {
    Cancelled,
    Registry(RegistryError),
}
