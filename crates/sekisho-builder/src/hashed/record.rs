//! What is known of a context's files, as it is written down: a million in 72 MB, which any text would double.
//!
//! ```text
//!  "sekisho.hashed.2\n"  { device inode size modified changed | SHA-256 } ...  SHA-256 of all before
//! ```
//!
//! The last digest tells a file that a loss of power left half written, as the end of a JSON text would.

use std::io::{self, Write};

use sekisho_types::Sha256Writer;

use super::{Stamp, Sum};

const MAGIC: &[u8] = b"sekisho.hashed.2\n";

/// Of one file: five numbers and a digest.
const ENTRY_BYTES: usize = 5 * 8 + SUM_BYTES;
const SUM_BYTES: usize = 32;

pub(super) fn write(
    files: &mut dyn Iterator<Item = (Stamp, Sum)>,
    to: &mut dyn Write,
) -> io::Result<()> {
    let mut to = Sha256Writer::new(to);
    to.write_all(MAGIC)?;
    let mut entry = Vec::with_capacity(ENTRY_BYTES);
    for (stamp, sum) in files {
        entry.clear();
        stamp.write_to(&mut entry);
        entry.extend_from_slice(sum.bytes());
        to.write_all(&entry)?;
    }
    let (to, sum, _) = to.finish_bytes();
    to.write_all(&sum)
}

/// What was written, in the order in which it was; `None` when it is not whole.
pub(crate) fn read(bytes: &[u8]) -> Option<Vec<(Stamp, Sum)>> {
    let (content, sum) = bytes.split_last_chunk::<SUM_BYTES>()?;
    let entries = content.strip_prefix(MAGIC)?;
    let mut hash = Sha256Writer::new(io::sink());
    hash.write_all(content).ok()?;
    if hash.finish_bytes().1 != *sum || !entries.len().is_multiple_of(ENTRY_BYTES) {
        return None;
    }
    entries.chunks_exact(ENTRY_BYTES).map(entry).collect()
}

fn entry(bytes: &[u8]) -> Option<(Stamp, Sum)> {
    let (numbers, sum) = bytes.split_last_chunk::<SUM_BYTES>()?;
    let mut numbers = numbers.as_chunks::<8>().0.iter();
    let mut next = || numbers.next().copied();
    let stamp = Stamp {
        device: u64::from_be_bytes(next()?),
        inode: u64::from_be_bytes(next()?),
        size: u64::from_be_bytes(next()?),
        modified_ns: i64::from_be_bytes(next()?),
        changed_ns: i64::from_be_bytes(next()?),
    };
    Some((stamp, Sum::from_bytes(*sum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_one_that_is_not_whole_is_none() {
        let one = |inode: u64| {
            let stamp = Stamp { device: 1, inode, size: 3, modified_ns: -4, changed_ns: i64::MAX };
            (stamp, Sum::from_bytes([u8::try_from(inode).unwrap(); 32]))
        };
        for count in [0, 1, 3] {
            let all: Vec<_> = (0..count).map(one).collect();
            let mut bytes = Vec::new();
            write(&mut all.iter().copied(), &mut bytes).unwrap();
            assert_eq!(read(&bytes), Some(all));
            for harmed in 0..bytes.len() {
                assert_eq!(read(&bytes[..harmed]), None, "{harmed}");
                let mut zeroed = bytes.clone();
                zeroed[harmed] = !zeroed[harmed];
                assert_eq!(read(&zeroed), None, "{harmed}");
            }
        }
        assert_eq!(read(b"[]"), None, "of an older form");
    }
}
