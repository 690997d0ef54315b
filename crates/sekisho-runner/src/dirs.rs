//! The folders of a job.
//!
//! ```text
//! {root}/_diag/steps/             spool files of step logs
//! {root}/{work}/{repo}/{repo}     workspace        {root}/{work}/_temp    emptied for each job
//! {root}/{work}/_actions          actions          {root}/{work}/_tool    tool cache
//! {root}/{work}/_temp/_github_workflow/event.json
//! {root}/{work}/_temp/_runner_file_commands/
//! ```

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sekisho_sandbox::remove_tree;

/// Where everything of a job is. All paths are absolute.
#[derive(Clone, Debug)]
pub(crate) struct Dirs {
    pub(crate) workspace: PathBuf,
    /// Its parent: `runner.workspace`.
    pub(crate) pipeline: PathBuf,
    pub(crate) temp: PathBuf,
    pub(crate) tools: PathBuf,
    pub(crate) actions: PathBuf,
    /// Programs that a runner's image brings along: `node20`, `node24`.
    pub(crate) externals: PathBuf,
    pub(crate) file_commands: PathBuf,
    pub(crate) event: PathBuf,
    pub(crate) spool: PathBuf,
}

impl Dirs {
    /// The places for a job of `repository` (`owner/name`). Touches nothing.
    pub(crate) fn new(root: &Path, work: &str, repository: &str) -> anyhow::Result<Self> {
        let name = repository.rsplit('/').next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let reserved = name.is_empty() || name.starts_with('_') || matches!(name, "." | "..");
        if reserved || !name.chars().all(plain) {
            anyhow::bail!("`{repository}` is not a name of a repository");
        }
        let root = std::path::absolute(root).context("making the runner's root absolute")?;
        let work = root.join(work);
        let temp = work.join("_temp");
        Ok(Self {
            workspace: work.join(name).join(name),
            pipeline: work.join(name),
            tools: work.join("_tool"),
            actions: work.join("_actions"),
            file_commands: temp.join("_runner_file_commands"),
            event: temp.join("_github_workflow/event.json"),
            externals: root.join("externals"),
            spool: root.join("_diag/steps"),
            temp,
        })
    }

    /// Makes the folder for spool files, which the log needs first of all.
    pub(crate) fn create_spool(&self) -> anyhow::Result<()> {
        create(&self.spool).context("creating the folder for step logs")
    }

    /// Makes all folders; `_temp` is emptied.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        self.empty_temp()?;
        let event = self.event.parent().unwrap_or(&self.temp);
        let all = [&self.workspace, &self.tools, &self.actions, &self.file_commands];
        for folder in all.into_iter().map(PathBuf::as_path).chain([event]) {
            create(folder).context("creating the job's folders")?;
        }
        Ok(())
    }

    /// Empties `_temp`, before and after each job.
    pub(crate) fn empty_temp(&self) -> anyhow::Result<()> {
        remove_tree(&self.temp).context("emptying the temporary folder")?;
        create(&self.temp).context("creating the temporary folder")
    }
}

fn create(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use fs_err as fs;

    use super::*;

    #[test]
    fn the_workspace_is_named_twice() {
        let dirs = Dirs::new(Path::new("/r"), "_work", "acme/app").unwrap();
        assert_eq!(dirs.workspace, Path::new("/r/_work/app/app"));
        assert_eq!(dirs.pipeline, Path::new("/r/_work/app"));
        for bad in ["", "acme/..", "acme/_temp", "acme/a b", "acme/"] {
            assert!(Dirs::new(Path::new("/r"), "_work", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_read_only_tree_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let deep = temp.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("f"), "x").unwrap();
        fs::set_permissions(&deep, std::fs::Permissions::from_mode(0o500)).unwrap();
        remove_tree(&temp.path().join("a")).unwrap();
        assert!(!temp.path().join("a").exists());
    }
}
