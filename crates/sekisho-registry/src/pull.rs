//! Pull.

use std::path::Path;

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Response, StatusCode};
use sha2::{Digest as _, Sha256, Sha512};

use sekisho_oci::{
    Descriptor, ImageConfig, ImageManifest, MAX_CONFIG_BYTES, MAX_MANIFEST_BYTES, Manifest,
    Platform, media_type, parse_manifest,
};
use sekisho_types::{Algorithm, Digest, ImageReference};

use crate::endpoint::{Reference, Repository};
use crate::error::RegistryError;
use crate::http::{Build, Client, Request, Scope};

/// A manifest as the registry sent it.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Of the bytes.
    pub digest: Digest,
    /// As the registry said, without parameters.
    pub media_type: String,
    /// As sent.
    pub bytes: Vec<u8>,
    /// What they say.
    pub manifest: Manifest,
}

/// The image of one platform.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Of the image's manifest.
    pub digest: Digest,
    /// Of the image's manifest.
    pub media_type: String,
    /// As sent.
    pub bytes: Vec<u8>,
    /// What they say.
    pub manifest: ImageManifest,
    /// The digest that the reference itself has: of the index where there is one.
    pub root: Digest,
}

impl Client {
    /// What an image reference is now, for a platform.
    pub async fn resolve(
        &self,
        image: &ImageReference,
        platform: &Platform,
    ) -> Result<Resolved, RegistryError> {
        let repository = Repository::of(image);
        let not_found = || RegistryError::NotFound { what: image.to_string() };
        let reference = Reference::of(image).ok_or_else(not_found)?;
        let root = self.manifest(&repository, &reference).await?;
        let mut current = root.clone();
        // An index may hold an index; real ones do not, and an endless chain is no image.
        for _ in 0..3 {
            let index = match current.manifest {
                Manifest::Image(manifest) => {
                    let Fetched { digest, media_type, bytes, .. } = current;
                    let root = root.digest;
                    return Ok(Resolved { digest, media_type, bytes, manifest, root });
                }
                Manifest::Index(index) => index,
            };
            let Some(chosen) = index.choose(platform) else {
                let platforms = index.manifests.iter().filter_map(|entry| entry.platform.as_ref());
                let mut available: Vec<String> = platforms.map(Platform::to_string).collect();
                available.retain(|platform| platform != "unknown/unknown");
                let (what, platform) = (image.to_string(), platform.to_string());
                return Err(RegistryError::Platform { what, platform, available });
            };
            current = self.manifest(&repository, &Reference::Digest(chosen.digest.clone())).await?;
        }
        Err(self.protocol(&image.registry, "an index leads to indexes only"))
    }

    /// A manifest or index. Its digest is checked when it was asked for by digest, and against what
    /// the registry says. Mirrors are asked first.
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Fetched, RegistryError> {
        for mirror in self.mirrors(repository) {
            match self.manifest_of(&mirror, reference).await {
                Ok(found) => return Ok(found),
                Err(error) => tracing::debug!(%error, mirror = mirror.registry, "asking on"),
            }
        }
        self.manifest_of(repository, reference).await
    }

    async fn manifest_of(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Fetched, RegistryError> {
        let what = display(repository, reference);
        let request = Request {
            repository,
            scope: &Scope::pull(repository),
            url: self.url(repository, &format!("manifests/{reference}"))?,
            deadline: self.options.answer_deadline,
            what: what.clone(),
            build: &|http, url| {
                Ok(http.get(url).header(ACCEPT, media_type::ACCEPT_MANIFESTS.join(", ")))
            },
        };
        let response = self.send(request).await?;
        let registry = &repository.registry;
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(media_type::essence)
            .ok_or_else(|| self.protocol(registry, "a manifest has no `Content-Type`"))?;
        let said = content_digest(&response);
        let bytes = self.body(registry, response, MAX_MANIFEST_BYTES).await?;
        let expected = match reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(_) => said,
        };
        let digest = match expected {
            Some(expected) => {
                let found = digest_of(expected.algorithm(), &bytes);
                if found != expected {
                    return Err(RegistryError::Digest { expected, found });
                }
                found
            }
            None => Digest::sha256(&bytes),
        };
        let manifest = parse_manifest(&bytes, &content_type)
            .map_err(|source| RegistryError::Manifest { what, source })?;
        Ok(Fetched { digest, media_type: content_type, bytes, manifest })
    }

    /// The digest of a manifest as the registry says it, without the manifest: a HEAD, which registries
    /// do not count against a limit. `None` when it does not say.
    pub async fn manifest_digest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Digest>, RegistryError> {
        let scope = Scope::pull(repository);
        Ok(content_digest(&self.head_manifest(repository, &scope, reference).await?))
    }

