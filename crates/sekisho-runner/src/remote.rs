//! Actions of other repositories: resolved, fetched and unpacked before the first step runs, level by
//! level, for an action may use others.
//!
//! ```text
//! {work}/_actions/<owner>/<repository>/<ref>/     the archive, without its one folder at the top
//! {work}/_actions/<owner>/<repository>/<ref>.completed
//! ```

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use flate2::read::GzDecoder;
use sekisho_github::retry::{Policy, retry};
use sekisho_github::runner::Resolution;
use sekisho_github::wire::launch::{ActionRequest, ResolvedAction};
use sekisho_sandbox::remove_tree;

use crate::composite::load;
use crate::job::Job;
use crate::manifest::Runs;
use crate::spec::{StepSpec, Work};

/// Actions within actions.
const MAX_LEVELS: usize = 10;
/// Most repositories of one job.
const MAX_ACTIONS: usize = 200;
/// Most files of one archive.
const MAX_ENTRIES: usize = 200_000;
/// Most bytes of one archive, unpacked.
const MAX_UNPACKED: u64 = 4 * 1024 * 1024 * 1024;

impl Job {
    /// Fetches what the steps use; the error is for the log.
    pub(crate) async fn fetch_actions(
        &mut self,
        steps: impl Iterator<Item = &StepSpec>,
    ) -> Result<(), String> {
        let mut done = BTreeSet::new();
        let mut wanted = requests(steps);
        for _ in 0..MAX_LEVELS {
            let mut next = BTreeSet::new();
            let new: Vec<ActionRequest> = wanted.difference(&done).cloned().collect();
            if new.is_empty() {
                return Ok(());
            }
            if done.len() + new.len() > MAX_ACTIONS {
                return Err(format!("The job uses more than {MAX_ACTIONS} actions."));
            }
            self.fetch_level(&new).await?;
            for request in &new {
                let folder = self.action_folder(request)?;
                // Whether it can be used shows when it is its turn, if it ever is.
                if let Ok(manifest) = load(&folder, &request.key())
                    && let Runs::Composite { steps } = manifest.runs
                {
                    next.extend(requests(steps.iter()));
                }
            }
            done.extend(new);
            wanted = next;
        }
        Err(format!("Actions use actions deeper than {MAX_LEVELS} levels."))
    }

    async fn fetch_level(&mut self, new: &[ActionRequest]) -> Result<(), String> {
        if !self.client.can_resolve() {
            let names: Vec<String> = new.iter().map(|r| format!("`{}`", r.key())).collect();
            return Err(format!(
                "The service does not resolve actions of other repositories: {}",
                names.join(", ")
            ));
        }
        let resolved = self.client.resolve_actions(new.to_vec()).await;
        let resolved = match resolved.map_err(|e| format!("{:#}", anyhow::Error::from(e)))? {
            Resolution::Found(resolved) => resolved,
            Resolution::Refused(texts) => return Err(texts.join("\n")),
        };
        for request in new {
            let key = request.key();
            let found = resolved.actions.iter().find(|(name, _)| name.eq_ignore_ascii_case(&key));
            let (_, action) = found.ok_or_else(|| format!("Unable to resolve action `{key}`"))?;
            self.log.write(&format!(
                "Download action repository '{key}' (SHA:{})",
                action.resolved_sha
            ));
            if let Some(token) = &action.authentication {
                // A token that cannot be masked is not used.
                self.log.masker_mut().add(token.token.expose()).map_err(|e| e.to_string())?;
            }
            let fetched = self.fetch_one(request, action).await;
            fetched.map_err(|error| format!("Action `{key}` cannot be used. {error:#}"))?;
        }
        Ok(())
    }

