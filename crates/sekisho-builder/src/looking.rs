//! What a COPY or ADD takes: its files, and a digest of them.
//!
//! The digest of many files is remembered by how all of them lay, as a file's own is (see `hashed`): a COPY
//! of what nobody touched costs a `stat` of each file, and no more.

use std::sync::{Arc, PoisonError};

use anyhow::{Context as _, anyhow};
use sekisho_dockerfile::ignore::Ignore;
use sekisho_dockerfile::key::Key;
use sekisho_dockerfile::{Diagnostic, Instruction, Source, Spanned};
use sekisho_types::Digest;

use crate::adding::Fetched;
use crate::beside;
use crate::context::Context;
use crate::copy::{self, CopyError, Match};
use crate::decide::{Action, CopySource, CopyStep};
use crate::drive::Planned;
use crate::engine::Engine;
use crate::error::BuildError;
use crate::fetch;
use crate::files::{self, FileMap, Node, NodeKind};
use crate::origin::Origin;
use crate::pack;
use crate::slots::lock;
use crate::store::Kind;

/// From so many files on it is worth reading what is known of each.
const MANY_FILES: usize = 500;

/// Digests by lay that are kept: a few for each COPY of some hundred Dockerfiles.
const MAX_LAYS: usize = 1000;

/// A source that was found.
pub(crate) enum Picked {
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

impl Engine {
    /// Looks at what a COPY will take of the build context, before its turn.
    pub(crate) fn look(&self, planned: &Planned) -> Result<(), BuildError> {
        let Action::Copy(step) = &planned.decided.action else { return Ok(()) };
        let origin = self.main_context()?;
        let mut origins = vec![(self.sources(&origin)?, origin)];
        let picked = self.pick(step, &planned.instruction, &mut origins)?;
        let content = self.known_content(&picked, &origins)?;
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.insert(self.number, content);
        Ok(())
    }

    /// What [`Self::look`] found for this step.
    pub(crate) fn looked(&self) -> Option<Digest> {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.get(&self.number).cloned()
    }

    pub(crate) fn pick(
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
                    if let Some(checksum) = checksum {
                        self.took(url.clone(), checksum);
                    }
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
                        found.exclude(&sources, &ignore).then_some(Picked::Match(0, found))
                    }));
                }
                CopySource::Git { git, keep_git_dir, .. } => {
                    let context = self.repository(git, *keep_git_dir, instruction)?;
                    let mut found = copy::found(&context.files, b"", "/").map_err(|error| {
                        self.file.diagnostic(instruction.span, error.to_string())
                    })?;
                    let context_files = Arc::clone(&context.files);
                    origins.push((Arc::clone(&context_files), Origin::Context(context)));
                    if found.exclude(&context_files, &ignore) {
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
    pub(crate) fn content(
        &self,
        picked: &[Picked],
        origins: &[(Arc<FileMap>, Origin)],
    ) -> Result<Digest, BuildError> {
        let many = |one: &Picked, sources: &FileMap| match one {
            Picked::Match(0, found) => found.below(sources).nth(MANY_FILES - 1).is_some(),
            _ => false,
        };
        if let Some((sources, Origin::Context(context))) = origins.first()
            && picked.iter().any(|one| many(one, sources))
            && self.is_main(context)
        {
            self.recall(context);
        }
        self.hash_ahead(picked, origins)?;
        let mut key = Key::new("sekisho.copy-sources.v2");
        for one in picked {
            key = match one {
                Picked::Inline { name, content } => key.text("name", name).text("text", content),
                Picked::Remote { url, checksum, fetched } => {
                    let fetched = fetched.as_ref().map(|fetched| fetched.sum.digest());
                    let digest =
                        checksum.as_ref().or(fetched.as_ref()).context("a file was not fetched")?;
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

    /// Takes the digests of files of contexts that are not known, by several threads.
    fn hash_ahead(
        &self,
        picked: &[Picked],
        origins: &[(Arc<FileMap>, Origin)],
    ) -> Result<(), BuildError> {
        let mut unknown = Vec::new();
        for one in picked {
            let Picked::Match(at, found) = one else { continue };
            let (sources, origin) = origins.get(*at).context("a source is missing")?;
            let Some(context) = origin.context() else { continue };
            let files = found.all(sources);
            let files = files.filter(|(_, node)| matches!(node.kind, NodeKind::File { .. }));
            let new = files.filter(|(path, _)| !context.knows(path));
            unknown.extend(new.map(|(path, _)| (context, path)));
        }
        beside::try_each(&unknown, self.options.jobs, |(context, path)| {
            self.check().and_then(|()| context.digest(path)).map(drop)
        })?;
        let contexts = origins.iter().filter_map(|(_, origin)| origin.context());
        contexts.for_each(Context::forget_used);
        Ok(())
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
            let known = sources.get(path).and_then(|node| match &node.kind {
                NodeKind::File { digest, .. } => digest.get(),
                _ => None,
            });
            match (known, origin.context()) {
                (Some(sum), _) => Ok(sum),
                (None, Some(context)) => context.digest(path),
                (None, None) => Err(BuildError::from(anyhow!(
                    "the digest of `{}` is not known",
                    pack::show(path)
                ))),
            }
        })
    }

    /// As [`Self::content`], without a look at any file where all of them lie as they lay.
    pub(crate) fn known_content(
        &self,
        picked: &[Picked],
        origins: &[(Arc<FileMap>, Origin)],
    ) -> Result<Digest, BuildError> {
        let Some(lay) = self.lay(picked, origins) else { return self.content(picked, origins) };
        // What is copied for several platforms is read once.
        let slot = self.looking.of(lay.clone());
        let _turn = lock(&slot);
        let store = &self.layers.store;
        if let Some(known) = store.record(Kind::Lay, &lay) {
            return Ok(known);
        }
        let content = self.content(picked, origins)?;
        let sure = picked.iter().all(|one| match one {
            Picked::Match(at, found) => {
                let taken =
                    |(_, node): (_, &Node)| node.lay().is_none_or(|lay| lay.digest.get().is_some());
                let source = origins.get(*at).filter(|(_, origin)| origin.context().is_some());
                source.is_some_and(|(sources, _)| found.all(sources).all(taken))
            }
            Picked::Inline { .. } | Picked::Remote { .. } => false,
        });
        if sure {
            store.put_record(&self.layers.session, Kind::Lay, &lay, &content)?;
            store.keep_latest(Kind::Lay, MAX_LAYS)?;
        }
        Ok(content)
    }

    /// How files lie. `None` for what lies elsewhere than in a context.
    fn lay(&self, picked: &[Picked], origins: &[(Arc<FileMap>, Origin)]) -> Option<Digest> {
        let key = picked.iter().try_fold(Key::new("sekisho.lay.v2"), |key, one| {
            let Picked::Match(at, found) = one else { return None };
            let (sources, origin) = origins.get(*at)?;
            origin.context()?;
            copy::add_lay(key, sources, found)
        });
        key.map(Key::finish)
    }
}
