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

mod decide;
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
use sekisho_types::{Digest, RepositoryName, Tag};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::decide::{Ages, Decision, Observed, decide, serves_stale};
use self::store::{BaseRecord, Store, TagRecord};
use crate::error::{ApiError, ApiResult, Code, OrFail as _, blocking};

pub(crate) use serve::serve;

/// Largest blob that is fetched, in bytes: layers of large models are below it.
const MAX_BLOB_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// How long a registry is left alone that does not say for how long.
const BLOCKED: SignedDuration = SignedDuration::from_secs(60);

/// Longest time that a registry can ask for.
const MAX_BLOCKED: SignedDuration = SignedDuration::from_hours(6);

/// A registry that is mirrored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirroredRegistry {
    /// What clients call it, the first part of a name at the gate: `docker.io`.
    pub name: String,
    /// Where it is, host and port; `None`: at its name.
    #[serde(default)]
    pub address: Option<String>,
    /// Which repositories: `library/debian`, or `library/*` for all below.
    pub allow: Vec<String>,
    /// How long a tag is served without asking, in minutes.
    #[serde(default = "fresh_minutes")]
    pub fresh_minutes: u32,
    /// How old a tag may be that is served when the registry cannot be asked, in hours; 0: never.
    #[serde(default = "stale_hours")]
    pub stale_hours: u32,
}

const fn fresh_minutes() -> u32 {
    60
}

const fn stale_hours() -> u32 {
    168
}

/// What a gate mirrors, and with what it asks.
#[derive(Clone, Debug)]
pub struct MirrorConfig {
    /// The registries.
    pub registries: Vec<MirroredRegistry>,
    /// Asks them; its keyring has the credentials.
    pub client: Arc<Client>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    registry: Vec<MirroredRegistry>,
}

/// Reads a file of mirrored registries, `[[registry]]` with the fields of [`MirroredRegistry`].
///
/// # Errors
/// `line:column: message`: no TOML, an unknown or missing field, a name that cannot stand in a path.
pub fn load_mirrored(text: &str) -> Result<Vec<MirroredRegistry>, String> {
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        let before = text.get(..error.span().unwrap_or_default().start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        format!("{line}:{column}: {}", error.message())
    })?;
    check(&raw.registry)?;
    Ok(raw.registry)
}

fn check(registries: &[MirroredRegistry]) -> Result<(), String> {
    for (position, registry) in registries.iter().enumerate() {
        let name = &registry.name;
        if name.contains('/') || name.parse::<RepositoryName>().is_err() || !name.contains('.') {
            return Err(format!("`{name}` is no host name that can stand in a path"));
        }
        if registries[..position].iter().any(|earlier| earlier.name == *name) {
            return Err(format!("`{name}` stands there twice"));
        }
        if registry.allow.is_empty() {
            return Err(format!("`{name}` allows no repository; say which: `library/*`"));
        }
    }
    Ok(())
}

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

