//! Tar layers: a deterministic [`Writer`], and a careful walk over foreign ones.
//!
//! ```text
//! [gzip | zstd | plain]   decompress(): by magic, with a budget of bytes
//!   └─ tar                walk(): for each entry
//!        [pax global]     refused unless it changes nothing that matters
//!        [pax | GNU long] long names, links, sizes, times, xattrs of the next entry
//!        header           512 bytes, checksum
//!        data             padded to 512 bytes
//!      two zero blocks    the end; what follows is counted, or read on request
//! ```
//!
//! A layer is read as container runtimes read it, for a gate that sees other files than the runtime
//! would be worth nothing. Where runtimes disagree with each other, the layer is refused.

mod decompress;
mod entry;
mod extend;
mod header;
mod path;
mod pax;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use decompress::{BudgetExceeded, Compression, Decoder, decompress};
pub use entry::{Entry, EntryKind, OPAQUE_MARKER, WHITEOUT_PREFIX, Whiteout, opaque, whiteout};
pub use header::is_header;
pub use path::{PathProblem, display_path, normalise};
pub use read::{AbsolutePaths, AfterEnd, EndMark, Limits, ReadError, Summary, read, walk};
pub use write::{WriteError, Writer};

/// The unit of a tar archive, in bytes.
const BLOCK: usize = 512;
