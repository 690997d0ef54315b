//! A bucket of an S3-compatible store, in blocking calls.
//!
//! Objects are written whole or not at all. Where two writers may meet, a write is conditional
//! (`If-None-Match: *`, `If-Match`): the store says who was first. Source: Amazon S3 API reference,
//! "Conditional writes".

mod large;

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path as Key;
use object_store::{
    ClientOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutMode,
    PutOptions, PutPayload, RetryConfig, UpdateVersion,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Runtime;

pub use self::large::{BucketReader, BucketWriter};

/// Longest time that a request is tried again for: the last try begins within it.
const RETRY_DEADLINE: Duration = Duration::from_secs(30);

/// [`BucketConfig::silence`] where nobody says otherwise.
pub const BUCKET_SILENCE: Duration = Duration::from_secs(60);

/// Size of a part of a large object, in bytes: S3 takes at most 10 000 parts of at least 5 MiB, so
/// this is good for 80 GB.
pub const PART_BYTES: usize = 8 * 1024 * 1024;

/// The variables by which AWS tells a program who it is: a service account's role (IRSA), EKS Pod Identity, a task of
/// ECS. Keys that live long are not among them.
pub const BUCKET_IDENTITY: [&str; 6] = [
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
];

/// Where a bucket is, and who we are there.
#[derive(Clone, Debug)]
pub struct BucketConfig {
    /// Of the bucket.
    pub name: String,
    /// What all keys begin with; empty for none.
    pub prefix: String,
    /// `https://…`, or `http://` on loopback; `None` for AWS.
    pub endpoint: Option<String>,
    /// Such as `eu-central-1`.
    pub region: String,
    /// `None`: what AWS gives the pod, the task or the machine.
    pub credentials: Option<BucketCredentials>,
    /// Where it gives it, of [`BUCKET_IDENTITY`]; without any, the machine's own is asked for.
    pub identity: Vec<(String, String)>,
    /// How long it may take to begin an answer, and within one to go on, before that is an error. As a
    /// whole an answer has no deadline: a large blob goes to a client as fast as that takes it.
    pub silence: Duration,
}

/// A key pair.
#[derive(Clone, Debug)]
pub struct BucketCredentials {
    /// Names the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: SecretString,
}

/// What is known about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// In bytes.
    pub size: u64,
    /// When it was written.
    pub modified: SystemTime,
}

/// A folder of a bucket. Cheap to clone.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Key,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({}, `{}`)", self.store, self.prefix)
    }
}

/// The threads that talk to buckets. A caller may be on a thread of another runtime, which must not
/// wait for itself.
fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).thread_name("bucket").enable_all().build().ok()
    });
    runtime.as_ref().ok_or_else(|| io::Error::other("no threads to talk to the bucket"))
}

/// Waits for what runs on those threads.
fn wait<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> io::Result<Result<T, Error>> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    runtime()?.spawn(async move {
        // Whoever waited may be gone.
        let _ = sender.send(work.await);
    });
    receiver.recv().map_err(|_| io::Error::other("a request to the bucket was dropped"))
}

/// `TimedOut` and `NotConnected` are the bucket's own: it is there again some time.
fn failed(error: Error) -> io::Error {
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = source {
        match cause.downcast_ref::<HttpError>().map(HttpError::kind) {
            Some(HttpErrorKind::Timeout) => return io::Error::new(io::ErrorKind::TimedOut, error),
            Some(_) => return io::Error::new(io::ErrorKind::NotConnected, error),
            None => {}
        }
        // Fault-injecting stores of tests say what happened in the words of `std::io`.
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return io::Error::new(io.kind(), error);
        }
        source = cause.source();
    }
    io::Error::new(kind, error)
}

