//! The logs of a run in one zip file.
//!
//! ```text
//! 0_<job>.txt           the whole log of each job
//! <job>/1_<step>.txt    the log of each step
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};

use sekisho_github::hub_api::{Job, Run};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{LogName, Store};

/// What is packed of all logs of a run, in bytes before they are packed.
const MAX_PACKED: u64 = 2 * 1024 * 1024 * 1024;
/// Longest part of a name, in characters.
const MAX_NAME: usize = 100;

impl Store {
    /// Packs the logs of a run into a file without a name, from its beginning. Blocking.
    pub(crate) fn pack_logs(&self, run: &Run) -> io::Result<File> {
        let mut packer = Packer { zip: ZipWriter::new(tempfile::tempfile()?), left: MAX_PACKED };
        let mut taken = BTreeSet::new();
        for (place, job) in run.jobs.iter().enumerate() {
            let logs = self.logs(run.id, job.id);
            let mut name = plain(&job.name);
            if !taken.insert(name.to_lowercase()) {
                name = format!("{name} {}", job.id);
            }
            let steps = steps(job);
            let whole = [LogName::Job];
            // As [`super::logs::Logs::read`]: the job's own, or else those of its steps.
            let from: Vec<LogName> = match logs.open(LogName::Job) {
                Some(_) => whole.into(),
                None => steps.iter().map(|(_, step)| *step).collect(),
            };
            let files: Vec<fs_err::File> =
                from.into_iter().filter_map(|one| logs.open(one)).collect();
            if !files.is_empty() {
                packer.add(&format!("{place}_{name}.txt"), files)?;
            }
            for (step, log) in steps {
                if let Some(file) = logs.open(log) {
                    packer.add(&format!("{name}/{step}.txt"), vec![file])?;
                }
            }
        }
        let mut file = packer.zip.finish().map_err(io::Error::other)?;
        file.rewind()?;
        Ok(file)
    }
}

/// Name and log of each step.
fn steps(job: &Job) -> Vec<(String, LogName)> {
    let named = job.steps.iter().filter_map(|step| {
        let log = LogName::Step(step.id.parse().ok()?);
        Some((format!("{}_{}", step.number, plain(&step.name)), log))
    });
    named.collect()
}

/// A name that is a file's name everywhere.
fn plain(name: &str) -> String {
    let bad = |c: char| c.is_control() || r#"<>:"/\|?*"#.contains(c);
    let cleaned: String = name.chars().filter(|c| !bad(*c)).take(MAX_NAME).collect();
    let cleaned = cleaned.trim().trim_end_matches('.').trim_start_matches('.');
    if cleaned.is_empty() { "_".to_owned() } else { cleaned.to_owned() }
}

struct Packer {
    zip: ZipWriter<File>,
    /// Bytes that may still be packed.
    left: u64,
}

impl Packer {
    fn add(&mut self, name: &str, files: Vec<fs_err::File>) -> io::Result<()> {
        let options = SimpleFileOptions::default().large_file(true);
        self.zip.start_file(name, options).map_err(io::Error::other)?;
        for file in files {
            let copied = io::copy(&mut file.take(self.left), &mut self.zip)?;
            self.left -= copied;
        }
        if self.left == 0 {
            self.zip.write_all(b"\n(more than can be packed)\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        for (name, want) in [
            ("build / test (1, a)", "build  test (1, a)"),
            ("../../etc", "etc"),
            ("a\\b:c\n", "abc"),
            ("..", "_"),
            ("", "_"),
        ] {
            assert_eq!(plain(name), want, "{name:?}");
        }
        assert_eq!(plain(&"é".repeat(200)).chars().count(), MAX_NAME);
    }
}
