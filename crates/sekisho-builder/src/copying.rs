//! Carries out a COPY or ADD.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use sekisho_dockerfile::ignore::Ignore;
use sekisho_dockerfile::key::Key;
use sekisho_dockerfile::{Diagnostic, Dockerfile, Instruction, Source, Span, Spanned};
use sekisho_types::Digest;

use crate::adding::{Fetched, place_remote};
use crate::archive;
use crate::copy::{self, CopyError, Data, Destination, Match, Pending, Placer};
use crate::decide::{CopySource, CopyStep};
use crate::engine::{Done, Engine, Progressed};
use crate::error::BuildError;
use crate::fetch;
use crate::files::{self, FileMap, ImagePath, Node, NodeKind};
use crate::image::Layer;
use crate::layers::chain_key;
use crate::origin::Origin;
use crate::pack::{self, Packer, Written};
use crate::sparse::Holes;
use crate::steps::machine;
use crate::users;

/// Changes when the same key could give another layer than before.
const COPY_DOMAIN: &str = "sekisho.copy.v3";
const COPY_FROM_DOMAIN: &str = "sekisho.copy-from.v3";

/// A source that was found.
enum Picked {
    /// From the sources of that number.
    Match(usize, Match),
    Inline {
        name: String,
        content: String,
    },
    Remote {
        url: String,
        checksum: Option<Digest>,
        fetched: Option<Fetched>,
    },
}

fn place_inline(
    placer: &mut Placer<'_>,
    name: &str,
    content: &str,
    many: bool,
) -> Result<(), CopyError> {
    let (target, into) = placer.target(many)?;
    let target = if into { files::join(&target, name.as_bytes()) } else { target };
    placer.put_bytes(target, content.as_bytes())
}

impl Engine {
    pub(crate) fn copy_step(
        &self,
        step: &CopyStep,
        instruction: &Spanned<Instruction>,
        origin: &Origin,
        now: &Progressed,
    ) -> Result<Done, BuildError> {
        let base = |key: Key| {
            // What `--link` makes is the same on whatever it is put.
            let key = match step.stands_alone() {
                true => key,
                false => key.digest("parent", &chain_key(&now.chain)),
            };
            key.text("destination", &step.destination)
                .flag("folder", step.is_folder)
                .optional("chown", step.chown.as_deref())
                .optional("chmod", step.chmod.as_ref().map(|(text, _)| text.as_str()))
                .flag("parents", step.parents)
                .list("exclude", &step.exclude)
                .flag("link", step.link)
                .flag("unpack", step.unpack)
                .flag("unpack-remote", step.unpack_remote)
        };
        // What an earlier stage holds is known by its layers, so its files need not be looked at.
        let remote = |source: &CopySource| matches!(source, CopySource::Remote { .. });
        let quick = (origin.is_image() && !step.sources.iter().any(remote)).then(|| {
            let sources = step.sources.iter().map(|source| match source {
                CopySource::Inline { name, content } => format!("inline {name} {content}"),
                other => format!("path {}", other.name()),
            });
            let key = origin.add_to(base(Key::new(COPY_FROM_DOMAIN)));
            key.list("sources", sources).finish()
        });
        if let Some(done) = quick.as_ref().and_then(|key| self.cached(key)) {
            return Ok(done);
        }
        let mut origins = vec![(self.sources(origin)?, origin.clone())];
        let picked = self.pick(step, instruction, &mut origins)?;
        let content = self.content(&picked, &origins)?;
        let key = base(Key::new(COPY_DOMAIN)).digest("content", &content).finish();
        if let Some(done) = self.cached(&key) {
            if let Some(quick) = &quick {
                self.remember(&[quick], done.layer.clone().map(|layer| (layer, None)))?;
            }
            return Ok(done);
        }
        let made = match picked.is_empty() {
            true => None,
            false => Some(self.copy_files(step, instruction, &origins, &picked, now)?),
        };
        let keys: Vec<&Digest> = quick.iter().chain([&key]).collect();
        self.remember(&keys, made)
    }