/// `None` for what is not there.
fn found<T>(result: Result<T, Error>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

impl Bucket {
    /// A bucket of an S3-compatible store. Nothing is asked of it yet.
    ///
    /// # Errors
    /// The configuration makes no sense.
    pub fn s3(config: &BucketConfig) -> io::Result<Self> {
        let retry_timeout = RETRY_DEADLINE.min(config.silence);
        let retry = RetryConfig { retry_timeout, ..RetryConfig::default() };
        let is_http = config.endpoint.as_deref().is_some_and(|url| url.starts_with("http://"));
        let client = ClientOptions::new().with_timeout_disabled().with_allow_http(is_http);
        let client = client.with_read_timeout(config.silence);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.name)
            .with_region(&config.region)
            .with_retry(retry)
            .with_client_options(client)
            .with_allow_http(is_http);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        match &config.credentials {
            Some(credentials) => {
                builder = builder
                    .with_access_key_id(&credentials.access_key_id)
                    .with_secret_access_key(credentials.secret_access_key.expose_secret());
            }
            // Else the machine's own, which the builder asks for by itself.
            None => {
                for (key, value) in &config.identity {
                    builder = builder.with_config(key.parse().map_err(failed)?, value);
                }
            }
        }
        let store = builder.build().map_err(failed)?;
        Ok(Self::on(Arc::new(store), &config.prefix))
    }

    /// Any other store, such as one in memory.
    pub fn on(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self { store, prefix: Key::from(prefix) }
    }

    /// A folder of this one.
    #[must_use]
    pub fn below(&self, folder: &str) -> Self {
        Self { store: Arc::clone(&self.store), prefix: self.key(folder) }
    }

    fn key(&self, name: &str) -> Key {
        // Parts of `Key` never hold a slash; ours are typed names, so they need no escape.
        let parts = name.split('/').filter(|part| !part.is_empty());
        parts.fold(self.prefix.clone(), |key, part| key.join(part))
    }

    /// The object and its version; `None` when it is not there.
    pub fn get(&self, name: &str) -> io::Result<Option<(Bytes, UpdateVersion)>> {
        let (store, key) = (Arc::clone(&self.store), self.key(name));
        found(wait(async move {
            let result = store.get(&key).await?;
            let (e_tag, version) = (result.meta.e_tag.clone(), result.meta.version.clone());
            Ok((result.bytes().await?, UpdateVersion { e_tag, version }))
        })?)
    }

    /// Objects in the order of their names, all read at once; `None` for each that is not there.
    pub fn get_all(&self, names: &[String]) -> io::Result<Vec<Option<Bytes>>> {
        let store = Arc::clone(&self.store);
        let keys: Vec<Key> = names.iter().map(|name| self.key(name)).collect();
        let read = wait(async move {
            let one = async |key: Key| match store.get(&key).await {
                Ok(found) => found.bytes().await.map(Some),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            };
            futures_util::future::try_join_all(keys.into_iter().map(one)).await
        })?;
        read.map_err(failed)
    }

    /// What is known about an object; `None` when it is not there.
    pub fn head(&self, name: &str) -> io::Result<Option<Meta>> {
        let (store, key) = (Arc::clone(&self.store), self.key(name));
        let meta = found(wait(async move { store.head(&key).await })?)?;
        Ok(meta.map(|meta| Meta { size: meta.size, modified: meta.last_modified.into() }))
    }

    /// Writes an object, whatever is there.
    pub fn put(&self, name: &str, bytes: Bytes) -> io::Result<()> {
        self.put_if(name, bytes, PutMode::Overwrite).map(drop)
    }

    /// Writes an object if the condition holds; `false` when it does not.
    ///
    /// A request whose answer was lost is sent again, and then finds what it wrote itself: that
    /// counts as written.
    pub fn put_if(&self, name: &str, bytes: Bytes, mode: PutMode) -> io::Result<bool> {
        let (store, key, payload) = (Arc::clone(&self.store), self.key(name), bytes.clone());
        let options = PutOptions { mode, ..PutOptions::default() };
        let result =
            wait(
                async move { store.put_opts(&key, PutPayload::from_bytes(payload), options).await },
            )?;
        match result {
            Ok(_) => Ok(true),
            Err(
                Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. },
            ) => Ok(self.get(name)?.is_some_and(|(there, _)| there == bytes)),
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes an object; `false` when it was not there.
    pub fn delete(&self, name: &str) -> io::Result<bool> {
        // S3 does not say whether there was one.
        let was_there = self.head(name)?.is_some();
        let (store, key) = (Arc::clone(&self.store), self.key(name));
        found(wait(async move { store.delete(&key).await })?)?;
        Ok(was_there)
    }

    /// Copies an object of another folder of the same store; `false` when it is not there.
    pub fn copy_from(&self, other: &Self, from: &str, to: &str) -> io::Result<bool> {
        let (store, from, to) = (Arc::clone(&self.store), other.key(from), self.key(to));
        Ok(found(wait(async move { store.copy(&from, &to).await })?)?.is_some())
    }

    /// Whether both are folders of one store.
    pub fn is_same_store(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.store, &other.store)
    }

    /// Every object below a folder: its name there, and what is known about it. In order.
    pub fn list(&self, folder: &str) -> io::Result<Vec<(String, Meta)>> {
        let (store, prefix) = (Arc::clone(&self.store), self.key(folder));
        let mut all = wait(async move {
            let mut names = Vec::new();
            let mut listing = store.list(Some(&prefix));
            while let Some(meta) = listing.try_next().await? {
                let Some(rest) = meta.location.prefix_match(&prefix) else { continue };
                let name: Vec<String> = rest.map(|part| part.as_ref().to_owned()).collect();
                let about = Meta { size: meta.size, modified: meta.last_modified.into() };
                names.push((name.join("/"), about));
            }
            Ok(names)
        })?
        .map_err(failed)?;
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// The names directly in a folder, of objects and of folders. In order.
    pub fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let (store, prefix) = (Arc::clone(&self.store), self.key(folder));
        let listed = wait(async move { store.list_with_delimiter(Some(&prefix)).await })?;
        let listed = listed.map_err(failed)?;
        let objects = listed.objects.iter().map(|meta| &meta.location);
        let names = objects.chain(&listed.common_prefixes).filter_map(|key| key.filename());
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// A part of an object as a stream; `None` when it is not there.
    pub async fn stream(
        &self,
        name: &str,
        first: u64,
        length: u64,
    ) -> io::Result<Option<BoxStream<'static, io::Result<Bytes>>>> {
        if length == 0 {
            return Ok(Some(futures_util::stream::empty().boxed()));
        }
        let (store, key) = (Arc::clone(&self.store), self.key(name));
        let range = Some(GetRange::Bounded(first..first.saturating_add(length)));
        let options = GetOptions { range, ..GetOptions::default() };
        let task = runtime()?.spawn(async move { store.get_opts(&key, options).await });
        let result = found(task.await.map_err(io::Error::other)?)?;
        Ok(result.map(|result| result.into_stream().map_err(failed).boxed()))
    }
}