    async fn fetch_one(
        &self,
        request: &ActionRequest,
        action: &ResolvedAction,
    ) -> anyhow::Result<()> {
        let folder = repository_folder(&self.state.dirs().actions, request)?;
        let mark = folder.with_file_name(format!(
            "{}.completed",
            folder.file_name().unwrap_or_default().to_string_lossy()
        ));
        if mark.is_file() {
            return Ok(());
        }
        let archive = retry(
            Policy::QUICK,
            |error: &anyhow::Error| is_worth_another(error),
            |_| async {
                let file =
                    tempfile::tempfile_in(&self.state.dirs().temp).context("making a file")?;
                let mut file = tokio::fs::File::from_std(file);
                self.client.fetch_action(action, &mut file).await?;
                Ok::<_, anyhow::Error>(file.into_std().await)
            },
        );
        let mut archive = archive.await?;
        tokio::task::spawn_blocking(move || {
            std::io::Seek::rewind(&mut archive).context("reading the archive")?;
            remove_tree(&folder).context("removing what is left of an earlier try")?;
            unpack(archive, &folder)?;
            fs_err::write(&mark, "").context("marking the action as complete")
        })
        .await
        .context("unpacking the archive")?
    }

    /// Where an action is.
    pub(crate) fn action_folder(&self, request: &ActionRequest) -> Result<PathBuf, String> {
        let root = repository_folder(&self.state.dirs().actions, request);
        let root = root.map_err(|error| format!("{error:#}"))?;
        let inside = Path::new(&request.path).components();
        if !inside.clone().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
            return Err(format!("`{}` leaves its repository", request.path));
        }
        Ok(root.join(&request.path))
    }
}

fn is_worth_another(error: &anyhow::Error) -> bool {
    let client = error.downcast_ref::<sekisho_github::runner::ClientError>();
    client.is_some_and(sekisho_github::runner::ClientError::is_transient)
}

fn requests<'s>(specs: impl Iterator<Item = &'s StepSpec>) -> BTreeSet<ActionRequest> {
    let request = |spec: &StepSpec| match &spec.work {
        Work::Remote(request) => Some(request.clone()),
        _ => None,
    };
    specs.filter_map(request).collect()
}

/// `owner`, `repository` and the ref as one folder each; slashes of a ref are folders.
pub(crate) fn repository_folder(
    actions: &Path,
    request: &ActionRequest,
) -> anyhow::Result<PathBuf> {
    // Not by `Path`, to which `o/r/.` is `o/r`: the folder of all refs.
    let plain = |text: &str| text.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let is_repository = request.action.matches('/').count() == 1;
    if !is_repository || !plain(&request.action) || !plain(&request.version) {
        bail!("`{}` is not an action", request.key());
    }
    Ok(actions.join(&request.action).join(&request.version))
}

/// Unpacks an archive without its one folder at the top. Nothing is written outside of `folder`, nor
/// through a link.
pub(crate) fn unpack(archive: impl Read, folder: &Path) -> anyhow::Result<()> {
    fs_err::create_dir_all(folder).context("making the action's folder")?;
    let mut archive = tar::Archive::new(GzDecoder::new(archive).take(MAX_UNPACKED));
    archive.set_preserve_permissions(false);
    let (mut top, mut count) = (None::<PathBuf>, 0);
    let mut target = Target { folder, links: BTreeSet::new(), folders: BTreeSet::new() };
    for entry in archive.entries().context("reading the archive")? {
        let mut entry = entry.context("reading the archive")?;
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() || kind.is_pax_local_extensions() {
            continue;
        }
        count += 1;
        if count > MAX_ENTRIES {
            bail!("the archive has more than {MAX_ENTRIES} files");
        }
        let path = entry.path().context("reading a name in the archive")?.into_owned();
        let mut parts = path.components();
        let first = parts.next().map(|part| PathBuf::from(part.as_os_str()));
        let first = first.context("the archive has a file without a name")?;
        if top.get_or_insert_with(|| first.clone()) != &first {
            bail!("the archive has more than one folder at its top");
        }
        let rest = parts.as_path().to_owned();
        if rest.as_os_str().is_empty() {
            continue;
        }
        if !rest.components().all(|part| matches!(part, Component::Normal(_))) {
            bail!("the archive has a file outside of its folder: `{}`", path.display());
        }
        if !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
            bail!("the archive has `{}`, which is no file, folder or link", path.display());
        }
        target.write(&mut entry, kind, &rest)?;
    }
    if count == 0 {
        bail!("the archive is empty");
    }
    Ok(())
}

/// The folder of an action, and what the archive has put there: nothing else has.
struct Target<'a> {
    folder: &'a Path,
    links: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
}

