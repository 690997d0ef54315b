//! Compression on every core: blocks of a fixed size, each a gzip member (RFC 1952, section 2.2) or a zstd
//! frame (RFC 8878, section 3) of its own.
//!
//! ```text
//!  spill ──▶ workers: the next block nobody has ──▶ compressed, written in the blocks' order
//! ```
//!
//! The same input gives the same output however many workers there are, and however it is written. Every
//! reader takes several members, or frames, as one stream; ours could also take them apart. A worker holds
//! one block, so memory does not grow with the input.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use libdeflater::{CompressionLvl, Compressor};
use sekisho_oci::media_type;
use tokio_util::sync::CancellationToken;

use crate::options::{Compression, CompressionKind};
use crate::spill::Spill;

/// Bytes of a block. Smaller ones cost size, larger ones memory. A zstd frame forgets what was before it, so
/// its blocks are larger.
const GZIP_BLOCK_BYTES: usize = 1 << 20;
const ZSTD_BLOCK_BYTES: usize = 4 << 20;

/// As small as Go's default, which Docker and BuildKit use, in a third of its time.
const GZIP_LEVEL: i32 = 4;

/// What the `zstd` program takes.
const ZSTD_LEVEL: i32 = 3;

/// Levels that there are; zstd's higher ones need more memory than a worker may have.
const GZIP_LEVELS: std::ops::RangeInclusive<i32> = 1..=12;
const ZSTD_LEVELS: std::ops::RangeInclusive<i32> = 1..=19;

/// Most threads that compress one layer.
const WORKERS_MAX: usize = 8;

/// Most compressed blocks that wait for their turn.
const HELD_MAX: usize = 2;

impl Compression {
    fn level(&self) -> i32 {
        match self.kind {
            CompressionKind::Gzip => self.level.unwrap_or(GZIP_LEVEL),
            CompressionKind::Zstd => self.level.unwrap_or(ZSTD_LEVEL),
        }
    }

    /// Says which levels there are when this one is none.
    ///
    /// # Errors
    /// As a sentence.
    pub fn validate(&self) -> Result<(), String> {
        let (name, levels) = match self.kind {
            CompressionKind::Gzip => ("gzip", GZIP_LEVELS),
            CompressionKind::Zstd => ("zstd", ZSTD_LEVELS),
        };
        match levels.contains(&self.level()) {
            true => Ok(()),
            false => {
                let (from, to) = (levels.start(), levels.end());
                Err(format!("{name} has levels from {from} to {to}, not {}", self.level()))
            }
        }
    }

    /// Of a layer that is compressed so.
    pub(crate) fn media_type(&self) -> &'static str {
        match self.kind {
            CompressionKind::Gzip => media_type::OCI_LAYER_GZIP,
            CompressionKind::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }

    pub(crate) fn block_bytes(&self) -> usize {
        match self.kind {
            CompressionKind::Gzip => GZIP_BLOCK_BYTES,
            CompressionKind::Zstd => ZSTD_BLOCK_BYTES,
        }
    }
}

/// Compresses one block after another.
enum Worker {
    Gzip(Box<Compressor>),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Worker {
    fn new(how: Compression) -> io::Result<Self> {
        Ok(match how.kind {
            CompressionKind::Gzip => {
                let level = CompressionLvl::new(how.level());
                let level = level.map_err(|_| io::Error::other("no such gzip level"))?;
                Self::Gzip(Box::new(Compressor::new(level)))
            }
            CompressionKind::Zstd => {
                let mut compressor = zstd::bulk::Compressor::new(how.level())?;
                compressor.include_checksum(true)?;
                Self::Zstd(Box::new(compressor))
            }
        })
    }

    /// One member or frame: no time, no name.
    fn compress(&mut self, block: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Gzip(compressor) => {
                to.resize(compressor.gzip_compress_bound(block.len()), 0);
                let length = compressor.gzip_compress(block, to);
                to.truncate(length.map_err(|_| io::Error::other("a block is over its bound"))?);
            }
            Self::Zstd(compressor) => *to = compressor.compress(block)?,
        }
        Ok(())
    }
}