/// The mirror of a gate.
pub(crate) struct Mirror {
    registries: Vec<MirroredRegistry>,
    client: Arc<Client>,
    store: Store,
    blocked: Mutex<HashMap<String, Timestamp>>,
    /// One permit each: whoever holds it fetches, the others wait for what it finds.
    flights: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Mirror {
    pub(crate) fn open(dir: &Path, config: MirrorConfig) -> io::Result<Self> {
        check(&config.registries).map_err(io::Error::other)?;
        Ok(Self {
            registries: config.registries,
            client: config.client,
            store: Store::open(dir)?,
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
        let kept = tokio::task::spawn_blocking(move || {
            store.put_manifest(&name, &key, &media_type, &bytes)
        });
        kept.await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|source| RegistryError::File { path: "manifest".into(), source })?;
        if let Manifest::Image(image) = manifest
            && sekisho_oci::media_type::is_image_config(&image.config.media_type)
        {
            let config = self.client.config(&source.repository, &image.config).await?;
            self.note_base(source, reference, &digest, &config);
        }
        Ok(digest)
    }

    /// Remembers an image as a base. That it cannot be written down costs a fact, not the pull.
    fn note_base(
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
        if let Err(error) = self.store.put_base(&record) {
            tracing::warn!("a base is not known: {error}");
        }
    }

    /// A blob, fetched and verified if it is not here.
    async fn blob(
        &self,
        source: &Source,
        digest: &Digest,
        now: Timestamp,
    ) -> ApiResult<std::path::PathBuf> {
        let _one = self.alone(&format!("{}#{digest}", source.name)).await?;
        let (store, name, key) = (self.store.clone(), source.name.clone(), digest.clone());
        let (path, is_here) = blocking("looking for a blob", move || {
            let path = store.blob(&key).or_fail("looking for a blob")?;
            let is_here = store.holds(&name, &key).or_fail("looking for a blob")?
                && path.try_exists().or_fail("looking for a blob")?;
            Ok((path, is_here))
        })
        .await?;
        if is_here {
            return Ok(path);
        }
        self.check_blocked(source, now)?;
        let pulled = async {
            // Asked for again in each repository: what one has says nothing about another.
            let size = self.client.has_blob(&source.repository, digest).await?;
            let missing = || RegistryError::NotFound { what: format!("{}@{digest}", source.name) };
            let size = size.ok_or_else(missing)?;
            if size > MAX_BLOB_BYTES {
                return Err(missing());
            }
            if !path.exists() {
                let mut descriptor =
                    Descriptor::of(sekisho_oci::media_type::OCI_LAYER, digest.hex().as_bytes());
                descriptor.digest = digest.clone();
                descriptor.size = size;
                self.client.pull_blob(&source.repository, &descriptor, &path).await?;
            }
            Ok(())
        };
        if let Err(error) = pulled.await {
            self.note(source, &error, now);
            return Err(failed(source, &error, Code::BlobUnknown));
        }
        let (store, name, digest) = (self.store.clone(), source.name.clone(), digest.clone());
        blocking("keeping a blob", move || store.link(&name, &digest).or_fail("keeping a blob"))
            .await?;
        Ok(path)
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

impl MirroredRegistry {
    fn ages(&self) -> Ages {
        Ages {
            fresh: SignedDuration::from_mins(self.fresh_minutes.into()),
            stale: SignedDuration::from_hours(self.stale_hours.into()),
        }
    }
}

/// `library/debian` allows itself, `library/*` all below, `*` everything.
fn allows(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(above) if above.ends_with('/') => name.starts_with(above),
        _ => pattern == name,
    }
}

/// Whether the registry may only be away, so that what is kept may be served.
fn may_be_away(error: &RegistryError) -> bool {
    matches!(
        error,
        RegistryError::TooManyRequests { .. }
            | RegistryError::Unavailable { .. }
            | RegistryError::Transport { .. }
            | RegistryError::Deadline { .. }
    )
}

fn wait(source: &Source, left: SignedDuration) -> ApiError {
    let message = format!("{} asks to be left alone for a while", source.registry.name);
    let seconds = left.as_secs().max(1).to_string();
    ApiError::new(Code::TooManyRequests, message).with_retry_after(&seconds)
}

/// What a client is told when the other registry did not give what was asked for.
fn failed(source: &Source, error: &RegistryError, unknown: Code) -> ApiError {
    let name = &source.registry.name;
    tracing::warn!(repository = %source.name, "mirrored registry: {error}");
    match error {
        RegistryError::NotFound { .. } => {
            ApiError::new(unknown, format!("{name} has no such content"))
        }
        RegistryError::Denied { .. } | RegistryError::Unauthorized { .. } => {
            ApiError::new(Code::Denied, format!("{name} does not let this gate have it"))
        }
        RegistryError::TooManyRequests { retry_after, .. } => {
            let asked = retry_after.and_then(|it| SignedDuration::try_from(it).ok());
            wait(source, asked.unwrap_or(BLOCKED).min(MAX_BLOCKED))
        }
        RegistryError::Digest { .. } | RegistryError::Size { .. } => {
            let message = format!("{name} sent other content than it was asked for");
            ApiError::new(Code::Unavailable, message).with_status(http::StatusCode::BAD_GATEWAY)
        }
        _ => ApiError::new(Code::Unavailable, format!("{name} cannot be asked now")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_or_refused_with_its_place() {
        let good = "[[registry]]\nname = \"docker.io\"\nallow = [\"library/*\"]\n";
        let read = load_mirrored(good).unwrap();
        assert_eq!((read[0].fresh_minutes, read[0].stale_hours), (60, 168));
        for (text, want) in [
            (good.replace("allow", "alow"), "3:1: unknown field `alow`"),
            (good.replace("\"library/*\"", ""), "`docker.io` allows no repository"),
            (good.replace("docker.io", "docker.io/x"), "`docker.io/x` is no host name"),
            (good.replace("docker.io", "docker"), "`docker` is no host name"),
            (good.replace("docker.io", "127.0.0.1:5000"), "`127.0.0.1:5000` is no host name"),
            (format!("{good}{good}"), "`docker.io` stands there twice"),
        ] {
            let error = load_mirrored(&text).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn patterns_allow_whole_parts() {
        for (pattern, name, want) in [
            ("library/debian", "library/debian", true),
            ("library/debian", "library/debian-evil", false),
            ("library/debian", "library/debian/x", false),
            ("library/*", "library/debian", true),
            ("library/*", "library2/debian", false),
            ("library/*", "library", false),
            ("lib*", "library/debian", false),
            ("*", "a/b", true),
        ] {
            assert_eq!(allows(pattern, name), want, "{pattern} {name}");
        }
    }
}
