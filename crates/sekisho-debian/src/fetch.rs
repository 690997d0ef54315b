//! Everything that is asked of a mirror. Nothing is used before its checksum was compared.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use lzma_rust2::XzReader;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::index::{MAX_INDEX_BYTES, Package, Packages};
use crate::release::{self, Listed, MAX_RELEASE_BYTES};
use crate::{Archive, DebianError, Sources, resolve};

/// Packages that are fetched at once.
const DOWNLOADS_MAX: usize = 8;

/// How often a fetch is tried. A mirror behind a proxy drops a connection now and then.
const TRIES: u32 = 4;

/// Before the second try; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// For a connection, and for the time without a byte.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a base will be made of, all of it signed for.
#[derive(Clone, Debug)]
pub struct Selection {
    /// In order of their names.
    pub packages: Vec<Package>,
    /// The archives that answered.
    pub sources: Sources,
    /// SHA-256 of the indexes, in hex, in the order of the archives.
    pub indexes: Vec<String>,
    /// When the newest of the releases was made, seconds since 1970.
    pub date: i64,
    /// Suites that the mirror does not have.
    pub missing: Vec<String>,
}

/// A client of mirrors. It heeds `http_proxy` and its relatives.
#[derive(Clone, Debug)]
pub struct Mirror {
    client: reqwest::Client,
    fetched: Arc<AtomicU64>,
}

