//! An image as an OCI image layout, in a folder or a tar file.
//!
//! Source: OCI image-spec 1.1, image-layout.md.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fs_err as fs;
use sekisho_oci::layer::{Entry, Writer};
use sekisho_oci::{Descriptor, ImageIndex, media_type};
use sekisho_types::{Digest, ImageReference};

use crate::BuildError;
use crate::engine::Engine;
use crate::image::{Documents, Layer};
use crate::options::Output;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The name that containerd and skopeo look for.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Writes the image.
pub(crate) fn write(
    engine: &mut Engine,
    output: &Output,
    names: &[ImageReference],
    chain: &[Layer],
    documents: &Documents,
) -> Result<(), BuildError> {
    let mut blobs: BTreeMap<Digest, PathBuf> = BTreeMap::new();
    for layer in chain {
        blobs.insert(layer.descriptor.digest.clone(), engine.layers.blob(layer)?);
    }
    for bytes in [&documents.config, &documents.manifest] {
        let digest = Digest::sha256(bytes);
        let path = engine.layers.store.blob_path(&digest);
        blobs.insert(digest, path);
    }
    let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, &documents.manifest);
    if let Some(tag) = names.first().and_then(|name| name.tag.as_ref()) {
        descriptor.annotations.insert(REF_NAME.to_owned(), tag.to_string());
    }
    match output {
        Output::OciDirectory(path) => directory(path, &blobs, descriptor)
            .with_context(|| format!("cannot write the image to `{}`", path.display()))?,
        Output::OciTar(path) => tar(engine, path, &blobs, descriptor)
            .with_context(|| format!("cannot write the image to `{}`", path.display()))?,
    }
    Ok(())
}

/// Adds the image to a layout; an image of the same name gives way.
fn directory(
    path: &Path,
    blobs: &BTreeMap<Digest, PathBuf>,
    descriptor: Descriptor,
) -> anyhow::Result<()> {
    let folder = path.join("blobs/sha256");
    fs::create_dir_all(&folder)?;
    for (digest, source) in blobs {
        let target = folder.join(digest.hex());
        if !target.exists() {
            let temporary = folder.join(format!(".{}.{}", digest.hex(), std::process::id()));
            fs::copy(source, &temporary)?;
            fs::rename(&temporary, &target)?;
        }
    }
    fs::write(path.join("oci-layout"), LAYOUT)?;
    let index = path.join("index.json");
    let mut manifests = match std::fs::read(&index) {
        Ok(bytes) => serde_json::from_slice::<ImageIndex>(&bytes)?.manifests,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    manifests.retain(|other| {
        other.digest != descriptor.digest
            && (other.annotations.get(REF_NAME) != descriptor.annotations.get(REF_NAME)
                || !other.annotations.contains_key(REF_NAME))
    });
    manifests.push(descriptor);
    let temporary = path.join(format!(".index.json.{}", std::process::id()));
    fs::write(&temporary, ImageIndex::new(manifests).to_bytes())?;
    fs::rename(temporary, index)?;
    Ok(())
}

fn tar(
    engine: &Engine,
    path: &Path,
    blobs: &BTreeMap<Digest, PathBuf>,
    descriptor: Descriptor,
) -> anyhow::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let result = (|| {
        let mut writer = Writer::new(BufWriter::new(fs::File::create(&temporary)?));
        let file = |path: String, size: u64| {
            let mut entry = Entry::file(path, size);
            entry.mtime = crate::LAYER_EPOCH;
            entry
        };
        for (digest, source) in blobs {
            engine.check()?;
            let size = fs::metadata(source)?.len();
            let entry = file(format!("blobs/sha256/{}", digest.hex()), size);
            writer.append_data(&entry, &mut fs::File::open(source)?)?;
        }
        let index = ImageIndex::new(vec![descriptor]).to_bytes();
        for (name, bytes) in [("index.json", index.as_slice()), ("oci-layout", LAYOUT)] {
            let entry = file(name.to_owned(), bytes.len() as u64);
            writer.append_data(&entry, &mut &*bytes)?;
        }
        writer.finish()?.flush()?;
        fs::rename(&temporary, path)?;
        anyhow::Ok(())
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}
