//! Reading on a thread of its own: what decompresses a layer does not wait for what writes its files.
//!
//! ```text
//!  input ──▶ thread: reads, hashes ──▶ a few pieces in between ──▶ who uses them
//! ```

use std::io::{self, Read, Write as _};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::Context as _;
use sekisho_types::{Digest, Sha256Writer};
use tokio_util::sync::CancellationToken;

use crate::cancel::Cancellable;

/// Bytes of a piece, and how many may wait: together what a build holds of a layer.
const PIECE_BYTES: usize = 256 << 10;
const PIECES: usize = 8;

type Piece = io::Result<Vec<u8>>;

/// Gives the input to `act`, and after it the digest of all of it, read to the end or not.
///
/// # Errors
/// Those of `act`, to whom those of the input come as they are; of the rest of the input that `act` left; one
/// that says so when it was cancelled.
pub(crate) fn read<T>(
    input: impl Read + Send,
    cancel: &CancellationToken,
    act: impl FnOnce(&mut dyn Read) -> anyhow::Result<T>,
) -> anyhow::Result<(T, Digest)> {
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(PIECES);
        let thread = std::thread::Builder::new().name("ahead".to_owned());
        let input = Cancellable { input, cancel };
        let thread = thread.spawn_scoped(scope, move || produce(input, &send));
        let thread = thread.context("cannot start a thread")?;
        let mut pieces = Pieces { receive, piece: Vec::new(), at: 0 };
        let result = act(&mut pieces)?;
        io::copy(&mut pieces, &mut io::sink())?;
        // It has ended, or is about to: there are no more pieces.
        let digest = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        Ok((result, digest))
    })
}

/// Until the end, an error, or until nobody wants more.
fn produce(mut input: impl Read, to: &SyncSender<Piece>) -> Digest {
    let mut hash = Sha256Writer::new(io::sink());
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let read = (&mut input).take(PIECE_BYTES as u64).read_to_end(&mut piece);
        let read = read.and_then(|_| hash.write_all(&piece));
        let last = read.is_err() || piece.is_empty();
        // What came before an error is of no use to anybody.
        if to.send(read.map(|()| piece)).is_err() || last {
            return hash.finish().1;
        }
    }
}

struct Pieces {
    receive: Receiver<Piece>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            // Nothing comes after the empty piece that ends it, nor after an error.
            let Ok(piece) = self.receive.recv() else { return Ok(0) };
            (self.piece, self.at) = (piece?, 0);
        }
        let left = &self.piece[self.at..];
        let read = left.len().min(buffer.len());
        buffer[..read].copy_from_slice(&left[..read]);
        self.at += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives an error after so many bytes.
    struct Broken(usize);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let room = self.0.min(buffer.len());
            if room == 0 {
                return Err(io::Error::other("the disk is broken"));
            }
            buffer[..room].fill(7);
            self.0 -= room;
            Ok(room)
        }
    }

    #[test]
    fn everything_comes_and_is_hashed_however_much_is_read() {
        let no = CancellationToken::new();
        for size in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES * PIECES * 2 + 5] {
            let bytes: Vec<u8> = (0..size).map(|at| at.to_le_bytes()[0]).collect();
            let all = |input: &mut dyn Read| {
                let mut all = Vec::new();
                input.read_to_end(&mut all)?;
                Ok(all)
            };
            let (all, digest) = read(bytes.as_slice(), &no, all).unwrap();
            assert!(all == bytes, "{size}");
            assert_eq!(digest, Digest::sha256(&bytes));
            let (first, digest) = read(bytes.as_slice(), &no, |input| {
                let mut first = [0; 1];
                Ok(input.read(&mut first)?)
            })
            .unwrap();
            assert_eq!((first, digest), (size.min(1), Digest::sha256(&bytes)));
        }
    }

    #[test]
    fn errors_of_both_sides_are_told_and_nobody_waits_for_the_other() {
        let no = CancellationToken::new();
        let all = |input: &mut dyn Read| Ok(io::copy(input, &mut io::sink())?);
        for size in [0, 10, PIECE_BYTES * 3 + 1] {
            let error = read(Broken(size), &no, all).unwrap_err();
            assert_eq!(error.to_string(), "the disk is broken", "{size}");
            // Also when what was wanted of it was there.
            assert!(read(Broken(size), &no, |_| Ok(())).is_err());
        }
        let endless = io::repeat(1);
        let error = read(endless, &no, |_| -> anyhow::Result<()> { anyhow::bail!("enough") });
        assert_eq!(error.unwrap_err().to_string(), "enough");
        no.cancel();
        let error = read(io::repeat(1), &no, all).unwrap_err();
        assert_eq!(error.to_string(), "the build was cancelled");
    }
}