/// Compresses what is all in memory, and fits a block.
pub(crate) fn whole(how: Compression, bytes: &[u8], to: &mut impl Write) -> io::Result<()> {
    let mut compressed = Vec::new();
    Worker::new(how)?.compress(bytes, &mut compressed)?;
    to.write_all(&compressed)
}

/// What the workers of one layer share.
struct Shared<W> {
    source: Arc<Spill>,
    how: Compression,
    cancel: CancellationToken,
    progress: Mutex<Progress<W>>,
    turn: Condvar,
}

struct Progress<W> {
    /// The next block that nobody has.
    next: u64,
    /// Blocks that were written.
    written: u64,
    /// Those that wait for one before them: a worker is not kept by a slower one.
    held: BTreeMap<u64, Vec<u8>>,
    output: W,
    failed: Option<io::Error>,
}

impl<W: Write> Progress<W> {
    /// Writes those whose turn it is.
    fn write(&mut self) -> io::Result<()> {
        while let Some(block) = self.held.remove(&self.written) {
            self.output.write_all(&block)?;
            self.written += 1;
        }
        Ok(())
    }
}

impl<W> Shared<W> {
    fn progress(&self) -> MutexGuard<'_, Progress<W>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compresses what is written to `source`, until its end, and gives the output back.
///
/// # Errors
/// Those of input and output; `Interrupted` when cancelled.
pub(crate) fn stream<W: Write + Send>(
    source: Arc<Spill>,
    how: Compression,
    cancel: CancellationToken,
    output: W,
) -> io::Result<W> {
    let progress = Progress { next: 0, written: 0, held: BTreeMap::new(), output, failed: None };
    let turn = Condvar::new();
    let shared = Shared { source, how, cancel, progress: Mutex::new(progress), turn };
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get).min(WORKERS_MAX);
    std::thread::scope(|scope| {
        for _ in 1..cores {
            let work = || work(&shared);
            // With fewer threads it takes longer.
            let _ =
                std::thread::Builder::new().name("compress".to_owned()).spawn_scoped(scope, work);
        }
        work(&shared);
    });
    let progress = shared.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    match progress.failed {
        None => Ok(progress.output),
        Some(error) => Err(error),
    }
}

