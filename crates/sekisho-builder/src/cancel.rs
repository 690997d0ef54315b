//! Input that ends when the build does.

use std::io::{self, Read};

use tokio_util::sync::CancellationToken;

/// Gives an error in the place of the input once the build is cancelled.
pub(crate) struct Cancellable<'a, R> {
    pub(crate) input: R,
    pub(crate) cancel: &'a CancellationToken,
}

impl<R: Read> Read for Cancellable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.cancel.is_cancelled() {
            true => Err(io::Error::other("the build was cancelled")),
            false => self.input.read(buffer),
        }
    }
}
