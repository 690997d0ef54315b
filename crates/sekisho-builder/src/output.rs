//! An image as an OCI image layout, in a folder or a tar file; the latter also for `docker load`.
//!
//! Source: OCI image-spec 1.1, image-layout.md.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fs_err as fs;
use sekisho_oci::layer::{Entry, Writer};
use sekisho_oci::{Descriptor, ImageIndex};
use sekisho_types::Digest;

use crate::BuildError;
use crate::engine::Engine;
use crate::finish::Images;
use crate::image::Layer;
use crate::options::Output;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The name that containerd and skopeo look for.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Writes the image.
pub(crate) fn write(engine: &Engine, output: &Output, images: &Images) -> Result<(), BuildError> {
    let (Output::OciDirectory(path)
    | Output::OciTar(path)
    | Output::DockerTar(path)
    | Output::Local(path)
    | Output::Tar(path)) = output;
    let written = match output {
        Output::Local(folder) => {
            files(images, |below, chain| crate::rootfs::local(engine, &folder.join(below), chain))
        }
        Output::Tar(path) => archive(path, |writer| {
            files(images, |below, chain| crate::rootfs::tar(engine, writer, below, chain))
        }),
        Output::OciDirectory(path) => {
            let (blobs, descriptor) = blobs(engine, images)?;
            directory(path, &blobs, descriptor).map_err(BuildError::from)
        }
        Output::OciTar(path) => layout(engine, path, images, None),
        Output::DockerTar(path) => {
            let names: Vec<String> = engine
                .options
                .destinations
                .iter()
                .chain(&engine.options.names)
                .filter(|name| name.tag.is_some())
                .map(ToString::to_string)
                .collect();
            layout(engine, path, images, Some(&names))
        }
    };
    match written {
        Err(BuildError::Machine(error)) => {
            let place = format!("cannot write the image to `{}`", path.display());
            Err(error.context(place).into())
        }
        other => other,
    }
}

/// The files of each platform, in a folder of its own when there are several.
fn files(
    images: &Images,
    mut write: impl FnMut(&str, &[Layer]) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    for image in &images.images {
        let below = match images.several {
            false => String::new(),
            true => image.platform.to_string().replace('/', "_"),
        };
        write(&below, &image.chain)?;
    }
    Ok(())
}

type Blobs = BTreeMap<Digest, PathBuf>;

/// Everything that belongs to the image, and what names it.
fn blobs(engine: &Engine, images: &Images) -> Result<(Blobs, Descriptor), BuildError> {
    let mut blobs = Blobs::new();
    let store = &engine.layers.store;
    for image in images.all() {
        for layer in &image.chain {
            blobs.insert(layer.packed()?.digest.clone(), engine.layers.blob(layer)?);
        }
        for bytes in [&image.documents.config, &image.documents.manifest] {
            let digest = Digest::sha256(bytes);
            let path = store.blob_path(&digest);
            blobs.insert(digest, path);
        }
    }
    let (root, media_type) = images.root();
    let mut descriptor = Descriptor::of(media_type, root);
    blobs.insert(descriptor.digest.clone(), store.blob_path(&descriptor.digest));
    let names = engine.options.destinations.iter().chain(&engine.options.names);
    if let Some(tag) = names.filter_map(|name| name.tag.as_ref()).next() {
        descriptor.annotations.insert(REF_NAME.to_owned(), tag.to_string());
    }
    Ok((blobs, descriptor))
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

/// Writes a tar file under another name, and gives it its own when it is whole. `-` is stdout.
fn archive(
    path: &Path,
    fill: impl FnOnce(&mut Writer<Box<dyn Write>>) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    if path == Path::new("-") {
        let mut writer = Writer::new(Box::new(BufWriter::new(std::io::stdout())) as Box<dyn Write>);
        fill(&mut writer)?;
        let end = |writer: Writer<Box<dyn Write>>| anyhow::Ok(writer.finish()?.flush()?);
        return Ok(end(writer)?);
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let result = (|| {
        let file = fs::File::create(&temporary).context("cannot make the file")?;
        let mut writer = Writer::new(Box::new(BufWriter::new(file)) as Box<dyn Write>);
        fill(&mut writer)?;
        let mut out = writer.finish().context("cannot end the archive")?;
        out.flush().context("cannot end the archive")?;
        fs::rename(&temporary, path).context("cannot rename the file")?;
        Ok(())
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

/// What `docker load` looks for in an archive.
#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry<'a> {
    config: String,
    repo_tags: &'a [String],
    layers: Vec<String>,
}

/// An OCI image layout as a tar file; with `docker`, the names under which Docker loads it.
fn layout(
    engine: &Engine,
    path: &Path,
    images: &Images,
    docker: Option<&[String]>,
) -> Result<(), BuildError> {
    let (blobs, descriptor) = blobs(engine, images)?;
    let place = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex());
    let mut documents = Vec::new();
    documents.push(("index.json", ImageIndex::new(vec![descriptor]).to_bytes()));
    if let Some(names) = docker {
        let entries: Vec<DockerEntry<'_>> = images
            .images
            .iter()
            .map(|image| DockerEntry {
                config: place(&image.documents.parsed.config.digest),
                repo_tags: names,
                layers: image
                    .documents
                    .parsed
                    .layers
                    .iter()
                    .map(|one| place(&one.digest))
                    .collect(),
            })
            .collect();
        let bytes = serde_json::to_vec(&entries).context("cannot write the manifest")?;
        documents.push(("manifest.json", bytes));
    }
    documents.push(("oci-layout", LAYOUT.to_vec()));
    let file = |path: String, size: u64| {
        let mut entry = Entry::file(path, size);
        entry.mtime = crate::LAYER_EPOCH;
        entry
    };
    archive(path, |writer| {
        let mut add = |entry: &Entry, data: &mut dyn std::io::Read| -> Result<(), BuildError> {
            Ok(writer.append_data(entry, data).context("cannot write the archive")?)
        };
        for (digest, source) in &blobs {
            engine.check()?;
            let mut source = fs::File::open(source).context("a blob is gone")?;
            let size = source.metadata().context("a blob is gone")?.len();
            add(&file(place(digest), size), &mut source)?;
        }
        for (name, bytes) in &documents {
            add(&file((*name).to_owned(), bytes.len() as u64), &mut bytes.as_slice())?;
        }
        Ok(())
    })
}