impl Target<'_> {
    fn write<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        kind: tar::EntryType,
        rest: &Path,
    ) -> anyhow::Result<()> {
        if rest.ancestors().any(|path| self.links.contains(path)) {
            bail!("the archive writes `{}` through a link", rest.display());
        }
        let target = self.folder.join(rest);
        let parent = if kind.is_dir() { rest } else { rest.parent().unwrap_or(Path::new("")) };
        if self.folders.insert(parent.to_owned()) {
            let made = fs_err::create_dir_all(self.folder.join(parent));
            made.context("making a folder of the action")?;
        }
        if kind.is_dir() {
            return Ok(());
        }
        if kind.is_symlink() {
            self.links.insert(rest.to_owned());
        }
        // What a link points to is only ever read by the job, as if it had made it.
        entry.unpack(&target).with_context(|| format!("unpacking `{}`", rest.display()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, Option<&str>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, link) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            match link {
                Some(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    header.set_link_name(target).unwrap();
                }
                None => header.set_size(1),
            }
            header.set_cksum();
            builder.append(&header, if link.is_some() { &b""[..] } else { &b"x"[..] }).unwrap();
        }
        let tar = builder.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &tar).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn an_archive_is_unpacked_without_its_top() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a");
        let bytes = archive(&[
            ("r-1/action.yml", None),
            ("r-1/dist/index.js", None),
            ("r-1/l", Some("dist")),
        ]);
        unpack(bytes.as_slice(), &folder).unwrap();
        assert_eq!(fs_err::read(folder.join("action.yml")).unwrap(), b"x");
        assert_eq!(fs_err::read(folder.join("l/index.js")).unwrap(), b"x");
    }

    #[test]
    fn nothing_gets_out_of_the_folder() {
        for (files, want) in [
            (vec![("r/../../x", None)], "outside of its folder"),
            (vec![("r/l", Some("/tmp")), ("r/l/sekisho-x", None)], "through a link"),
            (vec![("r/d/l", Some("../..")), ("r/d/l/../x", None)], "outside of its folder"),
            (vec![("r/l", Some("/tmp/sekisho-x")), ("r/l", None)], "through a link"),
            (vec![("r/a", None), ("s/b", None)], "more than one folder"),
            (vec![], "empty"),
        ] {
            let temp = tempfile::tempdir().unwrap();
            let bytes = archive(&files);
            let error = unpack(bytes.as_slice(), &temp.path().join("a")).unwrap_err();
            assert!(format!("{error:#}").contains(want), "{error:#}");
        }
        assert!(unpack(&b"no gzip"[..], &tempfile::tempdir().unwrap().path().join("a")).is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]
        #[test]
        fn whatever_an_archive_holds_stays_in_its_folder(
            files in proptest::collection::vec(("r(/(\\.|\\.\\.|a|b|c)){1,4}",
                proptest::option::of("(/|\\.\\./|)(a|b|\\.\\.)")), 0..8),
            cut in proptest::option::of(0..400_usize),
        ) {
            let files: Vec<(&str, Option<&str>)> =
                files.iter().map(|(path, link)| (path.as_str(), link.as_deref())).collect();
            let mut bytes = archive(&files);
            if let Some(cut) = cut {
                bytes.truncate(cut);
            }
            let temp = tempfile::tempdir().unwrap();
            let _ = unpack(bytes.as_slice(), &temp.path().join("deep/er/action"));
            let mut folder = temp.path().to_owned();
            for name in ["deep", "er", "action"] {
                let inside: Vec<_> =
                    fs_err::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
                proptest::prop_assert_eq!(inside, [name]);
                folder.push(name);
            }
        }
    }

    #[test]
    fn only_plain_names_become_folders() {
        let folder = |action: &str, version: &str| {
            let (action, version) = (action.to_owned(), version.to_owned());
            let request = ActionRequest { action, version, path: String::new() };
            repository_folder(Path::new("/a"), &request).ok()
        };
        assert_eq!(folder("o/r", "feature/x"), Some(PathBuf::from("/a/o/r/feature/x")));
        for (action, version) in [
            ("o/r", "../x"),
            ("o", "v1"),
            ("o/r/s", "v1"),
            ("/o/r", "v"),
            ("o/r", ""),
            ("o/r", "."),
            ("./r", "v"),
            ("o/r", "a/./b"),
            ("o/r", "/v"),
        ] {
            assert_eq!(folder(action, version), None, "{action}@{version}");
        }
    }
}
