//! Keeps what a job pushes from making or changing workflow files, as GitHub does: a hook of `git`, which
//! looks at all that is to move before any of it does.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Git, GitError, Repository};

/// Where workflows are.
const WORKFLOWS: &str = ".github/workflows/";
/// What a list of them may be, in bytes.
const MAX_LIST: usize = 4 * 1024 * 1024;
/// How often a hook is run that is busy, and the pause between.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(5);
const SCRIPT: &str = include_str!("pre_receive.sh");

impl Git {
    /// Writes the hook. Gives the folder that it is in, if it can be run: `git` goes on without a hook that
    /// cannot.
    pub(super) fn install_hook(&self, dir: &Path) -> io::Result<Option<PathBuf>> {
        let folder = dir.join("hooks");
        fs_err::create_dir_all(&folder)?;
        let path = folder.join("pre-receive");
        if fs_err::read_to_string(&path).is_ok_and(|there| there == SCRIPT) && self.runs(&path) {
            return Ok(Some(folder));
        }
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        file.write_all(SCRIPT.as_bytes())?;
        file.as_file().set_permissions(Permissions::from_mode(0o700))?;
        // Closed before it is run: a file that somebody may write to is not.
        file.into_temp_path().persist(&path).map_err(|error| error.error)?;
        if self.runs(&path) {
            return Ok(Some(folder));
        }
        tracing::warn!("`{}` cannot be run: jobs will not push", path.display());
        Ok(None)
    }

    /// Whether a hook runs, and finds nothing where nothing is to move.
    fn runs(&self, path: &Path) -> bool {
        for _ in 0..BUSY_TRIES {
            let mut command = Command::new(path);
            command.env_clear().env("PATH", &self.search_path).stdin(Stdio::null());
            match command.stdout(Stdio::null()).stderr(Stdio::null()).status() {
                // A process that another thread has just started has the file as it was written, for a
                // moment.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(BUSY_PAUSE);
                }
                ended => return ended.is_ok_and(|status| status.success()),
            }
        }
        false
    }
}

impl Repository {
    /// A workflow file that one commit has, and another has not or not like this.
    pub(crate) fn new_workflow(
        &self,
        before: &str,
        after: &str,
    ) -> Result<Option<String>, GitError> {
        let listed = |sha: &str| {
            let args = ["-r", "-z", "--full-tree", sha, "--", WORKFLOWS];
            self.read("ls-tree", &args, MAX_LIST)
        };
        let (known, files) = (listed(before)?, listed(after)?);
        // Mode, kind and object, then a tab and the path.
        let known: BTreeSet<&[u8]> = known.split(|byte| *byte == 0).collect();
        let new = files.split(|byte| *byte == 0).find(|file| !known.contains(file));
        let path = new.map(|file| file.split(|byte| *byte == b'\t').skip(1).collect::<Vec<_>>());
        Ok(path.map(|parts| String::from_utf8_lossy(&parts.join(&b'\t')).into_owned()))
    }
}
