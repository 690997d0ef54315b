//! Contexts that are not simply the folder: named ones, git repositories, archives.

use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use anyhow::{Context as _, anyhow, bail, ensure};
use fs_err as fs;
use sekisho_dockerfile::git::GitRef;
use sekisho_dockerfile::ignore::Ignore;
use sekisho_dockerfile::{Instruction, Span, Spanned};
use sekisho_oci::{Descriptor, ImageConfig, ImageIndex, Manifest, Platform, parse_manifest};
use sekisho_types::Digest;

use crate::ages::Age;
use crate::context::Context;
use crate::decide::{CopySource, CopyStep};
use crate::engine::{Engine, Progressed};
use crate::error::BuildError;
use crate::image::Layer;
use crate::options::{BuildOptions, ContextInput, NamedContext};
use crate::origin::Origin;
use crate::provenance::Material;
use crate::remote::Remote;
use crate::store::Session;
use crate::{archive, fetch, git, pack, provenance, room};

/// The name that a layout's index gives to an image.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Largest manifest or index of a layout, in bytes.
const MAX_DOCUMENT_BYTES: u64 = 4 << 20;

/// A named context that was made ready.
#[derive(Clone)]
pub(crate) enum Named {
    Files(Arc<Context>),
    Image(Box<ImageConfig>, Vec<Layer>),
}

/// Makes a folder of a build context that is none; and what was taken from elsewhere for it.
pub(crate) fn main_folder(
    input: &ContextInput,
    remote: &Remote,
    session: &Session,
    options: &BuildOptions,
) -> Result<(PathBuf, Option<Material>), BuildError> {
    match input {
        ContextInput::Archive(path) => Ok((unpack(path, remote, session)?, None)),
        ContextInput::Remote(text) => match remote_folder(text, remote, session, options) {
            Err(BuildError::Machine(error)) if !room::is_full(error.as_ref()) => {
                Err(BuildError::Elsewhere(error))
            }
            other => other,
        },
    }
}

/// Fetches a git repository, or an archive, to a folder.
fn remote_folder(
    text: &str,
    remote: &Remote,
    session: &Session,
    options: &BuildOptions,
) -> Result<(PathBuf, Option<Material>), BuildError> {
    let shown = git::user_apart(text).0;
    let git = GitRef::parse(text).map_err(|problem| anyhow!("the context `{shown}`: {problem}"))?;
    if let Some(git) = git {
        let keep = git.keep_git_dir.unwrap_or(options.keeps_git_dir()?);
        let checkout = remote.checkout(&git, keep, session, options)?;
        return Ok((checkout.dir, Some(provenance::commit(&git.remote, &checkout.commit))));
    }
    let url = fetch::parse(text).map_err(|problem| anyhow!("the context `{shown}`: {problem}"))?;
    let path = session.path("fetched");
    let link = fetch::Link::new(options)?;
    let fetched = remote.run(link.fetch(&url, None, &path)).ok_or(BuildError::Cancelled)?;
    fetched.with_context(|| format!("cannot fetch the context `{shown}`"))?;
    let mut file = std::fs::File::open(&path).context("cannot read back a file")?;
    let mut material = None;
    if options.provenance.is_some() {
        let (sum, _) = pack::hash(&mut file).context("cannot read back a file")?;
        file.rewind().context("cannot read back a file")?;
        material = Some(provenance::context_file(&url, &sum.digest()));
    }
    if archive::is_archive(&mut file)? {
        return Ok((unpack(&path, remote, session)?, material));
    }
    // A lone file is a Dockerfile with nothing around it.
    let folder = session.folder("context").context("cannot make a folder")?;
    fs::copy(&path, folder.join("Dockerfile")).context("cannot make a folder")?;
    Ok((folder, material))
}

/// Unpacks an archive of a context; who owns its files does not matter to a build.
fn unpack(path: &Path, remote: &Remote, session: &Session) -> Result<PathBuf, BuildError> {
    let folder = session.folder("context").context("cannot make a folder")?;
    let file = std::fs::File::open(path).context("cannot open the build context")?;
    match archive::extract(file, remote.cancel(), &folder) {
        Err(_) if remote.cancel().is_cancelled() => Err(BuildError::Cancelled),
        other => Ok(other.context("cannot unpack the build context").map(|()| folder)?),
    }
}