    fn pick(
        &self,
        step: &CopyStep,
        instruction: &Spanned<Instruction>,
        origins: &mut Vec<(Arc<FileMap>, Origin)>,
    ) -> Result<Vec<Picked>, BuildError> {
        let (sources, origin) = origins.first().context("there are no sources")?.clone();
        let ignore = Ignore::from_patterns(&step.exclude).context("bad patterns")?;
        let mut picked = Vec::new();
        for (index, source) in step.sources.iter().enumerate() {
            match source {
                CopySource::Inline { name, content } => {
                    picked.push(Picked::Inline { name: name.clone(), content: content.clone() });
                }
                CopySource::Remote { url, checksum } => {
                    // With a checksum it is known what it is; whether it is needed is not yet.
                    let fetched = match checksum {
                        Some(_) => None,
                        None => Some(self.fetch(url, None, instruction)?),
                    };
                    let (url, checksum) = (url.clone(), checksum.clone());
                    picked.push(Picked::Remote { url, checksum, fetched });
                }
                CopySource::Path(path) => {
                    let found = copy::select(&sources, path, step.parents).map_err(|error| {
                        self.source_error(&error, path, index, instruction, &origin)
                    })?;
                    picked.extend(found.into_iter().filter_map(|mut found| {
                        found.exclude(&ignore).then_some(Picked::Match(0, found))
                    }));
                }
                CopySource::Git { git, keep_git_dir, .. } => {
                    let context = self.repository(git, *keep_git_dir, instruction)?;
                    let mut found = copy::found(&context.files, b"", "/").map_err(|error| {
                        self.file.diagnostic(instruction.span, error.to_string())
                    })?;
                    origins.push((Arc::clone(&context.files), Origin::Context(context)));
                    if found.exclude(&ignore) {
                        picked.push(Picked::Match(origins.len() - 1, found));
                    }
                }
            }
        }
        if picked.is_empty() {
            // As BuildKit: a pattern may match nothing. A plain name that is not there was an error.
            let written: Vec<_> = step.sources.iter().map(CopySource::name).collect();
            let what = format!("`{}` matches no file, so nothing is copied", written.join("`, `"));
            self.remark(self.file.diagnostic(instruction.span, what).to_string());
        }
        Ok(picked)
    }

    fn source_error(
        &self,
        error: &CopyError,
        path: &str,
        index: usize,
        instruction: &Spanned<Instruction>,
        origin: &Origin,
    ) -> Diagnostic {
        let sources = match &instruction.node {
            Instruction::Copy(copy) => copy.sources.as_slice(),
            Instruction::Add(add) => add.sources.as_slice(),
            _ => &[],
        };
        let span = match sources.get(index) {
            Some(Source::Path(word)) => word.span,
            _ => instruction.span,
        };
        let place = if origin.is_image() { "" } else { " in the build context" };
        let place = if matches!(error, CopyError::NotFound(_)) { place } else { "" };
        let diagnostic = self.file.diagnostic(span, format!("{error}{place}"));
        let relative = files::absolute("/", path);
        let relative = relative.trim_start_matches('/').as_bytes();
        if origin.context().is_some_and(|context| context.is_on_disk(relative)) {
            return diagnostic.with_hint(
                "the file exists, but `.dockerignore` leaves it out, or it is a link that leads \
                 nowhere in the context",
            );
        }
        diagnostic
    }

    /// A digest of everything that was picked.
    fn content(
        &self,
        picked: &[Picked],
        origins: &[(Arc<FileMap>, Origin)],
    ) -> Result<Digest, BuildError> {
        let mut key = Key::new("sekisho.copy-sources.v1");
        for one in picked {
            key = match one {
                Picked::Inline { name, content } => key.text("name", name).text("text", content),
                Picked::Remote { url, checksum, fetched } => {
                    let fetched = fetched.as_ref().map(|fetched| &fetched.digest);
                    let digest = checksum.as_ref().or(fetched).context("a file was not fetched")?;
                    let name = fetch::parse(url).ok().and_then(|url| fetch::file_name(&url));
                    key.optional("url", name.as_deref()).digest("fetched", digest)
                }
                Picked::Match(at, found) => {
                    let (sources, origin) = origins.get(*at).context("a source is missing")?;
                    key.digest("match", &self.match_digest(sources, found, origin)?)
                }
            };
        }
        Ok(key.finish())
    }

    /// A digest of one thing that was found, and all that is in it.
    pub(crate) fn match_digest(
        &self,
        sources: &FileMap,
        found: &Match,
        origin: &Origin,
    ) -> Result<Digest, BuildError> {
        copy::content_key(sources, std::slice::from_ref(found), origin.is_image(), |path| {
            self.check()?;
            match (sources.get(path), origin.context()) {
                (Some(Node { kind: NodeKind::File { digest: Some(digest), .. }, .. }), _) => {
                    Ok(digest.clone())
                }
                (Some(_), Some(context)) => context.digest(path),
                _ => Err(BuildError::from(anyhow!(
                    "the digest of `{}` is not known",
                    pack::show(path)
                ))),
            }
        })
    }

