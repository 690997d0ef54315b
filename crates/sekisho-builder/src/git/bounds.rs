//! How large a repository may be: as large as any context.
//!
//! A commit of a few kilobytes can name the same folder a thousand times over, a thousand levels deep. So its files
//! are counted before any is written, and what lies on the disk while git works.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::sleep;

use crate::context::{MAX_CONTEXT_BYTES, MAX_CONTEXT_FILES};
use crate::engine::now;
use crate::room;

/// Between two looks at how much room the disk has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Between two looks at all files, and so many times as long as the last one took.
const COUNT_EVERY: Duration = Duration::from_secs(1);
const COUNT_SHARE: u32 = 10;

/// Longest line about a file: its path, and some.
const MAX_LINE_BYTES: usize = 8 << 10;

/// How much of them is read at once: one may name millions.
const PIECE_BYTES: usize = 64 << 10;

/// What is counted, and how much of it may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// As of a context that is a folder.
pub(super) const BOUNDS: Bounds = Bounds { files: MAX_CONTEXT_FILES, bytes: MAX_CONTEXT_BYTES };

/// What was counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Size {
    files: u64,
    bytes: u64,
}

impl Size {
    fn add(&mut self, bytes: u64, bounds: Bounds) -> anyhow::Result<()> {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let Bounds { files, bytes } = bounds;
        ensure!(self.files <= files, TooLarge { limit: files, what: "files and folders" });
        ensure!(self.bytes <= bytes, TooLarge { limit: bytes, what: "bytes" });
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it has more than {limit} {what}")]
struct TooLarge {
    limit: u64,
    what: &'static str,
}

/// Whether it would be the same however often and in whichever way it was tried.
pub(super) fn is_final(error: &anyhow::Error) -> bool {
    error.is::<TooLarge>() || room::is_full(error.as_ref())
}

/// Counts what `git ls-tree -r -t -l -z` lists.
pub(super) async fn listed(
    mut lines: impl AsyncRead + Unpin,
    bounds: Bounds,
) -> anyhow::Result<()> {
    let (mut size, mut rest, mut piece) = (Size::default(), Vec::new(), vec![0; PIECE_BYTES]);
    loop {
        let read = lines.read(&mut piece).await?;
        rest.extend_from_slice(piece.get(..read).unwrap_or_default());
        let whole = rest.iter().rposition(|byte| *byte == 0).map_or(0, |end| end + 1);
        for line in rest.drain(..whole).as_slice().split_inclusive(|byte| *byte == 0) {
            size.add(size_of(line).context("git lists what is not understood")?, bounds)?;
        }
        ensure!(rest.len() <= MAX_LINE_BYTES, "a path in it is too long");
        if read == 0 {
            ensure!(rest.is_empty(), "what git lists is cut");
            return Ok(());
        }
    }
}

/// `MODE TYPE OBJECT SIZE\tPATH`, where what is no file has a dash.
fn size_of(line: &[u8]) -> Option<u64> {
    let head = line.split(|byte| *byte == b'\t').next()?;
    let word = std::str::from_utf8(head).ok()?.split_ascii_whitespace().nth(3)?;
    if word == "-" { Some(0) } else { word.parse().ok() }
}

/// Counts what lies in a folder. What vanishes meanwhile is not there.
fn counted(folder: &Path, bounds: Bounds) -> anyhow::Result<Size> {
    let (mut size, mut folders) = (Size::default(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(found) = entry.metadata() else { continue };
            size.add(found.size(), bounds)?;
            if found.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(size)
}

/// Counts what lies in a folder, beside everything else.
pub(super) async fn count(folder: &Path, bounds: Bounds) -> anyhow::Result<()> {
    let folder = folder.to_owned();
    let counting = tokio::task::spawn_blocking(move || counted(&folder, bounds).map(drop));
    counting.await.context("counting files failed")?
}

fn has_room(folder: &Path) -> io::Result<()> {
    let disk = rustix::fs::statvfs(folder)?;
    room::enough(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Looks at a folder until it is too large, or the disk is full; says which.
pub(super) async fn outgrown(folder: PathBuf, bounds: Bounds) -> anyhow::Error {
    let (mut last, mut pause) = (now(), COUNT_EVERY);
    loop {
        sleep(LOOK_EVERY).await;
        if let Err(error) = has_room(&folder) {
            return error.into();
        }
        if last.elapsed() < pause {
            continue;
        }
        let begun = now();
        if let Err(error) = count(&folder, bounds).await {
            return error;
        }
        last = now();
        pause = COUNT_EVERY.max(begun.elapsed() * COUNT_SHARE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: Bounds = Bounds { files: 3, bytes: 1000 };

    #[tokio::test]
    async fn what_a_commit_lists_is_counted() {
        let file = "100644 blob e69de29bb2d1d6434b8b29ae775ad8c2e48c5391     400\ta\tb\0";
        let folder = "040000 tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904       -\tc\0";
        let module = "160000 commit 4b825dc642cb6eb9a060e54bf8d69288fbee4904       -\td\0";
        for (lines, want) in [
            (vec![], None),
            (vec![file, folder, file], None),
            (vec![file, folder, module, folder], Some("it has more than 3 files and folders")),
            (vec![file, file, file], Some("it has more than 1000 bytes")),
            (vec!["100644 blob e69de\ta\0"], Some("git lists what is not understood")),
            (vec!["100644 blob e69de 4\ta"], Some("what git lists is cut")),
        ] {
            let found = listed(lines.concat().as_bytes(), FEW).await;
            assert_eq!(found.err().map(|error| error.to_string()).as_deref(), want, "{lines:?}");
        }
        let endless = tokio::io::repeat(b'x');
        let error = listed(endless, FEW).await.unwrap_err().to_string();
        assert_eq!(error, "a path in it is too long");
    }

    #[tokio::test]
    async fn a_folder_that_grows_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        std::fs::create_dir(path.join("below")).unwrap();
        let bounds = Bounds { files: 2, bytes: u64::MAX };
        count(&path, bounds).await.unwrap();
        let watching = tokio::spawn(outgrown(path.clone(), bounds));
        for name in ["a", "b"] {
            std::fs::write(path.join("below").join(name), "x").unwrap();
        }
        let error = watching.await.unwrap();
        assert_eq!(error.to_string(), "it has more than 2 files and folders");
        let error = count(&path, Bounds { files: 9, bytes: 1 }).await.unwrap_err();
        assert_eq!(error.to_string(), "it has more than 1 bytes");
    }
}