impl Engine {
    /// A named context, made ready once.
    fn named(&self, name: &str, span: Span, platform: &Platform) -> Result<Named, BuildError> {
        let mut known = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let source = self.options.contexts.get(name);
        let source = source.with_context(|| format!("there is no context `{name}`"))?;
        // Files are the same for all; an image is of a platform, and said of the image that it is taken for.
        let key = match source {
            NamedContext::Image(_) | NamedContext::OciLayout { .. } => {
                format!("{name} {platform} {:?}", self.target)
            }
            _ => name.to_owned(),
        };
        if let Some(named) = known.get(&key) {
            return Ok(named.clone());
        }
        let named = self.make_named(name, source, span, platform)?;
        known.insert(key, named.clone());
        Ok(named)
    }

    fn make_named(
        &self,
        name: &str,
        source: &NamedContext,
        span: Span,
        platform: &Platform,
    ) -> Result<Named, BuildError> {
        let list = |path: &Path, ignore: &Ignore| -> Result<Named, BuildError> {
            Ok(Named::Files(Arc::new(Context::list_all(path, ignore)?)))
        };
        match source {
            NamedContext::Directory(path) => {
                // Its own `.dockerignore` counts; there is no Dockerfile beside which another could be.
                Ok(Named::Files(Arc::new(Context::open(path, Path::new("Dockerfile"))?)))
            }
            NamedContext::Image(reference) => {
                let (config, chain, _) = self.image(reference, span, platform)?;
                Ok(Named::Image(Box::new(config), chain))
            }
            NamedContext::OciLayout { path, name: wanted } => {
                let found = self.layout(path, wanted.as_deref(), platform);
                let (config, chain, digest) = found.with_context(|| {
                    format!("cannot read the context `{name}`, the layout `{}`", path.display())
                })?;
                self.took_of_layout(name, &digest, platform);
                Ok(Named::Image(Box::new(config), chain))
            }
            NamedContext::Remote(text) => {
                let (remote, session) = (&self.layers.remote, &self.layers.session);
                let (folder, material) = remote_folder(text, remote, session, &self.options)?;
                self.took_for_all(material);
                list(&folder, &Ignore::default())
            }
            NamedContext::Stage(stage) => {
                Err(anyhow!("the context `{name}` is the stage `{stage}`").into())
            }
        }
    }

    /// A named context for COPY and mounts.
    pub(crate) fn context_as_files(
        &self,
        name: &str,
        span: Span,
        platform: &Platform,
    ) -> Result<Origin, BuildError> {
        Ok(match self.named(name, span, platform)? {
            Named::Files(context) => Origin::Context(context),
            Named::Image(_, chain) => Origin::Layers(chain),
        })
    }

    /// A named context for FROM: an image, or the layer that a folder makes.
    pub(crate) fn context_as_base(
        &self,
        name: &str,
        span: Span,
        platform: &Platform,
    ) -> Result<(Option<ImageConfig>, Vec<Layer>), BuildError> {
        let context = match self.named(name, span, platform)? {
            Named::Image(config, chain) => return Ok((Some(*config), chain)),
            Named::Files(context) => context,
        };
        let step = CopyStep {
            sources: vec![CopySource::Path("/".to_owned())],
            destination: "/".to_owned(),
            written: "/".to_owned(),
            is_folder: true,
            from_elsewhere: true,
            chown: None,
            chmod: None,
            parents: false,
            exclude: Vec::new(),
            link: true,
            unpack: false,
            unpack_remote: false,
        };
        let instruction =
            Spanned { node: Instruction::Shell(Vec::new()), span, text: String::new() };
        let now = Progressed::empty(platform);
        let done = self.copy_step(&step, &instruction, &Origin::Context(context), &now)?;
        Ok((None, self.complete(done)?.layer.into_iter().collect()))
    }