    /// What the registry says about a manifest, without the manifest.
    pub(crate) async fn head_manifest(
        &self,
        repository: &Repository,
        scope: &Scope,
        reference: &Reference,
    ) -> Result<Response, RegistryError> {
        let request = Request {
            repository,
            scope,
            url: self.url(repository, &format!("manifests/{reference}"))?,
            deadline: self.options.answer_deadline,
            what: display(repository, reference),
            build: &|http, url| {
                Ok(http.head(url).header(ACCEPT, media_type::ACCEPT_MANIFESTS.join(", ")))
            },
        };
        self.send(request).await
    }

    /// The config of an image.
    pub async fn config(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<ImageConfig, RegistryError> {
        let bytes = self.blob_bytes(repository, descriptor, MAX_CONFIG_BYTES).await?;
        ImageConfig::parse(&bytes).map_err(|source| RegistryError::Config {
            what: format!("{repository}@{}", descriptor.digest),
            source,
        })
    }

    /// A small blob, of `limit` bytes at most.
    pub async fn blob_bytes(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: usize,
    ) -> Result<Vec<u8>, RegistryError> {
        for mirror in self.mirrors(repository) {
            if let Ok(bytes) = self.blob_bytes_of(&mirror, descriptor, limit).await {
                return Ok(bytes);
            }
        }
        self.blob_bytes_of(repository, descriptor, limit).await
    }

    async fn blob_bytes_of(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: usize,
    ) -> Result<Vec<u8>, RegistryError> {
        let Descriptor { digest, size, .. } = descriptor;
        let build = |http: &reqwest::Client, url| Ok(http.get(url));
        let scope = Scope::pull(repository);
        let response = self.send(self.blob_request(repository, &scope, digest, &build)?).await?;
        let bytes = self.body(&repository.registry, response, limit).await?;
        if bytes.len() as u64 != *size {
            let (digest, expected, found) = (digest.clone(), *size, bytes.len() as u64);
            return Err(RegistryError::Size { digest, expected, found });
        }
        let found = digest_of(digest.algorithm(), &bytes);
        if found != *digest {
            return Err(RegistryError::Digest { expected: digest.clone(), found });
        }
        Ok(bytes)
    }

    /// Whether a blob is there: its size in bytes, 0 when the registry does not say.
    pub async fn has_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>, RegistryError> {
        self.has_blob_as(repository, &Scope::pull(repository), digest).await
    }

    pub(crate) async fn has_blob_as(
        &self,
        repository: &Repository,
        scope: &Scope,
        digest: &Digest,
    ) -> Result<Option<u64>, RegistryError> {
        let build = |http: &reqwest::Client, url| Ok(http.head(url));
        let request = self.blob_request(repository, scope, digest, &build)?;
        match self.send(request).await {
            Ok(response) if response.status() == StatusCode::OK => {
                let length = response.headers().get(CONTENT_LENGTH);
                Ok(Some(length.and_then(|v| v.to_str().ok()?.parse().ok()).unwrap_or(0)))
            }
            Ok(_) | Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn blob_request<'a>(
        &self,
        repository: &'a Repository,
        scope: &'a Scope,
        digest: &Digest,
        build: &'a Build<'a>,
    ) -> Result<Request<'a>, RegistryError> {
        Ok(Request {
            repository,
            scope,
            url: self.url(repository, &format!("blobs/{digest}"))?,
            deadline: self.options.answer_deadline,
            what: format!("{repository}@{digest}"),
            build,
        })
    }

    /// Fetches a blob into `file`, which then has exactly the descriptor's bytes or is not there.
    ///
    /// See [`crate::blob`] for how. Mirrors are asked first; what they send is held to the digest as well.
    pub async fn pull_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        file: &Path,
    ) -> Result<(), RegistryError> {
        for mirror in self.mirrors(repository) {
            match crate::blob::pull(self, &mirror, descriptor, file).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::debug!(%error, mirror = mirror.registry, "asking on"),
            }
        }
        crate::blob::pull(self, repository, descriptor, file).await
    }

    /// The same repository at the mirrors of its registry.
    fn mirrors(&self, repository: &Repository) -> Vec<Repository> {
        let mirrors = self.options.mirrors.get(&repository.registry).into_iter().flatten();
        let at = |registry: &String| Repository {
            registry: registry.clone(),
            name: repository.name.clone(),
        };
        mirrors.map(at).collect()
    }
}

/// A digest in the making.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hash) => Digest::from_sha256(hash.finalize().into()),
            Self::Sha512(hash) => Digest::from_sha512(hash.finalize().into()),
        }
    }
}

pub(crate) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// `Docker-Content-Digest`, where it is one.
pub(crate) fn content_digest(response: &reqwest::Response) -> Option<Digest> {
    response.headers().get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

/// `repository:tag` or `repository@digest`.
pub(crate) fn display(repository: &Repository, reference: &Reference) -> String {
    let separator = match reference {
        Reference::Tag(_) => ':',
        Reference::Digest(_) => '@',
    };
    format!("{repository}{separator}{reference}")
}
