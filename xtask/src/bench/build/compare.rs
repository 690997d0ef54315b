//! Whether images are the same: every entry of the files, and the config that a container gets.

use std::collections::BTreeMap;
use std::io;

use anyhow::{Context as _, bail};
use sekisho_oci::layer::{self, EntryKind, Whiteout};
use sekisho_oci::{ImageConfig, ImageManifest};
use sha2::{Digest as _, Sha256};

/// What every sandbox mounts over, and some leave behind.
const NOT_OURS: [&str; 7] =
    ["proc", "sys", "dev", "run", "etc/hosts", "etc/resolv.conf", "etc/hostname"];

/// Differences that are told.
const TOLD_MAX: usize = 5;

/// Files by path: kind, mode, owner, content or target. Times are each engine's own choice.
type Files = BTreeMap<Vec<u8>, String>;

/// An image as it lies in a registry.
pub(super) struct Image {
    files: Files,
    config: String,
}

/// Reads an image; `blob` opens one by its digest.
pub(super) fn read(
    manifest: &[u8],
    blob: impl Fn(&str) -> anyhow::Result<fs_err::File>,
) -> anyhow::Result<Image> {
    let manifest: ImageManifest = serde_json::from_slice(manifest).context("reading a manifest")?;
    let mut config = Vec::new();
    io::copy(&mut blob(manifest.config.digest.hex())?, &mut config)?;
    let config = ImageConfig::parse(&config)?;
    let mut files = Files::new();
    for descriptor in &manifest.layers {
        apply(&mut files, blob(descriptor.digest.hex())?)?;
    }
    files.retain(|path, _| {
        let path = String::from_utf8_lossy(path);
        !NOT_OURS.iter().any(|one| path == *one || path.starts_with(&format!("{one}/")))
    });
    let run = &config.config;
    let config = format!(
        "env {:?}, cmd {:?}, entrypoint {:?}, dir {:?}, user {:?}",
        run.env, run.cmd, run.entrypoint, run.working_dir, run.user
    );
    Ok(Image { files, config })
}

fn apply(files: &mut Files, blob: fs_err::File) -> anyhow::Result<()> {
    let limits = layer::Limits {
        absolute_paths: layer::AbsolutePaths::MakeRelative,
        ..layer::Limits::default()
    };
    let mut removed: Vec<Vec<u8>> = Vec::new();
    let mut added = Files::new();
    layer::read(blob, &limits, &mut |entry, data| {
        match entry.whiteout() {
            Some(Whiteout::Opaque { directory }) => {
                removed.push([directory.as_slice(), b"/"].concat());
                return Ok(());
            }
            Some(Whiteout::Removed { path }) => {
                removed.push(path);
                return Ok(());
            }
            None => {}
        }
        let what = match &entry.kind {
            EntryKind::File { .. } => {
                let mut hash = Sha256::new();
                io::copy(data, &mut hash)?;
                hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
            }
            EntryKind::Symlink { target } => String::from_utf8_lossy(target).into_owned(),
            // Of a file with several names each engine may take another for the first.
            EntryKind::HardLink { target } => match added.get(target).or_else(|| files.get(target))
            {
                Some(known) => {
                    added.insert(entry.path.clone(), known.clone());
                    return Ok(());
                }
                None => "a link to nothing".to_owned(),
            },
            other => format!("{other:?}"),
        };
        let kind = std::mem::discriminant(&entry.kind);
        let mode = if matches!(entry.kind, EntryKind::Symlink { .. }) { 0 } else { entry.mode };
        let line = format!("{kind:?} {mode:o} {}:{} {what}", entry.uid, entry.gid);
        added.insert(entry.path.clone(), line);
        Ok(())
    })
    .context("reading a layer")?;
    for path in &removed {
        let below = if path.ends_with(b"/") { path.clone() } else { [path, &b"/"[..]].concat() };
        files.retain(|known, _| known != path && !known.starts_with(&below));
    }
    added.remove(&b""[..]);
    files.extend(added);
    Ok(())
}

/// Errors out with what differs.
pub(super) fn same(images: &[(&str, Image)]) -> anyhow::Result<()> {
    let Some(((first_name, first), others)) = images.split_first() else { return Ok(()) };
    for (name, other) in others {
        let mut told = Vec::new();
        if first.config != other.config {
            told.push(format!("{first_name}: {}; {name}: {}", first.config, other.config));
        }
        let paths = first.files.keys().chain(other.files.keys());
        let paths: std::collections::BTreeSet<_> = paths.collect();
        for path in paths {
            let (one, two) = (first.files.get(path), other.files.get(path));
            if one != two {
                let path = String::from_utf8_lossy(path);
                told.push(format!("`{path}`: {first_name} {one:?}, {name} {two:?}"));
            }
        }
        if !told.is_empty() {
            let count = told.len();
            told.truncate(TOLD_MAX);
            bail!("{count} differences, such as {}", told.join("; "));
        }
    }
    Ok(())
}
