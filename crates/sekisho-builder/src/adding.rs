//! ADD of a file from another machine: fetched, checked, placed.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use sekisho_dockerfile::git::GitRef;
use sekisho_dockerfile::ignore::Ignore;
use sekisho_dockerfile::key::Key;
use sekisho_dockerfile::{Instruction, Source, Span, Spanned};
use sekisho_types::Digest;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::copy::{CopyError, Placer};
use crate::decide::{CopySource, CopyStep};
use crate::engine::Engine;
use crate::error::BuildError;
use crate::fetch::{Answer, Link};
use crate::files::{self, Known, Node, NodeKind, Sum};
use crate::slots::lock;
use crate::store::Kind;
use crate::{archive, fetch, pack};

/// A file from another machine.
#[derive(Clone)]
pub(crate) struct Fetched {
    path: PathBuf,
    size: u64,
    pub(crate) sum: Sum,
    mtime: i64,
}

/// A file that was fetched once, and what to ask its server by.
#[derive(Serialize, Deserialize)]
struct Kept {
    known: fetch::Known,
    sum: Sum,
    size: u64,
}

impl Fetched {
    pub(crate) fn open(&self) -> anyhow::Result<std::fs::File> {
        std::fs::File::open(&self.path).context("cannot read back a file")
    }

    /// Whether it is a tar archive, compressed or not.
    pub(crate) fn is_archive(&self) -> anyhow::Result<bool> {
        archive::is_archive(&mut self.open()?).context("cannot look into an archive")
    }
}

impl CopyStep {
    /// Repositories among its sources, in their order.
    pub(crate) fn repositories(&self) -> impl Iterator<Item = &GitRef> {
        self.sources.iter().filter_map(|source| match source {
            CopySource::Git { git, .. } => Some(git),
            _ => None,
        })
    }

    /// Whether it takes files of repositories, and of nothing else that must be looked at.
    fn is_of_git(&self) -> bool {
        let known = |source: &CopySource| {
            matches!(source, CopySource::Git { .. } | CopySource::Inline { .. })
        };
        self.sources.iter().all(known) && self.repositories().next().is_some()
    }
}

/// Makes a key of what commits hold, for a step that takes files of nothing else; `None` for any other.
///
/// A remote is part of it: what one says that a name means holds for its own repository.
pub(crate) fn add_commits(key: Key, step: &CopyStep, commits: &[String]) -> Option<Digest> {
    if !step.is_of_git() {
        return None;
    }
    let mut commits = commits.iter();
    let key = step.sources.iter().try_fold(key, |key, source| match source {
        CopySource::Git { git, keep_git_dir, .. } => Some(
            key.text("remote", &git.remote)
                .text("commit", commits.next()?)
                // A clone that is kept names what it was made of.
                .optional("reference", git.reference.as_deref().filter(|_| *keep_git_dir))
                .optional("folder", git.subdir.as_deref())
                .flag("submodules", git.submodules != Some(false))
                .flag("git", *keep_git_dir),
        ),
        CopySource::Inline { name, content } => Some(key.text("name", name).text("text", content)),
        CopySource::Path(_) | CopySource::Remote { .. } => None,
    })?;
    Some(key.finish())
}

/// Where a URL stands; variables may have made it out of another text.
fn url_span(instruction: &Spanned<Instruction>, url: &str) -> Span {
    let Instruction::Add(add) = &instruction.node else { return instruction.span };
    let words = || {
        add.sources.iter().filter_map(|source| match source {
            Source::Path(word) => Some(word),
            Source::Heredoc(_) => None,
        })
    };
    let word = words().find(|word| word.raw == url).or_else(|| words().next());
    word.map_or(instruction.span, |word| word.span)
}

pub(crate) fn place_remote(
    placer: &mut Placer<'_>,
    url: &str,
    fetched: Fetched,
    many: bool,
) -> Result<(), CopyError> {
    let (target, into) = placer.target(many)?;
    let name = fetch::parse(url).ok().and_then(|url| fetch::file_name(&url));
    let target = match (into, name) {
        (false, _) => target,
        (true, Some(name)) => files::join(&target, name.as_bytes()),
        (true, None) => return Err(CopyError::NoName(url.to_owned())),
    };
    let Fetched { path, size, sum, mtime } = fetched;
    // As BuildKit: nobody but the owner reads it, unless `--chmod` says so.
    let node = Node::new(NodeKind::File { size, digest: Known::of(sum) }, 0o600);
    placer.put_file(target, &node, path, mtime)
}

