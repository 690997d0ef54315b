//! The file command files of a step: made before it, read after it whatever its result.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use uuid::Uuid;

use super::Job;
use crate::console::Commands;
use crate::dirs::Dirs;
use crate::file_command::{
    FileCommandError, MAX_FILE_LEN, MAX_SUMMARY_LEN, parse_env, parse_pairs, parse_path,
};
use crate::state::StepFiles;

impl StepFiles {
    /// Makes fresh, empty files.
    pub(crate) fn create(dirs: &Dirs) -> anyhow::Result<Self> {
        let id = Uuid::new_v4();
        let make = |kind: &str| {
            let path = dirs.file_commands.join(format!("{kind}_{id}"));
            fs_err::write(&path, "").context("making a file for a step's commands")?;
            anyhow::Ok(path)
        };
        Ok(Self {
            env: make("set_env")?,
            path: make("add_path")?,
            output: make("set_output")?,
            state: make("save_state")?,
            summary: make("step_summary")?,
        })
    }

    /// Removes them; a step that removed one itself is no error.
    pub(crate) fn remove(&self) {
        for path in [&self.env, &self.path, &self.output, &self.state, &self.summary] {
            let _ = fs_err::remove_file(path);
        }
    }
}

impl Job {
    /// Reads the files. The answer: the outputs, and whether all files were right.
    pub(crate) fn take_files(
        &mut self,
        files: &StepFiles,
        commands: &mut Commands,
    ) -> (Vec<(String, String)>, bool) {
        let mut ok = true;
        let mut fail = |job: &mut Self, name: &str, error: &str| {
            job.fail_step(
                commands,
                &format!("Unable to process file command '{name}' successfully."),
            );
            job.fail_step(commands, error);
            ok = false;
        };
        match read(&files.env, parse_env) {
            Ok(pairs) => self.state.env.extend(pairs),
            Err(error) => fail(self, "env", &error),
        }
        match read(&files.path, parse_path) {
            Ok(folders) => self.state.prepend_path(folders),
            Err(error) => fail(self, "path", &error),
        }
        let state = match read(&files.state, parse_pairs) {
            Ok(state) => state,
            Err(error) => {
                fail(self, "state", &error);
                Vec::new()
            }
        };
        let outputs = match read(&files.output, parse_pairs) {
            Ok(outputs) => outputs,
            Err(error) => {
                fail(self, "output", &error);
                Vec::new()
            }
        };
        commands.state.extend(state);
        self.take_summary(&files.summary, commands);
        (outputs, ok)
    }

    /// A composite action's steps all write one summary: that of the step they are in.
    fn take_summary(&mut self, path: &Path, commands: &mut Commands) {
        let markdown = read_limited(path, MAX_SUMMARY_LEN).and_then(|bytes| {
            let markdown = String::from_utf8_lossy(&bytes).into_owned();
            let whole = (commands.summary.len() + markdown.len()) as u64;
            if whole > MAX_SUMMARY_LEN { Err(too_large(MAX_SUMMARY_LEN)) } else { Ok(markdown) }
        });
        match markdown {
            Ok(markdown) => commands.summary.push_str(&markdown),
            Err(error) => {
                self.fail_step(commands, &format!("$GITHUB_STEP_SUMMARY upload aborted: {error}"));
            }
        }
    }
}

fn read<T: Default>(
    path: &Path,
    parse: fn(&[u8]) -> Result<T, FileCommandError>,
) -> Result<T, String> {
    let bytes = read_limited(path, MAX_FILE_LEN)?;
    parse(&bytes).map_err(|error| error.to_string())
}

/// A step may have put anything in the file's place; only a regular file is read, and only so far.
fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let meta = match fs_err::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    if !meta.is_file() {
        return Err("the file was replaced by something that is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = fs_err::File::open(path).map_err(|error| error.to_string())?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(too_large(limit));
    }
    Ok(bytes)
}

fn too_large(limit: u64) -> String {
    format!("the file is larger than {} KiB", limit / 1024)
}
