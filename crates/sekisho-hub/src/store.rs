//! The hub's files: runs, events, logs, keys.
//!
//! ```text
//! <dir>/repositories.json          ids and counters
//! <dir>/scale-sets.ndjson          scale sets and their messages, a journal
//! <dir>/runner-groups.json         runner groups
//! <dir>/pulls.json                 pull requests
//! <dir>/runners.json               runners that were registered with a token
//! <dir>/runs/<id>/run.json         the run, replaced as a whole
//! <dir>/runs/<id>/plan.json        what it is made of, for another attempt
//! <dir>/runs/<id>/attempts/…       earlier attempts, one `<n>.json` each
//! <dir>/runs/<id>/events.ndjson    what happened, one line each, appended
//! <dir>/runs/<id>/logs/<job>/…     what the runner uploaded
//! <dir>/artifacts, caches, blobs    see `storage`
//! <dir>/keys/oidc.pem              0600
//! ```

mod archive;
mod events;
mod journal;
mod logs;
mod saver;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sekisho_github::hub_api::Run;

pub(crate) use events::{EventLog, EventTail};
pub(crate) use journal::Journal;
pub(crate) use logs::{LogName, UploadError};
pub(crate) use saver::{List, Lists, NotWritten, Saver};

use crate::state::{Groups, Kept, NewRunner, Pulls, Repositories};

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Makes the folders.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs_err::create_dir_all(dir.join("runs"))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The folder of a run.
    pub(crate) fn run_dir(&self, id: u64) -> PathBuf {
        self.dir.join("runs").join(id.to_string())
    }

    fn run_file(&self, id: u64) -> PathBuf {
        self.run_dir(id).join("run.json")
    }

    /// The journal of scale sets.
    pub(crate) fn journal_file(&self) -> PathBuf {
        self.dir.join("scale-sets.ndjson")
    }

    fn repositories_file(&self) -> PathBuf {
        self.dir.join("repositories.json")
    }

    /// Whether somebody has removed the folder of a run, and not all there is.
    fn was_removed(&self, id: u64) -> bool {
        self.dir.join("runs").is_dir() && !self.run_dir(id).is_dir()
    }

    /// Ids of all runs there are files of, ascending.
    pub(crate) fn run_ids(&self) -> io::Result<Vec<u64>> {
        let mut ids = Vec::new();
        for entry in fs_err::read_dir(self.dir.join("runs"))? {
            ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// A run, as it was last written. `None` if there is none, or its file makes no sense: that is
    /// logged, and one damaged file does not keep the hub from starting.
    pub(crate) fn load_run(&self, id: u64) -> Option<Run> {
        let path = self.run_file(id);
        match read_json(&path) {
            Ok(run) => run,
            Err(error) => {
                tracing::warn!("run {id} cannot be read: {error}");
                None
            }
        }
    }

    fn attempt_file(&self, id: u64, attempt: u64) -> PathBuf {
        self.run_dir(id).join("attempts").join(format!("{attempt}.json"))
    }

    /// Writes a run, also where its folder could not be made when it began.
    fn write_run(&self, id: u64, run: &Run) -> io::Result<()> {
        make_folder(&self.run_dir(id))?;
        write_json(&self.run_file(id), run)
    }

    fn write_attempt(&self, id: u64, attempt: u64, run: &Run) -> io::Result<()> {
        let path = self.attempt_file(id, attempt);
        make_folder(&self.run_dir(id))?;
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        write_json(&path, run)
    }

    /// An earlier attempt of a run, if it was written.
    pub(crate) fn load_attempt(&self, id: u64, attempt: u64) -> Option<Run> {
        read_json(&self.attempt_file(id, attempt)).unwrap_or_else(|error| {
            tracing::warn!("attempt {attempt} of run {id} cannot be read: {error}");
            None
        })
    }

    /// Writes down what a run is made of.
    fn write_plan(&self, id: u64, json: &[u8]) -> io::Result<()> {
        make_folder(&self.run_dir(id))?;
        write_atomically(&self.run_dir(id).join("plan.json"), json)
    }

    /// What a run is made of, if it was written and makes sense.
    pub(crate) fn load_plan(&self, id: u64) -> Option<Kept> {
        read_json(&self.run_dir(id).join("plan.json")).unwrap_or_else(|error| {
            tracing::warn!("the plan of run {id} cannot be read: {error}");
            None
        })
    }

    fn groups_file(&self) -> PathBuf {
        self.dir.join("runner-groups.json")
    }

    /// The runner groups; the default one alone at the first start.
    pub(crate) fn load_groups(&self) -> io::Result<Groups> {
        Ok(read_json(&self.groups_file())?.unwrap_or_default())
    }

    fn pulls_file(&self) -> PathBuf {
        self.dir.join("pulls.json")
    }

    /// The pull requests; none at the first start.
    pub(crate) fn load_pulls(&self) -> io::Result<Pulls> {
        Ok(read_json(&self.pulls_file())?.unwrap_or_default())
    }

    fn runners_file(&self) -> PathBuf {
        self.dir.join("runners.json")
    }

    /// The runners that were registered with a token, by their number.
    pub(crate) fn load_runners(&self) -> io::Result<BTreeMap<u64, NewRunner>> {
        Ok(read_json(&self.runners_file())?.unwrap_or_default())
    }

    /// The repositories; none at the first start.
    pub(crate) fn load_repositories(&self) -> io::Result<Repositories> {
        Ok(read_json(&self.repositories_file())?.unwrap_or_default())
    }

    /// Writes the repositories down, before there is a [`Saver`].
    pub(crate) fn save_repositories(&self, repositories: &Repositories) -> io::Result<()> {
        write_json(&self.repositories_file(), repositories)
    }
}

/// Reads a file that [`write_atomically`] or [`write_json`] wrote, whole: it is the hub's own, and what
/// the hub wrote it reads again, however much that is. `None` if there is none.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let text = match fs_err::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let invalid = |error| io::Error::other(format!("`{}` is damaged: {error}", path.display()));
    serde_json::from_slice(&text).map(Some).map_err(invalid)
}

/// Makes a folder, unless it is there. Nothing above it: that would be in place of a disk that is away.
fn make_folder(folder: &Path) -> io::Result<()> {
    match fs_err::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Writes what [`read_json`] reads.
pub(crate) fn write_json<T: serde::Serialize>(path: &Path, content: &T) -> io::Result<()> {
    write_atomically(path, &serde_json::to_vec(content).map_err(io::Error::other)?)
}

/// Replaces a file: whoever reads it, also after a crash, sees the old or the new content.
///
/// Its folder must be there: one that was removed, with all there is in it, is not made anew.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a file without a folder"))?;
    // Made with mode 0600.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs_err::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_however_long_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long.json");
        // More than 64 MiB.
        let long = vec!["x".repeat(1024 * 1024); 65];
        write_json(&path, &long).unwrap();
        assert!(read_json::<Vec<String>>(&path).unwrap() == Some(long));
        assert_eq!(read_json::<Vec<String>>(&dir.path().join("none.json")).unwrap(), None);
    }
}
