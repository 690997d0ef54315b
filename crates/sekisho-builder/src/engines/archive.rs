//! An image in a `docker save` archive: `manifest.json` names its config and its layers, whatever else is in
//! it. docker, buildah and BuildKit all write it.
//!
//! Source: Docker image specification v1.2, "Combined Image JSON + Filesystem Changeset Format".

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use fs_err as fs;
use sekisho_oci::layer::{self, EntryKind};
use sekisho_oci::{Descriptor, ImageConfig, ImageManifest, Platform, media_type};
use serde::Deserialize;

use crate::engine::Engine;
use crate::finish::Image;
use crate::image::{Documents, Layer};
use crate::pack::Written;

/// Largest manifest or config, in bytes.
const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    layers: Vec<String>,
}

/// The files of the archive, each on its own, by the name that the archive gives it.
fn take_apart(engine: &Engine, archive: &Path) -> anyhow::Result<HashMap<String, PathBuf>> {
    let mut files: HashMap<String, PathBuf> = HashMap::new();
    let file = io::BufReader::new(fs::File::open(archive)?);
    layer::read(file, &layer::Limits::default(), &mut |entry, data| {
        let name = entry.display_path();
        match &entry.kind {
            EntryKind::File { .. } => {
                let path = engine.layers.session.path("saved");
                io::copy(data, &mut fs::File::create(&path)?)?;
                files.insert(name, path);
            }
            // Layers that are the same are links to one of them.
            EntryKind::Symlink { target } | EntryKind::HardLink { target } => {
                let target = String::from_utf8_lossy(target);
                let target = target.trim_start_matches("../");
                if let Some(path) = files.get(target).cloned() {
                    files.insert(name, path);
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(files)
}

fn document(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 <= MAX_DOCUMENT_BYTES,
        "a document is over {MAX_DOCUMENT_BYTES} bytes"
    );
    Ok(bytes)
}

/// Brings the image into the store; its layers are compressed as ours are, its config is as it was.
pub(super) fn import(engine: &Engine, archive: &Path) -> anyhow::Result<Image> {
    let files = take_apart(engine, archive)?;
    let find = |name: &str| files.get(name).with_context(|| format!("the archive has no `{name}`"));
    let saved: Vec<Saved> = serde_json::from_slice(&document(find("manifest.json")?)?)
        .context("`manifest.json` does not parse")?;
    let [saved] = saved.as_slice() else { bail!("the archive has {} images", saved.len()) };
    let config = document(find(&saved.config)?)?;
    let parsed = ImageConfig::parse(&config)?;
    let ids = &parsed.rootfs.diff_ids;
    ensure!(ids.len() == saved.layers.len(), "its layers do not fit its config");
    let mut chain: Vec<Layer> = Vec::new();
    let store = &engine.layers.store;
    for (diff_id, name) in ids.iter().zip(&saved.layers) {
        let file = fs::File::open(find(name)?)?;
        let plain = layer::decompress(file, layer::Limits::default().total_bytes)?;
        let written = Written::of(plain, engine.press()).context("cannot compress a layer")?;
        ensure!(written.diff_id == *diff_id, "a layer is {}, not {diff_id}", written.diff_id);
        chain.push(written.publish(store)?);
    }
    let layers = chain.iter().map(|layer| layer.packed().cloned());
    let layers = layers.collect::<anyhow::Result<Vec<Descriptor>>>()?;
    let manifest = ImageManifest::new(Descriptor::of(media_type::OCI_CONFIG, &config), layers);
    let platform = Platform::new(&parsed.os, &parsed.architecture);
    let documents = Documents { config, manifest: manifest.to_bytes(), parsed: manifest };
    Ok(Image { platform, chain, documents })
}
