//! A base out of a mirror's packages, unless it is here.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use sekisho_debian::{DebianError, Mirror, Selection, Sources};
use sekisho_oci::{ImageManifest, Platform};
use sekisho_sandbox::Isolation;
use sekisho_types::Digest;

use super::{AptSources, Base, DebianOptions, GOLDEN_REGISTRY, Workshop, bootstrap};
use crate::progress::Event;
use crate::store::Kind;

/// In every base besides what the distribution requires: so that a RUN can install.
const WANTED: &str = "apt";

/// Changes when the same packages could give another base than before.
const DOMAIN: &str = "sekisho.base.v1";

/// How often it is told how far a slow mirror is.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// As packages are counted.
const MEGABYTE: u64 = 1_000_000;

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
        if self.isolation == Isolation::ChangedRoot {
            // Before anything is fetched.
            bail!(
                "a base is made in a sandbox that may mount, and this container may make none: make it \
                 elsewhere with the same cache folder, or build FROM another image"
            );
        }
        let note = |text: String| self.progress.event(Event::Note { text });
        note(format!("making {reference} of the distribution's packages"));
        let mirror = Mirror::new().context("cannot make an HTTP client")?;
        let sources = self.sources(suite)?;
        let wanted = [WANTED.to_owned()];
        note(format!("reading which packages {} has", places(&sources)));
        let selecting = mirror.select(&sources, &architecture, &wanted, now());
        let told = || format!("{} MB of the package indexes are here", megabytes(&mirror, 0));
        let selection = self.wait(selecting, &told)?;
        for missing in &selection.missing {
            note(format!("the mirror has no `{missing}`: the base goes without"));
        }
        if let Some(base) = known.filter(|base| base.indexes == selection.indexes) {
            note(format!("{reference} is up to date"));
            return Ok((base, true));
        }
        let pool = self.store.packages_dir()?;
        self.fetch(&mirror, &selection, &pool)?;
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

    /// Brings the packages here.
    fn fetch(&self, mirror: &Mirror, selection: &Selection, pool: &Path) -> anyhow::Result<()> {
        let before = mirror.fetched_bytes();
        let count = selection.packages.len();
        let total = selection.packages.iter().map(|package| package.size).sum::<u64>() / MEGABYTE;
        self.progress.event(Event::Note { text: format!("fetching {count} packages, {total} MB") });
        // What is fetched again after a failure counts twice.
        let told = || format!("{} of {total} MB are here", megabytes(mirror, before).min(total));
        self.wait(mirror.download(&selection.packages, pool), &told)
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
        Sources::of_mirror(mirror, suite, &keyring, *allow_expired)
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

    /// Waits for the mirror, and says now and then how far it is.
    fn wait<T>(
        &self,
        call: impl Future<Output = Result<T, DebianError>>,
        told: &dyn Fn() -> String,
    ) -> anyhow::Result<T> {
        self.handle.block_on(async {
            let mut call = std::pin::pin!(call);
            loop {
                // The call is polled again after a sign of life; what was fetched by half when all is
                // cancelled has another name than what is whole.
                tokio::select! {
                    () = self.cancel.cancelled() => bail!("cancelled"),
                    result = &mut call => return Ok(result?),
                    () = tokio::time::sleep(SIGN_OF_LIFE) => {
                        self.progress.event(Event::Note { text: told() });
                    }
                }
            }
        })
    }
}

/// The servers of the archives, each once.
fn places(sources: &Sources) -> String {
    let mut places: Vec<&str> = sources.archives.iter().map(|one| one.url.as_str()).collect();
    places.dedup();
    places.join(" and ")
}

/// How much has come since there were so many bytes.
fn megabytes(mirror: &Mirror, before: u64) -> u64 {
    (mirror.fetched_bytes() - before) / MEGABYTE
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a release is still valid is a matter of the clock"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use sekisho_sandbox::{Control, Launcher};
    use tokio::runtime::Handle;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn where_nothing_can_be_mounted_that_is_said_before_anything_is_fetched() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let session = store.session().unwrap();
        let mirror = Some("http://mirror.invalid/debian".to_owned());
        let options = DebianOptions { mirror, ..DebianOptions::default() };
        let workshop = Workshop {
            store: &store,
            session: &session,
            handle: &Handle::current(),
            cancel: &CancellationToken::new(),
            control: &Control::new().unwrap(),
            launcher: &Launcher::with_program("/none"),
            progress: &crate::Silent,
            isolation: Isolation::ChangedRoot,
            options: &options,
        };
        let error = workshop.base("bookworm", false).unwrap_err();
        let want = "a base is made in a sandbox that may mount, and this container may make none: \
                    make it elsewhere with the same cache folder, or build FROM another image";
        assert_eq!(error.to_string(), want);
    }
}
