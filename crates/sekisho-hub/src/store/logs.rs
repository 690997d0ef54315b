//! Logs and summaries that runners upload.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use sekisho_github::hub_api::Job;
use uuid::Uuid;

use super::Store;

/// The largest log that is kept, in bytes.
const MAX_LOG: u64 = 256 * 1024 * 1024;
/// The largest step summary, in bytes, as on GitHub.
const MAX_SUMMARY: u64 = 1024 * 1024;
/// Files of one job: its steps' logs and summaries, and its own log.
const MAX_FILES: usize = 4_100;
/// How much is read at once when a log is put together, in bytes.
const MAX_READ: u64 = 512 * 1024 * 1024;

/// What a file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogName {
    /// The job's whole log.
    Job,
    /// A step's log.
    Step(Uuid),
    /// A step's summary.
    Summary(Uuid),
}

impl LogName {
    /// The name in a URL and on disk.
    pub(crate) fn file_name(self) -> String {
        match self {
            Self::Job => "job.log".to_owned(),
            Self::Step(step) => format!("{step}.log"),
            Self::Summary(step) => format!("{step}.md"),
        }
    }

    /// Reads [`Self::file_name`].
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (stem, ending) = name.split_once('.')?;
        match (stem, ending) {
            ("job", "log") => Some(Self::Job),
            (stem, "log") => stem.parse().ok().map(Self::Step),
            (stem, "md") => stem.parse().ok().map(Self::Summary),
            _ => None,
        }
    }

    fn max(self) -> u64 {
        if matches!(self, Self::Summary(_)) { MAX_SUMMARY } else { MAX_LOG }
    }
}

/// Why an upload was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// Over the limit for its kind.
    #[error("it would be larger than {0} bytes")]
    TooLarge(u64),
    /// Too many files.
    #[error("the job has too many logs")]
    TooMany,
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The uploads of one job. Everything here blocks.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    dir: PathBuf,
}

impl Store {
    /// Uploads of a job.
    pub(crate) fn logs(&self, run: u64, job: u64) -> Logs {
        Logs { dir: self.run_dir(run).join("logs").join(job.to_string()) }
    }
}

impl Logs {
    /// Replaces a file.
    pub(crate) fn put(&self, name: LogName, content: &[u8]) -> Result<(), UploadError> {
        self.check(name, content.len() as u64)?;
        fs_err::create_dir_all(&self.dir)?;
        super::write_atomically(&self.dir.join(name.file_name()), content)?;
        Ok(())
    }

    /// Adds to a file, which is made if it is not there.
    pub(crate) fn append(&self, name: LogName, content: &[u8]) -> Result<(), UploadError> {
        let path = self.dir.join(name.file_name());
        let before = path.metadata().map_or(0, |meta| meta.len());
        self.check(name, before + content.len() as u64)?;
        fs_err::create_dir_all(&self.dir)?;
        let mut file = fs_err::OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(content)?;
        Ok(())
    }

    fn check(&self, name: LogName, size: u64) -> Result<(), UploadError> {
        if size > name.max() {
            return Err(UploadError::TooLarge(name.max()));
        }
        let files = self.dir.read_dir().map_or(0, Iterator::count);
        if files > MAX_FILES { Err(UploadError::TooMany) } else { Ok(()) }
    }

    /// Opens a file, if it is there.
    pub(super) fn open(&self, name: LogName) -> Option<fs_err::File> {
        fs_err::File::open(self.dir.join(name.file_name())).ok()
    }

    /// Whether [`Self::read`] finds one.
    pub(crate) fn is_there(&self, job: &Job) -> bool {
        let steps = job.steps.iter().filter_map(|step| step.id.parse().ok()).map(LogName::Step);
        let mut names = std::iter::once(LogName::Job).chain(steps);
        names.any(|name| self.dir.join(name.file_name()).is_file())
    }

    /// The job's log: as uploaded, else its steps' logs in their order. `None` if there is none.
    pub(crate) fn read(&self, job: &Job) -> io::Result<Option<Vec<u8>>> {
        let mut names = vec![LogName::Job];
        names.extend(job.steps.iter().filter_map(|step| step.id.parse().ok()).map(LogName::Step));
        let mut text: Option<Vec<u8>> = None;
        for name in names {
            let Some(file) = self.open(name) else { continue };
            file.take(MAX_READ).read_to_end(text.get_or_insert_default())?;
            if name == LogName::Job {
                break;
            }
        }
        Ok(text)
    }
}
