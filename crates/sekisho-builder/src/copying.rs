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
use crate::context::Context;
use crate::copy::{self, CopyError, Data, Destination, Match, Pending, Placer};
use crate::decide::{CopySource, CopyStep};
use crate::engine::{Done, Engine, Progressed};
use crate::error::BuildError;
use crate::fetch;
use crate::files::{self, FileMap, ImagePath, Node, NodeKind};
use crate::image::Layer;
use crate::layers::chain_key;
use crate::pack::{self, Packer};
use crate::steps::machine;
use crate::users;

/// Changes when the same key could give another layer than before.
const COPY_DOMAIN: &str = "sekisho.copy.v2";
const COPY_FROM_DOMAIN: &str = "sekisho.copy-from.v2";

/// A source that was found.
enum Picked {
    Match(Match),
    Inline { name: String, content: String },
    Remote { url: String, checksum: Option<Digest>, fetched: Option<Fetched> },
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
        &mut self,
        step: &CopyStep,
        instruction: &Spanned<Instruction>,
        from: Option<&[Layer]>,
        now: &Progressed,
    ) -> Result<Done, BuildError> {
        let base = |key: Key| {
            key.digest("parent", &chain_key(&now.chain))
                .text("destination", &step.destination)
                .flag("folder", step.is_folder)
                .optional("chown", step.chown.as_deref())
                .optional("chmod", step.chmod.as_ref().map(|(text, _)| text.as_str()))
                .flag("parents", step.parents)
                .list("exclude", &step.exclude)
                .flag("link", step.link)
                .flag("unpack", step.unpack)
        };
        // What an earlier stage holds is known by its layers, so its files need not be looked at.
        let quick = from.map(|chain| {
            let sources = step.sources.iter().map(|source| match source {
                CopySource::Path(path) => format!("path {path}"),
                CopySource::Inline { name, content } => format!("inline {name} {content}"),
                CopySource::Remote { url, .. } => format!("url {url}"),
            });
            base(Key::new(COPY_FROM_DOMAIN))
                .digest("from", &chain_key(chain))
                .list("sources", sources)
                .finish()
        });
        if let Some(done) = quick.as_ref().and_then(|key| self.cached(key)) {
            return Ok(done);
        }
        let sources = self.sources(from)?;
        let picked = self.pick(step, instruction, &sources, from)?;
        let content = self.content(&sources, &picked, from)?;
        let key = base(Key::new(COPY_DOMAIN)).digest("content", &content).finish();
        if let Some(done) = self.cached(&key) {
            if let Some(quick) = &quick {
                self.remember(quick, done.layer.clone())?;
            }
            return Ok(done);
        }
        let layer = self.copy_files(step, instruction, from, &sources, &picked, now)?;
        if let Some(quick) = &quick {
            self.remember(quick, Some(layer.clone()))?;
        }
        self.remember(&key, Some(layer))
    }

    /// The files to choose from.
    pub(crate) fn sources(&mut self, from: Option<&[Layer]>) -> Result<Arc<FileMap>, BuildError> {
        match from {
            Some(chain) => self.layers.view(chain),
            None => {
                if self.context.is_none() {
                    let dockerfile = self.options.context_dir.join(&self.options.dockerfile);
                    let dir = &self.options.context_dir;
                    self.context = Some(Context::open(dir, &dockerfile)?);
                }
                let files = self.context.as_ref().map(|context| context.files.clone());
                Ok(Arc::new(files.unwrap_or_default()))
            }
        }
    }

    fn pick(
        &self,
        step: &CopyStep,
        instruction: &Spanned<Instruction>,
        sources: &FileMap,
        from: Option<&[Layer]>,
    ) -> Result<Vec<Picked>, BuildError> {
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
                    let found = copy::select(sources, path, step.parents).map_err(|error| {
                        self.source_error(&error, path, index, instruction, from.is_some())
                    })?;
                    picked.extend(found.into_iter().filter_map(|mut found| {
                        found.exclude(&ignore).then_some(Picked::Match(found))
                    }));
                }
            }
        }
        if picked.is_empty() {
            let written: Vec<_> = step.sources.iter().map(CopySource::name).collect();
            let error = CopyError::NoMatch(written.join("`, `"));
            return Err(self.source_error(&error, "", 0, instruction, true).into());
        }
        Ok(picked)
    }

    fn source_error(
        &self,
        error: &CopyError,
        path: &str,
        index: usize,
        instruction: &Spanned<Instruction>,
        elsewhere: bool,
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
        let place = if elsewhere { "" } else { " in the build context" };
        let place = if matches!(error, CopyError::NotFound(_)) { place } else { "" };
        let diagnostic = self.file.diagnostic(span, format!("{error}{place}"));
        let relative = files::absolute("/", path);
        let on_disk = self.options.context_dir.join(relative.trim_start_matches('/'));
        if !elsewhere && std::fs::symlink_metadata(on_disk).is_ok() {
            return diagnostic.with_hint(
                "the file exists, but `.dockerignore` leaves it out, or it is a link that leads \
                 nowhere in the context",
            );
        }
        diagnostic
    }

    /// A digest of everything that was picked.
    fn content(
        &mut self,
        sources: &FileMap,
        picked: &[Picked],
        from: Option<&[Layer]>,
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
                Picked::Match(found) => {
                    key.digest("match", &self.match_digest(sources, found, from.is_some())?)
                }
            };
        }
        Ok(key.finish())
    }

    /// A digest of one thing that was found, and all that is in it.
    pub(crate) fn match_digest(
        &mut self,
        sources: &FileMap,
        found: &Match,
        keep: bool,
    ) -> Result<Digest, BuildError> {
        copy::content_key(sources, std::slice::from_ref(found), keep, |path| {
            self.check()?;
            match (sources.get(path), self.context.as_mut()) {
                (Some(Node { kind: NodeKind::File { digest: Some(digest), .. }, .. }), _) => {
                    Ok(digest.clone())
                }
                (Some(_), Some(context)) if !keep => Ok(context.digest(path)?.0),
                _ => Err(BuildError::from(anyhow!(
                    "the digest of `{}` is not known",
                    pack::show(path)
                ))),
            }
        })
    }

    fn copy_files(
        &mut self,
        step: &CopyStep,
        instruction: &Spanned<Instruction>,
        from: Option<&[Layer]>,
        sources: &FileMap,
        picked: &[Picked],
        now: &Progressed,
    ) -> Result<Layer, BuildError> {
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
            keep_owner: from.is_some(),
        };
        let failed = |file: &Dockerfile, error: &CopyError| {
            BuildError::from(file.diagnostic(span, error.to_string()))
        };
        let many = picked.len() > 1;
        let mut placer = Placer::new(&view, &destination);
        // Sizes as they were when the digests were taken.
        let known = match (&self.context, from) {
            (Some(context), None) => context.files.clone(),
            _ => sources.clone(),
        };
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
                    place_remote(&mut placer, url, fetched, many)
                }
                Picked::Match(found) => {
                    if let Some(file) = self.archive(step, found, &known, from)? {
                        let spool = match &mut spool {
                            Some(spool) => spool,
                            none => none.insert(
                                archive::Spool::create(self.layers.session.path("spool"))
                                    .context("cannot make a temporary file")?,
                            ),
                        };
                        let (target, _) =
                            placer.target(many).map_err(|error| failed(&self.file, &error))?;
                        archive::unpack(file, &target, &view, &mut placer, spool)
                            .map_err(|error| self.archive_error(&error, span))?;
                        continue;
                    }
                    placer.place(&known, found, many)
                }
            };
            placed.map_err(|error| failed(&self.file, &error))?;
        }
        let pending = placer.finish(from.is_some());
        self.write(pending, &known, from, spool)
    }

    fn archive_error(&self, error: &anyhow::Error, span: Span) -> BuildError {
        self.file.diagnostic(span, format!("cannot unpack the archive: {error:#}")).into()
    }

    /// The file, when it is an archive that ADD unpacks.
    fn archive(
        &self,
        step: &CopyStep,
        found: &Match,
        known: &FileMap,
        from: Option<&[Layer]>,
    ) -> Result<Option<std::fs::File>, BuildError> {
        let file = matches!(known.get(&found.root), Some(Node { kind: NodeKind::File { .. }, .. }));
        let (Some(context), true, true, None) = (&self.context, step.unpack, file, from) else {
            return Ok(None);
        };
        let mut file = context.open_file(&found.root)?;
        let is = archive::is_archive(&mut file)
            .map_err(|error| BuildError::Machine(error.context("cannot look into an archive")))?;
        Ok(is.then_some(file))
    }

    /// Packs what was placed.
    pub(crate) fn write(
        &mut self,
        pending: BTreeMap<ImagePath, Pending>,
        sources: &FileMap,
        from: Option<&[Layer]>,
        spool: Option<archive::Spool>,
    ) -> Result<Layer, BuildError> {
        let mut packer = Packer::create(self.layers.session.path("layer")).map_err(machine)?;
        for (path, Pending { node, data }) in &pending {
            self.check()?;
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
                Data::Source(source) => match (from, &self.context) {
                    (Some(chain), _) => {
                        let original = sources.get(source).context("a source is missing")?;
                        let file = self.layers.open(chain, original, source, self.isolation)?;
                        Box::new(file)
                    }
                    (None, Some(context)) => Box::new(context.open_file(source)?),
                    (None, None) => return Err(anyhow!("there is no context").into()),
                },
            };
            packer.add(path, node, &mut reader).map_err(machine)?;
        }
        Ok(self.layers.publish(packer.finish().map_err(machine)?)?)
    }
}
