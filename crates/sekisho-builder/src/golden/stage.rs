//! A FROM of a golden base, and what a RUN on one gets.

use std::sync::PoisonError;

use anyhow::Context as _;
use sekisho_dockerfile::Span;
use sekisho_oci::{ImageConfig, ImageManifest, Platform};
use sekisho_sandbox::{MemoryFile, Mount, SecretBytes};
use sekisho_types::{Digest, ImageReference};

use super::{AptSources, Workshop, suite};
use crate::BuildError;
use crate::ages::Age;
use crate::engine::Engine;
use crate::image::Layer;
use crate::store::Kind;

/// Where apt reads the sources that a RUN is given.
const SOURCES_FILE: &str = "/etc/apt/sources.list.d/sekisho.sources";

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
        self.took_image(reference, &base.manifest_digest, platform);
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
                age: Age::default(),
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