    fn copy_files(
        &self,
        step: &CopyStep,
        instruction: &Spanned<Instruction>,
        origins: &[(Arc<FileMap>, Origin)],
        picked: &[Picked],
        now: &Progressed,
    ) -> Result<(Layer, Option<Written>), BuildError> {
        let (_, first) = origins.first().context("there are no sources")?;
        let is_image = first.is_image();
        let span = instruction.span;
        // With --link nothing of the image is looked at.
        let view = self.layers.view(if step.link { &[] } else { &now.chain })?;
        let owner = match &step.chown {
            None => None,
            Some(text) if users::is_numeric(text) && text.contains(':') => {
                let person = users::find(text, "", "")
                    .map_err(|error| self.file.diagnostic(span, error.to_string()))?;
                Some((person.user.uid.into(), person.user.gid.into()))
            }
            Some(text) => {
                let person = self.person(text, span, &now.chain)?;
                // A lone number means the group of the same number, unlike USER.
                let gid = text.parse().unwrap_or(person.user.gid);
                Some((person.user.uid.into(), gid.into()))
            }
        };
        let destination = Destination {
            path: step.destination.clone(),
            is_folder: step.is_folder,
            owner,
            chmod: step.chmod.clone().map(|(_, chmod)| chmod),
            keep_owner: is_image,
        };
        let failed = |file: &Dockerfile, error: &CopyError| {
            BuildError::from(file.diagnostic(span, error.to_string()))
        };
        let many = picked.len() > 1;
        let mut placer = Placer::new(&view, &destination);
        let mut spool = None;
        for one in picked {
            self.check()?;
            let placed = match one {
                Picked::Inline { name, content } => place_inline(&mut placer, name, content, many),
                Picked::Remote { url, checksum, fetched } => {
                    let fetched = match fetched {
                        Some(fetched) => fetched.clone(),
                        None => self.fetch(url, checksum.as_ref(), instruction)?,
                    };
                    let unpack = step.unpack_remote && fetched.is_archive()?;
                    if unpack {
                        let (file, spool) = (fetched.open()?, self.spool(&mut spool)?);
                        self.unpack(file, many, &view, &mut placer, spool, span)?;
                        continue;
                    }
                    place_remote(&mut placer, url, fetched, many)
                }
                Picked::Match(at, found) => {
                    let (sources, origin) = origins.get(*at).context("a source is missing")?;
                    placer.origin = *at;
                    if let Some(file) = self.archive(step, found, sources, origin)? {
                        let spool = self.spool(&mut spool)?;
                        self.unpack(file, many, &view, &mut placer, spool, span)?;
                        continue;
                    }
                    placer.place(sources, found, many)
                }
            };
            placed.map_err(|error| failed(&self.file, &error))?;
        }
        let pending = placer.finish(is_image);
        self.write(pending, origins, spool)
    }

    fn spool<'s>(
        &self,
        spool: &'s mut Option<archive::Spool>,
    ) -> Result<&'s mut archive::Spool, BuildError> {
        Ok(match spool {
            Some(spool) => spool,
            none => none.insert(
                archive::Spool::create(self.layers.session.path("spool"))
                    .context("cannot make a temporary file")?,
            ),
        })
    }

    fn unpack(
        &self,
        file: std::fs::File,
        many: bool,
        view: &FileMap,
        placer: &mut Placer<'_>,
        spool: &mut archive::Spool,
        span: Span,
    ) -> Result<(), BuildError> {
        let (target, _) = placer
            .target(many)
            .map_err(|error| BuildError::from(self.file.diagnostic(span, error.to_string())))?;
        archive::unpack(file, &target, view, placer, spool)
            .map_err(|error| self.archive_error(&error, span))
    }

    fn archive_error(&self, error: &anyhow::Error, span: Span) -> BuildError {
        self.file.diagnostic(span, format!("cannot unpack the archive: {error:#}")).into()
    }

    /// The file, when it is an archive that ADD unpacks.
    fn archive(
        &self,
        step: &CopyStep,
        found: &Match,
        sources: &FileMap,
        origin: &Origin,
    ) -> Result<Option<std::fs::File>, BuildError> {
        let node = sources.get(&found.root);
        let file = matches!(node, Some(Node { kind: NodeKind::File { .. }, .. }));
        let (Some(context), true, true) = (origin.context(), step.unpack, file) else {
            return Ok(None);
        };
        let mut file = context.open_file(&found.root)?;
        let is = archive::is_archive(&mut file)
            .map_err(|error| BuildError::Machine(error.context("cannot look into an archive")))?;
        Ok(is.then_some(file))
    }

    /// Packs what was placed.
    pub(crate) fn write(
        &self,
        pending: BTreeMap<ImagePath, Pending>,
        origins: &[(Arc<FileMap>, Origin)],
        spool: Option<archive::Spool>,
    ) -> Result<(Layer, Option<Written>), BuildError> {
        let mut packer = Packer::new(self.press());
        for (path, Pending { node, data }) in &pending {
            self.check()?;
            let mut known = None;
            let mut reader: Box<dyn Read> = match data {
                Data::None => Box::new(io::empty()),
                Data::File(path) => {
                    Box::new(std::fs::File::open(path).context("cannot read back a file")?)
                }
                Data::Bytes(bytes) => Box::new(io::Cursor::new(bytes.clone())),
                Data::Spool { offset } => {
                    let spool = spool.as_ref().context("an archive's data is missing")?;
                    Box::new(spool.reader(*offset, node).context("cannot read back")?)
                }
                Data::Source { origin, path: source } => {
                    let (sources, origin) = origins.get(*origin).context("a source is missing")?;
                    let original = sources.get(source).context("a source is missing")?;
                    // What it was when its digest was taken, or else it changed meanwhile.
                    known = origin.context().map(|context| context.known(source, node));
                    let file = self.open_source(origin, original, source)?;
                    Box::new(Holes::new(file).context("cannot read a file")?)
                }
            };
            let node = known.as_ref().unwrap_or(node);
            packer.add(path, node, &mut reader).map_err(machine)?;
        }
        Ok(self.layers.begin(packer.finish().map_err(machine)?)?)
    }
}
