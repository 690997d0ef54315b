//! Holes of files: a database or a log of many gigabytes may take a few blocks on the disk. Layers hold their
//! zeros, as everybody's do; here they are neither read from the disk nor written to it.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use rustix::io::Errno;

use crate::room::Room;

/// What may become a hole, in bytes: a block of the usual file systems.
const BLOCK_BYTES: usize = 4096;

const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// How much is looked at at once.
const CHUNK_BYTES: usize = 32 * BLOCK_BYTES;

/// What `st_blocks` counts in, whatever the file system's own blocks are (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;

/// What is looked at at once; one for many files, for most are small.
#[derive(Default)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    room: Room,
}

/// Writes everything to a new, empty file. Blocks of zeros become holes.
pub(crate) fn write(data: &mut dyn Read, to: &File, chunk: &mut Chunk) -> io::Result<u64> {
    append(data, to, 0, chunk)
}

/// Writes everything behind the end of a file, which is at `length`; gives the new one.
pub(crate) fn append(
    data: &mut dyn Read,
    to: &File,
    mut length: u64,
    Chunk { bytes: chunk, room }: &mut Chunk,
) -> io::Result<u64> {
    chunk.resize(CHUNK_BYTES, 0);
    let mut hole = false;
    loop {
        let read = fill(data, chunk)?;
        room.take(to, read)?;
        // Of the chunk, what was written or left out.
        let (mut done, mut at) = (0, 0);
        for block in chunk[..read].chunks(BLOCK_BYTES) {
            hole = *block == ZEROS[..block.len()];
            if hole {
                to.write_all_at(&chunk[done..at], length + done as u64)?;
                done = at + block.len();
            }
            at += block.len();
        }
        to.write_all_at(&chunk[done..read], length + done as u64)?;
        length += read as u64;
        if read < chunk.len() {
            break;
        }
    }
    if hole {
        to.set_len(length)?;
    }
    Ok(length)
}

/// Reads until the buffer is full or the data ends.
fn fill(data: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match data.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

/// Reads a file from its beginning; its holes are zeros for which no disk is asked.
pub(crate) struct Holes {
    file: File,
    at: u64,
    /// The data around `at`, or after it; before it is a hole.
    data: Range<u64>,
}

impl Holes {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let sparse = metadata.blocks() * STAT_BLOCK_BYTES < metadata.size();
        // A whole file is one piece of data without an end: should it grow, that is seen.
        let data = if sparse { 0..0 } else { 0..u64::MAX };
        Ok(Self { file, at: 0, data })
    }

    /// The next data after the present; none up to the end.
    fn next(&self) -> io::Result<Range<u64>> {
        let seek = |to| rustix::fs::seek(&self.file, to);
        let size = self.file.metadata()?.len();
        match seek(rustix::fs::SeekFrom::Data(self.at)) {
            Ok(start) => Ok(start..seek(rustix::fs::SeekFrom::Hole(start))?),
            // A hole up to the end; what is beyond it is asked for, to see that there is nothing.
            Err(Errno::NXIO) => Ok(size.max(self.at)..u64::MAX),
            // The file system knows of no holes.
            Err(_) => Ok(self.at..u64::MAX),
        }
    }
}

impl Read for Holes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.data.end {
            self.data = self.next()?;
        }
        let Range { start, end } = self.data;
        let room = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = if self.at < start {
            let zeros = room(start - self.at);
            buffer[..zeros].fill(0);
            zeros
        } else {
            let room = room(end - self.at);
            self.file.read_at(&mut buffer[..room], self.at)?
        };
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(path: &std::path::Path) -> u64 {
        std::fs::metadata(path).unwrap().blocks() * STAT_BLOCK_BYTES
    }

    #[test]
    fn holes_come_back_as_holes_and_data_as_data() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut chunk = Chunk::default();
        const MIB: u64 = 1 << 20;
        for (parts, length) in [
            (vec![], 0),
            (vec![], 3 * MIB),
            (vec![(0, 1)], 1),
            (vec![(0, 10), (MIB, 5000), (3 * MIB - 7, 7)], 3 * MIB),
            (vec![(2 * MIB, 4096)], 2 * MIB + 4096),
            (vec![(5, 5)], 4096 * 33 + 1),
        ] {
            let file = File::create(&from).unwrap();
            file.set_len(length).unwrap();
            for (at, size) in &parts {
                file.write_all_at(&vec![7; *size], *at).unwrap();
            }
            let mut holes = Holes::new(File::open(&from).unwrap()).unwrap();
            let out = File::create(&to).unwrap();
            assert_eq!(write(&mut holes, &out, &mut chunk).unwrap(), length);
            let same = std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap();
            assert!(same, "{parts:?} of {length}");
            assert!(blocks(&to) <= blocks(&from) + 4096, "{parts:?} of {length}");
        }
    }

    #[test]
    fn a_file_that_grows_is_read_to_its_new_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for sparse in [false, true] {
            let file = File::create(&path).unwrap();
            file.set_len(if sparse { 1 << 20 } else { 0 }).unwrap();
            let mut holes = Holes::new(File::open(&path).unwrap()).unwrap();
            let size = file.metadata().unwrap().len();
            file.write_all_at(b"more", size).unwrap();
            let mut all = Vec::new();
            holes.read_to_end(&mut all).unwrap();
            assert_eq!(all.len() as u64, size + 4);
        }
    }
}
