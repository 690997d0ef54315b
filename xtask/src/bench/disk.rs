//! A file system of a benchmark's own.
//!
//! Without one, what others deleted before is measured too: ext4 without a journal, which many machines in
//! the cloud have, does not give the inodes of deleted files out again for minutes, and looks at each of them
//! for every file that is made (`recently_deleted` in Linux' `fs/ext4/ialloc.c`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// Bytes that a benchmark can write at most, if the machine's disk has them. The file has holes: only what
/// is written takes room.
const SIZE: u64 = 30 << 30;

/// A folder, gone when it is dropped.
pub(super) struct Disk {
    folder: tempfile::TempDir,
    /// Where the file system of its own is mounted.
    mounted: Option<PathBuf>,
}

impl Disk {
    /// An ext4 with a journal where we may mount one; else a folder of the machine's own.
    pub(super) fn new() -> anyhow::Result<Self> {
        Self::with(SIZE)
    }

    /// The same for so many bytes, or three quarters of what is free.
    pub(super) fn with(bytes: u64) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("making a folder for the benchmark")?;
        let mounted = mount(folder.path(), bytes)?;
        if mounted.is_none() {
            super::progress(
                "no file system of its own for this benchmark: that needs root and mkfs.ext4",
            );
        }
        Ok(Self { folder, mounted })
    }

    /// A folder below one that was named, on the file system that is there.
    pub(super) fn below(folder: &Path) -> anyhow::Result<Self> {
        let made = tempfile::tempdir_in(folder);
        let made = made.with_context(|| format!("making a folder in {}", folder.display()))?;
        Ok(Self { folder: made, mounted: None })
    }

    pub(super) fn path(&self) -> &Path {
        self.mounted.as_deref().unwrap_or_else(|| self.folder.path())
    }

    /// For the page: what the figures were taken on.
    pub(super) fn describe(&self) -> &'static str {
        match self.mounted {
            Some(_) => "an ext4 of its own with a journal",
            None => "the machine's own file system",
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(mounted) = &self.mounted {
            // Lazily: what an engine left mounted below goes with it.
            let _ = Command::new("umount").arg("--lazy").arg(mounted).status();
        }
    }
}

/// All that was written before is on the disk: nobody's measurement pays for another's writes.
pub(super) fn settle() -> anyhow::Result<()> {
    Command::new("sync").status().context("starting sync")?;
    Ok(())
}

/// Of the file system that a path is on.
pub(super) fn free_bytes(path: &Path) -> anyhow::Result<u64> {
    let mut command = Command::new("df");
    command.args(["--output=avail", "--block-size=1"]).arg(path);
    let answer = command.output().context("starting df")?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let bytes = text.lines().nth(1).and_then(|line| line.trim().parse().ok());
    bytes.context("reading what df says")
}

fn mount(folder: &Path, bytes: u64) -> anyhow::Result<Option<PathBuf>> {
    let (file, place) = (folder.join("disk"), folder.join("mounted"));
    fs_err::File::create(&file)?.set_len(bytes.min(free_bytes(folder)? / 4 * 3))?;
    fs_err::create_dir(&place)?;
    let done = |program: &str, arguments: &[&str], place: Option<&Path>| {
        let mut command = Command::new(program);
        command.args(arguments).arg(&file).args(place).stdin(Stdio::null());
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    // The tables are written now, not by the kernel while it is measured.
    let options = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    let mounted = done("mkfs.ext4", &options, None) && done("mount", &["-o", "loop"], Some(&place));
    if !mounted {
        fs_err::remove_file(&file)?;
    }
    Ok(mounted.then_some(place))
}
