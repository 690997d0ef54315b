//! gzip on every core: blocks of a fixed size, each a member of its own (RFC 1952, section 2.2).
//!
//! ```text
//!  write ──▶ block ──▶ workers, each with one block ──▶ writer, in the blocks' order ──▶ output
//! ```
//!
//! The same input gives the same output however many workers there are. Every reader of gzip takes several
//! members as one stream; ours could also take them apart.

use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use libdeflater::{CompressionLvl, Compressor};

/// Bytes of a block. Smaller ones cost size, larger ones memory.
const BLOCK_BYTES: usize = 1 << 20;

/// As small as Go's default, which Docker and BuildKit use, in a third of its time.
const LEVEL: i32 = 4;

/// Most threads that compress.
const WORKERS_MAX: usize = 8;

/// A block, and where its compressed form is awaited.
type Job = (Vec<u8>, Sender<io::Result<Vec<u8>>>);

/// Compresses what is written to it.
pub(crate) struct ParallelGzip<W: Write + Send + 'static> {
    block: Vec<u8>,
    output: Option<W>,
    /// There once there is more than one block.
    pool: Option<Pool<W>>,
}

struct Pool<W> {
    jobs: Sender<Job>,
    /// Bounded: who writes faster than can be compressed waits.
    order: SyncSender<Receiver<io::Result<Vec<u8>>>>,
    writer: JoinHandle<io::Result<W>>,
}

impl<W: Write + Send + 'static> ParallelGzip<W> {
    /// Output goes to `output`, some of it not before [`Self::finish`].
    pub(crate) fn new(output: W) -> Self {
        Self { block: Vec::new(), output: Some(output), pool: None }
    }

    /// Writes what is left, and gives the output back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let block = std::mem::take(&mut self.block);
        let Some(pool) = self.pool.take() else {
            let mut output = self.output.take().ok_or(io::ErrorKind::BrokenPipe)?;
            output.write_all(&compress(&mut compressor()?, &block)?)?;
            return Ok(output);
        };
        if !block.is_empty() {
            // When the writer is gone, it says why below.
            let _ = pool.send(block);
        }
        let Pool { jobs, order, writer } = pool;
        drop((jobs, order));
        writer.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
    }

    fn block_is_full(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES));
        if self.pool.is_none() {
            let output = self.output.take().ok_or(io::ErrorKind::BrokenPipe)?;
            self.pool = Some(Pool::start(output)?);
        }
        let sent = self.pool.as_ref().is_some_and(|pool| pool.send(block).is_ok());
        if sent {
            return Ok(());
        }
        // The writer has ended, which it does only after an error.
        let writer = self.pool.take().map(|pool| pool.writer.join());
        match writer {
            Some(Ok(Err(error))) => Err(error),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl<W: Write + Send + 'static> Write for ParallelGzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BLOCK_BYTES - self.block.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.block.extend_from_slice(taken);
        if self.block.len() == BLOCK_BYTES {
            self.block_is_full()?;
        }
        Ok(taken.len())
    }

    /// Does nothing: a block that is cut short would depend on when this is called.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write + Send + 'static> Pool<W> {
    fn start(mut output: W) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get).min(WORKERS_MAX);
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..cores {
            let queue = Arc::clone(&queue);
            // Ends when the last sender of jobs is gone.
            std::thread::Builder::new().name("gzip".to_owned()).spawn(move || work(&queue))?;
        }
        let (order, results) = sync_channel::<Receiver<io::Result<Vec<u8>>>>(cores * 2);
        let writer = std::thread::Builder::new().name("gzip-out".to_owned()).spawn(move || {
            for result in results {
                let done = result.recv().map_err(|_| io::Error::other("a thread panicked"))?;
                output.write_all(&done?)?;
            }
            Ok(output)
        })?;
        Ok(Self { jobs, order, writer })
    }

    fn send(&self, block: Vec<u8>) -> Result<(), ()> {
        let (answer, result) = channel();
        self.jobs.send((block, answer)).map_err(drop)?;
        self.order.send(result).map_err(drop)
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    let Ok(mut compressor) = compressor() else { return };
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok((block, answer)) = job else { return };
        // Nobody waits when the layer was given up.
        let _ = answer.send(compress(&mut compressor, &block));
    }
}

fn compressor() -> io::Result<Compressor> {
    let level = CompressionLvl::new(LEVEL).map_err(|_| io::Error::other("no such gzip level"))?;
    Ok(Compressor::new(level))
}

/// One member: no time, no name.
fn compress(compressor: &mut Compressor, block: &[u8]) -> io::Result<Vec<u8>> {
    let mut member = vec![0; compressor.gzip_compress_bound(block.len())];
    let length = compressor
        .gzip_compress(block, &mut member)
        .map_err(|_| io::Error::other("a block does not fit its bound"))?;
    member.truncate(length);
    Ok(member)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

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

    fn pack(data: &[u8], at_once: usize) -> Vec<u8> {
        let mut gzip = ParallelGzip::new(Vec::new());
        for part in data.chunks(at_once) {
            gzip.write_all(part).unwrap();
        }
        gzip.finish().unwrap()
    }

    #[test]
    fn any_length_comes_back_and_is_the_same_however_it_is_written() {
        for length in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 7] {
            let data = sample(length);
            let packed = pack(&data, 100_000);
            assert_eq!(packed, pack(&data, 3_000_017));
            let mut back = Vec::new();
            flate2::read::MultiGzDecoder::new(packed.as_slice()).read_to_end(&mut back).unwrap();
            assert!(back == data, "{length}");
        }
    }

    #[test]
    fn other_programs_read_it() {
        let data = sample(3 * BLOCK_BYTES + 1);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.gz");
        std::fs::write(&path, pack(&data, 1 << 16)).unwrap();
        let output = std::process::Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
        assert!(output.status.success() && output.stdout == data);
    }

    #[test]
    fn an_output_that_fails_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for length in [10, 40 * BLOCK_BYTES] {
            let mut gzip = ParallelGzip::new(Full);
            let error = match gzip.write_all(&vec![0; length]) {
                Ok(()) => gzip.finish().err().unwrap(),
                Err(error) => error,
            };
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }
}
