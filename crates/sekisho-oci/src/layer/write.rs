//! The deterministic writer.

use std::io::{self, Read, Write};

use super::entry::Entry;
use super::path::{self, PathProblem};

/// Why an entry cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The output failed.
    #[error("layer cannot be written")]
    Output(#[source] io::Error),
    /// The data of an entry cannot be read.
    #[error("data of `{path}` cannot be read", path = path::display(path))]
    Data {
        /// Of the entry.
        path: Vec<u8>,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// The data is not as long as the entry said: the file changed while it was read.
    #[error("data of `{path}` is not {size} bytes long", path = path::display(path))]
    Size {
        /// Of the entry.
        path: Vec<u8>,
        /// What the entry said, in bytes.
        size: u64,
    },
    /// The path or hard link target is not in the form of [`Entry::path`].
    #[error("`{path}` is no path of a layer: it {problem}", path = path::display(path))]
    Path {
        /// As given.
        path: Vec<u8>,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// A name of an extended attribute that PAX cannot hold.
    #[error("extended attribute `{name}` of `{path}` cannot be stored", name = path::display(name), path = path::display(path))]
    Xattr {
        /// Of the entry.
        path: Vec<u8>,
        /// Of the attribute.
        name: Vec<u8>,
    },
}

/// Writes a tar archive: the same entries in the same order give the same bytes.
///
/// ustar headers, with PAX records only for what does not fit into them. Owner names stay empty.
/// The caller gives the order; by path, a folder before what is in it, is best.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
}

impl<W: Write> Writer<W> {
    /// An archive that goes to `output`.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Writes an entry that has no data: all but a [`super::EntryKind::File`] of more than 0 bytes.
    pub fn append(&mut self, entry: &Entry) -> Result<(), WriteError> {
        self.append_data(entry, &mut io::empty())
    }

    /// Writes an entry and its data, which must be exactly as long as the entry says.
    pub fn append_data(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), WriteError> {
        let _ = (entry, data, &self.output);
        unimplemented!("the writer")
    }

    /// Writes the end of the archive, and gives the output back, flushed.
    pub fn finish(self) -> Result<W, WriteError> {
        unimplemented!("the writer")
    }
}
