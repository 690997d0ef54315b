//! Golden bases: `FROM sekisho.local/debian:bookworm`, made here of the distribution's own packages.
//!
//! ```text
//!  sekisho-debian   signed indexes ──▶ the packages of a base, each with its checksum
//!  bootstrap        unpacked by `tree`, then installed by their own dpkg in the sandbox
//!  store            the layer, config and manifest as those of any image; a record of what is in it
//! ```
//!
//! A base is made once, and stays as it is until it is refreshed: so builds are the same from day to day,
//! and need no network for it. The same indexes give the same bytes on every machine.
//!
//! The image holds no mirror's name. A RUN on top of a base sees apt's sources as a file in memory.

mod bootstrap;

use std::path::PathBuf;
use std::sync::PoisonError;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use sekisho_debian::index::PackageId;
use sekisho_debian::{DebianError, Mirror, Sources};
use sekisho_dockerfile::Span;
use sekisho_oci::{ImageConfig, ImageManifest, Platform};
use sekisho_sandbox::{Control, Isolation, Launcher, MemoryFile, Mount, SecretBytes};
use sekisho_types::{Digest, Hint, ImageReference};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::BuildError;
use crate::engine::Engine;
use crate::image::Layer;
use crate::progress::{Event, Progress};
use crate::store::{Kind, Session, Store};

/// The registry that is none.
pub const GOLDEN_REGISTRY: &str = "sekisho.local";

/// What can be built: the distribution's code names.
pub const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// In every base besides what the distribution requires: so that a RUN can install.
const WANTED: &str = "apt";

/// Changes when the same packages could give another base than before.
const DOMAIN: &str = "sekisho.base.v1";

/// Where apt reads the sources that a RUN is given.
const SOURCES_FILE: &str = "/etc/apt/sources.list.d/sekisho.sources";

/// Where packages come from.
#[derive(Clone, Debug)]
pub struct DebianOptions {
    /// The mirror, such as `http://mirror.example/debian`; this machine's apt sources without.
    pub mirror: Option<String>,
    /// Keys of the mirror; Debian's own without.
    pub keyring: Option<PathBuf>,
    /// Takes a release whose time has passed.
    pub allow_expired: bool,
    /// apt's folder on this machine.
    pub apt_dir: PathBuf,
}

impl Default for DebianOptions {
    fn default() -> Self {
        Self {
            mirror: None,
            keyring: None,
            allow_expired: false,
            apt_dir: PathBuf::from("/etc/apt"),
        }
    }
}

/// A base that was made, and all that it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// `sekisho.local/debian:bookworm`.
    pub reference: String,
    /// Which machines it is for.
    pub architecture: String,
    /// The image's name for ever.
    pub manifest_digest: Digest,
    /// SHA-256 of the package indexes, in hex, by archive.
    pub indexes: Vec<String>,
    /// The archives, `URL SUITE`.
    pub archives: Vec<String>,
    /// When the newest of them was made, seconds since 1970.
    pub date: i64,
    /// Compressed, in bytes.
    pub size_bytes: u64,
    /// Everything that is installed, by name.
    pub packages: Vec<PackageId>,
    #[serde(rename = "layer")]
    diff_id: Digest,
}

/// What a RUN on a base gets, by the base's layer.
#[derive(Debug, Serialize, Deserialize)]
struct AptSources {
    text: String,
}

/// What making a base works with; parts of an [`Engine`], or of [`bases`].
pub(crate) struct Workshop<'a> {
    pub(crate) store: &'a Store,
    pub(crate) session: &'a Session,
    pub(crate) handle: &'a Handle,
    pub(crate) cancel: &'a CancellationToken,
    pub(crate) control: &'a Control,
    pub(crate) launcher: &'a Launcher,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) isolation: Isolation,
    pub(crate) options: &'a DebianOptions,
}

/// Which folder, and what with.
#[derive(Clone, Debug)]
pub struct BaseOptions {
    /// As [`BuildOptions::cache_dir`](crate::BuildOptions::cache_dir).
    pub cache_dir: PathBuf,
    /// As [`BuildOptions::launcher`](crate::BuildOptions::launcher).
    pub launcher: Launcher,
    /// Where packages come from.
    pub debian: DebianOptions,
    /// Ends the work.
    pub cancel: CancellationToken,
}

/// The bases of a cache folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(cache_dir: &std::path::Path) -> anyhow::Result<Vec<Base>> {
    let store = Store::open(cache_dir)?;
    let mut bases: Vec<Base> = store.records(Kind::Base)?;
    bases.sort_by(|one, other| one.reference.cmp(&other.reference));
    Ok(bases)
}

