//! Golden bases: `FROM sekisho.local/debian:bookworm`, made here of the distribution's own packages.
//!
//! ```text
//!  sekisho-debian   signed indexes ──▶ the packages of a base, each with its checksum
//!  making           which of them to fetch; what is here already
//!  bootstrap        unpacked by `tree`, then installed by their own dpkg in the sandbox
//!  store            the layer, config and manifest as those of any image; a record of what is in it
//!  stage            a FROM of a base, and the RUNs on it
//! ```
//!
//! A base is made once, and stays as it is until it is refreshed: so builds are the same from day to day,
//! and need no network for it. The same indexes give the same bytes on every machine.
//!
//! The image holds no mirror's name. A RUN on top of a base sees apt's sources as a file in memory.

mod bootstrap;
mod installing;
mod making;
mod stage;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use sekisho_debian::DebianError;
use sekisho_debian::index::PackageId;
use sekisho_sandbox::{Control, Isolation, Launcher};
use sekisho_types::{Digest, Hint, ImageReference};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::progress::Progress;
use crate::store::{Kind, Session, Store};

/// The registry that is none.
pub const GOLDEN_REGISTRY: &str = "sekisho.local";

/// What can be built: the distribution's code names.
pub const SUITES: [&str; 2] = ["bookworm", "trixie"];

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

impl DebianOptions {
    /// Refuses what would give a secret away: a mirror's address is seen by RUNs and jobs.
    ///
    /// # Errors
    /// What to name instead is the hint; see [`hint`].
    pub fn check(&self) -> anyhow::Result<()> {
        let mirror = self.mirror.as_deref().unwrap_or_default();
        Ok(sekisho_debian::sources::refuse_credentials(mirror)?)
    }
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