impl Engine {
    /// The commits that an ADD of repositories alone would check out, when all can be told without a checkout.
    pub(crate) fn commits_now(&self, step: &CopyStep) -> Option<Vec<String>> {
        if !step.is_of_git() || self.options.no_cache || self.fresh {
            return None;
        }
        let (remote, session) = (&self.layers.remote, &self.layers.session);
        step.repositories().map(|git| remote.commit_now(git, session, &self.options)).collect()
    }

    /// Checks a repository out. Its files have the modes that git knows, whatever our umask.
    pub(crate) fn repository(
        &self,
        git: &GitRef,
        keep_git_dir: bool,
        instruction: &Spanned<Instruction>,
    ) -> Result<Arc<Context>, BuildError> {
        let (remote, session) = (&self.layers.remote, &self.layers.session);
        let checkout = match remote.checkout(git, keep_git_dir, session, &self.options) {
            Err(BuildError::Machine(error)) => {
                let span = url_span(instruction, &git.remote);
                return Err(self.file.diagnostic(span, format!("{error:#}")).into());
            }
            other => other?,
        };
        let mut context = Context::list_all(&checkout.dir, &Ignore::default())?;
        self.took_commit(&git.remote, &checkout.commit);
        context.commit = Some(checkout.commit);
        context.set_modes(|node| match node.kind {
            NodeKind::Symlink { .. } => 0o777,
            NodeKind::File { .. } if node.mode & 0o100 == 0 => 0o644,
            _ => 0o755,
        });
        Ok(Arc::new(context))
    }

    /// Fetches a file, once in a build, and makes sure that it is the one that was meant.
    pub(crate) fn fetch(
        &self,
        url: &str,
        checksum: Option<&Digest>,
        instruction: &Spanned<Instruction>,
    ) -> Result<Fetched, BuildError> {
        let failed = |error: &anyhow::Error| -> BuildError {
            let span = url_span(instruction, url);
            self.file.diagnostic(span, format!("cannot fetch `{url}`: {error:#}")).into()
        };
        let slot = self.fetched.of(url.to_owned());
        let mut known = lock(&slot);
        let fetched = match &*known {
            Some(fetched) => fetched.clone(),
            None => known.insert(self.fetch_now(url, &failed)?).clone(),
        };
        drop(known);
        let digest = fetched.sum.digest();
        if let Some(wanted) = checksum.filter(|wanted| **wanted != digest) {
            return Err(failed(&anyhow!("its checksum is {digest}, not {wanted}")));
        }
        self.took(url.to_owned(), &digest);
        Ok(fetched)
    }

    fn fetch_now(
        &self,
        url: &str,
        failed: &dyn Fn(&anyhow::Error) -> BuildError,
    ) -> Result<Fetched, BuildError> {
        let path = self.layers.session.path("fetched");
        let parsed = fetch::parse(url).map_err(|error| failed(&anyhow!(error)))?;
        let (store, session) = (&self.layers.store, &self.layers.session);
        let key = Key::new("sekisho.fetched.v1").text("url", url).finish();
        let kept = store.record::<Kept>(Kind::Fetched, &key);
        let kept = kept.filter(|kept| store.has_blob(&kept.sum.digest(), kept.size));
        let link = Link::new(&self.options)?;
        let call = link.fetch(&parsed, kept.as_ref().map(|kept| &kept.known), &path);
        let answer = self.layers.remote.run(call).ok_or(BuildError::Cancelled)?;
        let kept = match (answer.map_err(|error| failed(&error))?, kept) {
            (Answer::Same, Some(kept)) => kept,
            (Answer::Same, None) => return Err(anyhow!("a server kept what nobody has").into()),
            (Answer::New(known), _) => {
                let mut file = std::fs::File::open(&path).context("cannot read back a file")?;
                let (sum, size) = pack::hash(&mut file).context("cannot read back a file")?;
                store.publish_blob(&path, &sum.digest())?;
                let kept = Kept { known, sum, size };
                store.put_record(session, Kind::Fetched, &key, &kept)?;
                kept
            }
        };
        let Kept { known, sum, size } = kept;
        let digest = sum.digest();
        session.lease(&digest);
        let mtime = known.modified().unwrap_or(crate::LAYER_EPOCH);
        Ok(Fetched { path: store.blob_path(&digest), size, sum, mtime })
    }
}