fn work<W: Write>(shared: &Shared<W>) {
    let all = || -> io::Result<()> {
        let mut worker = Worker::new(shared.how)?;
        let mut block = vec![0; shared.how.block_bytes()];
        let mut compressed = Vec::new();
        loop {
            let number = {
                let mut progress = shared.progress();
                if progress.failed.is_some() {
                    return Ok(());
                }
                progress.next += 1;
                progress.next - 1
            };
            if shared.cancel.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let read = shared.source.read_at(number * block.len() as u64, &mut block)?;
            // Nothing at all is one empty block.
            if read == 0 && number > 0 {
                return Ok(());
            }
            worker.compress(&block[..read], &mut compressed)?;
            let mut progress = shared.progress();
            let waits = |now: &Progress<W>| {
                now.written != number && now.held.len() >= HELD_MAX && now.failed.is_none()
            };
            while waits(&progress) {
                progress = shared.turn.wait(progress).unwrap_or_else(PoisonError::into_inner);
            }
            if progress.failed.is_some() {
                return Ok(());
            }
            progress.held.insert(number, std::mem::take(&mut compressed));
            progress.write()?;
            drop(progress);
            shared.turn.notify_all();
        }
    };
    if let Err(error) = all() {
        shared.progress().failed.get_or_insert(error);
        shared.turn.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use sekisho_oci::layer;

    use super::*;

    /// Text that compresses to about a third, the same every time.
    fn sample(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"etaoin shrdlu"[(state >> 24) as usize % 13]
        };
        (0..length).map(|_| next()).collect()
    }

    fn kind(kind: CompressionKind) -> Compression {
        Compression { kind, ..Compression::default() }
    }

    fn pack(how: Compression, data: &[u8], at_once: usize) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let (spill, mut writer) = Spill::create(&dir.path().join("spill")).unwrap();
        std::thread::scope(|scope| {
            let packed =
                scope.spawn(|| stream(spill, how, CancellationToken::new(), Vec::new()).unwrap());
            for part in data.chunks(at_once) {
                writer.write_all(part).unwrap();
            }
            writer.finish();
            packed.join().unwrap()
        })
    }

    #[test]
    fn any_length_comes_back_and_is_the_same_however_it_is_written() {
        for how in [CompressionKind::Gzip, CompressionKind::Zstd].map(kind) {
            let block = how.block_bytes();
            for length in [0, 1, block - 1, block, block + 1, 3 * block + 7] {
                let data = sample(length);
                let packed = pack(how, &data, 100_000);
                assert!(packed == pack(how, &data, 3_000_017), "{how:?} {length}");
                let mut back = Vec::new();
                let mut decoder = layer::decompress(packed.as_slice(), 1 << 30).unwrap();
                decoder.read_to_end(&mut back).unwrap();
                assert!(back == data, "{how:?} {length}");
                if length <= block {
                    let mut at_once = Vec::new();
                    whole(how, &data, &mut at_once).unwrap();
                    assert!(at_once == packed, "{how:?} {length}");
                }
            }
        }
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    fn other_programs_read_it() {
        for (how, program) in
            [(kind(CompressionKind::Gzip), "gzip"), (kind(CompressionKind::Zstd), "zstd")]
        {
            let data = sample(2 * how.block_bytes() + 1);
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("data");
            std::fs::write(&path, pack(how, &data, 1 << 16)).unwrap();
            let file = std::fs::File::open(&path).unwrap();
            let mut command = std::process::Command::new(program);
            let Ok(output) = command.arg("-dc").stdin(file).output() else {
                eprintln!("skipped a part: needs {program}");
                continue;
            };
            assert!(output.status.success() && output.stdout == data, "{program}");
        }
    }

    #[test]
    fn levels_matter_and_have_an_end() {
        let data = sample(1 << 18);
        let size = |how: Compression| {
            let mut packed = Vec::new();
            whole(how, &data, &mut packed).unwrap();
            packed.len()
        };
        for how in [CompressionKind::Gzip, CompressionKind::Zstd].map(kind) {
            assert_ne!(
                size(Compression { level: Some(1), ..how }),
                size(Compression { level: Some(9), ..how })
            );
            assert_eq!(how.validate(), Ok(()));
        }
        let wrong = Compression { level: Some(13), ..kind(CompressionKind::Gzip) };
        assert_eq!(wrong.validate().unwrap_err(), "gzip has levels from 1 to 12, not 13");
        let wrong = Compression { level: Some(0), ..kind(CompressionKind::Zstd) };
        assert_eq!(wrong.validate().unwrap_err(), "zstd has levels from 1 to 19, not 0");
    }

    #[test]
    fn an_output_that_fails_and_an_end_are_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let run = |length: usize, cancel: CancellationToken| {
            let (spill, mut writer) = Spill::create(&dir.path().join("spill")).unwrap();
            writer.write_all(&vec![0; length]).unwrap();
            writer.finish();
            let how = kind(CompressionKind::Gzip);
            stream(spill, how, cancel, Full).err().unwrap().kind()
        };
        for length in [10, 40 * GZIP_BLOCK_BYTES] {
            assert_eq!(run(length, CancellationToken::new()), io::ErrorKind::StorageFull);
        }
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert_eq!(run(1, cancel), io::ErrorKind::Interrupted);
    }
}