    /// An image of an OCI layout, whose blobs are brought into the store, and its manifest's digest.
    fn layout(
        &self,
        path: &Path,
        wanted: Option<&str>,
        platform: &Platform,
    ) -> anyhow::Result<(ImageConfig, Vec<Layer>, Digest)> {
        let index: ImageIndex = serde_json::from_slice(&read_document(&path.join("index.json"))?)
            .context("`index.json` does not parse")?;
        let mut current = choose(&index, wanted)?;
        for _ in 0..3 {
            let bytes = self.take_document(path, &current)?;
            match parse_manifest(&bytes, &current.media_type)? {
                Manifest::Index(inner) => {
                    let chosen = inner.choose(platform);
                    current =
                        chosen.with_context(|| format!("it has nothing for {platform}"))?.clone();
                }
                Manifest::Image(manifest) => {
                    let config = ImageConfig::parse(&self.take_document(path, &manifest.config)?)?;
                    let ids = &config.rootfs.diff_ids;
                    ensure!(ids.len() == manifest.layers.len(), "its layers do not fit its config");
                    let mut chain = Vec::new();
                    for (diff_id, descriptor) in ids.iter().zip(manifest.layers) {
                        self.take_blob(path, &descriptor)?;
                        let (diff_id, descriptor) = (diff_id.clone(), Some(descriptor));
                        chain.push(Layer {
                            diff_id,
                            descriptor,
                            origin: None,
                            age: Age::default(),
                        });
                    }
                    return Ok((config, chain, current.digest));
                }
            }
        }
        bail!("an index leads to indexes only")
    }

    fn take_document(&self, path: &Path, descriptor: &Descriptor) -> anyhow::Result<Vec<u8>> {
        let bytes = read_document(&blob(path, &descriptor.digest))?;
        let found = Digest::sha256(&bytes);
        ensure!(found == descriptor.digest, "{} holds {found}", descriptor.digest);
        self.layers.store.put_blob(&self.layers.session, &bytes)?;
        Ok(bytes)
    }

    fn take_blob(&self, path: &Path, descriptor: &Descriptor) -> anyhow::Result<()> {
        let (store, session) = (&self.layers.store, &self.layers.session);
        if store.has_blob(&descriptor.digest, descriptor.size) {
            return Ok(());
        }
        let copy = session.path("blob");
        fs::copy(blob(path, &descriptor.digest), &copy)?;
        let (found, size) = pack::hash(&mut std::fs::File::open(&copy)?)?;
        let found = found.digest();
        ensure!(found == descriptor.digest, "{} holds {found}", descriptor.digest);
        ensure!(size == descriptor.size, "{found} has {size} bytes, not {}", descriptor.size);
        store.publish_blob(&copy, &found)
    }
}

fn blob(path: &Path, digest: &Digest) -> PathBuf {
    path.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
}

fn read_document(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes)?;
    let fits = bytes.len() as u64 <= MAX_DOCUMENT_BYTES;
    ensure!(fits, "`{}` has more than {MAX_DOCUMENT_BYTES} bytes", path.display());
    Ok(bytes)
}

/// The entry of a layout's index that a tag or digest means; the only one without.
fn choose(index: &ImageIndex, wanted: Option<&str>) -> anyhow::Result<Descriptor> {
    let known = || -> String {
        let name = |one: &Descriptor| {
            let tag = one.annotations.get(REF_NAME).cloned();
            tag.unwrap_or_else(|| one.digest.to_string())
        };
        index.manifests.iter().map(name).collect::<Vec<_>>().join("`, `")
    };
    let fits = |one: &&Descriptor| match wanted {
        None => true,
        Some(wanted) => {
            one.digest.to_string() == wanted
                || one
                    .annotations
                    .get(REF_NAME)
                    .is_some_and(|name| name == wanted || name.rsplit(':').next() == Some(wanted))
        }
    };
    let found: Vec<&Descriptor> = index.manifests.iter().filter(fits).collect();
    match (found.as_slice(), wanted) {
        ([one], _) => Ok((*one).clone()),
        ([], None) => bail!("it holds no image"),
        (_, None) => bail!("it holds more than one image: name one of `{}`", known()),
        ([], Some(wanted)) => bail!("it has no image `{wanted}`; it has `{}`", known()),
        ([first, ..], Some(_)) => Ok((*first).clone()),
    }
}