impl Mirror {
    /// A client.
    ///
    /// # Errors
    /// When there is no TLS for it.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(DEADLINE)
            .read_timeout(DEADLINE)
            .user_agent(concat!("sekisho/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, fetched: Arc::default() })
    }

    /// How many bytes have come by now, also those that were of no use: for who waits.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// Reads the releases and indexes of `sources`, and picks the packages of a base with `wanted`.
    ///
    /// # Errors
    /// By variant. Only the first archive must be there; what is missing of the others is told.
    pub async fn select(
        &self,
        sources: &Sources,
        architecture: &str,
        wanted: &[String],
        now: Timestamp,
    ) -> Result<Selection, DebianError> {
        let mut packages = Packages::default();
        let mut selection = Selection {
            packages: Vec::new(),
            sources: Sources::default(),
            indexes: Vec::new(),
            date: 0,
            missing: Vec::new(),
        };
        for (position, archive) in sources.archives.iter().enumerate() {
            let (text, digest, date) = match self.index(archive, architecture, now).await {
                Err(DebianError::Status { status: 404, .. }) if position > 0 => {
                    selection.missing.push(archive.suite.clone());
                    continue;
                }
                other => other?,
            };
            packages.add(&text, &archive.url);
            selection.indexes.push(digest);
            selection.sources.archives.push(archive.clone());
            selection.date = selection.date.max(date);
        }
        let chosen = resolve::base(&packages, wanted)?;
        selection.packages = chosen.into_values().cloned().collect();
        Ok(selection)
    }

    /// The index of an archive, its SHA-256 as fetched, and the release's date.
    async fn index(
        &self,
        archive: &Archive,
        architecture: &str,
        now: Timestamp,
    ) -> Result<(String, String, i64), DebianError> {
        let keys = release::keyring(&archive.keyring)?;
        let folder = format!("{}/dists/{}", archive.url, archive.suite);
        let url = format!("{folder}/InRelease");
        let bytes = self.get(&url, MAX_RELEASE_BYTES).await?;
        let text = String::from_utf8_lossy(&bytes);
        let release = release::verify(&text, &url, archive, &keys, now)?;
        let names = ["xz", "gz"].map(|kind| format!("main/binary-{architecture}/Packages.{kind}"));
        let listed = names.iter().find_map(|name| release.file(name));
        let Some(listed) = listed.filter(|listed| listed.size <= MAX_INDEX_BYTES) else {
            return Err(DebianError::Release {
                url,
                suite: archive.suite.clone(),
                reason: format!("it lists no packages for {architecture}"),
            });
        };
        let path = match listed.path.rsplit_once('/') {
            Some((parent, _)) if release.by_hash => {
                format!("{parent}/by-hash/SHA256/{}", listed.sha256)
            }
            _ => listed.path.clone(),
        };
        let url = format!("{folder}/{path}");
        let bytes = self.get(&url, listed.size).await?;
        check(&url, &listed, &hex::encode(Sha256::digest(&bytes)), bytes.len() as u64)?;
        let text = decompress(&bytes, &listed.path)?;
        Ok((text, listed.sha256, release.date))
    }

    /// Brings packages into `folder`, each as the SHA-256 of its bytes and `.deb`. What is there is not
    /// fetched again.
    ///
    /// # Errors
    /// The first that cannot be had. What was fetched until then stays.
    pub async fn download(&self, packages: &[Package], folder: &Path) -> Result<(), DebianError> {
        let all = packages.iter().map(|package| self.download_one(package, folder));
        futures_util::stream::iter(all)
            .buffer_unordered(DOWNLOADS_MAX)
            .try_collect::<Vec<()>>()
            .await
            .map(drop)
    }

    async fn download_one(&self, package: &Package, folder: &Path) -> Result<(), DebianError> {
        let target = package_path(package, folder);
        // It has this name only since its checksum was right.
        if fs_err::metadata(&target).is_ok_and(|metadata| metadata.len() == package.size) {
            return Ok(());
        }
        let url = format!("{}/{}", package.url, package.filename);
        let listed = Listed {
            path: package.filename.clone(),
            sha256: package.sha256.clone(),
            size: package.size,
        };
        let part = target.with_extension("part");
        retried(async || {
            let mut file = tokio::fs::File::create(&part).await.map_err(at(&part))?;
            let mut hash = Sha256::new();
            let mut size = 0;
            let mut body = self.open(&url).await?;
            while let Some(chunk) = body.chunk().await.map_err(fetching(&url))? {
                size += chunk.len() as u64;
                self.fetched.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                if size > package.size {
                    return Err(DebianError::TooLarge {
                        url: url.clone(),
                        limit_bytes: package.size,
                    });
                }
                hash.update(&chunk);
                file.write_all(&chunk).await.map_err(at(&part))?;
            }
            file.flush().await.map_err(at(&part))?;
            check(&url, &listed, &hex::encode(hash.finalize()), size)
        })
        .await?;
        fs_err::rename(&part, &target).map_err(at(&target))
    }

    async fn open(&self, url: &str) -> Result<reqwest::Response, DebianError> {
        let response = self.client.get(url).send().await.map_err(fetching(url))?;
        match response.status().as_u16() {
            200 => Ok(response),
            status => Err(DebianError::Status { url: url.to_owned(), status }),
        }
    }

    async fn get(&self, url: &str, limit_bytes: u64) -> Result<Vec<u8>, DebianError> {
        retried(async || {
            let mut body = self.open(url).await?;
            let mut bytes = Vec::new();
            while let Some(chunk) = body.chunk().await.map_err(fetching(url))? {
                self.fetched.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                if bytes.len() as u64 + chunk.len() as u64 > limit_bytes {
                    return Err(DebianError::TooLarge { url: url.to_owned(), limit_bytes });
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(bytes)
        })
        .await
    }
}

/// Where [`Mirror::download`] puts a package.
pub fn package_path(package: &Package, folder: &Path) -> PathBuf {
    folder.join(&package.sha256).with_extension("deb")
}

/// Tries again after what may pass: a broken connection, a mirror that is busy.
async fn retried<T>(
    mut act: impl AsyncFnMut() -> Result<T, DebianError>,
) -> Result<T, DebianError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match act().await {
            Err(DebianError::Fetch { .. } | DebianError::Status { status: 429 | 500.., .. }) => {}
            other => return other,
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    act().await
}

fn fetching(url: &str) -> impl Fn(reqwest::Error) -> DebianError {
    move |source| DebianError::Fetch { url: url.to_owned(), source: source.without_url() }
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> DebianError {
    move |source| DebianError::File { path: path.to_owned(), source }
}

fn check(url: &str, listed: &Listed, digest: &str, size: u64) -> Result<(), DebianError> {
    if listed.sha256 == digest && listed.size == size {
        return Ok(());
    }
    Err(DebianError::Checksum {
        url: url.to_owned(),
        expected: format!("{} ({} bytes)", listed.sha256, listed.size),
        found: format!("{digest} ({size} bytes)"),
    })
}

fn decompress(bytes: &[u8], name: &str) -> Result<String, DebianError> {
    let mut text = Vec::new();
    let read = match name.rsplit_once('.') {
        Some((_, "xz")) => {
            XzReader::new(bytes, false).take(MAX_INDEX_BYTES + 1).read_to_end(&mut text)
        }
        _ => flate2::read::GzDecoder::new(bytes).take(MAX_INDEX_BYTES + 1).read_to_end(&mut text),
    };
    let bad = |reason: String| DebianError::Archive { name: name.to_owned(), reason };
    read.map_err(|error| bad(error.to_string()))?;
    if text.len() as u64 > MAX_INDEX_BYTES {
        return Err(bad(format!("it has more than {MAX_INDEX_BYTES} bytes")));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