/// Makes a base, or finds it; with `refresh`, looks for newer packages first.
///
/// # Errors
/// A [`DebianError`], what its packages' scripts say, or the machine; cancelled.
pub async fn make(
    options: BaseOptions,
    suite: String,
    refresh: bool,
    progress: std::sync::Arc<dyn Progress>,
) -> anyhow::Result<Base> {
    let control = Control::new().context("cannot prepare the sandbox")?;
    let handle = Handle::current();
    let cancel = options.cancel.clone();
    let ended = control.clone();
    let work = tokio::task::spawn_blocking(move || {
        let store = Store::open(&options.cache_dir)?;
        let session = store.session()?;
        let workshop = Workshop {
            store: &store,
            session: &session,
            handle: &handle,
            cancel: &options.cancel,
            control: &control,
            launcher: &options.launcher,
            progress: &*progress,
            isolation: options.launcher.choose(session.dir())?,
            options: &options.debian,
        };
        workshop.base(&suite, refresh).map(|(base, _)| base)
    });
    let mut work = std::pin::pin!(work);
    // Both arms are cancel-safe: a token, and a handle that is polled again below.
    let done = tokio::select! {
        done = &mut work => done,
        () = cancel.cancelled() => {
            ended.kill();
            work.await
        }
    };
    done.context("the thread that makes the base panicked")?
}

/// The code name that a reference asks for.
///
/// # Errors
/// What there is, when it is none of that.
pub fn suite(reference: &ImageReference) -> anyhow::Result<&'static str> {
    let tag = reference.tag.as_ref().map(ToString::to_string).unwrap_or_default();
    let known = SUITES.into_iter().find(|suite| *suite == tag);
    match known {
        Some(suite) if reference.repository.as_str() == "debian" && reference.digest.is_none() => {
            Ok(suite)
        }
        _ => bail!(
            "there is no such base; there are {}",
            SUITES.map(|suite| format!("`{GOLDEN_REGISTRY}/debian:{suite}`")).join(" and ")
        ),
    }
}

