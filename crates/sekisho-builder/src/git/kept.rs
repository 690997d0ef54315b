//! Checkouts stay in the store, by their commit: one that is there is not fetched again, and its files lie still, so
//! that their digests are known too.
//!
//! Within a build a name of a commit means what it meant when it was first asked for, whatever is pushed meanwhile.

use std::path::PathBuf;

use anyhow::Context as _;
use sekisho_dockerfile::git::GitRef;
use sekisho_dockerfile::key::Key;
use sekisho_types::Digest;

use super::{folder_in, is_asked_for};
use crate::BuildError;
use crate::options::BuildOptions;
use crate::remote::Remote;
use crate::slots::{Slots, lock};
use crate::store::Session;

/// Files of one commit, which nobody changes.
#[derive(Clone, Debug)]
pub(crate) struct Checkout {
    /// The folder that was asked for.
    pub(crate) dir: PathBuf,
    /// In full.
    pub(crate) commit: String,
}

/// A name of a commit, in a repository.
type Name = (String, Option<String>);

/// What names meant in this build.
#[derive(Default)]
pub(crate) struct Commits(Slots<Name, Option<String>>);

fn name(git: &GitRef) -> Name {
    (git.remote.clone(), git.reference.clone())
}

fn key(git: &GitRef, keep_git_dir: bool, commit: &str) -> Digest {
    Key::new("sekisho.checkout.v1")
        .text("remote", &git.remote)
        .text("commit", commit)
        // A clone that is kept names what it was made of.
        .optional("reference", git.reference.as_deref().filter(|_| keep_git_dir))
        .flag("submodules", git.submodules != Some(false))
        .flag("git", keep_git_dir)
        .finish()
}

impl Remote {
    /// The commit that is meant; `None` where only fetching tells, and also where the remote cannot be asked.
    pub(crate) fn commit_now(
        &self,
        git: &GitRef,
        session: &Session,
        options: &BuildOptions,
    ) -> Option<String> {
        let name = self.commits.0.of(name(git));
        self.meant(git, &mut lock(&name), session, options)
    }

    fn meant(
        &self,
        git: &GitRef,
        known: &mut Option<String>,
        session: &Session,
        options: &BuildOptions,
    ) -> Option<String> {
        if known.is_none() {
            *known = self.run(super::commit_now(git, session, options))?.ok()?;
        }
        known.clone().filter(|commit| is_asked_for(commit, git))
    }

    /// A checkout, waited for: by those too who want the same at the same time.
    pub(crate) fn checkout(
        &self,
        git: &GitRef,
        keep_git_dir: bool,
        session: &Session,
        options: &BuildOptions,
    ) -> Result<Checkout, BuildError> {
        let name = self.commits.0.of(name(git));
        let mut known = lock(&name);
        let store = session.store();
        let failed =
            || format!("cannot fetch the repository `{}`", super::user_apart(&git.remote).0);
        let there = self.meant(git, &mut known, session, options).and_then(|commit| {
            let key = key(git, keep_git_dir, &commit);
            let path = store.checkout_path(&key);
            path.is_dir().then_some((key, path, commit))
        });
        let (key, path, commit) = match there {
            Some(there) => there,
            None => {
                let call = super::checkout(git, keep_git_dir, session, options);
                let fetched = self.run(call).ok_or(BuildError::Cancelled)?;
                let (folder, commit) = fetched.with_context(failed)?;
                *known = Some(commit.clone());
                let key = key(git, keep_git_dir, &commit);
                let path = store.publish_checkout(&folder, &key)?;
                (key, path, commit)
            }
        };
        session.lease(&key);
        let dir = folder_in(&path, git.subdir.as_deref()).with_context(failed)?;
        Ok(Checkout { dir, commit })
    }
}
