//! Carries out a COPY or ADD.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use sekisho_dockerfile::key::Key;
use sekisho_dockerfile::{Dockerfile, Instruction, Span, Spanned};
use sekisho_types::Digest;

use crate::adding::{add_commits, place_remote};
use crate::copy::{CopyError, Data, Destination, Made, Match, Pending, Placer};
use crate::decide::{CopySource, CopyStep};
use crate::engine::{Engine, Progressed};
use crate::error::BuildError;
use crate::files::{self, FileMap, ImagePath, Node, NodeKind};
use crate::image::Layer;
use crate::layers::chain_key;
use crate::looking::Picked;
use crate::origin::Origin;
use crate::pack::{Packer, Written};
use crate::results::{Done, Known};
use crate::sparse::Holes;
use crate::steps::machine;
use crate::{archive, room, users};

/// Changes when the same key could give another layer than before.
const COPY_DOMAIN: &str = "sekisho.copy.v3";
const COPY_FROM_DOMAIN: &str = "sekisho.copy-from.v3";
const ADD_GIT_DOMAIN: &str = "sekisho.add-git.v1";

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

/// The data of what was made for this build.
fn made_data(
    node: &Node,
    data: Data,
    spool: Option<&archive::Spool>,
) -> Result<Box<dyn Read>, BuildError> {
    Ok(match data {
        Data::None => Box::new(io::empty()),
        Data::File(path) => Box::new(std::fs::File::open(path).context("cannot read back a file")?),
        Data::Bytes(bytes) => Box::new(io::Cursor::new(bytes)),
        Data::Spool { offset } => {
            let spool = spool.context("an archive's data is missing")?;
            Box::new(spool.reader(offset, node).context("cannot read back")?)
        }
    })
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
        let here =
            |source: &CopySource| matches!(source, CopySource::Path(_) | CopySource::Inline { .. });
        let quick = (origin.is_image() && step.sources.iter().all(here)).then(|| {
            let sources = step.sources.iter().map(|source| match source {
                CopySource::Inline { name, content } => format!("inline {name} {content}"),
                other => format!("path {}", other.name()),
            });
            let key = origin.add_to(base(Key::new(COPY_FROM_DOMAIN)));
            key.list("sources", sources).finish()
        });
        // And what a commit holds, so it need not be fetched.
        let of_commits =
            |commits: &[String]| add_commits(base(Key::new(ADD_GIT_DOMAIN)), step, commits);
        let commits = self.commits_now(step).unwrap_or_default();
        let quick = quick.or_else(|| of_commits(&commits));
        if let Some(done) = quick.as_ref().and_then(|key| self.cached(key)) {
            self.took_commits(step, &commits);
            return Ok(done);
        }
        let mut origins = vec![(self.sources(origin)?, origin.clone())];
        let (picked, content) = match self.looked() {
            Some(content) => (None, content),
            None => {
                let picked = self.pick(step, instruction, &mut origins)?;
                let content = self.known_content(&picked, &origins)?;
                (Some(picked), content)
            }
        };
        // A name may mean another commit by now: what counts is what was fetched.
        let fetched = origins.iter().filter_map(|(_, origin)| origin.context()?.commit.clone());
        let quick = of_commits(&fetched.collect::<Vec<_>>()).or(quick);
        let key = base(Key::new(COPY_DOMAIN)).digest("content", &content).finish();
        let turn = match self.known(&key, instruction.span.line)? {
            Known::Done(done) => {
                if let Some(quick) = &quick {
                    self.remember(&[quick], done.layer.clone().map(|layer| (layer, None)), None)?;
                }
                return Ok(*done);
            }
            Known::Nothing(turn) => turn,
        };
        let picked = match picked {
            Some(picked) => picked,
            None => self.pick(step, instruction, &mut origins)?,
        };
        // Now every file counts: they are read, and must be what the key says.
        if self.content(&picked, &origins)? != content {
            let changed = "a file of the build context changed while the image was built";
            return Err(anyhow!(changed).into());
        }
        let made = match picked.is_empty() {
            true => None,
            false => Some(self.copy_files(step, instruction, &origins, &picked, now)?),
        };
        let keys: Vec<&Digest> = quick.iter().chain([&key]).collect();
        self.remember(&keys, made, turn)
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
        let pending = placer.finish();
        self.write(pending, &destination, origins, spool)
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
        match archive::unpack(file, &self.cancel, &target, view, placer, spool) {
            Err(_) if self.cancel.is_cancelled() => Err(BuildError::Cancelled),
            other => other.map_err(|error| self.archive_error(&error, span)),
        }
    }

    fn archive_error(&self, error: &anyhow::Error, span: Span) -> BuildError {
        let message = format!("cannot unpack the archive: {error:#}");
        let diagnostic = self.file.diagnostic(span, message);
        match room::is_full(error.as_ref()) {
            true => diagnostic.with_hint(room::HINT).into(),
            false => diagnostic.into(),
        }
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
        pending: BTreeMap<ImagePath, Pending<'_>>,
        destination: &Destination,
        origins: &[(Arc<FileMap>, Origin)],
        spool: Option<archive::Spool>,
    ) -> Result<(Layer, Option<Written>), BuildError> {
        let mut packer = Packer::new(self.press()).map_err(machine)?;
        for (path, pending) in pending {
            self.check()?;
            let (node, mut reader): (Node, Box<dyn Read>) = match pending {
                Pending::Made(made) => {
                    let Made { node, data } = *made;
                    let reader = made_data(&node, data, spool.as_ref())?;
                    (node, reader)
                }
                Pending::Source { origin, path: source, node: original } => {
                    let node = destination.change(original);
                    let (_, origin) = origins.get(origin).context("a source is missing")?;
                    if !matches!(node.kind, NodeKind::File { .. }) {
                        packer.add(path, node, &mut io::empty()).map_err(machine)?;
                        continue;
                    }
                    if let Some(context) = origin.context()
                        && let Some(still) = context.open_still(source)?
                    {
                        packer.add_still(path, still.node(node), &still).map_err(machine)?;
                        continue;
                    }
                    // What it was when its digest was taken, or else it changed meanwhile.
                    let known = origin.context().map(|context| context.known(source, &node));
                    let file = self.open_source(origin, original, source)?;
                    let reader = Holes::new(file).context("cannot read a file")?;
                    (known.unwrap_or(node), Box::new(reader))
                }
            };
            packer.add(path, node, &mut reader).map_err(machine)?;
        }
        Ok(self.layers.begin(packer.finish().map_err(machine)?)?)
    }
}