impl Workshop<'_> {
    /// The base as it is here, or a new one; and whether it was here.
    pub(crate) fn base(&self, suite: &str, refresh: bool) -> anyhow::Result<(Base, bool)> {
        let reference = format!("{GOLDEN_REGISTRY}/debian:{suite}");
        let architecture = Platform::host().architecture;
        let key = Digest::sha256(format!("{DOMAIN} {reference} {architecture}").as_bytes());
        let known = self.store.record::<Base>(Kind::Base, &key).filter(|base| self.is_whole(base));
        if let (Some(base), false) = (&known, refresh) {
            return Ok((base.clone(), true));
        }
        let note = |text: String| self.progress.event(Event::Note { text });
        note(format!("making {reference} of the distribution's packages"));
        let mirror = Mirror::new().context("cannot make an HTTP client")?;
        let sources = self.sources(suite)?;
        let wanted = [WANTED.to_owned()];
        let selecting = mirror.select(&sources, &architecture, &wanted, now());
        let selection = self.wait(selecting)?;
        for missing in &selection.missing {
            note(format!("the mirror has no `{missing}`: the base goes without"));
        }
        if let Some(base) = known.filter(|base| base.indexes == selection.indexes) {
            note(format!("{reference} is up to date"));
            return Ok((base, true));
        }
        note(format!(
            "fetching {} packages, {} MB",
            selection.packages.len(),
            selection.packages.iter().map(|package| package.size).sum::<u64>() / 1_000_000
        ));
        let pool = self.store.packages_dir()?;
        self.wait(mirror.download(&selection.packages, &pool))?;
        note("installing them in the sandbox".to_owned());
        let made = bootstrap::make(self, &selection, &pool)?;
        let base = Base {
            reference,
            architecture,
            manifest_digest: made.manifest_digest,
            indexes: selection.indexes,
            archives: selection
                .sources
                .archives
                .iter()
                .map(|archive| format!("{} {}", archive.url, archive.suite))
                .collect(),
            date: selection.date,
            size_bytes: made.size_bytes,
            packages: selection.packages.into_iter().map(|package| package.id).collect(),
            diff_id: made.diff_id,
        };
        let sources = AptSources { text: selection.sources.to_apt() };
        self.store.put_record(self.session, Kind::AptSources, &base.diff_id, &sources)?;
        self.store.put_record(self.session, Kind::Base, &key, &base)?;
        Ok((base, false))
    }

    fn sources(&self, suite: &str) -> Result<Sources, DebianError> {
        let DebianOptions { mirror, keyring, allow_expired, apt_dir } = self.options;
        let keyring = keyring.clone();
        let Some(mirror) = mirror else {
            let mut sources = Sources::of_apt(apt_dir, suite, *allow_expired)?;
            if let Some(keyring) = keyring {
                sources.archives.iter_mut().for_each(|one| one.keyring.clone_from(&keyring));
            }
            return Ok(sources);
        };
        let keyring = keyring.unwrap_or_else(|| sekisho_debian::sources::ARCHIVE_KEYRING.into());
        Ok(Sources::of_mirror(mirror, suite, &keyring, *allow_expired))
    }

    /// Whether everything of it is still in the store.
    fn is_whole(&self, base: &Base) -> bool {
        let manifest = fs_err::read(self.store.blob_path(&base.manifest_digest)).ok();
        let parsed =
            manifest.and_then(|bytes| serde_json::from_slice::<ImageManifest>(&bytes).ok());
        parsed.is_some_and(|manifest| {
            manifest
                .layers
                .iter()
                .chain([&manifest.config])
                .all(|blob| self.store.has_blob(&blob.digest, blob.size))
        })
    }

    fn wait<T>(&self, call: impl Future<Output = Result<T, DebianError>>) -> anyhow::Result<T> {
        self.handle.block_on(async {
            tokio::select! {
                // What was fetched by half has another name than what is whole.
                () = self.cancel.cancelled() => bail!("cancelled"),
                result = call => Ok(result?),
            }
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a release is still valid is a matter of the clock"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

impl Engine {
    /// Config and layers of a base, and whether it was here already.
    pub(crate) fn golden(
        &self,
        reference: &ImageReference,
        span: Span,
        platform: &Platform,
    ) -> Result<(ImageConfig, Vec<Layer>, bool), BuildError> {
        let suite =
            suite(reference).map_err(|error| self.file.diagnostic(span, error.to_string()))?;
        let host = Platform::host();
        if platform.rank_for(&host).is_none() {
            let message = format!("a base for {platform} cannot be made on this {host} machine");
            return Err(self.file.diagnostic(span, message).into());
        }
        let failed = |source: anyhow::Error| BuildError::Base {
            file: self.file.file.clone(),
            line: span.line,
            reference: reference.to_string(),
            source,
        };
        let handle = self.layers.remote.handle().clone();
        let store = &self.layers.store;
        let workshop = Workshop {
            store,
            session: &self.layers.session,
            handle: &handle,
            cancel: &self.cancel,
            control: &self.control,
            launcher: &self.options.launcher,
            progress: &*self.progress,
            isolation: self.isolation,
            options: &self.options.debian,
        };
        let mut bases = self.bases.lock().unwrap_or_else(PoisonError::into_inner);
        let (base, known) = match workshop.base(suite, false) {
            Err(_) if self.cancel.is_cancelled() => return Err(BuildError::Cancelled),
            other => other.map_err(failed)?,
        };
        let read =
            |digest: &Digest| fs_err::read(store.blob_path(digest)).context("cannot read a base");
        let manifest: ImageManifest = serde_json::from_slice(&read(&base.manifest_digest)?)
            .context("cannot read a base's manifest")?;
        let config = ImageConfig::parse(&read(&manifest.config.digest)?)
            .map_err(|error| failed(error.into()))?;
        let layers = config.rootfs.diff_ids.iter().zip(manifest.layers);
        let chain = layers
            .map(|(diff_id, descriptor)| Layer {
                diff_id: diff_id.clone(),
                descriptor: Some(descriptor),
                origin: None,
            })
            .collect();
        if !bases.contains(&base) {
            bases.push(base);
        }
        Ok((config, chain, known))
    }

    /// apt's sources, for a RUN on a base that was made here.
    pub(crate) fn apt_sources(&self, chain: &[Layer]) -> Option<Mount> {
        let sources: AptSources =
            self.layers.store.record(Kind::AptSources, &chain.first()?.diff_id)?;
        Some(Mount::File(MemoryFile {
            target: SOURCES_FILE.to_owned(),
            content: SecretBytes(sources.text.into_bytes()),
            mode: 0o644,
            uid: 0,
            gid: 0,
        }))
    }
}

/// The next step that an error of a base knows.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|error| {
        let debian = error.downcast_ref::<DebianError>().and_then(Hint::hint);
        debian
            .or_else(|| error.downcast_ref::<sekisho_sandbox::SandboxError>().and_then(Hint::hint))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bases_there_are_have_a_suite() {
        let suite_of =
            |text: &str| suite(&text.parse().unwrap()).map_err(|error| error.to_string());
        assert_eq!(suite_of("sekisho.local/debian:trixie"), Ok("trixie"));
        let want = "there is no such base; there are `sekisho.local/debian:bookworm` and \
                    `sekisho.local/debian:trixie`";
        for text in
            ["sekisho.local/debian", "sekisho.local/debian:sid", "sekisho.local/alpine:trixie"]
        {
            assert_eq!(suite_of(text), Err(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_a_mirror_lacks_has_a_hint_through_the_contexts() {
        let error = anyhow::Error::from(DebianError::NoSource { suite: "trixie".into() });
        let hint = hint(&error.context("outer")).unwrap();
        assert!(hint.contains("--mirror"), "{hint}");
    }
}
